"""The records that the layers hand to each other, and the names derived from them.

No I/O, no clock.

What each backend calls a thing:

===================  ==============================================  =========================
libnetwork (Docker)  VSD                                             VRS (OVSDB)
===================  ==============================================  =========================
network              subnet, or L2 domain                            evpn
pool                 the subnet's CIDR, or a part of it              --
endpoint             container + container interface + vPort         port row + VM row
sandbox              --                                              --
container            container (the first endpoint has its id)       VM row
===================  ==============================================  =========================

In names, `container_id` is Docker's and `vsd_container_id` the VSD's; `cidr` is a network such as
10.0.0.0/24, `interface` an address with its prefix length such as 10.0.0.5/24.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import ipaddress
import random
import re
import urllib.parse

from nuage_appliance.base.faults import Refused

# The VSD's subnets are IPv4 only; IPv6 can still be asked for, and is refused where it is read.
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Cidr = ipaddress.IPv4Network | ipaddress.IPv6Network
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

LOCAL_SPACE = "nuage-local"
GLOBAL_SPACE = "nuage-global"

# The VSD's internalErrorCodes that a decision depends on (vsd §6.3).
DUPLICATE = 2510
SUBNET_FULL = 2702
ADDRESS_IN_USE = 2704
UUID_IN_USE = 2748
DUPLICATE_RESERVATION = 7205

# The external id of a container that stands for a reservation, and how that of a reservation
# begins.
RESERVATION = "nuage-reservation"

_POOL_PREFIX = "nuage-pool-v2"
_OLD_POOL = re.compile(r"([0-9a-f]{32})-[0-9a-zA-Z]{1,64}\Z")
_VETH = re.compile(r"nln([0-9a-f]{1,6})-([12])\Z")
_HIGHEST_VETH = 4_000_000
_HIGHEST_NUMBER = 0xFFFFFF


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a subnet is in the VSD's tree. `zone` and `subnet` are both empty for an L2 domain."""

    organization: str
    domain: str
    zone: str
    subnet: str

    @property
    def is_l2(self) -> bool:
        """True when `domain` names an L2 domain."""
        return not self.subnet

    @property
    def predecessor_hash(self) -> str:
        """The first part of the predecessor's PoolIDs: 32 hexadecimal digits (predecessor §5)."""
        names = self.organization + self.domain + self.subnet
        return hashlib.md5(names.encode("utf-8"), usedforsecurity=False).hexdigest()

    def __str__(self) -> str:
        if self.is_l2:
            return f"L2 domain {self.domain!r} of organization {self.organization!r}"
        return (
            f"subnet {self.subnet!r} (zone {self.zone!r}, domain {self.domain!r}, "
            f"organization {self.organization!r})"
        )


@dataclasses.dataclass(frozen=True)
class Subnet:
    """A subnet or managed L2 domain as the VSD has it."""

    vsd_id: str
    place: Place
    cidr: Cidr
    gateway: Address | None
    domain_id: str


@dataclasses.dataclass(frozen=True)
class Pool:
    """What a PoolID means.

    `cidr` lies inside `subnet_cidr`, the VSD's; `address_range` is Docker's --ip-range inside
    `cidr`, or None.
    """

    space: str
    place: Place
    user: str
    cidr: Cidr
    subnet_cidr: Cidr
    gateway: Address
    subnet_id: str
    address_range: Cidr | None = None

    @property
    def pool_id(self) -> str:
        """A text that describes this pool completely, so that any host can read it back."""
        fields = (
            self.space,
            str(self.cidr),
            str(self.subnet_cidr),
            str(self.gateway),
            str(self.address_range or ""),
            self.place.organization,
            self.place.domain,
            self.place.zone,
            self.place.subnet,
            self.user,
            self.subnet_id,
        )
        return "/".join([_POOL_PREFIX, *(urllib.parse.quote(field, safe="") for field in fields)])

    @property
    def allocation_range(self) -> Cidr | None:
        """The part of the subnet that addresses must come from; None when the VSD may choose."""
        if self.address_range is not None:
            return self.address_range
        return None if self.cidr == self.subnet_cidr else self.cidr


@dataclasses.dataclass(frozen=True)
class PredecessorPool:
    """What a PoolID of the predecessor says: only the hash of its names (predecessor §5)."""

    digest: str


