"""ReleaseAddress: which endpoint an address means, and what is done when nobody knows it yet.

Owns the releases that came before the VSD's list was read. Must never release an address that
another network's endpoint or a swarm manager's reservation has.

The engine releases a pool and an address and names no endpoint (libnetwork §3.5), and after a crash
this is the only call that it makes for an endpoint that was running. So whose the address is must
be found out, in this order:

1. A swarm manager releases what it reserved for a task of any host. This host's endpoint on the
   same address is then another matter: it has a release of its own, under the worker's PoolID.
2. The table: by subnet and address; or by the network, as long as an endpoint is known from its
   link only.
3. The VSD's list of this host's containers, if it was not read yet: wait a moment for it. If the
   VSD is away, the release is kept, and carried out when the list was read.
4. The VSD itself: containers that come and go while a list is read may be missing in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Fault, Unavailable
from nuage_appliance.core.addresses import Addresses
from nuage_appliance.core.endpoint import Endpoint
from nuage_appliance.core.endpoint_table import EndpointTable
from nuage_appliance.core.networks import Networks
from nuage_appliance.model import GLOBAL_SPACE, Address, Pool

if TYPE_CHECKING:
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

_WAIT_FOR_LIST_S = 5.0
_RELEASE_S = 5.0
_MOST_LATE = 20_000


class Releases:
    """Everything may switch greenlets. `end` undoes all of an endpoint; it never raises."""

    def __init__(
        self,
        vsd: Vsd,
        networks: Networks,
        table: EndpointTable,
        addresses: Addresses,
        end: Callable[[Endpoint, Deadline], None],
    ) -> None:
        self._vsd = vsd
        self._networks = networks
        self._table = table
        self._addresses = addresses
        self._end = end
        # What was released while the VSD's list was not read yet, oldest first; at most 20,000.
        self._late: list[tuple[Pool, Address]] = []

    def release(self, pool: Pool, address: Address, deadline: Deadline) -> None:
        """Give an address back, and undo whatever an endpoint on it left behind.

        Success for what is not in use.

        Raises Unavailable only when 20,000 releases wait for the VSD's list already.
        """
        if pool.space == GLOBAL_SPACE and self._release_for_swarm(pool, address, deadline):
            return
        endpoint = self._holder(pool, address)
        if endpoint is None and not self._table.is_complete:
            endpoint = self._unread_holder(pool, address, deadline)
        elif endpoint is None:
            endpoint = self._untabled_holder(pool, address, deadline)
        if endpoint is None:
            _log.debug("%s of %s is not in use on this host", address, pool.place)
            return
        self._end(endpoint, deadline)

    def finish_late(self, deadline: Deadline) -> None:
        """Carry out the releases that came before the VSD's list was read. Raises as release."""
        while self._late:
            pool, address = self._late.pop()
            self.release(pool, address, deadline)

    def _release_for_swarm(self, pool: Pool, address: Address, deadline: Deadline) -> bool:
        """True when a swarm manager released the address: then no endpoint is touched."""
        endpoint = self._holder(pool, address)
        network = self._networks.get(endpoint.network_id) if endpoint is not None else None
        is_of_this_pool = network is not None and network.pool_id == pool.pool_id
        is_of_another_pool = network is not None and network.pool_id != pool.pool_id
        try:
            if self._addresses.swarm.cancel(pool, address, deadline.at_most(_RELEASE_S)):
                return True
        except Fault as fault:
            _log.warning(
                "whether %s of %s was reserved for swarm is not known yet: %s",
                address,
                pool.place,
                fault.message,
            )
            if not is_of_this_pool:
                self._addresses.swarm.late_releases.add(pool, address)
        return is_of_another_pool

    def _holder(self, pool: Pool, address: Address) -> Endpoint | None:
        """The endpoint of the table that has an address of a pool."""
        endpoint = self._table.by_address(self._networks.subnets.ids(pool), address)
        if endpoint is not None:
            return endpoint
        for endpoint in self._table.all:  # known from its link only, before the VSD was read
            if endpoint.address == address:
                network = self._networks.get(endpoint.network_id)
                if network is not None and network.pool_id == pool.pool_id:
                    return endpoint
        return None

    def _unread_holder(self, pool: Pool, address: Address, deadline: Deadline) -> Endpoint | None:
        """Wait for the VSD's list; with the VSD away keep the release until the list was read."""
        try:
            self._table.wait_complete(deadline.at_most(_WAIT_FOR_LIST_S))
        except Unavailable as fault:
            _log.warning(
                "%s of %s is released once the VSD answers: %s", address, pool.place, fault.message
            )
            if len(self._late) >= _MOST_LATE:
                raise Unavailable(
                    f"{_MOST_LATE} addresses wait to be released already; {fault.message}"
                ) from None
            self._late.append((pool, address))
            return None
        return self._holder(pool, address)

    def _untabled_holder(self, pool: Pool, address: Address, deadline: Deadline) -> Endpoint | None:
        """The endpoint of a container that the VSD's list did not show, as others came and went."""
        if not self._vsd.is_up:
            return None
        try:
            containers = self._addresses.containers
            return containers.load_holder(pool, address, deadline.at_most(_RELEASE_S))
        except Fault as fault:
            _log.warning(
                "whether the VSD still has %s of %s is not known: %s",
                address,
                pool.place,
                fault.message,
            )
            return None
