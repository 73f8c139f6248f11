"""The reserved swarm addresses that the VSD could not be asked to free yet.

Owns them and the file that keeps them over a restart. Must never forget one that the VSD was not
asked about.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable

from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Conflict, Fault, NotFound, Refused, Unavailable
from nuage_appliance.base.state_file import StateFile
from nuage_appliance.model import Address, Pool, parse_pool_id

_log = logging.getLogger(__name__)

_RELEASE_S = 10.0
_MOST_LATE = 4096


class LateSwarmReleases:
    """Addresses by their pools.

    `cancel(pool, address, deadline)` frees one on the VSD, or raises Fault.
    """

    def __init__(
        self,
        file: StateFile,
        cancel: Callable[[Pool, Address, Deadline], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cancel = cancel
        self._clock = clock
        self._file = file
        # The address by `<PoolID>|<address>`: at most 4,096, beside those of networks that were
        # removed whole.
        self._waiting = file.load()
        self._changed = threading.Event()
        if self._waiting:
            self._changed.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, pool: Pool, address: Address) -> None:
        """Keep an address to be freed later. Raises Unavailable when 4,096 wait already."""
        if len(self._waiting) >= _MOST_LATE:
            raise Unavailable(f"{_MOST_LATE} reserved addresses wait to be released already")
        self.add_all(pool, {address})

    def add_all(self, pool: Pool, addresses: set[Address]) -> None:
        """Keep a pool's addresses, however many: its last network is gone, nobody asks again."""
        for address in addresses:
            self._waiting[_key(pool, address)] = str(address)
        self._file.save(self._waiting)
        self._changed.set()

    def discard(self, pool: Pool, address: Address) -> None:
        """Forget an address that is wanted again."""
        if self._waiting.pop(_key(pool, address), None) is not None:
            self._file.save(self._waiting)

    def serve(self) -> None:
        """Free what waits, whenever the VSD answers. A greenlet; never returns."""
        backoff = Backoff(1.0, 2.0, 10.0)
        while True:
            self._changed.wait()
            self._changed.clear()
            self._free_waiting()
            self._file.save(self._waiting)
            if self._waiting:
                time.sleep(backoff.next_s())
                self._changed.set()
            else:
                backoff.reset()

    def _free_waiting(self) -> None:
        """Free one after the other, until the VSD is away.

        One that cannot be freed holds up no other: it is tried again after all of them.
        """
        for key, text in list(self._waiting.items()):
            try:
                pool = parse_pool_id(key.rpartition("|")[0])
                if isinstance(pool, Pool):
                    deadline = Deadline(_RELEASE_S, self._clock)
                    self._cancel(pool, ipaddress.ip_address(text), deadline)
            except (Refused, ValueError) as error:
                _log.warning("the reservation of %s is not released: %s", text, error)
            except NotFound as fault:
                _log.info("the reservation of %s went with its subnet: %s", text, fault.message)
            except Fault as fault:
                _log.info("the reservation of %s is released later: %s", text, fault.message)
                if self._waiting.pop(key, None) is not None:
                    self._waiting[key] = text
                if not isinstance(fault, Conflict):
                    return
                continue
            self._waiting.pop(key, None)


def _key(pool: Pool, address: Address) -> str:
    return f"{pool.pool_id}|{address}"
