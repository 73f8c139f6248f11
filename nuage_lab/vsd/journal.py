"""Owns the record of all changes: one bounded ring, read by the push events and the lab's VSC.

Never looks into the store; each entry carries a copy of the object as it was.
"""

import itertools
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gevent.event

if TYPE_CHECKING:
    from .auth import Caller
    from .store import Entity

CREATE, UPDATE, DELETE, GRANT, REVOKE = "CREATE", "UPDATE", "DELETE", "GRANT", "REVOKE"


@dataclass(frozen=True)
class Entry:
    """One change of one object."""

    seq: int
    op: str
    rest_name: str
    object_id: str
    uuid: str | None
    values: dict[str, Any] = field(repr=False)
    enterprise_id: str | None
    user_name: str
    enterprise_name: str
    request_id: str
    time_ms: int


class Journal:
    """A ring of entries with a long poll. No method but `wait` switches greenlets."""

    def __init__(self, size: int = 10000) -> None:
        self._ring: deque[Entry] = deque(maxlen=size)
        self._numbers = itertools.count(1)
        self._news = gevent.event.Event()
        self.seq = 0

    def record(self, op: str, entity: "Entity", caller: "Caller", uuid: str | None = None) -> None:
        """Append an entry and wake the waiting readers."""
        self.seq = next(self._numbers)
        self._ring.append(
            Entry(
                self.seq,
                op,
                entity.resource.rest_name,
                entity.id,
                uuid,
                dict(entity.values),
                entity.enterprise_id,
                caller.user_name,
                caller.enterprise_name,
                caller.request_id,
                int(time.time() * 1000),
            )
        )
        self._news.set()

    def go_on_after(self, seq: int) -> None:
        """Forget all entries; the next one follows `seq`, the last one of the process before."""
        self._ring.clear()
        self._numbers = itertools.count(seq + 1)
        self.seq = seq

    def since(self, seq: int) -> tuple[list[Entry], bool]:
        """Return the entries after `seq`, oldest first, and whether some are lost already."""
        if seq > self.seq:
            return [], True
        if not self._ring or seq >= self.seq:
            return [], False
        first = self._ring[0].seq
        return list(itertools.islice(self._ring, max(0, seq + 1 - first), None)), seq + 1 < first

    def wait(self, seq: int, timeout_s: float) -> bool:
        """Wait until an entry after `seq` exists; returns False when the time is over."""
        deadline = time.monotonic() + timeout_s
        while self.seq <= seq:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._news.clear()
            self._news.wait(min(left, 1))
        return True
