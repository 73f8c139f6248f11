"""The time limit that is handed down with every call, and the waiting time between attempts.

Both run on a monotonic clock, so a change of the wall clock neither lengthens nor shortens them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from nuage_appliance.base.faults import Unavailable


class Deadline:
    """The moment by which a call must be answered: `seconds` from now on `clock`. Immutable."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end_s = clock() + seconds

    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end_s - self._clock())

    @property
    def is_over(self) -> bool:
        """True when no time is left."""
        return self._clock() >= self._end_s

    def bound(self, seconds: float) -> float:
        """The smaller of `seconds` and what is left."""
        return min(seconds, self.remaining_s())

    def at_most(self, seconds: float) -> Deadline:
        """The deadline of a part of this call: in `seconds`, or with this one if that is sooner."""
        return Deadline(self.bound(seconds), self._clock)

    def check(self, what: str) -> None:
        """Raise Unavailable, naming `what` was waited for, when no time is left."""
        if self.is_over:
            raise Unavailable(f"{what} did not answer in time")


class Backoff:
    """Waiting times between attempts: first · factor^n, at most `cap_s`, each ± `jitter`."""

    def __init__(
        self,
        first_s: float = 0.1,
        factor: float = 2.0,
        cap_s: float = 10.0,
        jitter: float = 0.2,
        rng: random.Random | None = None,
    ) -> None:
        self._first_s = first_s
        self._factor = factor
        self._cap_s = cap_s
        self._jitter = jitter
        self._rng = rng or random.Random()
        self._attempt = 0

    def next_s(self) -> float:
        """Seconds to wait before the next attempt."""
        wait_s = min(self._cap_s, self._first_s * self._factor ** min(self._attempt, 64))
        self._attempt += 1
        return wait_s * (1 + self._jitter * (2 * self._rng.random() - 1))

    def reset(self) -> None:
        """Start again with the first waiting time; call this after a success."""
        self._attempt = 0
