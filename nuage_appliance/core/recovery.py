"""Reads back what this host had, after a start and after a time in which a backend was away.

Owns when the VRS's ports and the VSD's containers are read, and in which order. Must never make a
plugin call wait: calls wait for the table, not for this.

Three sources say what endpoints there are, and each knows something that the others do not:

1. The links' aliases are the host's own and are read before the first call is served. They name
   the endpoint, its address and its VSD container. An endpoint that has a link is in use here,
   whatever the other two say.
2. The VRS's rows say which ports are plugged, and for which Docker container. They are read
   whenever the mirror of the OVSDB is complete: at the start and after each reconnection. They also
   hold the host's system-id, which is half of this host's external id on the VSD: without the VRS a
   host that never ran before does not know which containers on the VSD are its own.
3. The VSD's list, by external id, is the only source that knows an address that was reserved and
   not used yet. It is read whenever the VSD answers again, and when the external id changes.

A source that is read later adds what is missing and does not take away: an endpoint that the list
does not show may be younger than the list. What is to be taken away, the audit decides.
"""

from __future__ import annotations

import gc
import logging
import random
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Fault, Refused

if TYPE_CHECKING:
    from nuage_appliance.clients.vrs import Vrs
    from nuage_appliance.clients.vsd import Vsd
    from nuage_appliance.core.addresses import Addresses
    from nuage_appliance.core.endpoint_table import EndpointTable
    from nuage_appliance.core.endpoints import Endpoints
    from nuage_appliance.core.host import HostIdentity
    from nuage_appliance.core.networks import Networks

_log = logging.getLogger(__name__)

_LIST_S = 120.0
_LOCAL_S = 5.0
_FIRST_PAUSE_S = 0.2
_PAUSE_FACTOR = 2.0
_LONGEST_PAUSE_S = 10.0


class Recovery:
    """Two loops, one for the VRS and one for the VSD, that live as long as the process."""

    def __init__(
        self,
        vsd: Vsd,
        vrs: Vrs,
        networks: Networks,
        table: EndpointTable,
        addresses: Addresses,
        endpoints: Endpoints,
        host: HostIdentity,
        resync: Callable[[], None],
        pause: Callable[[], None],
    ) -> None:
        """`resync` asks for a comparison with the engine's lists; `pause` lets others run."""
        self._vsd = vsd
        self._vrs = vrs
        self._networks = networks
        self._table = table
        self._addresses = addresses
        self._endpoints = endpoints
        self._host = host
        self._resync = resync
        self._pause = pause
        self._list_is_wanted = threading.Event()
        self._mirror_is_new = threading.Event()

    def note_new_mirror(self) -> None:
        """The mirror of the OVSDB is complete again. Does not switch greenlets."""
        self._mirror_is_new.set()

    def note_vsd_is_up(self) -> None:
        """The VSD answers again. Does not switch greenlets."""
        self._list_is_wanted.set()
        self._addresses.deletions.wake()

    def read_vrs(self) -> None:
        """Take over the host's id and the ports from the mirror. Switches greenlets."""
        try:
            system_id = self._vrs.system_id()
            if self._host.learn(system_id.value, system_id.predecessor_token):
                self._list_is_wanted.set()
        except Refused as fault:
            if not self._host.external_id:
                _log.error("%s", fault.message)
        ports = self._vrs.ports(self._pause)
        self._table.absorb_ports(ports)
        self._pause()
        self._endpoints.plugging.compare_with_vrs(ports)

    def serve_vrs(self) -> None:
        """After every new mirror: take over what it says, write what could not be written."""
        while True:
            self._mirror_is_new.wait()
            self._mirror_is_new.clear()
            try:
                self.read_vrs()
                self._networks.write_tags(Deadline(_LOCAL_S))
                # Ports that should be gone first: a port that is put back may take their place.
                self._endpoints.plugging.finish_detaching(Deadline(_LOCAL_S))
                self._endpoints.plugging.restore_now()
                self._resync()
            except Fault as fault:
                _log.debug("the VRS could not be recovered: %s", fault.message)

    def serve_vsd(self) -> None:
        """Read this host's containers from the VSD at the start and whenever it answers again."""
        backoff = Backoff(_FIRST_PAUSE_S, _PAUSE_FACTOR, _LONGEST_PAUSE_S, rng=random.Random())
        while True:
            self._list_is_wanted.wait()
            self._list_is_wanted.clear()
            external_id = self._host.external_id
            if not external_id:
                reason = self._vrs.problem or "the VRS has no system-id"
                self._table.incomplete_because(f"this host's id is not known yet: {reason}")
                continue
            try:
                self._read_vsd(external_id)
                backoff.reset()
            except Fault as fault:
                self._table.incomplete_because(fault.message)
                # Ends at once when the VSD is back, else when it is time for another attempt.
                self._list_is_wanted.wait(timeout=backoff.next_s())
                self._list_is_wanted.set()

    def _read_vsd(self, external_id: str) -> None:
        begun_s = self._table.now_s()
        was_complete = self._table.is_complete
        containers = self._vsd.list_containers(external_id, Deadline(_LIST_S))
        self._table.absorb_containers(containers, begun_s, self._pause)
        if self._vrs.is_ready:
            self._table.absorb_ports(self._vrs.ports(self._pause))
        if not was_complete:
            # What was read at the start stays for ever; the garbage collector need not look at it.
            gc.freeze()
        self._endpoints.releases.finish_late(Deadline(_LIST_S))
        self._resync()
