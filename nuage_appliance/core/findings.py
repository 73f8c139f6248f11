"""What is wrong, from complete snapshots of every backend: one function for each rule.

Pure, but for Sightings' memory.

Nothing here may name a thing to be taken away that the engine still has, by its endpoint or by its
place.

The rules know an endpoint in two ways, because not every backend knows all of it. By its id: the
engine's, which the link's alias and the rows carry, too. By where it is: the network and the
address, or, for what was read from the VSD only and so has no network, the VSD's names of the
subnet and the address. A record in which one of them is missing is compared by the other one.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from nuage_appliance.model import (
    Container,
    EngineEndpoint,
    Link,
    Place,
    PortOwner,
    PortState,
    VethPair,
)

SIGHTINGS = 3
GRACE_S = 60.0
_PIECE = 200

_Item = TypeVar("_Item")


class FindingKind(enum.Enum):
    """What can be wrong.

    The first five are taken away, after their grace; the others are put right at once.
    """

    ENDPOINT = "an endpoint that the engine does not have"
    PORT = "a VRS port of no endpoint"
    LINK = "a link of no endpoint"
    CONTAINER = "a VSD container of no endpoint"
    NETWORK = "a network that the engine does not have"
    LOST_CONTAINER = "a running endpoint without its VSD container"
    ROWS = "a plugged endpoint whose rows in the VRS are not as they must be"
    NAME = "a VSD container that has not its Docker container's name"
    LOST_LINK = "a running endpoint without its link"


DESTRUCTIVE = frozenset(
    {
        FindingKind.ENDPOINT,
        FindingKind.PORT,
        FindingKind.LINK,
        FindingKind.CONTAINER,
        FindingKind.NETWORK,
    }
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    `subject` is a port's name, a VSD container's id or a network's id, as the kind needs it; `life`
    tells two things apart that have one name after each other.
    """

    kind: FindingKind
    subject: str
    life: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """An endpoint of the table, as far as the rules need it; what is not known is empty or None."""

    port_name: str
    endpoint_id: str
    network_id: str
    address: str
    vsd_id: str
    mac: str = ""
    place: Place | None = None
    is_plugged: bool = False
    uuid: str = ""
    container_id: str = ""
    container_name: str = ""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What every backend says now; each part is complete.

    `known` is the driver's own table. `engine` has running containers, and what the engine's
    networks list: an endpoint that a container which does not run names was left behind by a crash
    of the engine. `ports` are the VRS's by name, `containers` this host's on the VSD by id, without
    those that are being deleted. `network_ids` are all networks of the engine, `places` the subnets
    of those that are this driver's, `remembered_networks` those that this driver keeps.
    """

    known: tuple[Known, ...] = ()
    engine: tuple[EngineEndpoint, ...] = ()
    ports: Mapping[str, PortState] = dataclasses.field(default_factory=dict)
    links: tuple[Link, ...] = ()
    containers: Mapping[str, Container] = dataclasses.field(default_factory=dict)
    network_ids: frozenset[str] = frozenset()
    places: Mapping[str, Place] = dataclasses.field(default_factory=dict)
    remembered_networks: frozenset[str] = frozenset()


class _Spot(NamedTuple):
    """An address in a subnet; without the zone, which the predecessor's rows do not name."""

    organization: str
    domain: str
    subnet: str
    address: str

    @staticmethod
    def of(place: Place | None, address: str) -> _Spot | None:
        if place is None:
            return None
        return _Spot(place.organization, place.domain, place.subnet, address)


@dataclasses.dataclass(frozen=True)
class Running:
    """The endpoints of running containers, as the engine has them, by every name of theirs."""

    endpoint_ids: frozenset[str]
    on_networks: frozenset[tuple[str, str]]
    at_spots: frozenset[_Spot]

    @staticmethod
    def of(snapshot: Snapshot, pause: Callable[[], None]) -> Running:
        """Index a snapshot's running endpoints; `pause` is called now and then."""
        endpoint_ids: set[str] = set()
        on_networks: set[tuple[str, str]] = set()
        at_spots: set[_Spot] = set()
        for seen in _in_pieces(snapshot.engine, pause):
            if not seen.is_running:
                continue
            if seen.endpoint_id:
                endpoint_ids.add(seen.endpoint_id)
            if seen.address is not None:
                address = str(seen.address)
                on_networks.add((seen.network_id, address))
                spot = _Spot.of(snapshot.places.get(seen.network_id), address)
                if spot is not None:
                    at_spots.add(spot)
        return Running(frozenset(endpoint_ids), frozenset(on_networks), frozenset(at_spots))

    def has(self, known: Known) -> bool:
        """True for an endpoint that the engine has, by its id or by where it is."""
        if known.endpoint_id in self.endpoint_ids:
            return True
        if known.network_id:
            return (known.network_id, known.address) in self.on_networks
        return _Spot.of(known.place, known.address) in self.at_spots


def compare(snapshot: Snapshot, pause: Callable[[], None] = lambda: None) -> list[Finding]:
    """What is wrong in a snapshot, each thing once.

    `pause` is called now and then, so that others may run.
    """
    running = Running.of(snapshot, pause)
    found: list[Finding] = []
    found += dead_endpoints(snapshot, running, pause)
    found += incomplete_endpoints(snapshot, running, pause)
    pause()
    found += stray_ports(snapshot, running)
    found += stray_links(snapshot, running)
    found += stray_containers(snapshot, running, pause)
    found += stale_networks(snapshot)
    return found


