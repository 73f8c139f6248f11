"""Addresses: reserved on the VSD by creating the container of an endpoint to come, given back by deleting it.

Owns what is still to be given back. Must never hand out an address twice, and never delete a VSD container that is not
this host's own.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Conflict, Fault, NotFound, Refused, Unavailable
from nuage_appliance.base.state_file import StateFile
from nuage_appliance.core.endpoint_table import Endpoint, EndpointTable
from nuage_appliance.core.networks import Networks
from nuage_appliance.core.swarm import SwarmReservations
from nuage_appliance.model import (
    ADDRESS_IN_USE,
    DUPLICATE,
    SUBNET_FULL,
    Address,
    Cidr,
    Container,
    Pool,
    Stage,
    Subnet,
    VethPair,
)

if TYPE_CHECKING:
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

_TRIES = 4
_FRESH_S = 60.0
_RELEASE_S = 10.0
_LOOKS, _LOOK_S, _MOST_UNCERTAIN = 4, 10.0, 4096


class Addresses:
    """The addresses of this host. Every method but new_uuid and new_mac may switch greenlets."""

    def __init__(
        self,
        vsd: Vsd,
        networks: Networks,
        table: EndpointTable,
        *,
        hostname: str,
        late_releases: StateFile,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._vsd, self._networks, self._table = vsd, networks, table
        self._clock, self._rng = clock, rng or random.SystemRandom()
        self._host_bytes = hashlib.md5(hostname.encode()).digest()[:2]
        self.external_id = ""
        self._condemned_changed = threading.Event()
        self._finishing: set[str] = set()
        self._uncertain: dict[str, int] = {}
        self.swarm = SwarmReservations(
            vsd, networks, late_releases, self.new_uuid, self.new_mac, clock, rng
        )

    def new_uuid(self) -> str:
        """64 hexadecimal digits whose first twelve are no decimal number, as the predecessor's."""
        while True:
            text = f"{self._rng.getrandbits(256):064x}"
            if not text[:12].isdecimal():
                return text

    def new_mac(self) -> str:
        """A locally administered unicast MAC with two bytes of the host's name in it (predecessor §8.1)."""
        first = (self._rng.getrandbits(8) & 0xFE) | 0x02
        tail = self._rng.getrandbits(24).to_bytes(3, "big")
        return ":".join(f"{byte:02x}" for byte in bytes([first]) + self._host_bytes + tail)

    def reserve(self, pool: Pool, address: Address | None, deadline: Deadline) -> Endpoint:
        """Create the VSD container of an endpoint to come; the VSD chooses the address when none is asked.

        Raises Refused with the VSD's reason when the address cannot be had, Unavailable, Denied. Switches greenlets.
        """
        if address is not None and address not in pool.cidr:
            raise Refused(
                f"the address {address} is outside of {pool.cidr} of the VSD's {pool.place}"
            )
        self._table.wait_complete(deadline)
        subnet = self._networks.subnet(pool)
        if address is not None:
            self._finish_release(subnet, address, deadline)
        choice = pool.allocation_range if address is None else None
        if choice is not None:
            return self._reserve_within(pool, subnet, choice, deadline)
        blockers: list[Endpoint] = []
        try:
            for attempt in range(_TRIES):
                endpoint = self._create(pool, subnet, address, deadline)
                taken = self._table.by_address((endpoint.subnet_id,), endpoint.address)
                if taken is None or taken.vsd_id == endpoint.vsd_id:
                    if taken is not None:
                        self._table.drop(
                            taken
                        )  # a list that was read meanwhile brought our own container in
                    self._table.put(endpoint)
                    _log.info(
                        "reserved %s in %s for port %s",
                        endpoint.interface,
                        pool.place,
                        endpoint.port_name,
                    )
                    return endpoint
                # The VSD lost the container of an endpoint that still runs here and gave its address away: keep the new
                # container as a blocker until another address was found, so that it is not offered again.
                blockers.append(endpoint)
                _log.error(
                    "the VSD offered %s, which port %s of this host still uses; not handed out",
                    endpoint.interface,
                    taken.port_name,
                )
                if address is not None:
                    break
        finally:
            for blocker in blockers:
                self._table.free_number(blocker.pair)
                self.delete_soon(blocker)
        raise Refused(
            f"the VSD offers only addresses that endpoints of this host still use in the {pool.place}"
        )

    def _create(
        self,
        pool: Pool,
        subnet: Subnet,
        address: Address | None,
        deadline: Deadline,
        is_our_choice: bool = False,
    ) -> Endpoint:
        """`is_our_choice`: nobody asked for just this address, so one that is taken is left to whoever has it."""
        pair = self._table.next_pair()
        reclaimed = refreshed = False
        try:
            for attempt in range(_TRIES):
                uuid, mac = self.new_uuid(), self.new_mac()
                try:
                    container = self._vsd.create_container(
                        uuid=uuid,
                        external_id=self.external_id,
                        port_name=pair.bridge_port,
                        mac=mac,
                        subnet=subnet,
                        address=address,
                        deadline=deadline,
                    )
                    endpoint = self._made(container, pair, subnet, pool, mac)
                    if endpoint.address not in pool.cidr:
                        self.condemn_unknown(container.vsd_id, pair, pool)
                        raise Refused(
                            f"the VSD gave {endpoint.interface} in its {pool.place}, but this network was created for {pool.cidr}; create the network anew"
                        )
                    if self._table.is_deleted(endpoint.vsd_id):
                        raise Refused(
                            f"the address {endpoint.address} was released while it was requested; request it again"
                        )
                    return endpoint
                except Unavailable as fault:
                    if fault.sent:
                        self._look_later(uuid)
                    raise
                except NotFound:
                    if refreshed:
                        raise Refused(
                            f"the VSD has no {pool.place} any more; create it there, or remove the network"
                        ) from None
                    refreshed, subnet = True, self._networks.find_subnet_again(pool, deadline)
                except Conflict as conflict:
                    if conflict.code == DUPLICATE and attempt < _TRIES - 1:
                        continue  # our random MAC is taken: draw another one
                    if (
                        conflict.code == ADDRESS_IN_USE
                        and address is not None
                        and not reclaimed
                        and not is_our_choice
                    ):
                        reclaimed = True
                        reserved = self.swarm.take_over(subnet, address, self.external_id, deadline)
                        if reserved is not None:
                            return self._taken_over(reserved, pair, subnet, pool)
                        if self._reclaim(subnet, address, deadline):
                            continue
                    raise self._refusal(pool, address, conflict) from None
            raise Unavailable(
                f"the VSD did not create a container in the {pool.place} after {_TRIES} attempts"
            )
        except BaseException:
            self._table.free_number(pair)
            raise

    def _taken_over(
        self, container: Container, unused: VethPair, subnet: Subnet, pool: Pool
    ) -> Endpoint:
        """The endpoint of what a swarm manager reserved; its link bears the number that the reservation was made with."""
        pair = VethPair.of(container.interfaces[0].name) if container.interfaces else None
        if pair is None or self._table.had_device(pair):
            raise Refused(
                f"container {container.vsd_id} of the VSD, which stands for the reservation, names no link that this host could make"
            )
        self._table.free_number(unused)
        self._table.undelete(container.vsd_id)
        _log.info("took the reservation of %s over", container.interfaces[0].address)
        return self._made(container, pair, subnet, pool)

    @staticmethod
    def _refusal(pool: Pool, address: Address | None, conflict: Conflict) -> Fault:
        said = conflict.message
        if conflict.code == SUBNET_FULL:
            return Refused(
                f"no address is left in the VSD's {pool.place} ({pool.cidr}): {said}", conflict.code
            )
        if address is not None:
            return Refused(
                f"the address {address} cannot be had in the VSD's {pool.place}: {said}",
                conflict.code,
            )
        return Refused(f"the VSD refuses a container in its {pool.place}: {said}", conflict.code)

    def _made(
        self, container: Container, pair: VethPair, subnet: Subnet, pool: Pool, mac: str = ""
    ) -> Endpoint:
        """The endpoint of a container; `mac` is what it was created with, if the VSD does not say it."""
        interface = container.interfaces[0] if container.interfaces else None
        if interface is None or interface.address is None or not container.vsd_id:
            if container.vsd_id:
                self.condemn_unknown(container.vsd_id, pair, pool)
            raise Refused(
                f"the VSD created a container without an address in its {pool.place}; the subnet must manage addresses"
            )
        endpoint = Endpoint(
            address=interface.address,
            prefix_len=interface.prefix_len or subnet.cidr.prefixlen,
            gateway=str(interface.gateway or pool.gateway),
            mac=interface.mac or mac,
            pair=pair,
        )
        self._table.fill(endpoint, container, interface)
        endpoint.place = pool.place
        return endpoint

    def _reserve_within(
        self, pool: Pool, subnet: Subnet, choice: Cidr, deadline: Deadline
    ) -> Endpoint:
        """Choose inside an --ip-range or a part of the subnet: the VSD's API knows no such choice, so ask for one by one."""
        try:
            used = self._vsd.used_addresses(subnet, deadline)
        except NotFound:
            subnet = self._networks.find_subnet_again(pool, deadline)
            used = self._vsd.used_addresses(subnet, deadline)
        used.update(
            {pool.gateway, pool.subnet_cidr.network_address, pool.subnet_cidr.broadcast_address}
        )
        size = choice.num_addresses
        start = self._rng.randrange(size)
        for offset in range(size):
            address = choice[(start + offset) % size]
            if address in used or self._table.by_address((subnet.vsd_id,), address):
                continue
            try:
                endpoint = self._create(pool, subnet, address, deadline, is_our_choice=True)
            except Refused as refusal:
                if refusal.code != ADDRESS_IN_USE:
                    raise
                deadline.check("the VSD")
                continue
            twin = self._table.by_vsd(endpoint.vsd_id)
            if twin is not None:
                self._table.drop(twin)
            self._table.put(endpoint)
            _log.info(
                "reserved %s in %s for port %s", endpoint.interface, pool.place, endpoint.port_name
            )
            return endpoint
        raise Refused(f"no address is left in {choice} of the VSD's {pool.place}", SUBNET_FULL)

    def _reclaim(self, subnet: Subnet, address: Address, deadline: Deadline) -> bool:
        """Delete our own leftover that holds an address: no link, no rows, no endpoint, not just being made.

        A container that runs has its link on this host, so one without any is over, whatever name it bears.
        """
        holder = self._vsd.find_holder(subnet.vsd_id, subnet.place.is_l2, address, deadline)
        if holder is None:
            return True
        if holder.external_id != self.external_id:
            return False
        pairs = [VethPair.of(interface.name) for interface in holder.interfaces]
        if not pairs or any(pair is None or self._table.had_device(pair) for pair in pairs):
            return False
        endpoint = self._table.by_vsd(holder.vsd_id)
        if endpoint is not None and (
            endpoint.has_link
            or endpoint.endpoint_id
            or endpoint.stage is not Stage.RESERVED
            or not (endpoint.is_recovered or self._table.age_s(endpoint) > _FRESH_S)
        ):
            return False
        _log.warning(
            "%s was held by container %s of this host, which no endpoint uses; deleted",
            address,
            holder.vsd_id,
        )
        self._vsd.delete_container(holder.vsd_id, deadline)
        if endpoint is not None:
            self._table.drop(endpoint)
        return True

    def adopt(self, pool: Pool, address: Address, deadline: Deadline) -> Endpoint | None:
        """A container of ours that holds the address on the VSD although the table does not have it."""
        subnet = self._networks.subnet(pool)
        holder = self._vsd.find_holder(subnet.vsd_id, pool.place.is_l2, address, deadline)
        if (
            holder is None
            or holder.external_id != self.external_id
            or not holder.interfaces
            or self._table.is_deleted(holder.vsd_id)
        ):
            return None
        pair = VethPair.of(holder.interfaces[0].name)
        endpoint = self._made(holder, pair or self._table.next_pair(), subnet, pool)
        twin = self._table.by_port(endpoint.port_name)
        if twin is not None:
            return twin if twin.vsd_id == endpoint.vsd_id and not twin.endpoint_id else None
        self._table.put(endpoint)
        return endpoint

    def delete_soon(self, endpoint: Endpoint) -> None:
        """The endpoint is over: its VSD container is to be deleted, now or when the VSD can be asked."""
        self._table.drop(endpoint)
        if endpoint.vsd_id:
            self._table.pending_delete[endpoint.vsd_id] = endpoint
            self._condemned_changed.set()

    def finish(self, endpoint: Endpoint, deadline: Deadline, even_if_away: bool = False) -> bool:
        """Delete a condemned endpoint's VSD container now, or leave it to serve_releases; True when it is gone."""
        if endpoint.vsd_id not in self._table.pending_delete:
            return True
        if endpoint.vsd_id in self._finishing:
            return False  # another greenlet is at it
        if not self._vsd.is_up and not even_if_away:
            _log.warning("%s is given back once the VSD answers", endpoint.interface)
            return False
        self._finishing.add(endpoint.vsd_id)
        try:
            self.swarm.give_back(endpoint.vsd_id, endpoint.port_name, deadline)
        except Fault as fault:
            _log.warning("%s is given back later: %s", endpoint.interface, fault.message)
            return False
        finally:
            self._finishing.discard(endpoint.vsd_id)
        self._table.mark_deleted(endpoint)
        _log.info(
            "released %s of %s (port %s)", endpoint.interface, endpoint.place, endpoint.port_name
        )
        return True

    def _finish_release(self, subnet: Subnet, address: Address, deadline: Deadline) -> None:
        """An address that is asked for again may still wait for its deletion on the VSD: do that first."""
        for endpoint in list(self._table.pending_delete.values()):
            # Without a subnet it is known from its link only, from before the VSD was read.
            if endpoint.subnet_id in ("", subnet.vsd_id) and endpoint.address == address:
                self.finish(endpoint, deadline)

    def release_now(self) -> None:
        """The VSD answers again: do not wait with what is to be given back."""
        self._condemned_changed.set()

    def serve_releases(self) -> None:
        """The greenlet that finishes what could not be given back at once; never returns."""
        backoff = Backoff(1.0, 2.0, 10.0)
        while True:
            self._condemned_changed.wait()
            self._condemned_changed.clear()
            for endpoint in list(self._table.pending_delete.values()):
                if endpoint.vsd_id in self._finishing:
                    continue  # the caller that condemned it is at it
                if not self.finish(endpoint, Deadline(_RELEASE_S, self._clock), even_if_away=True):
                    break
            if self._vsd.is_up:
                self._find_uncertain()
            if self._table.pending_delete:
                self._condemned_changed.wait(timeout=backoff.next_s())
                self._condemned_changed.set()
            elif self._uncertain:
                self._condemned_changed.wait(timeout=_LOOK_S)
                self._condemned_changed.set()
            else:
                backoff.reset()

    def _look_later(self, uuid: str) -> None:
        """The engine is told that there is no address, but the VSD may make the container yet, even from what waits in a broken network."""
        self._uncertain[uuid] = _LOOKS
        while len(self._uncertain) > _MOST_UNCERTAIN:
            del self._uncertain[next(iter(self._uncertain))]
        self._condemned_changed.set()

    def _find_uncertain(self) -> None:
        for uuid, looks in list(self._uncertain.items()):
            try:
                found = self._vsd.find_container(uuid, Deadline(_RELEASE_S, self._clock))
                known = self._table.by_vsd(found.vsd_id) if found is not None else None
                if found is not None and (known is None or not known.endpoint_id):
                    if known is not None:
                        self._table.drop(known)  # a list showed it
                    _log.warning(
                        "container %s, whose creation the VSD did not confirm in time, is deleted",
                        found.vsd_id,
                    )
                    self._vsd.delete_container(found.vsd_id, Deadline(_RELEASE_S, self._clock))
            except Fault as fault:
                _log.debug("%s", fault.message)
                return
            if found is not None or looks <= 1:
                self._uncertain.pop(uuid, None)
            else:
                self._uncertain[uuid] = looks - 1

    def end_container(self, vsd_id: str, deadline: Deadline) -> None:
        """End a VSD container of a host that no endpoint has; one that is gone is success. Raises Fault."""
        try:
            container = self._vsd.get_container(vsd_id, deadline)
        except NotFound:
            return
        self.swarm.give_back(
            vsd_id, container.interfaces[0].name if container.interfaces else "", deadline
        )

    def condemn_unknown(self, vsd_id: str, pair: VethPair, pool: Pool) -> None:
        """Give back a VSD container that is of no use to an endpoint."""
        self.delete_soon(
            Endpoint(
                pool.gateway, pool.cidr.prefixlen, "", "", pair, place=pool.place, vsd_id=vsd_id
            )
        )
