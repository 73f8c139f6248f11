"""The VSD containers that stand for this host's endpoints: made, made again, taken over, found.

Owns nothing but the order of the attempts. Must never delete a VSD container that is not this
host's own.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Conflict, NotFound, Refused, Unavailable
from nuage_appliance.core.deletions import Deletions
from nuage_appliance.core.endpoint import Endpoint
from nuage_appliance.core.endpoint_table import EndpointTable
from nuage_appliance.core.host import HostIdentity
from nuage_appliance.core.identifiers import Identifiers
from nuage_appliance.core.networks import Networks
from nuage_appliance.core.swarm import SwarmReservations
from nuage_appliance.model import (
    ADDRESS_IN_USE,
    DUPLICATE,
    SUBNET_FULL,
    Address,
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


class VsdContainers:
    """Everything may switch greenlets."""

    def __init__(
        self,
        vsd: Vsd,
        networks: Networks,
        table: EndpointTable,
        host: HostIdentity,
        swarm: SwarmReservations,
        deletions: Deletions,
        identifiers: Identifiers,
    ) -> None:
        self._vsd = vsd
        self._networks = networks
        self._table = table
        self._host = host
        self._swarm = swarm
        self._deletions = deletions
        self._identifiers = identifiers

    def create(
        self,
        pool: Pool,
        subnet: Subnet,
        address: Address | None,
        deadline: Deadline,
        is_our_choice: bool = False,
    ) -> Endpoint:
        """Create the VSD container of an endpoint to come, which is not in the table yet.

        `is_our_choice`: nobody asked for just this address, so one that is taken is left to whoever
        has it.
        """
        # One loop, because the three things that are worth another attempt may come one after the
        # other, in any order:
        #
        # * DUPLICATE: the MAC is taken. The first MAC for an address that is known beforehand
        #   follows from the address, and a leftover of our own may have it: after that was deleted
        #   it is tried again. Else draw another one, as often as there are attempts.
        # * NotFound: the VSD has no subnet of this id. It may have been made anew under another id:
        #   find it by its names, and use that from now on. Once: if that one is gone too, somebody
        #   is just deleting it.
        # * ADDRESS_IN_USE of an address that was asked for by name. It may be held by a swarm's
        #   reservation, which is ours to take over, or by a leftover of our own, which is ours to
        #   delete. Once: who takes the address after that is entitled to it.
        #
        # Any other Conflict is a refusal, with the VSD's reason. Unavailable is not repeated here,
        # because the client has done that within the deadline; but the request may have reached
        # the VSD, and then its container may exist or come to exist, so somebody must look for its
        # UUID later. Denied and Refused pass through.
        #
        # Every attempt has a UUID of its own, so that what a lost attempt made can be told apart.
        # Whatever is raised, even the end of the greenlet, the link number is free again.
        pair = self._table.numbers.next_pair()
        has_reclaimed = False
        has_found_subnet_again = False
        own_mac = "" if address is None else self._identifiers.mac_of(pool.place, address)
        is_own_mac_taken = False
        try:
            for attempt in range(_TRIES):
                uuid = self._identifiers.new_uuid()
                mac = self._identifiers.new_mac()
                if own_mac and not is_own_mac_taken:
                    mac = own_mac
                try:
                    container = self._vsd.create_container(
                        uuid=uuid,
                        external_id=self._host.external_id,
                        port_name=pair.bridge_port,
                        mac=mac,
                        subnet=subnet,
                        address=address,
                        deadline=deadline,
                    )
                    return self._check_created(container, pair, subnet, pool, mac)
                except Unavailable as fault:
                    if fault.sent:
                        self._deletions.look_later(uuid)
                    raise
                except NotFound:
                    if has_found_subnet_again:
                        raise Refused(
                            f"the VSD has no {pool.place} any more; "
                            "create it there, or remove the network"
                        ) from None
                    has_found_subnet_again = True
                    subnet = self._networks.subnets.find_again(pool, deadline)
                except Conflict as conflict:
                    if conflict.code == DUPLICATE and attempt < _TRIES - 1:
                        is_own_mac_taken = True
                        continue
                    may_reclaim = address is not None and not has_reclaimed and not is_our_choice
                    if conflict.code != ADDRESS_IN_USE or address is None or not may_reclaim:
                        raise _refusal(pool, address, conflict) from None
                    has_reclaimed = True
                    reserved = self._swarm.take_over(subnet, address, deadline)
                    if reserved is not None:
                        return self._take_over(reserved, pair, subnet, pool)
                    if not self._reclaim(subnet, address, deadline):
                        raise _refusal(pool, address, conflict) from None
                    is_own_mac_taken = False
            raise Unavailable(
                f"the VSD did not create a container in the {pool.place} after {_TRIES} attempts"
            )
        except BaseException:
            self._table.numbers.free(pair)
            raise

    def _check_created(
        self, container: Container, pair: VethPair, subnet: Subnet, pool: Pool, mac: str
    ) -> Endpoint:
        """The endpoint of a container that was just created; one that is of no use is deleted.

        Raises Refused.
        """
        endpoint = self._endpoint_of(container, pair, subnet, pool, mac)
        if endpoint.address not in pool.cidr:
            self._deletions.delete_unused(container.vsd_id, pair, pool)
            raise Refused(
                f"the VSD gave {endpoint.interface} in its {pool.place}, "
                f"but this network was created for {pool.cidr}; create the network anew"
            )
        if self._table.is_deleted(endpoint.vsd_id):
            raise Refused(
                f"the address {endpoint.address} was released while it was requested; "
                "request it again"
            )
        return endpoint

    def _take_over(
        self, container: Container, unused: VethPair, subnet: Subnet, pool: Pool
    ) -> Endpoint:
        """The endpoint of what a swarm manager reserved; its link has the reservation's number."""
        pair = VethPair.of(container.interfaces[0].name) if container.interfaces else None
        if pair is None or self._table.numbers.had_device(pair):
            raise Refused(
                f"container {container.vsd_id} of the VSD, which stands for the reservation, "
                "names no link that this host could make"
            )
        self._table.numbers.free(unused)
        self._table.undelete(container.vsd_id)
        _log.info("took the reservation of %s over", container.interfaces[0].address)
        return self._endpoint_of(container, pair, subnet, pool)

    def _endpoint_of(
        self, container: Container, pair: VethPair, subnet: Subnet, pool: Pool, mac: str = ""
    ) -> Endpoint:
        """The endpoint of a container; `mac` is what it was created with, if the VSD is silent."""
        interface = container.interfaces[0] if container.interfaces else None
        if interface is None or interface.address is None or not container.vsd_id:
            if container.vsd_id:
                self._deletions.delete_unused(container.vsd_id, pair, pool)
            raise Refused(
                f"the VSD created a container without an address in its {pool.place}; "
                "the subnet must manage addresses"
            )
        endpoint = Endpoint(
            address=interface.address,
            prefix_len=interface.prefix_len or subnet.cidr.prefixlen,
            gateway=interface.gateway or pool.gateway,
            mac=interface.mac or mac,
            pair=pair,
        )
        endpoint.fill(container, interface)
        endpoint.place = pool.place
        return endpoint

    def recreate(self, endpoint: Endpoint, mac: str, deadline: Deadline) -> None:
        """Make another VSD container for an endpoint that lost its own, with the same address.

        Raises Conflict, and NotFound when the endpoint was released meanwhile: then nobody else
        would delete the new container, so that is seen to here.
        """
        assert endpoint.place is not None, "the caller has found the endpoint's place"
        lost_id = endpoint.vsd_id
        subnet = Subnet(
            endpoint.subnet_id,
            endpoint.place,
            endpoint.interface.network,
            None,
            endpoint.domain_id,
        )
        container = self._vsd.create_container(
            uuid=self._identifiers.new_uuid(),
            external_id=self._host.external_id,
            port_name=endpoint.port_name,
            mac=mac,
            subnet=subnet,
            address=endpoint.address,
            deadline=deadline,
        )
        if self._table.is_deleted(lost_id):
            self._deletions.delete_soon(dataclasses.replace(endpoint, vsd_id=container.vsd_id))
            raise NotFound(f"port {endpoint.port_name} was released meanwhile")
        self._table.drop(endpoint)
        endpoint.fill(container, container.interfaces[0])
        self._table.put(endpoint)

    def _reclaim(self, subnet: Subnet, address: Address, deadline: Deadline) -> bool:
        """Delete our own leftover that holds an address; True when another request may get it.

        A leftover has no link, no rows, no endpoint, and is not just being made. A container that
        runs has its link on this host, so one without any is over, whatever its name is.
        """
        holder = self._vsd.find_holder(subnet.vsd_id, subnet.place.is_l2, address, deadline)
        if holder is None:
            return True
        if holder.external_id != self._host.external_id:
            return False
        pairs = [VethPair.of(interface.name) for interface in holder.interfaces]
        if not pairs or any(pair is None or self._table.numbers.had_device(pair) for pair in pairs):
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
            "container %s of this host held %s, but no endpoint uses it; it is deleted",
            holder.vsd_id,
            address,
        )
        self._vsd.delete_container(holder.vsd_id, deadline)
        if endpoint is not None:
            self._table.drop(endpoint)
        return True

    def load_holder(self, pool: Pool, address: Address, deadline: Deadline) -> Endpoint | None:
        """Put the endpoint into the table whose VSD container holds an address, but which it lacks.

        None when nobody holds the address, somebody else does, or this host deletes the container.
        Raises Fault.
        """
        subnet = self._networks.subnets.of(pool)
        holder = self._vsd.find_holder(subnet.vsd_id, pool.place.is_l2, address, deadline)
        if (
            holder is None
            or holder.external_id != self._host.external_id
            or not holder.interfaces
            or self._table.is_deleted(holder.vsd_id)
        ):
            return None
        pair = VethPair.of(holder.interfaces[0].name)
        endpoint = self._endpoint_of(holder, pair or self._table.numbers.next_pair(), subnet, pool)
        twin = self._table.by_port(endpoint.port_name)
        if twin is not None:
            return twin if twin.vsd_id == endpoint.vsd_id and not twin.endpoint_id else None
        self._table.put(endpoint)
        return endpoint


def _refusal(pool: Pool, address: Address | None, conflict: Conflict) -> Refused:
    reason = conflict.message
    if conflict.code == SUBNET_FULL:
        sentence = f"no address is left in the VSD's {pool.place} ({pool.cidr}): {reason}"
    elif address is not None:
        sentence = f"the address {address} cannot be had in the VSD's {pool.place}: {reason}"
    else:
        sentence = f"the VSD refuses a container in its {pool.place}: {reason}"
    return Refused(sentence, conflict.code)