def dead_endpoints(
    snapshot: Snapshot, running: Running, pause: Callable[[], None]
) -> Iterator[Finding]:
    """Endpoints of the table that the engine does not have, neither by id nor by place."""
    for known in _in_pieces(snapshot.known, pause):
        if not running.has(known):
            life = f"{known.vsd_id}/{known.endpoint_id}"
            yield Finding(FindingKind.ENDPOINT, known.port_name, life)


def incomplete_endpoints(
    snapshot: Snapshot, running: Running, pause: Callable[[], None]
) -> Iterator[Finding]:
    """Endpoints that the engine has, but that lack something which they should have somewhere.

    A VSD container or a link is missed only of an endpoint that the engine has by its id: one that
    is found by its place may be about to be replaced.
    """
    devices = {link.name for link in snapshot.links}
    for known in _in_pieces(snapshot.known, pause):
        if not running.has(known):
            continue
        container = snapshot.containers.get(known.vsd_id)
        if known.endpoint_id in running.endpoint_ids:
            if container is None:
                yield Finding(FindingKind.LOST_CONTAINER, known.port_name, known.vsd_id)
            if known.port_name not in devices:
                yield Finding(FindingKind.LOST_LINK, known.port_name, known.endpoint_id)
        if known.is_plugged:
            port = snapshot.ports.get(known.port_name)
            if port is None or not port.fits(_owner(known)):
                yield Finding(FindingKind.ROWS, known.port_name, known.endpoint_id)
            name = known.container_name
            if container is not None and name and container.name != name:
                yield Finding(FindingKind.NAME, known.port_name, known.vsd_id)


def _owner(known: Known) -> PortOwner:
    return PortOwner(known.mac, known.uuid, known.container_id, known.endpoint_id, known.vsd_id)


def stray_ports(snapshot: Snapshot, running: Running) -> Iterator[Finding]:
    """Ports in the VRS of no endpoint of the table.

    One whose rows name an endpoint that the engine has is none: the table has lost it.
    """
    names = {known.port_name for known in snapshot.known}
    for name in sorted(snapshot.ports.keys() - names):
        endpoint_id = snapshot.ports[name].external_ids.get("nuage-endpoint-id")
        if endpoint_id not in running.endpoint_ids:
            yield Finding(FindingKind.PORT, name)


def stray_links(snapshot: Snapshot, running: Running) -> Iterator[Finding]:
    """Links of no endpoint of the table that have no port either.

    One whose alias names an endpoint that the engine has is none: the table has lost it.
    """
    names = {known.port_name for known in snapshot.known}
    for link in snapshot.links:
        pair = VethPair.of(link.name)
        if link.kind != "veth" or pair is None or pair.bridge_port != link.name:
            continue
        if link.name in names or link.name in snapshot.ports:
            continue
        if link.tag is None or link.tag.endpoint_id not in running.endpoint_ids:
            yield Finding(FindingKind.LINK, link.name)


def stray_containers(
    snapshot: Snapshot, running: Running, pause: Callable[[], None]
) -> Iterator[Finding]:
    """VSD containers of no endpoint of the table, whose address no running container has.

    A running container's address is no excuse when the table has an endpoint at that very place:
    then this container is a double of the endpoint's own.
    """
    vsd_ids = {known.vsd_id for known in snapshot.known}
    known_spots = {
        _Spot.of(known.place, known.address) for known in _in_pieces(snapshot.known, pause)
    }
    for vsd_id in sorted(snapshot.containers.keys() - vsd_ids):
        spots = {
            _Spot.of(interface.place, str(interface.address))
            for interface in snapshot.containers[vsd_id].interfaces
            if VethPair.is_bridge_port(interface.name)
        }
        if spots and not (spots & running.at_spots) - known_spots:
            yield Finding(FindingKind.CONTAINER, vsd_id)


def stale_networks(snapshot: Snapshot) -> Iterator[Finding]:
    """Networks that this driver remembers, which the engine does not have and no endpoint is on."""
    used = {known.network_id for known in snapshot.known}
    for network_id in sorted(snapshot.remembered_networks - snapshot.network_ids - used):
        yield Finding(FindingKind.NETWORK, network_id)


class Sightings:
    """How often and for how long each thing was seen wrong without a break."""

    def __init__(self) -> None:
        # How often, and when first, in seconds in which this process ran; only of what the last
        # cycle found.
        self._seen: dict[Finding, tuple[int, float]] = {}

    def due(self, found: Iterable[Finding], now_s: float) -> list[Finding]:
        """Count this cycle's findings and forget all others; returns what may be repaired now.

        `now_s` is in seconds in which this process ran.
        """
        seen = {}
        for finding in found:
            count, first_s = self._seen.get(finding, (0, now_s))
            seen[finding] = (count + 1, first_s)
        self._seen = seen
        return [
            finding
            for finding, (count, first_s) in seen.items()
            if finding.kind not in DESTRUCTIVE
            or (count >= SIGHTINGS and now_s - first_s >= GRACE_S)
        ]


def _in_pieces(items: tuple[_Item, ...], pause: Callable[[], None]) -> Iterator[_Item]:
    """Each item; `pause` is called after every 200."""
    for count, item in enumerate(items):
        if count % _PIECE == _PIECE - 1:
            pause()
        yield item