def parse_pool_id(pool_id: str) -> Pool | PredecessorPool:
    """Read a PoolID, which is a Pool's `pool_id` or `<hash>-<suffix>` of the predecessor.

    Raises Refused for anything else.
    """
    old = _OLD_POOL.match(pool_id)
    if old:
        return PredecessorPool(old.group(1))
    parts = pool_id.split("/")
    if len(parts) != 12 or parts[0] != _POOL_PREFIX:
        raise Refused(
            f"the pool {shorten(pool_id)} was not made by nuage-ipam; "
            "create the network with --ipam-driver=nuage-ipam"
        )
    space, cidr, subnet_cidr, gateway, address_range, *names = (
        urllib.parse.unquote(part) for part in parts[1:]
    )
    try:
        return Pool(
            space=space,
            cidr=ipaddress.ip_network(cidr),
            subnet_cidr=ipaddress.ip_network(subnet_cidr),
            gateway=ipaddress.ip_address(gateway),
            address_range=ipaddress.ip_network(address_range) if address_range else None,
            place=Place(*names[:4]),
            user=names[4],
            subnet_id=names[5],
        )
    except ValueError:
        raise Refused(
            f"the pool {shorten(pool_id)} is damaged; remove the network and create it again"
        ) from None


@dataclasses.dataclass(frozen=True)
class Network:
    """A Docker network of ours, as far as it is known."""

    network_id: str
    pool_id: str
    is_internal: bool = False
    name: str = ""

    def to_tag(self) -> str:
        """The value of this network's tag in the bridge's external_ids."""
        return f"{'internal' if self.is_internal else 'open'}|{self.pool_id}"

    @staticmethod
    def from_tag(network_id: str, tag: str) -> Network | None:
        """Read a tag back; None when it is not one of ours."""
        kind, separator, pool_id = tag.partition("|")
        if not separator or kind not in ("internal", "open"):
            return None
        return Network(network_id, pool_id, kind == "internal")


@dataclasses.dataclass(frozen=True)
class ContainerInterface:
    """One interface of a VSD container.

    `address` is None while an unmanaged L2 domain leaves it open.
    """

    vsd_id: str
    name: str
    mac: str
    address: Address | None
    prefix_len: int
    gateway: Address | None
    vport_id: str
    subnet_id: str
    domain_id: str
    is_l2: bool
    place: Place
    endpoint_id: str = ""
    network_id: str = ""
    external_id: str = ""


@dataclasses.dataclass(frozen=True)
class Container:
    """A VSD container, which is one endpoint of ours."""

    vsd_id: str
    uuid: str
    name: str
    external_id: str
    created_ms: int
    interfaces: tuple[ContainerInterface, ...]
    status: str = ""


@dataclasses.dataclass(frozen=True)
class VethPair:
    """The two ends of an endpoint's link, named by one number (vrs §5).

    `bridge_port` stays on the host, `entity_port` moves into the container.
    """

    number: int

    @property
    def bridge_port(self) -> str:
        """The end that is plugged into the VRS bridge."""
        return f"nln{self.number:x}-1"

    @property
    def entity_port(self) -> str:
        """The end that Docker moves into the container."""
        return f"nln{self.number:x}-2"

    @staticmethod
    def of(device: str) -> VethPair | None:
        """The pair that `device` belongs to, or None for a foreign name."""
        match = _VETH.match(device)
        return VethPair(int(match.group(1), 16)) if match else None

    @staticmethod
    def for_reservation(rng: random.Random) -> VethPair:
        """A pair whose number no host counts up to.

        A worker that takes the reservation over keeps it.
        """
        return VethPair(rng.randrange(_HIGHEST_VETH + 1, _HIGHEST_NUMBER + 1))

    @property
    def is_of_reservation(self) -> bool:
        """True when the endpoint was made of a swarm manager's reservation."""
        return self.number > _HIGHEST_VETH

    @staticmethod
    def is_bridge_port(device: str) -> bool:
        """True for the name of one of our bridge ports (vrs §5)."""
        match = _VETH.match(device)
        return match is not None and match.group(2) == "1"

    def next(self) -> VethPair:
        """The pair after this one; the numbers start again after 4,000,000 (vrs §5)."""
        return VethPair(self.number + 1 if self.number < _HIGHEST_VETH else 0)


_ALIAS_PREFIX = "nuage1"
DELETED_ALIAS = "nuage1|deleted"


@dataclasses.dataclass(frozen=True)
class LinkTag:
    """What the alias of a bridge port says: all that Join, Leave and Release need after a crash.

    Every field is the text that stands in the alias, so that nothing is lost in between: `address`
    is 10.0.0.5/24, `gateway` an address or empty. Together they have at most 255 bytes, which is
    the kernel's limit.
    """

    endpoint_id: str
    network_id: str
    address: str
    gateway: str
    mac: str
    vsd_container_id: str

    def to_alias(self) -> str:
        """The kernel's IFLA_IFALIAS for this tag."""
        return "|".join(
            (
                _ALIAS_PREFIX,
                self.endpoint_id,
                self.network_id,
                self.address,
                self.gateway,
                self.mac,
                self.vsd_container_id,
            )
        )

    @staticmethod
    def from_alias(alias: str) -> LinkTag | None:
        """Read an alias back; None when it is not one of ours."""
        parts = alias.split("|")
        if len(parts) != 7 or parts[0] != _ALIAS_PREFIX:
            return None
        return LinkTag(*parts[1:])


