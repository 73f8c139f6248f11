"""VSD containers that are to be deleted, so that their addresses become free.

Owns what still has to be deleted, and what may have been made although the VSD did not answer. Must
never delete a VSD container that an endpoint of the table has.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Fault, NotFound
from nuage_appliance.core.endpoint import Endpoint
from nuage_appliance.core.endpoint_table import EndpointTable
from nuage_appliance.core.swarm import SwarmReservations, is_reserved
from nuage_appliance.model import Address, Pool, VethPair

if TYPE_CHECKING:
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

_DELETE_S = 10.0
_LOOKS = 4
_LOOK_S = 10.0
_MOST_UNCERTAIN = 4096


class Deletions:
    """Deletes now if it can be, else as soon as the VSD answers."""

    def __init__(
        self,
        vsd: Vsd,
        table: EndpointTable,
        swarm: SwarmReservations,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vsd = vsd
        self._table = table
        self._swarm = swarm
        self._clock = clock
        # VSD ids of the containers that a greenlet is just deleting, so that no other one does the
        # same.
        self._being_deleted: set[str] = set()
        # UUIDs that containers of unknown fate were requested with, and how many looks for each,
        # ten seconds apart, are left. At most 4,096, of which the oldest is given up.
        self._uncertain: dict[str, int] = {}
        self._wanted = threading.Event()

    def delete_soon(self, endpoint: Endpoint) -> None:
        """Take an endpoint out of the table; its VSD container is to be deleted.

        Does not switch greenlets.
        """
        self._table.drop(endpoint)
        if endpoint.vsd_id:
            self._table.pending_delete[endpoint.vsd_id] = endpoint
            self._wanted.set()

    def delete_unused(self, vsd_id: str, pair: VethPair, pool: Pool) -> None:
        """Have a VSD container deleted that no endpoint can use. Does not switch greenlets."""
        self.delete_soon(
            Endpoint(
                address=pool.gateway,
                prefix_len=pool.cidr.prefixlen,
                gateway=None,
                mac="",
                pair=pair,
                place=pool.place,
                vsd_id=vsd_id,
            )
        )

    def try_delete(
        self, endpoint: Endpoint, deadline: Deadline, *, even_if_away: bool = False
    ) -> bool:
        """Delete the VSD container of an endpoint that delete_soon was given; True when it is gone.

        With False `serve` goes on with it. `even_if_away` asks the VSD also when it did not answer
        lately. Never fails. Switches greenlets.
        """
        if endpoint.vsd_id not in self._table.pending_delete:
            return True
        if endpoint.vsd_id in self._being_deleted:
            return False
        if not self._vsd.is_up and not even_if_away:
            _log.warning("%s is given back once the VSD answers", endpoint.interface)
            return False
        self._being_deleted.add(endpoint.vsd_id)
        try:
            self._delete(endpoint.vsd_id, endpoint.port_name, deadline)
        except Fault as fault:
            _log.warning("%s is given back later: %s", endpoint.interface, fault.message)
            return False
        finally:
            self._being_deleted.discard(endpoint.vsd_id)
        self._table.mark_deleted(endpoint)
        _log.info(
            "released %s of %s (port %s)", endpoint.interface, endpoint.place, endpoint.port_name
        )
        return True

    def _delete(self, vsd_id: str, port_name: str, deadline: Deadline) -> None:
        if is_reserved(port_name):
            self._swarm.hand_back(vsd_id, deadline)
        else:
            self._vsd.delete_container(vsd_id, deadline)

    def try_delete_holder(self, subnet_id: str, address: Address, deadline: Deadline) -> None:
        """Delete first what still holds an address that is asked for again.

        Never fails. Switches greenlets.
        """
        for endpoint in list(self._table.pending_delete.values()):
            # Without a subnet it is known from its link only, from before the VSD was read.
            if endpoint.subnet_id in ("", subnet_id) and endpoint.address == address:
                self.try_delete(endpoint, deadline)

    def delete_container(self, vsd_id: str, deadline: Deadline) -> None:
        """Delete a VSD container that no endpoint has, of this host or of one that is lost.

        One that is gone is success. Raises Fault. Switches greenlets.
        """
        try:
            container = self._vsd.get_container(vsd_id, deadline)
        except NotFound:
            return
        port_name = container.interfaces[0].name if container.interfaces else ""
        self._delete(vsd_id, port_name, deadline)

    def look_later(self, uuid: str) -> None:
        """Have the container of a creation of unknown fate looked for, and deleted.

        The engine was answered that there is no address; but the VSD may make the container yet,
        even from a request that waits in a broken network. Does not switch greenlets.
        """
        self._uncertain[uuid] = _LOOKS
        while len(self._uncertain) > _MOST_UNCERTAIN:
            del self._uncertain[next(iter(self._uncertain))]
        self._wanted.set()

    def wake(self) -> None:
        """Note that the VSD answers again: what waits is deleted now. Does not switch greenlets."""
        self._wanted.set()

    def serve(self) -> None:
        """Delete what could not be deleted at once. A greenlet; never returns."""
        backoff = Backoff(1.0, 2.0, 10.0)
        while True:
            self._wanted.wait()
            self._wanted.clear()
            self._delete_pending()
            if self._vsd.is_up:
                self._delete_uncertain()
            if self._table.pending_delete:
                self._wanted.wait(timeout=backoff.next_s())
                self._wanted.set()
            elif self._uncertain:
                self._wanted.wait(timeout=_LOOK_S)
                self._wanted.set()
            else:
                backoff.reset()

    def _delete_pending(self) -> None:
        """Delete one after the other, until the VSD is away.

        One that the VSD will not delete holds up no other: it is tried again after all of them.
        """
        pending = self._table.pending_delete
        for endpoint in list(pending.values()):
            if endpoint.vsd_id in self._being_deleted:
                continue
            if self.try_delete(endpoint, Deadline(_DELETE_S, self._clock), even_if_away=True):
                continue
            if pending.pop(endpoint.vsd_id, None) is not None:
                pending[endpoint.vsd_id] = endpoint
            if not self._vsd.is_up:
                return

    def _delete_uncertain(self) -> None:
        for uuid, looks in list(self._uncertain.items()):
            try:
                is_found = self._find_and_delete(uuid)
            except Fault as fault:
                _log.debug("%s", fault.message)
                return
            if is_found or looks <= 1:
                self._uncertain.pop(uuid, None)
            else:
                self._uncertain[uuid] = looks - 1

    def _find_and_delete(self, uuid: str) -> bool:
        """True when the VSD has the container; deletes it, unless the engine has its endpoint."""
        found = self._vsd.find_container(uuid, Deadline(_DELETE_S, self._clock))
        if found is None:
            return False
        known = self._table.by_vsd(found.vsd_id)
        if known is not None and known.endpoint_id:
            return True
        if known is not None:
            self._table.drop(known)  # a list showed it
        _log.warning(
            "container %s, whose creation the VSD did not confirm in time, is deleted", found.vsd_id
        )
        self._vsd.delete_container(found.vsd_id, Deadline(_DELETE_S, self._clock))
        return True
