"""The audit: complete snapshots of every neighbour and the time -> repairs; and the cycle that carries them out.

Owns what was seen wrong in earlier cycles. `findings` is pure. Nothing is taken away unless every neighbour could be
read in this cycle, the thing is this driver's own, and it was seen wrong in three cycles over at least a minute in which
this process ran.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Fault, Refused
from nuage_appliance.core.addresses import Addresses
from nuage_appliance.core.endpoint_table import Endpoint, EndpointTable
from nuage_appliance.core.endpoints import Endpoints
from nuage_appliance.core.networks import Networks
from nuage_appliance.model import (
    Container,
    EngineEndpoint,
    Link,
    PortState,
    Stage,
    Place,
    VethPair,
)

if TYPE_CHECKING:
    from nuage_appliance.clients.docker_engine import DockerEngine
    from nuage_appliance.clients.links import Links
    from nuage_appliance.clients.vrs import Vrs
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

SIGHTINGS = 3
GRACE_S = 60.0
_LIST_S = 120.0
_REPAIR_S = 20.0
_WAIT_S = 150.0
_WAIT_FOR_LIST_S = 5.0
_PIECE = 200


class FindingKind(enum.Enum):
    """What can be wrong. The first five are taken away, after their grace; the others are put right at once."""

    ENDPOINT = "an endpoint that the engine does not have"
    PORT = "a VRS port of no endpoint"
    LINK = "a link of no endpoint"
    CONTAINER = "a VSD container of no endpoint"
    NETWORK = "a network that the engine does not have"
    LOST_CONTAINER = "a running endpoint without its VSD container"
    ROWS = "a plugged endpoint whose rows in the VRS are not as they must be"
    NAME = "a VSD container that does not bear its container's name"
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
    """One thing that is wrong. `subject` is a port's name, a VSD container's id or a network's id, as the kind needs it;

    `life` tells two things apart that bear one name after each other.
    """

    kind: FindingKind
    subject: str
    life: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """An endpoint of the table, as far as the decision needs it."""

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
    """What every neighbour says now; each part is complete.

    `engine` has running containers, and what the engine's networks list: an endpoint that a container which does not run
    names was left behind by a crash of the engine. `containers` are this host's on the VSD by id, without those that are being deleted; `network_ids` are all networks
    of the engine, `paths` the subnets of those that are this driver's, `tags` the networks that this driver remembers.
    """

    known: tuple[Known, ...] = ()
    engine: tuple[EngineEndpoint, ...] = ()
    ports: Mapping[str, PortState] = dataclasses.field(default_factory=dict)
    links: tuple[Link, ...] = ()
    containers: Mapping[str, Container] = dataclasses.field(default_factory=dict)
    network_ids: frozenset[str] = frozenset()
    paths: Mapping[str, Place] = dataclasses.field(default_factory=dict)
    tags: frozenset[str] = frozenset()


def _place(place: Place | None, address: str) -> tuple[str, ...] | None:
    """A place that also a record without a network and a zone can be compared by."""
    return None if place is None else (place.organization, place.domain, place.subnet, address)


def findings(snapshot: Snapshot, pause: Callable[[], None] = lambda: None) -> list[Finding]:
    """What is wrong in a snapshot. Pure but for `pause`, which is called now and then so that others may run.

    What the engine still has, by endpoint or by its place, is never a thing to take away.
    """
    ids: set[str] = set()
    places: set[tuple[str, ...]] = set()
    for count, seen in enumerate(snapshot.engine):
        if count % _PIECE == _PIECE - 1:
            pause()
        if not seen.is_running:
            continue
        if seen.endpoint_id:
            ids.add(seen.endpoint_id)
        if seen.address is not None:
            places.add((seen.network_id, str(seen.address)))
            if (
                place := _place(snapshot.paths.get(seen.network_id), str(seen.address))
            ) is not None:
                places.add(place)
    names: set[str] = set()
    vsd_ids: set[str] = set()
    used_networks: set[str] = set()
    known_places: set[tuple[str, ...] | None] = set()
    devices = {link.name for link in snapshot.links}
    wrong: list[Finding] = []
    for count, known in enumerate(snapshot.known):
        if count % _PIECE == _PIECE - 1:
            pause()
        names.add(known.port_name)
        vsd_ids.add(known.vsd_id)
        used_networks.add(known.network_id)
        known_places.add(_place(known.place, known.address))
        is_alive = known.endpoint_id in ids or (
            (known.network_id, known.address) in places
            if known.network_id
            else _place(known.place, known.address) in places
        )
        if not is_alive:
            wrong.append(
                Finding(
                    FindingKind.ENDPOINT, known.port_name, f"{known.vsd_id}/{known.endpoint_id}"
                )
            )
            continue
        container = snapshot.containers.get(known.vsd_id)
        if known.endpoint_id in ids:
            if container is None:
                wrong.append(Finding(FindingKind.LOST_CONTAINER, known.port_name, known.vsd_id))
            if known.port_name not in devices:
                wrong.append(Finding(FindingKind.LOST_LINK, known.port_name, known.endpoint_id))
        if known.is_plugged:
            port = snapshot.ports.get(known.port_name)
            if port is None or not port.fits(
                known.mac, known.uuid, known.container_id, known.endpoint_id, known.vsd_id
            ):
                wrong.append(Finding(FindingKind.ROWS, known.port_name, known.endpoint_id))
            if (
                container is not None
                and known.container_name
                and container.name != known.container_name
            ):
                wrong.append(Finding(FindingKind.NAME, known.port_name, known.vsd_id))
    pause()
    # What the table has lost, but the engine has, is not taken away either.
    wrong += [
        Finding(FindingKind.PORT, name)
        for name in sorted(snapshot.ports.keys() - names)
        if snapshot.ports[name].external_ids.get("nuage-endpoint-id") not in ids
    ]
    for link in snapshot.links:
        pair = VethPair.of(link.name)
        if (
            pair is None
            or link.kind != "veth"
            or pair.bridge_port != link.name
            or link.name in names
            or link.name in snapshot.ports
        ):
            continue
        if link.tag is None or link.tag.endpoint_id not in ids:
            wrong.append(Finding(FindingKind.LINK, link.name))
    pause()
    for vsd_id in sorted(snapshot.containers.keys() - vsd_ids):
        interfaces = [
            interface
            for interface in snapshot.containers[vsd_id].interfaces
            if VethPair.is_bridge_port(interface.name)
        ]
        here = {_place(interface.place, str(interface.address)) for interface in interfaces}
        if interfaces and not (here & places) - known_places:
            wrong.append(Finding(FindingKind.CONTAINER, vsd_id))
    wrong += [
        Finding(FindingKind.NETWORK, network_id)
        for network_id in sorted(snapshot.tags - snapshot.network_ids - used_networks)
    ]
    return wrong


class Sightings:
    """How often and for how long each thing was seen wrong without a break."""

    def __init__(self) -> None:
        self._seen: dict[Finding, tuple[int, float]] = {}

    def due(self, found: Iterable[Finding], now_s: float) -> list[Finding]:
        """Count this cycle's findings, forget the others; returns those that may be repaired now.

        `now_s` is in seconds in which this process ran.
        """
        self._seen = {
            finding: (count + 1, first_s)
            for finding in found
            for count, first_s in [self._seen.get(finding, (0, now_s))]
        }
        return [
            finding
            for finding, (count, first_s) in self._seen.items()
            if finding.kind not in DESTRUCTIVE
            or (count >= SIGHTINGS and now_s - first_s >= GRACE_S)
        ]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a cycle found and did: `waiting` are still in their grace, `failed` could not be repaired."""

    sentence: str
    found: int = 0
    repaired: int = 0
    waiting: int = 0
    failed: int = 0
    is_complete: bool = True


