"""When to renew the VSD's API key. Pure; owns nothing.

A key that ends while calls are on their way costs each of them a 401 and a repetition, so it is
renewed before its end.

- How long before differs at random, since all hosts may have started together: by 50 s at most.
- At most a tenth of the time that is left: a VSD with short-lived keys must not be asked all the
  time.
- At least a second: the VSD's own clock is known by the Date header alone, which has whole seconds.
- Some VSDs answer a log-in near the end of a key's life with the same key again. Then nothing was
  won, and the next log-in is due just after the end, when only a new key can come.
"""

from __future__ import annotations

import email.utils
import random
from typing import Any

_LEAD_S, _SHORTEST_LEAD_S = 50.0, 1.0
_LEAD_SHARE = 0.1
_AFTER_END_S = 1.0
_FIRST_MS = 1e11  # a smaller time is in seconds, this and more in milliseconds


def seconds_to_renewal(
    expiry: Any, date: str, is_new: bool, wall_s: float, rng: random.Random
) -> float | None:
    """In how many seconds to log in again (perhaps less than 0); None for a key without an end.

    `expiry` is the APIKeyExpiry of the log-in's answer, in milliseconds or (some releases) seconds
    since 1970 on the VSD's clock; `date` its Date header, and `wall_s` this host's own time, for an
    answer without one. `is_new` is false when the VSD gave the old key again.
    """
    if isinstance(expiry, bool) or not isinstance(expiry, (int, float)) or expiry <= 0:
        return None
    expiry_s = expiry if expiry < _FIRST_MS else expiry / 1000
    try:
        now_s = email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, IndexError):
        now_s = wall_s
    left_s = expiry_s - now_s
    if not is_new and left_s <= _LEAD_S:
        return left_s + _AFTER_END_S
    longest_s = min(_LEAD_S - _SHORTEST_LEAD_S, _LEAD_SHARE * max(0.0, left_s))
    return left_s - _SHORTEST_LEAD_S - rng.uniform(0.0, longest_s)
