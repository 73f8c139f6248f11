"""Addresses that a swarm manager reserves for tasks of any host (libnetwork §5.4).

Owns what this manager reserved. Must never free an address
that the manager or the worker still holds.

A VSD from 20.5 on reserves addresses without a container, and this module asks it for that. For an
older one a VSD container stands for the reservation, and passes between two hosts that do not talk
to each other: the manager reserves for a task, some worker makes the task's endpoint on just this
address, and both end in either order. Only the VSD sees both, so who holds the address is written
there, in two marks that only one side each sets:

================================  =====================================  ======================
container's external id           interface's external id                who holds the address
================================  =====================================  ======================
`nuage-reservation`               `nuage-reservation` or empty           the manager
a host's                          `nuage-reservation` or empty           the manager and the worker
a host's                          `nuage-released`                       the worker only
`nuage-reservation`               `nuage-released`                       nobody: it is deleted
================================  =====================================  ======================

* The worker takes the container over by writing its own external id (`take_over`), so that the
  address is never free in between. Its link keeps the number that the reservation was made with,
  which marks such an endpoint for every host.
* The worker ends first: it makes the container a reservation again, with a new UUID (`hand_back`).
  The manager deletes it.
* The manager ends first, as while a task's container is still stopping: it marks the interface
  (`cancel`). The worker deletes the container.
* Both at once: each side writes its own mark first and then reads the other's. Whoever reads second
  sees both and deletes; if both do, the second deletion finds nothing, which is success.
"""

from __future__ import annotations

import ipaddress
import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Conflict, NotFound, Refused, Unavailable
from nuage_appliance.base.state_file import StateFile
from nuage_appliance.core.host import HostIdentity
from nuage_appliance.core.identifiers import Identifiers
from nuage_appliance.core.networks import Networks
from nuage_appliance.core.swarm_releases import LateSwarmReleases
from nuage_appliance.model import (
    ADDRESS_IN_USE,
    DUPLICATE,
    RESERVATION,
    SUBNET_FULL,
    Address,
    Container,
    Pool,
    Subnet,
    VethPair,
)

if TYPE_CHECKING:
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

# The external id of the interface once the manager has let the address go before the worker.
_RELEASED = "nuage-released"
_PURGED_SOON = "DELETE_PENDING"
_TRIES = 4


