"""What the process asks of the system and of the interpreter at its start. Owns nothing."""

from __future__ import annotations

import gc
import resource
from typing import Any

_MOST_FILES = 65_536


def tame_garbage_collector() -> None:
    """Take what the start made out of the full collections; they would hold the event loop 30 ms.

    Afterwards the middle generation holds 20,000 objects at most, which takes some 10 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 1_000)


def allow_open_files() -> None:
    """Raise the limit of open files as far as the system permits, to 65,536 at most.

    The soft limit is often 1,024, and each call of the engine is a connection.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(_MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def count_objects(kind: type[Any]) -> int:
    """How many objects of a class there are. Looks at every object: for diagnosis only."""
    return sum(isinstance(item, kind) for item in gc.get_objects())
