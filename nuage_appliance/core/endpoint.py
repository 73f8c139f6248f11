"""One endpoint: what is known of it. No I/O, no clock of its own.

Owns the record only; `endpoint_table` keeps the endpoints, `endpoints`, `plugging` and `addresses`
change them.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import threading

from nuage_appliance.model import (
    Address,
    Attachment,
    Container,
    ContainerInterface,
    Identity,
    Interface,
    LinkTag,
    Place,
    PortOwner,
    Stage,
    VethPair,
)


@dataclasses.dataclass(eq=False, slots=True)
class Endpoint:
    """One endpoint. Only the core changes it; others read it.

    `uuid`, `name`, `vsd_id`, `interface_id`, `vport_id`, `subnet_id` and `domain_id` are the VSD's;
    `endpoint_id` and `network_id` are the engine's, and empty until it has made its endpoint.
    `place` is None as long as only the link is known. `gateway` is None until it is
    known.
    """

    address: Address
    prefix_len: int
    gateway: Address | None
    mac: str
    pair: VethPair
    subnet_id: str = ""
    is_l2: bool = False
    place: Place | None = None
    domain_id: str = ""
    vsd_id: str = ""
    uuid: str = ""
    name: str = ""
    interface_id: str = ""
    vport_id: str = ""
    endpoint_id: str = ""
    network_id: str = ""
    stage: Stage = Stage.RESERVED
    # The container that the endpoint belongs to, once its rows were written for it or read back.
    identity: Identity | None = None
    # Its veth pair was made, or was there at the start.
    has_link: bool = False
    # The engine has let it go: nothing may plug it in any more. Never taken back.
    is_leaving: bool = False
    # Its veth pair was handed over for deletion; the device may still be there for a moment.
    is_unlinked: bool = False
    # It is known from the VSD's list only, so it is not being made just now.
    is_recovered: bool = False
    # The VSD has given its address to somebody else: it must not be plugged in.
    lost_address: bool = False
    # Why it is not plugged in, for the status; empty when all is well.
    problem: str = ""
    # When it changed last, by the table's clock; when its rows were written, by the monotonic one.
    changed_at: float = 0.0
    attached_at: float | None = None
    # Held by whatever builds the endpoint up (link, identity, rows), so that a repeated call and an
    # event do not do it twice at the same time. What takes it down does not wait for it: it sets
    # `is_leaving`, which whoever holds the lock reads again after every switch of greenlets.
    lock: threading.RLock = dataclasses.field(default_factory=threading.RLock, repr=False)

    @property
    def port_name(self) -> str:
        """The bridge side of its veth pair."""
        return self.pair.bridge_port

    @property
    def interface(self) -> Interface:
        """Its address with the prefix length, as the engine wants it: 10.0.0.5/24."""
        return ipaddress.ip_interface((self.address, self.prefix_len))

    @property
    def link_tag(self) -> LinkTag:
        """What the alias of its link says."""
        return LinkTag(
            endpoint_id=self.endpoint_id,
            network_id=self.network_id,
            address=str(self.interface),
            gateway="" if self.gateway is None else str(self.gateway),
            mac=self.mac,
            vsd_container_id=self.vsd_id,
        )

    def port_owner(self, container_id: str) -> PortOwner:
        """What the rows of its port must say when it belongs to a Docker container."""
        return PortOwner(self.mac, self.uuid, container_id, self.endpoint_id, self.vsd_id)

    def attachment(self, identity: Identity, place: Place) -> Attachment:
        """The rows that plug it in for a Docker container (vrs §4.3), with the names of `place`."""
        ids = {
            "vm_uuid": identity.container_id,
            "vm_name": identity.name,
            "NUAGE-ENTERPRISE": place.organization,
            "NUAGE-DOMAIN": place.domain,
            "NUAGE-ZONE": place.zone,
            "NUAGE-NETWORK": place.subnet,
            "nuage-endpoint-id": self.endpoint_id,
            "nuage-network-id": self.network_id,
            "nuage-vsd-container-id": self.vsd_id,
            "nuage-address": str(self.interface),
        }
        return Attachment(
            port_name=self.port_name,
            entity_uuid=self.uuid,
            entity_name=identity.name or identity.container_id,
            mac=self.mac,
            external_ids=tuple(ids.items()),
        )

    def fill(self, container: Container, interface: ContainerInterface) -> None:
        """Take over what the VSD says of it; the MAC only when the VSD says one."""
        self.vsd_id = container.vsd_id
        self.uuid = container.uuid
        self.name = container.name
        self.interface_id = interface.vsd_id
        self.vport_id = interface.vport_id
        self.subnet_id = interface.subnet_id
        self.domain_id = interface.domain_id
        self.is_l2 = interface.is_l2
        self.place = interface.place
        self.mac = interface.mac or self.mac