class SwarmReservations:
    """What a manager reserves, and what a worker makes of it.

    Every method but allocated and freed may switch greenlets. `late` keeps the releases that wait
    for the VSD over a restart.
    """

    def __init__(
        self,
        vsd: Vsd,
        networks: Networks,
        host: HostIdentity,
        late: StateFile,
        identifiers: Identifiers,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._vsd = vsd
        self._networks = networks
        self._host = host
        self._identifiers = identifiers
        self._rng = rng or random.SystemRandom()
        # The swarm's networks that live on a pool, by PoolID; and what this process reserved in it.
        # The engine tells a manager that comes to lead both again, so memory is enough.
        self._networks_of_pool: dict[str, set[str]] = {}
        self._reserved: dict[str, tuple[Pool, set[Address]]] = {}
        self.late_releases = LateSwarmReleases(late, self.cancel, clock)

    # -- the manager ------------------------------------------------------------------------------

    def allocated(self, network_id: str, pool: Pool) -> None:
        """Note that a network of the swarm lives on a pool (AllocateNetwork).

        A network that is known already shows that the engine repeats all it has: what was reserved
        is asked for again.
        """
        if network_id in self._networks_of_pool.get(pool.pool_id, ()):
            self._reserved.pop(pool.pool_id, None)
        self._networks_of_pool.setdefault(pool.pool_id, set()).add(network_id)

    def freed(self, network_id: str) -> None:
        """Note that a network of the swarm was removed (FreeNetwork).

        With the last network of its pool all that is still reserved there is given back: the engine
        forgets the tasks that are still ending, and does not release their addresses.
        """
        for pool_id, networks in list(self._networks_of_pool.items()):
            if network_id not in networks:
                continue
            networks.discard(network_id)
            if networks:
                continue
            del self._networks_of_pool[pool_id]
            reserved = self._reserved.pop(pool_id, None)
            if reserved is not None:
                pool, addresses = reserved
                self.late_releases.add_all(pool, addresses)

    def reserve(self, pool: Pool, address: Address | None, deadline: Deadline) -> Address:
        """Reserve an address for a task, or any when none is asked for; returns it.

        One that the VSD has reserved already is had again, but not twice from this process: so a
        manager that comes to lead can ask for what the one before it reserved, and nobody can ask
        for a service's address by name. Raises Refused, Unavailable.
        """
        if address is not None and address in self._reserved.get(pool.pool_id, (pool, set()))[1]:
            raise Refused(
                f"the address {address} of the VSD's {pool.place} is reserved already "
                "for a task or service of this swarm; choose another one"
            )
        found = self._reserve(pool, address, deadline)
        self._reserved.setdefault(pool.pool_id, (pool, set()))[1].add(found)
        _log.info("reserved %s of %s for a swarm task or service", found, pool.place)
        return found

    def _reserve(self, pool: Pool, address: Address | None, deadline: Deadline) -> Address:
        if address is not None:
            self.late_releases.discard(pool, address)
        subnet = self._networks.subnets.of(pool)
        try:
            try:
                return self._reserve_without_container(pool, subnet, address, deadline)
            except NotFound:
                found = self._networks.subnets.find_again(pool, deadline)
                if found.vsd_id != subnet.vsd_id:
                    return self._reserve_without_container(pool, found, address, deadline)
            # The subnet is there, so what the VSD does not have is the kind of object: it is older
            # than 20.5.
            return self._reserve_by_container(pool, subnet, address, deadline)
        except Conflict as conflict:
            if conflict.code == SUBNET_FULL:
                raise Refused(
                    f"no address is left in the VSD's {pool.place} ({pool.cidr}): "
                    f"{conflict.message}",
                    conflict.code,
                ) from None
            raise Refused(
                f"the address {address or ''} cannot be reserved in the VSD's {pool.place}: "
                f"{conflict.message}",
                conflict.code,
            ) from None

    def _reserve_without_container(
        self, pool: Pool, subnet: Subnet, address: Address | None, deadline: Deadline
    ) -> Address:
        request_id = f"{self._host.external_id}/{self._identifiers.new_uuid()[:16]}"
        return self._vsd.reservations.reserve(
            subnet, address, request_id, pool.allocation_range, deadline
        )

    def _reserve_by_container(
        self, pool: Pool, subnet: Subnet, address: Address | None, deadline: Deadline
    ) -> Address:
        if address is not None or pool.allocation_range is None:
            return self._reserve_one(subnet, address, deadline)
        used = self._vsd.used_addresses(subnet, deadline)
        used.update({pool.gateway, subnet.cidr.network_address, subnet.cidr.broadcast_address})
        for candidate in pool.allocation_range:
            if candidate not in used:
                try:
                    return self._reserve_one(subnet, candidate, deadline, is_any=True)
                except Conflict as conflict:
                    if conflict.code != ADDRESS_IN_USE:
                        raise
        raise Refused(
            f"no address is left in {pool.allocation_range} of the VSD's {pool.place}", SUBNET_FULL
        )

    def _reserve_one(
        self, subnet: Subnet, address: Address | None, deadline: Deadline, is_any: bool = False
    ) -> Address:
        """Make the container of a reservation; `is_any` when any other address would do as well."""
        for attempt in range(_TRIES):
            try:
                container = self._vsd.create_container(
                    uuid=self._identifiers.new_uuid(),
                    external_id=RESERVATION,
                    port_name=VethPair.for_reservation(self._rng).bridge_port,
                    mac=self._identifiers.new_mac(),
                    subnet=subnet,
                    address=address,
                    deadline=deadline,
                )
                found = container.interfaces[0].address if container.interfaces else None
                if found is None:
                    self._vsd.delete_container(container.vsd_id, deadline)
                    raise Refused(
                        f"the VSD created a container without an address in its {subnet.place}; "
                        "the subnet must manage addresses"
                    )
                return found
            except Conflict as conflict:
                if conflict.code == DUPLICATE and attempt < _TRIES - 1:
                    continue  # the MAC is taken: draw another one
                if conflict.code != ADDRESS_IN_USE or address is None or is_any:
                    raise
                holder = self._holder(subnet, address, deadline)
                if holder is None:
                    raise
                # It is a reservation, so it is this swarm's: the manager before this one made it.
                interface = holder.interfaces[0]
                if interface.external_id == _RELEASED:
                    self._vsd.update_interface(interface.vsd_id, deadline, externalID=RESERVATION)
                return address
        raise Unavailable("the VSD did not reserve an address")

    def _holder(self, subnet: Subnet, address: Address, deadline: Deadline) -> Container | None:
        """The container that stands for an address's reservation, or that was made of one."""
        holder = self._vsd.find_holder(subnet.vsd_id, subnet.place.is_l2, address, deadline)
        if holder is None or not holder.interfaces:
            return None
        is_reservation = holder.external_id == RESERVATION
        return holder if is_reservation or is_reserved(holder.interfaces[0].name) else None

    def cancel(self, pool: Pool, address: Address, deadline: Deadline) -> bool:
        """Let a reserved address go, at the manager; False when it was no reservation.

        Raises Unavailable, at once when the VSD is away.
        """
        if pool.pool_id in self._reserved:
            self._reserved[pool.pool_id][1].discard(address)
        if not self._vsd.is_up:
            raise Unavailable("the VSD is away")
        subnet = self._networks.subnets.of(pool)
        if self._vsd.reservations.cancel(subnet, address, deadline):
            return True
        holder = self._holder(subnet, address, deadline)
        if holder is None:
            return False
        if holder.external_id != RESERVATION:
            # A worker's endpoint still has it: with its end the address becomes free.
            self._vsd.update_interface(holder.interfaces[0].vsd_id, deadline, externalID=_RELEASED)
            try:
                holder = self._vsd.get_container(holder.vsd_id, deadline)
            except NotFound:
                return True
        if holder.external_id == RESERVATION:
            self._vsd.delete_container(holder.vsd_id, deadline)
        return True

    @property
    def waiting(self) -> int:
        """How many releases wait for the VSD."""
        return len(self.late_releases)

    # -- the worker -------------------------------------------------------------------------------

    def take_over(self, subnet: Subnet, address: Address, deadline: Deadline) -> Container | None:
        """Make a reservation's container this host's own; None when there is none. Raises Fault.

        The address is never free in between.
        """
        holder = self._holder(subnet, address, deadline)
        if holder is None or holder.external_id != RESERVATION:
            return None
        self._vsd.update_container(holder.vsd_id, deadline, externalID=self._host.external_id)
        return self._vsd.get_container(holder.vsd_id, deadline)

    def hand_back(self, vsd_id: str, deadline: Deadline) -> None:
        """Make a container of this host, which was a reservation, one again.

        It is one until the manager lets it go; if that was before, it is deleted; one that is gone
        is success. Raises Fault.
        """
        try:
            self._hand_back(self._vsd.get_container(vsd_id, deadline), deadline)
        except NotFound:
            return
        except Conflict as conflict:
            _log.warning("the reservation of a swarm address was not kept: %s", conflict.message)

    def _hand_back(self, container: Container, deadline: Deadline) -> None:
        vsd_id = container.vsd_id
        interface = container.interfaces[0] if container.interfaces else None
        if interface is None or interface.external_id == _RELEASED or interface.address is None:
            self._vsd.delete_container(vsd_id, deadline)
        elif container.status == _PURGED_SOON:
            # The VSD is about to take it away by itself: make another one. The address is free for
            # a moment.
            self._vsd.delete_container(vsd_id, deadline)
            cidr = ipaddress.ip_network((interface.address, interface.prefix_len), strict=False)
            subnet = Subnet(
                interface.subnet_id, interface.place, cidr, interface.gateway, interface.domain_id
            )
            self._reserve_one(subnet, interface.address, deadline)
        elif container.external_id != RESERVATION:
            uuid = self._identifiers.new_uuid()
            self._vsd.update_container(
                vsd_id, deadline, externalID=RESERVATION, UUID=uuid, name=uuid
            )
            if self._vsd.get_container(vsd_id, deadline).interfaces[0].external_id == _RELEASED:
                self._vsd.delete_container(vsd_id, deadline)


def is_reserved(port_name: str) -> bool:
    """True for the bridge port of an endpoint that was made of a reservation."""
    pair = VethPair.of(port_name)
    return pair is not None and pair.is_of_reservation
