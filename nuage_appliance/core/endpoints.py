"""The life of an endpoint: create, join, leave, delete, end.

Owns the order of these steps; `plugging` has the ports, `releases` what ReleaseAddress means. Every
teardown succeeds on what is gone already; what a backend cannot do now is done when it is back.
Must never touch a device or port of anybody else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Conflict, Fault, NotFound, Refused, Unavailable
from nuage_appliance.core.addresses import Addresses
from nuage_appliance.core.endpoint import Endpoint
from nuage_appliance.core.endpoint_table import EndpointTable
from nuage_appliance.core.host import HostIdentity
from nuage_appliance.core.lost_containers import LostContainers
from nuage_appliance.core.networks import Networks
from nuage_appliance.core.plugging import Plugging
from nuage_appliance.core.releases import Releases
from nuage_appliance.model import (
    DUPLICATE,
    Address,
    Stage,
    VethPair,
    shorten,
)

if TYPE_CHECKING:
    from nuage_appliance.clients.links import Links
    from nuage_appliance.clients.vrs import Vrs
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

_TRIES = 4
_RELEASE_S = 5.0


class Endpoints:
    """What the engine's calls and events do to endpoints.

    Every method but find and of_container may switch greenlets.

    `mtu` is that of new links in bytes, 0 for the VRS bridge's; it may be changed while this runs.
    """

    def __init__(
        self,
        vsd: Vsd,
        vrs: Vrs,
        links: Links,
        networks: Networks,
        table: EndpointTable,
        addresses: Addresses,
        host: HostIdentity,
        *,
        mtu: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vsd = vsd
        self._vrs = vrs
        self._links = links
        self._networks = networks
        self._table = table
        self._addresses = addresses
        self.mtu = mtu
        self.plugging = Plugging(vsd, vrs, networks, table, self.end, clock=clock)
        self.releases = Releases(vsd, networks, table, addresses, self.end)
        self.lost_containers = LostContainers(vsd, table, host, addresses.containers, self.plugging)

    # -- CreateEndpoint ---------------------------------------------------------------------------

    def create(
        self, network_id: str, endpoint_id: str, address: Address, mac: str, deadline: Deadline
    ) -> Endpoint:
        """Make the link of a reserved address (libnetwork §2.5).

        Repeating it is harmless. Undoes its own half on failure.

        `mac` is the one the user asked for, in small letters, or empty. Raises Refused,
        Unavailable.
        """
        known = self._table.by_endpoint(endpoint_id)
        if known is not None:
            return _same(known, network_id, address, mac)
        endpoint = self._reservation(network_id, address, deadline)
        with endpoint.lock:
            if endpoint.endpoint_id and endpoint.endpoint_id != endpoint_id:
                raise Refused(
                    f"the address {address} belongs to endpoint {endpoint.endpoint_id[:12]}, "
                    "which was not deleted"
                )
            if endpoint.endpoint_id and endpoint.has_link and not endpoint.is_leaving:
                # The same call was carried out while this one waited for the lock.
                return _same(endpoint, network_id, address, mac)
            if mac and mac != endpoint.mac:
                self._set_mac(endpoint, mac, deadline)
            endpoint.endpoint_id = endpoint_id
            endpoint.network_id = network_id
            try:
                self._make_link(endpoint)
            except BaseException:
                self._table.forget_endpoint_id(endpoint)
                endpoint.endpoint_id = ""
                endpoint.network_id = ""
                raise
            if self._table.is_deleted(endpoint.vsd_id):
                self.take_down(endpoint, deadline)
                raise Refused(
                    f"the address {address} was released while its endpoint was made; "
                    "start the container again"
                )
            endpoint.stage = Stage.CREATED
            self._table.put(endpoint)
        return endpoint

    def _reservation(self, network_id: str, address: Address, deadline: Deadline) -> Endpoint:
        """The endpoint that RequestAddress made for (network, address)."""
        network = self._networks.look_up(network_id, deadline)
        if network is None:
            return self._reservation_without_network(network_id, address, deadline)
        pool = self._networks.pool(network.pool_id, deadline)
        if address not in pool.cidr:
            raise Refused(
                f"the address {address} is outside of {pool.cidr}, "
                f"for which network {network_id[:12]} was created"
            )
        endpoint = self._table.by_address(self._networks.subnets.ids(pool), address)
        if endpoint is None and not self._table.is_complete:
            self._table.wait_complete(deadline)
            endpoint = self._table.by_address(self._networks.subnets.ids(pool), address)
        if endpoint is None:
            endpoint = self._addresses.containers.load_holder(pool, address, deadline)
        if endpoint is None:
            raise Refused(
                f"the address {address} was not requested from nuage-ipam in the {pool.place}"
            )
        return endpoint

    def _reservation_without_network(
        self, network_id: str, address: Address, deadline: Deadline
    ) -> Endpoint:
        """The one reservation with this address, when nobody can say which pool the network has."""
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
                f"network {network_id[:12]} is not known and {len(found)} VSD subnets "
                f"have the address {address} reserved; "
                "try again when the Docker engine answers"
            )
        raise Refused(
            f"the address {address} was not requested from nuage-ipam; "
            f"create network {network_id[:12]} with --ipam-driver=nuage-ipam"
        )

    def _set_mac(self, endpoint: Endpoint, mac: str, deadline: Deadline) -> None:
        """Give the VSD's interface another MAC, if need be by another VSD container."""
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
            self._addresses.containers.recreate(endpoint, mac, deadline)
        except Conflict as conflict:
            raise Refused(f"the MAC {mac} cannot be used: {conflict.message}") from None
        except NotFound as fault:
            raise Refused(f"{fault.message}; start the container again") from None

    def _make_link(self, endpoint: Endpoint) -> None:
        mtu = self.mtu or self._table.bridge_mtu
        offload = not (self._vrs.is_ready and self._vrs.needs_software_checksum)
        alias = endpoint.link_tag.to_alias()
        for _ in range(_TRIES):
            try:
                self._links.create(endpoint.pair, alias, mtu, endpoint.mac, offload)
                endpoint.has_link = True
                return
            except Conflict:
                # Somebody made a device of that name meanwhile. It is not ours to touch.
                _log.warning("the device name %s is taken; using another one", endpoint.port_name)
                self._table.move(endpoint, self._table.numbers.next_pair())
        raise Unavailable("no free device name was found for the veth pair")

    # -- Join, Leave, DeleteEndpoint --------------------------------------------------------------

    def join(self, network_id: str, endpoint_id: str, deadline: Deadline) -> Endpoint:
        """Make sure that the entity port is there for the engine to take (libnetwork §2.6).

        Raises Refused for an unknown endpoint or one that is being deleted, Unavailable.
        """
        endpoint = self._table.by_endpoint(endpoint_id)
        if endpoint is None:
            raise Refused(
                f"endpoint {endpoint_id[:12]} was not created by this driver on this host; "
                "start the container again"
            )
        with endpoint.lock:
            if endpoint.is_leaving:
                raise Refused(
                    f"endpoint {endpoint_id[:12]} is being deleted; start the container again"
                )
            if not endpoint.has_link or self._has_lost_entity_port(endpoint):
                self._make_link(endpoint)
            if endpoint.stage is Stage.CREATED:
                endpoint.stage = Stage.JOINED
        return endpoint

    def _has_lost_entity_port(self, endpoint: Endpoint) -> bool:
        """True when the engine took the port, and it went away with the container's namespace."""
        if endpoint.stage is Stage.CREATED:
            return False
        return not self._links.exists(endpoint.pair.entity_port)

    def leave(self, endpoint_id: str, deadline: Deadline) -> None:
        """Take the endpoint's port out of the VRS (libnetwork §2.9).

        Success for what is unknown or gone.
        """
        endpoint = self._table.by_endpoint(endpoint_id)
        if endpoint is not None:
            self.plugging.detach(endpoint, deadline)

    def delete(self, endpoint_id: str, deadline: Deadline) -> None:
        """Delete the endpoint's link (libnetwork §2.9). Success for what is unknown or gone."""
        endpoint = self._table.by_endpoint(endpoint_id)
        if endpoint is not None:
            self.take_down(endpoint, deadline)

    def take_down(self, endpoint: Endpoint, deadline: Deadline) -> None:
        """Unplug an endpoint and delete its link; what a backend cannot do now is done later.

        Never fails.
        """
        has_more_than_an_address = endpoint.stage is not Stage.RESERVED or endpoint.has_link
        if has_more_than_an_address and endpoint.stage is not Stage.LEFT:
            self.plugging.detach(endpoint, deadline)
        endpoint.is_leaving = True
        if has_more_than_an_address and not endpoint.is_unlinked:
            self._delete_link(endpoint)
        self._table.forget_endpoint_id(endpoint)

    def _delete_link(self, endpoint: Endpoint) -> None:
        def free_number(pair: VethPair = endpoint.pair) -> None:
            self._table.numbers.free(pair)

        try:
            self._links.delete_later(endpoint.port_name, free_number)
        except Fault as fault:
            _log.warning("the link %s is deleted later: %s", endpoint.port_name, fault.message)
            return
        endpoint.has_link = False
        endpoint.is_unlinked = True

    def end(self, endpoint: Endpoint, deadline: Deadline) -> None:
        """Undo all of an endpoint that the engine no longer has, down to its address.

        Never fails.
        """
        self.take_down(endpoint, deadline)
        self._addresses.deletions.delete_soon(endpoint)
        self._addresses.deletions.try_delete(endpoint, deadline.at_most(_RELEASE_S))

    # -- what is known ----------------------------------------------------------------------------

    @property
    def is_everything_read(self) -> bool:
        """True when this host's VSD containers and ports were read, and the mirror is complete."""
        return self._table.is_complete and self._table.are_ports_read and self._vrs.is_ready

    def find(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint with an id of the engine's. Does not switch greenlets."""
        return self._table.by_endpoint(endpoint_id)

    def of_container(self, network_id: str, container_id: str) -> list[Endpoint]:
        """The endpoints of a container on a network, also such as are known from the VSD only.

        Does not switch greenlets.
        """
        subnets = self._networks.subnet_ids_of(network_id)
        found = []
        for endpoint in self._table.all:
            identity = endpoint.identity
            owner = identity.container_id if identity is not None else endpoint.uuid
            if owner != container_id or endpoint.is_leaving:
                continue
            is_on_network = endpoint.network_id == network_id
            if is_on_network or (not endpoint.network_id and endpoint.subnet_id in subnets):
                found.append(endpoint)
        return found

    def match(
        self, network_id: str, endpoint_id: str, address: Address, deadline: Deadline
    ) -> Endpoint | None:
        """The endpoint of a running container, or None.

        After an upgrade it is found by its address, and gets its id. Raises Fault.
        """
        endpoint = self._table.by_endpoint(endpoint_id)
        if endpoint is not None:
            return endpoint
        network = self._networks.look_up(network_id, deadline)
        if network is None:
            return None
        pool = self._networks.pool(network.pool_id, deadline)
        endpoint = self._table.by_address(self._networks.subnets.ids(pool), address)
        if endpoint is None or endpoint.is_leaving or endpoint.endpoint_id not in ("", endpoint_id):
            return None
        endpoint.endpoint_id = endpoint_id
        endpoint.network_id = network_id
        self._table.put(endpoint)
        return endpoint


def _same(known: Endpoint, network_id: str, address: Address, mac: str) -> Endpoint:
    """The endpoint that a repeated call asks for. Raises Refused when that is another one."""
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
