"""Waits for states instead of times, without keeping a processor busy with looking.

A look at a state costs: a status is JSON over a socket, and the appliance pays for it too. With
several tests at once, looks every few milliseconds took more of the processors than the product.
So a wait looks often while it is young, and less often the longer it lasts: it ends at most a
twentieth too late.
"""

import time

_LEAST_S = 0.01
_MOST_S = 0.25


def wait_for(condition, seconds, explain):
    """Look until `condition()` is true, and return what it returned; fail after `seconds` with the
    text that `explain()` returns.
    """
    begun = time.monotonic()
    while True:
        looked = time.monotonic()
        if found := condition():
            return found
        now = time.monotonic()
        assert now - begun < seconds, explain()
        time.sleep(min(max(_LEAST_S, now - looked, (now - begun) / 20), _MOST_S))
