"""Lets other greenlets run in the middle of long work. Owns nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import gevent

# Not 0: gevent.sleep(0) only runs the greenlets that are ready already; timers and sockets would
# wait for fifty turns.
_PAUSE_S = 1e-6

_Item = TypeVar("_Item")


def pause() -> None:
    """Let everything run that is due: greenlets, timers, sockets. Switches greenlets."""
    gevent.sleep(_PAUSE_S)


def in_batches(items: Iterable[_Item], size: int) -> Iterator[_Item]:
    """Yield every item, pausing after each `size` of them. Switches greenlets."""
    for count, item in enumerate(items):
        if count % size == size - 1:
            pause()
        yield item
