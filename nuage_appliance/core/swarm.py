"""Addresses that a swarm manager reserves for a task of some host (libnetwork §5.4).

A VSD from 20.5 on reserves addresses without a container. For an older one a container stands for the reservation: it
bears no host's external id, so that no host counts it as its own, and the worker that makes the endpoint takes it over.
Owns the releases that the VSD could not be told. Must never free an address that the manager or the worker still holds.
"""

from __future__ import annotations

import ipaddress
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Conflict, Fault, NotFound, Refused, Unavailable
from nuage_appliance.base.state_file import StateFile
from nuage_appliance.core.networks import Networks
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
    parse_pool_id,
)

if TYPE_CHECKING:
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

_RELEASED = "nuage-released"  # the external id of its interface once the manager has let it go before the worker
_PURGED_SOON = "DELETE_PENDING"
_TRIES = 4
_RELEASE_S = 10.0
_MOST_LATE = 4096


class SwarmReservations:
    """Everything may switch greenlets."""

    def __init__(
        self,
        vsd: Vsd,
        networks: Networks,
        late: StateFile,
        new_uuid: Callable[[], str],
        new_mac: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """`late` keeps the releases that wait for the VSD over a restart."""
        self._vsd, self._networks, self._clock = vsd, networks, clock
        self._new_uuid, self._new_mac, self._rng = new_uuid, new_mac, rng or random.SystemRandom()
        self._file, self._late = late, late.load()
        # A manager that comes to lead is told both again, so memory is enough.
        self._networks_of_pool: dict[str, set[str]] = {}
        self._reserved: dict[str, tuple[Pool, set[Address]]] = {}
        self._late_changed = threading.Event()
        if self._late:
            self._late_changed.set()

    # -- the manager ------------------------------------------------------------------------------

    def allocated(self, network_id: str, pool: Pool) -> None:
        """A network of the swarm lives on a pool; one that is known already tells that the engine replays what it has."""
        if network_id in self._networks_of_pool.get(pool.pool_id, ()):
            self._reserved.pop(pool.pool_id, None)
        self._networks_of_pool.setdefault(pool.pool_id, set()).add(network_id)

    def freed(self, network_id: str) -> None:
        """A network of the swarm was removed.

        With the last one of its pool all that is still reserved there is given back: the engine forgets the tasks that are
        still ending, and does not release their addresses.
        """
        for pool_id in [
            pool_id
            for pool_id, networks in self._networks_of_pool.items()
            if network_id in networks
        ]:
            self._networks_of_pool[pool_id].discard(network_id)
            if self._networks_of_pool[pool_id]:
                continue
            del self._networks_of_pool[pool_id]
            pool, addresses = self._reserved.pop(pool_id, (None, set()))
            for address in addresses if pool is not None else ():
                self._wait_for_release(pool, address)
            self._file.save(self._late)

    def reserve(
        self, pool: Pool, address: Address | None, external_id: str, deadline: Deadline
    ) -> Address:
        """Reserve an address, and no more; one that the VSD has reserved already is had again, but not twice from this process.

        So a manager that comes to lead can be told what the one before it reserved, and nobody can ask for a service's
        address by name. Raises Refused, Unavailable.
        """
        if address is not None and address in self._reserved.get(pool.pool_id, (pool, set()))[1]:
            raise Refused(
                f"the address {address} of the VSD's {pool.place} is reserved already for a task or service of this swarm; choose another one"
            )
        found = self._reserve(pool, address, external_id, deadline)
        self._reserved.setdefault(pool.pool_id, (pool, set()))[1].add(found)
        _log.info("reserved %s of %s for a swarm task or service", found, pool.place)
        return found

    def _reserve(
        self, pool: Pool, address: Address | None, external_id: str, deadline: Deadline
    ) -> Address:
        if address is not None and self._late.pop(_key(pool, address), None) is not None:
            self._file.save(self._late)  # it was to be released, and is wanted again
        subnet = self._networks.subnet(pool)
        try:
            try:
                return self._vsd.reservations.reserve(
                    subnet,
                    address,
                    f"{external_id}/{self._new_uuid()[:16]}",
                    pool.allocation_range,
                    deadline,
                )
            except NotFound:
                found = self._networks.find_subnet_again(pool, deadline)
                if found.vsd_id != subnet.vsd_id:
                    return self._vsd.reservations.reserve(
                        found,
                        address,
                        f"{external_id}/{self._new_uuid()[:16]}",
                        pool.allocation_range,
                        deadline,
                    )
            return self._reserve_by_container(pool, subnet, address, deadline)
        except Conflict as conflict:
            if conflict.code == SUBNET_FULL:
                raise Refused(
                    f"no address is left in the VSD's {pool.place} ({pool.cidr}): {conflict.message}",
                    conflict.code,
                ) from None
            raise Refused(
                f"the address {address or ''} cannot be reserved in the VSD's {pool.place}: {conflict.message}",
                conflict.code,
            ) from None

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
        for attempt in range(_TRIES):
            try:
                container = self._vsd.create_container(
                    uuid=self._new_uuid(),
                    external_id=RESERVATION,
                    port_name=VethPair.for_reservation(self._rng).bridge_port,
                    mac=self._new_mac(),
                    subnet=subnet,
                    address=address,
                    deadline=deadline,
                )
                found = container.interfaces[0].address if container.interfaces else None
                if found is None:
                    self._vsd.delete_container(container.vsd_id, deadline)
                    raise Refused(
                        f"the VSD created a container without an address in its {subnet.place}; the subnet must manage addresses"
                    )
                return found
            except Conflict as conflict:
                if conflict.code == DUPLICATE and attempt < _TRIES - 1:
                    continue
                if conflict.code != ADDRESS_IN_USE or address is None or is_any:
                    raise
                holder = self._holder(subnet, address, deadline)
                if holder is None:
                    raise
                if holder.interfaces[0].external_id == _RELEASED:
                    self._vsd.update_interface(
                        holder.interfaces[0].vsd_id, deadline, externalID=RESERVATION
                    )
                return address
        raise Unavailable("the VSD did not reserve an address")

    def _holder(self, subnet: Subnet, address: Address, deadline: Deadline) -> Container | None:
        """The container that stands for an address's reservation, or that was made of one."""
        holder = self._vsd.find_holder(subnet.vsd_id, subnet.place.is_l2, address, deadline)
        return holder if holder is not None and holder.interfaces and _is_reserved(holder) else None

    def release(self, pool: Pool, address: Address, deadline: Deadline) -> bool:
        """The manager lets an address go; False when it was no reservation. Raises Unavailable at once when the VSD is away."""
        if pool.pool_id in self._reserved:
            self._reserved[pool.pool_id][1].discard(address)
        if not self._vsd.is_up:
            raise Unavailable("the VSD is away")
        subnet = self._networks.subnet(pool)
        if self._vsd.reservations.cancel(subnet, address, deadline):
            return True
        holder = self._holder(subnet, address, deadline)
        if holder is None:
            return False
        if holder.external_id != RESERVATION:
            # A worker's endpoint still has it: its end will be the address's.
            self._vsd.update_interface(holder.interfaces[0].vsd_id, deadline, externalID=_RELEASED)
            try:
                holder = self._vsd.get_container(holder.vsd_id, deadline)
            except NotFound:
                return True
        if holder.external_id == RESERVATION:
            self._vsd.delete_container(holder.vsd_id, deadline)
        return True

    def release_later(self, pool: Pool, address: Address) -> None:
        """Let an address go once the VSD answers, also after a restart. Raises Unavailable when too many wait."""
        if len(self._late) >= _MOST_LATE:
            raise Unavailable(f"{_MOST_LATE} reserved addresses wait to be released already")
        self._wait_for_release(pool, address)
        self._file.save(self._late)

    def _wait_for_release(self, pool: Pool, address: Address) -> None:
        self._late[_key(pool, address)] = str(address)
        self._late_changed.set()

    @property
    def waiting(self) -> int:
        """How many releases wait for the VSD."""
        return len(self._late)

    def serve_late_releases(self) -> None:
        """The greenlet that finishes what the VSD could not be told; never returns."""
        backoff = Backoff(1.0, 2.0, 10.0)
        while True:
            self._late_changed.wait()
            self._late_changed.clear()
            for key, text in list(self._late.items()):
                try:
                    pool = parse_pool_id(key.rpartition("|")[0])
                    if isinstance(pool, Pool):
                        self.release(
                            pool, ipaddress.ip_address(text), Deadline(_RELEASE_S, self._clock)
                        )
                except (Refused, ValueError) as error:
                    _log.warning("the reservation of %s is not released: %s", text, error)
                except Fault as fault:
                    _log.debug("%s", fault.message)
                    break
                self._late.pop(key, None)
            self._file.save(self._late)
            if self._late:
                time.sleep(backoff.next_s())
                self._late_changed.set()
            else:
                backoff.reset()

    # -- the worker -------------------------------------------------------------------------------

    def take_over(
        self, subnet: Subnet, address: Address, external_id: str, deadline: Deadline
    ) -> Container | None:
        """Make a reservation's container this host's own; None when there is none. The address is never free in between."""
        holder = self._holder(subnet, address, deadline)
        if holder is None or holder.external_id != RESERVATION:
            return None
        self._vsd.update_container(holder.vsd_id, deadline, externalID=external_id)
        return self._vsd.get_container(holder.vsd_id, deadline)

    def give_back(self, vsd_id: str, port_name: str, deadline: Deadline) -> None:
        """End a container of this host; one that was a reservation is one again until the manager lets it go."""
        pair = VethPair.of(port_name)
        if pair is None or not pair.is_of_reservation:
            self._vsd.delete_container(vsd_id, deadline)
            return
        try:
            container = self._vsd.get_container(vsd_id, deadline)
            interface = container.interfaces[0] if container.interfaces else None
            if interface is None or interface.external_id == _RELEASED or interface.address is None:
                self._vsd.delete_container(vsd_id, deadline)
            elif container.status == _PURGED_SOON:  # the VSD would take it away by itself
                self._vsd.delete_container(vsd_id, deadline)
                subnet = Subnet(
                    interface.subnet_id,
                    interface.place,
                    ipaddress.ip_network((interface.address, interface.prefix_len), strict=False),
                    interface.gateway,
                    interface.domain_id,
                )
                self._reserve_one(subnet, interface.address, deadline)
            elif container.external_id != RESERVATION:
                uuid = self._new_uuid()
                self._vsd.update_container(
                    vsd_id, deadline, externalID=RESERVATION, UUID=uuid, name=uuid
                )
                if self._vsd.get_container(vsd_id, deadline).interfaces[0].external_id == _RELEASED:
                    self._vsd.delete_container(vsd_id, deadline)
        except NotFound:
            return
        except Conflict as conflict:
            _log.warning("the reservation of a swarm address was not kept: %s", conflict.message)


def _is_reserved(container: Container) -> bool:
    pair = VethPair.of(container.interfaces[0].name)
    return container.external_id == RESERVATION or (pair is not None and pair.is_of_reservation)


def _key(pool: Pool, address: Address) -> str:
    return f"{pool.pool_id}|{address}"