class Audit:
    """The cycle. run() may switch greenlets."""

    def __init__(
        self,
        vsd: Vsd,
        vrs: Vrs,
        links: Links,
        engine: DockerEngine,
        networks: Networks,
        table: EndpointTable,
        addresses: Addresses,
        endpoints: Endpoints,
        awake: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`awake` counts the seconds in which this process ran; graces are measured with it."""
        self._vsd, self._vrs, self._links, self._engine = vsd, vrs, links, engine
        self._networks, self._table, self._addresses, self._endpoints = (
            networks,
            table,
            addresses,
            endpoints,
        )
        self._awake, self._clock = awake, clock
        self._sightings = Sightings()
        self._said: dict[Finding, str] = {}
        self._lock = threading.Lock()
        self.last = Outcome("no audit has run yet", is_complete=False)

    def run(self) -> Outcome:
        """One cycle; a neighbour that cannot be read ends it with nothing done. One at a time. Switches greenlets."""
        if not self._lock.acquire(timeout=_WAIT_S):
            return Outcome("audit: another one is still running", is_complete=False)
        try:
            self.last = self._cycle()
        finally:
            self._lock.release()
        return self.last

    def _cycle(self) -> Outcome:
        started_s = self._clock()
        try:
            snapshot = self._look(Deadline(_LIST_S, self._clock))
        except Fault as fault:
            outcome = Outcome(
                f"audit: nothing is taken away, because not everything could be read: {fault.message}",
                is_complete=False,
            )
            _log.warning("%s", outcome.sentence)
            return outcome
        found = findings(snapshot, _pause)
        due = self._sightings.due(found, self._awake())
        self._said = {finding: said for finding, said in self._said.items() if finding in due}
        repaired = failed = waiting = 0
        for finding in due:
            done = self._repair(finding)
            repaired += done is True
            failed += done is False
            waiting += done is None
        waiting += len(found) - len(due)
        what = (
            f"{len(snapshot.known)} endpoints, {len(snapshot.ports)} ports, {len(snapshot.links)} links, {len(snapshot.containers)} VSD containers "
            f"and {len(snapshot.tags)} networks compared in {self._clock() - started_s:.1f} s"
        )
        result = (
            f"{len(found)} findings: {repaired} repaired, {waiting} waiting, {failed} failed"
            if found
            else "all agree"
        )
        outcome = Outcome(f"audit: {what}; {result}", len(found), repaired, waiting, failed)
        _log.log(logging.INFO if found else logging.DEBUG, "%s", outcome.sentence)
        return outcome

    def _look(self, deadline: Deadline) -> Snapshot:
        """Read everybody. The engine last: what it starts meanwhile is young, and what it stops meanwhile is still there."""
        self._table.wait_complete(Deadline(_WAIT_FOR_LIST_S, self._clock))
        begun_s = self._table.now_s()
        listed = self._vsd.list_containers(self._addresses.external_id, deadline)
        self._table.absorb_containers(listed, begun_s, _pause)
        ports, tags = self._vrs.ports(_pause), frozenset(self._vrs.networks())
        links = tuple(link for link in self._links.list_devices() if VethPair.of(link.name))
        engine = list(self._engine.list_endpoints(deadline))
        network_ids = self._engine.list_network_ids(deadline)
        networks = self._engine.list_networks(deadline)
        for network_id in sorted(network_ids.ours):
            engine += self._engine.get_network(network_id, deadline).endpoints
        self._networks.learn_all(networks)
        known = []
        for count, endpoint in enumerate(self._table.all):
            if count % _PIECE == _PIECE - 1:
                _pause()
            known.append(_known(endpoint))
        containers = {
            container.vsd_id: container
            for container in listed
            if not self._table.is_deleted(container.vsd_id)
        }
        # Also what is known here without a tag, as after a removal that the VRS did not take.
        tags |= frozenset(self._networks.all) | frozenset(self._vrs.networks())
        return Snapshot(
            tuple(known),
            tuple(engine),
            ports,
            links,
            containers,
            network_ids.every,
            {network.network_id: network.place for network in networks},
            tags,
        )

    def _repair(self, finding: Finding) -> bool | None:
        """True when it was put right, False when it was not, None when it is too early after all. Looks again before it acts."""
        deadline = Deadline(_REPAIR_S, self._clock)
        try:
            return (
                self._take_away(finding, deadline)
                if finding.kind in DESTRUCTIVE
                else self._put_right(finding, deadline)
            )
        except Fault as fault:
            if self._said.get(finding) != fault.message:
                _log.warning(
                    "audit: %s (%s) was not repaired: %s",
                    finding.kind.value,
                    finding.subject,
                    fault.message,
                )
            self._said[finding] = fault.message
            return False

    def _take_away(self, finding: Finding, deadline: Deadline) -> bool | None:
        kind, subject = finding.kind, finding.subject
        endpoint = self._table.by_port(subject)
        if kind is FindingKind.ENDPOINT:
            if endpoint is None or self._life(endpoint) != finding.life:
                return None
            if self._table.age_s(endpoint) < GRACE_S:
                return None
            _log.warning(
                "audit: %s is taken down, because the engine does not have it (%s)",
                subject,
                endpoint.interface,
            )
            self._endpoints.end(endpoint, deadline)
        elif kind in (FindingKind.PORT, FindingKind.LINK):
            if endpoint is not None:
                return None
            _log.warning(
                "audit: %s %s is removed, because no endpoint has it",
                "port" if kind is FindingKind.PORT else "link",
                subject,
            )
            if kind is FindingKind.PORT:
                self._vrs.detach(subject, deadline)
            else:
                self._links.delete_later(subject)
        elif kind is FindingKind.CONTAINER:
            if self._table.by_vsd(subject) is not None or self._table.is_deleted(subject):
                return None
            _log.warning(
                "audit: container %s of this host is deleted from the VSD, because no endpoint has it",
                subject,
            )
            self._addresses.end_container(subject, deadline)
        elif any(endpoint.network_id == subject for endpoint in self._table.all):
            return None
        else:
            _log.warning(
                "audit: network %s is forgotten, because the engine does not have it", subject
            )
            self._networks.delete_network(subject, deadline)
        return True

    def _put_right(self, finding: Finding, deadline: Deadline) -> bool | None:
        endpoint = self._table.by_port(finding.subject)
        if endpoint is None or endpoint.is_leaving:
            return None
        if finding.kind is FindingKind.LOST_CONTAINER:
            return self._endpoints.recover_container(endpoint, deadline)
        if finding.kind is FindingKind.ROWS:
            return self._endpoints.plugging.plug_again(endpoint, deadline)
        if finding.kind is FindingKind.NAME:
            return self._endpoints.plugging.name_again(endpoint, deadline)
        raise Refused(f"the link {finding.subject} is gone; restart its container")

    @staticmethod
    def _life(endpoint: Endpoint) -> str:
        return f"{endpoint.vsd_id}/{endpoint.endpoint_id}"


def _known(endpoint: Endpoint) -> Known:
    is_plugged = (
        endpoint.stage is Stage.ATTACHED
        and endpoint.identity is not None
        and not endpoint.is_leaving
    )
    container = (endpoint.identity.container_id, endpoint.identity.name) if is_plugged else ("", "")
    return Known(
        endpoint.port_name,
        endpoint.endpoint_id,
        endpoint.network_id,
        str(endpoint.address),
        endpoint.vsd_id,
        endpoint.mac,
        endpoint.place,
        is_plugged,
        endpoint.uuid,
        *container,
    )


def _pause() -> None:
    time.sleep(1e-6)  # lets timers and sockets in