@dataclasses.dataclass(frozen=True)
class Link:
    """A network device of the host."""

    name: str
    kind: str
    alias: str
    group: int
    mtu: int
    is_up: bool

    @property
    def tag(self) -> LinkTag | None:
        """The endpoint that this link belongs to; None when it is not ours."""
        if self.kind != "veth" or not VethPair.is_bridge_port(self.name):
            return None
        return LinkTag.from_alias(self.alias)


@dataclasses.dataclass(frozen=True)
class EngineNetwork:
    """A network of ours as the engine describes it; with the VSD's help its pool can be built."""

    network_id: str
    name: str
    place: Place
    user: str
    cidr: Cidr | None
    address_range: Cidr | None
    is_internal: bool
    is_local: bool
    is_swarm: bool = False


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """All that a Docker network of ours was made of, as the engine shows it.

    What the engine does not show is an empty text.
    """

    name: str
    network_id: str
    driver: str
    ipam_driver: str
    is_internal: bool
    is_attachable: bool
    options: dict[str, str]
    ipam_options: dict[str, str]
    subnet: str
    gateway: str
    ip_range: str
    labels: dict[str, str]


@dataclasses.dataclass(frozen=True)
class EngineEndpoint:
    """One container on one network, as the engine has it.

    `address` is None while the container is not connected.
    """

    container_id: str
    container_name: str
    network_id: str
    endpoint_id: str
    address: Address | None
    is_running: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Who a Docker container is."""

    container_id: str
    name: str
    policy_groups: tuple[str, ...] = ()
    orchestration_id: str = ""


@dataclasses.dataclass(frozen=True)
class Attachment:
    """One endpoint's rows in the VRS: the port, its interface and the two Nuage rows."""

    port_name: str
    entity_uuid: str
    entity_name: str
    mac: str
    external_ids: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class PortState:
    """What the VRS says of one of our ports (vrs §2, §3).

    `mac` may be in capital letters; `resolved_address` is empty until the controller resolved the
    port; `ofport` is None until the switch has the interface, and `error` says why it has not.
    """

    port_name: str
    mac: str
    entity_uuid: str
    external_ids: dict[str, str]
    resolved_address: str
    has_port: bool
    has_port_row: bool
    ofport: int | None
    error: str

    @property
    def is_complete(self) -> bool:
        """True when port, port row and VM row are all there."""
        return self.has_port and self.has_port_row and bool(self.entity_uuid)

    def fits(self, wanted: PortOwner) -> bool:
        """True when everything is there and names `wanted`.

        The predecessor's rows name neither endpoint nor VSD container; they fit without.
        """
        ids = self.external_ids
        return (
            self.is_complete
            and self.mac.lower() == wanted.mac
            and self.entity_uuid == wanted.entity_uuid
            and ids.get("vm_uuid") == wanted.container_id
            and ids.get("nuage-endpoint-id", wanted.endpoint_id) == wanted.endpoint_id
            and ids.get("nuage-vsd-container-id", wanted.vsd_container_id)
            == wanted.vsd_container_id
        )


@dataclasses.dataclass(frozen=True, slots=True)
class PortOwner:
    """What the rows of an endpoint's port must say.

    `mac` is in small letters; `entity_uuid` is the UUID of its VSD container, which traffic
    policies go by.
    """

    mac: str
    entity_uuid: str
    container_id: str
    endpoint_id: str
    vsd_container_id: str


class Stage(enum.Enum):
    """How far an endpoint has come. Each stage but the last has everything of the one before.

    RESERVED: it has a VSD container, and so an address. CREATED: its link was made. JOINED: the
    engine was given the entity port, or the rows went away again. ATTACHED: its rows are in the
    VRS. LEFT: they were taken out.
    """

    RESERVED = "reserved"
    CREATED = "created"
    JOINED = "joined"
    ATTACHED = "attached"
    LEFT = "left"


def shorten(text: str, length: int = 80) -> str:
    """Quote foreign text for a message.

    At most `length` characters of it are shown, control characters escaped.
    """
    shown = text if len(text) <= length else text[: length - 1] + "…"
    return ascii(shown) if not shown.isprintable() else f"'{shown}'"


def is_name(text: str) -> bool:
    """True for what the VSD takes as a name: 1 to 255 printable characters, no blank at an end."""
    return 0 < len(text) <= 255 and text.isprintable() and text == text.strip()
