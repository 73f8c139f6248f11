"""The life of an endpoint: create, join, leave, delete, release, and a VSD container that was lost.

Owns the order of these steps and the releases that came before the VSD was read; `plugging` has the ports. Every teardown succeeds on what is gone
already; what a neighbour cannot do now is done when it is back. Must never touch a device or port of anybody else.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Conflict, Fault, NotFound, Refused, Unavailable
from nuage_appliance.core.addresses import Addresses
from nuage_appliance.core.endpoint_table import Endpoint, EndpointTable
from nuage_appliance.core.networks import Networks
from nuage_appliance.core.plugging import Plugging
from nuage_appliance.model import (
    ADDRESS_IN_USE,
    DUPLICATE,
    GLOBAL_SPACE,
    Address,
    LinkTag,
    Pool,
    Stage,
    Subnet,
    shorten,
)

if TYPE_CHECKING:
    from nuage_appliance.clients.links import Links
    from nuage_appliance.clients.vrs import Vrs
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

_TRIES = 4
_WAIT_FOR_LIST_S = 5.0
_RELEASE_S = 5.0
_MOST_LATE = 20_000


class Endpoints:
    """What the engine's calls and events do to endpoints. Every public method but find and of_container may switch greenlets."""

    def __init__(
        self,
        vsd: Vsd,
        vrs: Vrs,
        links: Links,
        networks: Networks,
        table: EndpointTable,
        addresses: Addresses,
        *,
        mtu: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vsd, self._vrs, self._links, self._networks = vsd, vrs, links, networks
        self._table, self._addresses, self._clock = table, addresses, clock
        self.mtu = mtu
        self.plugging = Plugging(vsd, vrs, networks, table, self.end, clock=clock)
        self._late_releases: list[tuple[Pool, Address]] = []

    def create(
        self, network_id: str, endpoint_id: str, address: Address, mac: str, deadline: Deadline
    ) -> Endpoint:
        """Make the link of a reserved address. Repeating it is harmless. Undoes its own half on failure.

        `mac` is the one the user asked for, or empty. Raises Refused, Unavailable. Switches greenlets.
        """
        known = self._table.by_endpoint(endpoint_id)
        if known is not None:
            return self._same(known, network_id, address, mac)
        endpoint = self._reservation(network_id, address, deadline)
        with endpoint.lock:
            if endpoint.endpoint_id and endpoint.endpoint_id != endpoint_id:
                raise Refused(
                    f"the address {address} belongs to endpoint {endpoint.endpoint_id[:12]}, which was not deleted"
                )
            if (
                endpoint.endpoint_id and endpoint.has_link and not endpoint.is_leaving
            ):  # the same call was here while this one waited
                return self._same(endpoint, network_id, address, mac)
            if mac and mac != endpoint.mac:
                self._set_mac(endpoint, mac, deadline)
            endpoint.endpoint_id, endpoint.network_id = endpoint_id, network_id
            try:
                self._make_link(endpoint)
            except BaseException:
                self._table.forget_endpoint_id(endpoint)
                endpoint.endpoint_id = endpoint.network_id = ""
                raise
            if self._table.is_deleted(endpoint.vsd_id):
                self.take_down(endpoint, deadline)
                raise Refused(
                    f"the address {address} was released while its endpoint was made; start the container again"
                )
            endpoint.stage = Stage.CREATED
            self._table.put(endpoint)
        return endpoint

    @staticmethod
    def _same(known: Endpoint, network_id: str, address: Address, mac: str) -> Endpoint:
        """The endpoint that a repeated call asks for; raises Refused when that is another one."""
        for what, have, asked in (
            ("on the network", shorten(known.network_id), shorten(network_id)),
            ("with the address", known.address, address),
            ("with the MAC", known.mac, mac or known.mac),
        ):
            if have != asked:
                raise Refused(
                    f"endpoint {known.endpoint_id[:12]} exists already {what} {have}, not {asked}"
                )
        return known

    def _reservation(self, network_id: str, address: Address, deadline: Deadline) -> Endpoint:
        """The endpoint that RequestAddress made for (network, address)."""
        network = self._networks.network(network_id, deadline)
        if network is not None:
            pool = self._networks.pool(network.pool_id, deadline)
            if address not in pool.cidr:
                raise Refused(
                    f"the address {address} is outside of {pool.cidr}, for which network {network_id[:12]} was created"
                )
            endpoint = self._table.by_address(self._networks.subnet_ids(pool), address)
            if endpoint is None and not self._table.is_complete:
                self._table.wait_complete(deadline)
                endpoint = self._table.by_address(self._networks.subnet_ids(pool), address)
            if endpoint is not None:
                return endpoint
            adopted = self._addresses.adopt(pool, address, deadline)
            if adopted is not None:
                return adopted
            raise Refused(
                f"the address {address} was not requested from nuage-ipam in the {pool.place}"
            )
        self._table.wait_complete(deadline)
        found = [
            endpoint
            for endpoint in self._table.all
            if endpoint.address == address
            and not endpoint.endpoint_id
            and endpoint.stage is Stage.RESERVED
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise Refused(
                f"network {network_id[:12]} is not known and {len(found)} VSD subnets have the address {address} reserved; "
                "try again when the Docker engine answers"
            )
        raise Refused(
            f"the address {address} was not requested from nuage-ipam; create network {network_id[:12]} with --ipam-driver=nuage-ipam"
        )

    def _set_mac(self, endpoint: Endpoint, mac: str, deadline: Deadline) -> None:
        """Give the VSD's interface another MAC; where the VSD does not change it, replace the container."""
        try:
            self._vsd.update_interface(endpoint.interface_id, deadline, MAC=mac)
            if self._vsd.interface_mac(endpoint.interface_id, deadline) == mac:
                endpoint.mac = mac
                return
        except (Conflict, Refused) as fault:
            if isinstance(fault, Conflict) and fault.code == DUPLICATE:
                raise Refused(f"the MAC {mac} is in use in this subnet: {fault.message}") from None
            _log.debug("%s", fault.message)
        self._vsd.delete_container(endpoint.vsd_id, deadline)
        try:
            self._create_container(endpoint, mac, deadline)
        except Conflict as conflict:
            raise Refused(f"the MAC {mac} cannot be used: {conflict.message}") from None
        except NotFound as fault:
            raise Refused(f"{fault.message}; start the container again") from None

    def _create_container(self, endpoint: Endpoint, mac: str, deadline: Deadline) -> None:
        """Another VSD container for an endpoint that lost its own, with the same address.

        Raises Conflict, and NotFound when the endpoint was released meanwhile: then nobody else would give the container back.
        """
        lost_id = endpoint.vsd_id
        subnet = Subnet(
            endpoint.subnet_id,
            endpoint.place,
            endpoint.interface.network,
            None,
            endpoint.domain_id,
        )
        container = self._vsd.create_container(
            uuid=self._addresses.new_uuid(),
            external_id=self._addresses.external_id,
            port_name=endpoint.port_name,
            mac=mac,
            subnet=subnet,
            address=endpoint.address,
            deadline=deadline,
        )
        if self._table.is_deleted(lost_id):
            self._addresses.delete_soon(dataclasses.replace(endpoint, vsd_id=container.vsd_id))
            raise NotFound(f"port {endpoint.port_name} was released meanwhile")
        self._table.drop(endpoint)
        self._table.fill(endpoint, container, container.interfaces[0])
        self._table.put(endpoint)

    def _make_link(self, endpoint: Endpoint) -> None:
        mtu = self.mtu or self._table.bridge_mtu
        tag = LinkTag(
            endpoint.endpoint_id,
            endpoint.network_id,
            str(endpoint.interface),
            endpoint.gateway,
            endpoint.mac,
            endpoint.vsd_id,
        )
        offload = not (self._vrs.is_ready and self._vrs.needs_software_checksum)
        for attempt in range(_TRIES):
            try:
                self._links.create(endpoint.pair, tag.to_alias(), mtu, endpoint.mac, offload)
                endpoint.has_link = True
                return
            except Conflict:
                # Somebody made a device of that name meanwhile; it is not ours to touch, so take another number.
                _log.warning("the device name %s is taken; using another one", endpoint.port_name)
                self._table.move(endpoint, self._table.next_pair())
        raise Unavailable("no free device name was found for the veth pair")

    def join(self, network_id: str, endpoint_id: str, deadline: Deadline) -> Endpoint:
        """Make sure that the entity port is there for the engine to take. Raises Refused for an unknown endpoint. Switches."""
        endpoint = self._table.by_endpoint(endpoint_id)
        if endpoint is None:
            raise Refused(
                f"endpoint {endpoint_id[:12]} was not created by this driver on this host; start the container again"
            )
        with endpoint.lock:
            if endpoint.is_leaving:
                raise Refused(
                    f"endpoint {endpoint_id[:12]} is being deleted; start the container again"
                )
            if not endpoint.has_link or (
                endpoint.stage is not Stage.CREATED
                and not self._links.exists(endpoint.pair.entity_port)
            ):
                self._make_link(endpoint)
            if endpoint.stage is Stage.CREATED:
                endpoint.stage = Stage.JOINED
        return endpoint

    def leave(self, endpoint_id: str, deadline: Deadline) -> None:
        """Take the endpoint's port out of the VRS. Success for what is unknown or gone. Switches greenlets."""
        endpoint = self._table.by_endpoint(endpoint_id)
        if endpoint is not None:
            self.plugging.detach(endpoint, deadline)

    def delete(self, endpoint_id: str, deadline: Deadline) -> None:
        """Delete the endpoint's link. Success for what is unknown or gone. Switches greenlets."""
        endpoint = self._table.by_endpoint(endpoint_id)
        if endpoint is not None:
            self.take_down(endpoint, deadline)

    def take_down(self, endpoint: Endpoint, deadline: Deadline) -> None:
        """Unplug an endpoint and delete its link; what a neighbour cannot do now is done later. Never fails."""
        if endpoint.stage is not Stage.LEFT and (
            endpoint.stage is not Stage.RESERVED or endpoint.has_link
        ):
            self.plugging.detach(endpoint, deadline)
        endpoint.is_leaving = True
        if not endpoint.is_unlinked and (endpoint.has_link or endpoint.stage is not Stage.RESERVED):
            try:
                self._links.delete_later(
                    endpoint.port_name, lambda pair=endpoint.pair: self._table.free_number(pair)
                )
                endpoint.has_link, endpoint.is_unlinked = False, True
            except Fault as fault:
                _log.warning("the link %s is deleted later: %s", endpoint.port_name, fault.message)
        self._table.forget_endpoint_id(endpoint)

    def release(self, pool: Pool, address: Address, deadline: Deadline) -> None:
        """Give an address back, taking down whatever an endpoint left behind. Never fails for the caller. Switches."""
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
        self.take_down(endpoint, deadline)
        self._addresses.delete_soon(endpoint)
        self._addresses.finish(endpoint, Deadline(deadline.bound(_RELEASE_S), self._clock))

    def _release_for_swarm(self, pool: Pool, address: Address, deadline: Deadline) -> bool:
        """True when the address was a swarm manager's reservation: then the endpoint, here or elsewhere, is not touched."""
        endpoint = self._holder(pool, address)
        network = self._networks.all.get(endpoint.network_id) if endpoint is not None else None
        try:
            if self._addresses.swarm.release(
                pool, address, Deadline(deadline.bound(_RELEASE_S), self._clock)
            ):
                return True
        except Fault as fault:
            _log.warning(
                "whether %s of %s was reserved for swarm is not known yet: %s",
                address,
                pool.place,
                fault.message,
            )
            if network is None or network.pool_id != pool.pool_id:
                self._addresses.swarm.release_later(pool, address)
        return network is not None and network.pool_id != pool.pool_id

    def _holder(self, pool: Pool, address: Address) -> Endpoint | None:
        endpoint = self._table.by_address(self._networks.subnet_ids(pool), address)
        if endpoint is not None:
            return endpoint
        for endpoint in self._table.all:  # known from its link only, while the VSD was not read yet
            if endpoint.address == address:
                network = self._networks.all.get(endpoint.network_id)
                if network is not None and network.pool_id == pool.pool_id:
                    return endpoint
        return None

    def _unread_holder(self, pool: Pool, address: Address, deadline: Deadline) -> Endpoint | None:
        """After a start with the VSD away: remember the release; the VSD's list decides what it meant once it is read."""
        try:
            self._table.wait_complete(Deadline(deadline.bound(_WAIT_FOR_LIST_S), self._clock))
        except Unavailable as fault:
            _log.warning(
                "%s of %s is released once the VSD answers: %s", address, pool.place, fault.message
            )
            if len(self._late_releases) >= _MOST_LATE:
                raise Unavailable(
                    f"{_MOST_LATE} addresses wait to be released already; {fault.message}"
                ) from None
            self._late_releases.append((pool, address))
            return None
        return self._holder(pool, address)

    def _untabled_holder(self, pool: Pool, address: Address, deadline: Deadline) -> Endpoint | None:
        """A container of this host that a list of the VSD did not show, because others came and went while it was read."""
        if not self._vsd.is_up:
            return None
        try:
            return self._addresses.adopt(
                pool, address, Deadline(deadline.bound(_RELEASE_S), self._clock)
            )
        except Fault as fault:
            _log.warning(
                "whether the VSD still has %s of %s is not known: %s",
                address,
                pool.place,
                fault.message,
            )
            return None

    def finish_late_releases(self, deadline: Deadline) -> None:
        """Carry out the releases that came before the VSD's list was read."""
        while self._late_releases:
            pool, address = self._late_releases.pop()
            self.release(pool, address, deadline)

    @property
    def is_everything_read(self) -> bool:
        """True when this host's VSD containers and the VRS's ports were taken over, and the VRS's mirror is complete."""
        return self._table.is_complete and self._table.are_ports_read and self._vrs.is_ready

    def of_container(self, network_id: str, container_id: str) -> list[Endpoint]:
        """The endpoints of a container on a network, also such as are known from the VSD only. Does not switch greenlets."""
        subnets = self._networks.subnet_ids_of(network_id)
        found = []
        for endpoint in self._table.all:
            owner = (
                endpoint.identity.container_id if endpoint.identity is not None else endpoint.uuid
            )
            if owner == container_id and not endpoint.is_leaving:
                if endpoint.network_id == network_id or (
                    not endpoint.network_id and endpoint.subnet_id in subnets
                ):
                    found.append(endpoint)
        return found

    def end(self, endpoint: Endpoint, deadline: Deadline) -> None:
        """The engine has the endpoint no more and will not say so: undo all of it. Never fails. Switches greenlets."""
        self.take_down(endpoint, deadline)
        self._addresses.delete_soon(endpoint)
        self._addresses.finish(endpoint, Deadline(deadline.bound(_RELEASE_S), self._clock))

    def recover_container(self, endpoint: Endpoint, deadline: Deadline) -> bool:
        """The VSD's list lacks the container of a running endpoint: claim it back, or create it with the same address and MAC.

        Raises Refused when the VSD gave the address away meanwhile. Switches greenlets.
        """
        with endpoint.lock:
            if endpoint.is_leaving:
                return True
            if endpoint.place is None:
                self.plugging.find_place(endpoint, deadline)
            try:
                container = self._vsd.get_container(endpoint.vsd_id, deadline)
            except NotFound:
                pass
            else:
                # The link on this host names it, so it is ours, under the id that the host had before (another system id).
                if container.external_id != self._addresses.external_id:
                    _log.warning(
                        "container %s of port %s bore the host id %s on the VSD; it is labelled %s now",
                        endpoint.vsd_id,
                        endpoint.port_name,
                        shorten(container.external_id),
                        self._addresses.external_id,
                    )
                    self._vsd.update_container(
                        endpoint.vsd_id, deadline, externalID=self._addresses.external_id
                    )
                if self._table.is_deleted(endpoint.vsd_id):
                    return True  # released meanwhile: the table must not have it again
                for interface in container.interfaces[:1]:
                    self._table.fill(endpoint, container, interface)
                    self._table.put(endpoint)
                return True
            if endpoint.is_leaving:
                return True
            if not endpoint.lost_address:
                _log.warning(
                    "the VSD lost the container of port %s (%s); it is created again",
                    endpoint.port_name,
                    endpoint.interface,
                )
            try:
                self._create_container(endpoint, endpoint.mac, deadline)
            except NotFound:
                return True
            except Conflict as conflict:
                endpoint.problem = f"the VSD does not give {endpoint.address} back to port {endpoint.port_name}, which is unplugged: {conflict.message}"
                if conflict.code == ADDRESS_IN_USE:
                    self.plugging.unplug(endpoint, deadline)
                raise Refused(endpoint.problem, conflict.code) from None
            endpoint.lost_address = False
            if endpoint.stage is Stage.ATTACHED:
                endpoint.stage = Stage.JOINED
        if endpoint.identity is not None:
            self.plugging.bind(endpoint, endpoint.identity, deadline)
        return True

    def find(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint with an id of the engine's."""
        return self._table.by_endpoint(endpoint_id)

    def adopt(
        self, network_id: str, endpoint_id: str, address: Address, deadline: Deadline
    ) -> Endpoint | None:
        """The endpoint of a running container, also one whose id the table does not have yet (an upgrade). Switches."""
        endpoint = self._table.by_endpoint(endpoint_id)
        if endpoint is not None:
            return endpoint
        network = self._networks.network(network_id, deadline)
        if network is None:
            return None
        pool = self._networks.pool(network.pool_id, deadline)
        endpoint = self._table.by_address(self._networks.subnet_ids(pool), address)
        if endpoint is None or endpoint.is_leaving or endpoint.endpoint_id not in ("", endpoint_id):
            return None
        endpoint.endpoint_id, endpoint.network_id = endpoint_id, network_id
        self._table.put(endpoint)
        return endpoint
