"""The audit: complete snapshots of every neighbour and the time -> repairs; and the cycle that carries them out.

Owns what was seen wrong in earlier cycles. `findings` is pure. Nothing is taken away unless every neighbour could be
read in this cycle, the thing is this driver's own, and it was seen wrong in three cycles over at least a minute.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Fault
from nuage_appliance.core.addresses import Addresses
from nuage_appliance.core.directory import Directory
from nuage_appliance.core.endpoint_table import EndpointTable
from nuage_appliance.core.endpoints import Endpoints
from nuage_appliance.model import EngineEndpoint, Link, VethPair

if TYPE_CHECKING:
    from nuage_appliance.peers.docker_engine import DockerEngine
    from nuage_appliance.peers.links import Links
    from nuage_appliance.peers.vrs import Vrs
    from nuage_appliance.peers.vsd import Vsd

_log = logging.getLogger(__name__)

SIGHTINGS = 3
GRACE_S = 60.0
_LIST_S = 120.0
_REPAIR_S = 20.0


class Kind(enum.Enum):
    """What can be wrong."""

    ENDPOINT = "an endpoint that the engine does not have"
    PORT = "a VRS port of no endpoint"
    LINK = "a link of no endpoint"
    CONTAINER = "a running endpoint without its VSD container"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong: its kind and the name of the port that it is about."""

    kind: Kind
    port_name: str


@dataclasses.dataclass(frozen=True)
class Known:
    """An endpoint of the table, as far as the decision needs it."""

    port_name: str
    endpoint_id: str
    network_id: str
    address: str
    vsd_id: str
    age_s: float


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What every neighbour says now; each part is complete."""

    known: tuple[Known, ...]
    engine: tuple[EngineEndpoint, ...]
    ports: frozenset[str]
    links: tuple[Link, ...]
    vsd_ids: frozenset[str]


def findings(snapshot: Snapshot) -> list[Finding]:
    """What is wrong in a snapshot. Pure; what the engine still has is never a thing to take away."""
    ids = {endpoint.endpoint_id for endpoint in snapshot.engine if endpoint.endpoint_id}
    places = {(endpoint.network_id, str(endpoint.address)) for endpoint in snapshot.engine if endpoint.address is not None}
    running = {endpoint.endpoint_id for endpoint in snapshot.engine if endpoint.is_running and endpoint.endpoint_id}
    names = {known.port_name for known in snapshot.known}
    wrong = []
    for known in snapshot.known:
        is_alive = known.endpoint_id in ids or (known.network_id, known.address) in places
        if not is_alive and known.age_s >= GRACE_S:
            wrong.append(Finding(Kind.ENDPOINT, known.port_name))
        elif known.endpoint_id in running and known.vsd_id not in snapshot.vsd_ids:
            wrong.append(Finding(Kind.CONTAINER, known.port_name))
    wrong += [Finding(Kind.PORT, name) for name in sorted(snapshot.ports - names)]
    for link in snapshot.links:
        pair = VethPair.of(link.name)
        if pair is not None and link.kind == "veth" and pair.bridge_port == link.name and link.name not in names | snapshot.ports:
            wrong.append(Finding(Kind.LINK, link.name))
    return wrong


class Sightings:
    """How often and for how long each thing was seen wrong without a break."""

    def __init__(self) -> None:
        self._seen: dict[Finding, tuple[int, float]] = {}

    def due(self, found: Iterable[Finding], now_s: float) -> list[Finding]:
        """Count this cycle's findings, forget the others; returns those that may be repaired now."""
        self._seen = {finding: (count + 1, first_s) for finding in found
                      for count, first_s in [self._seen.get(finding, (0, now_s))]}
        return [finding for finding, (count, first_s) in self._seen.items() if count >= SIGHTINGS and now_s - first_s >= GRACE_S]


class Audit:
    """The cycle. run() may switch greenlets."""

    def __init__(self, vsd: Vsd, vrs: Vrs, links: Links, engine: DockerEngine, directory: Directory, table: EndpointTable,
                 addresses: Addresses, endpoints: Endpoints, clock: Callable[[], float] = time.monotonic) -> None:
        self._vsd, self._vrs, self._links, self._engine = vsd, vrs, links, engine
        self._directory, self._table, self._addresses, self._endpoints = directory, table, addresses, endpoints
        self._clock = clock
        self._sightings = Sightings()
        self.sentence = "no audit has run yet"

    def run(self) -> int:
        """One cycle; returns how many repairs failed. Raises a fault when a neighbour could not be read: then nothing is done."""
        deadline = Deadline(_LIST_S, self._clock)
        try:
            snapshot = self._look(deadline)
        except Fault as fault:
            self.sentence = f"audit: nothing is taken away, because not everything could be read: {fault.message}"
            _log.warning("%s", self.sentence)
            raise
        found = findings(snapshot)
        due = self._sightings.due(found, self._clock())
        failed = sum(not self._repair(finding) for finding in due)
        self.sentence = (f"audit: {len(snapshot.known)} endpoints, {len(snapshot.ports)} ports, {len(snapshot.links)} links, "
                         f"{len(snapshot.vsd_ids)} VSD containers; {len(found)} findings, {len(due) - failed} repaired, {failed} failed")
        _log.log(logging.INFO if found else logging.DEBUG, "%s", self.sentence)
        return failed

    def _look(self, deadline: Deadline) -> Snapshot:
        """Read everybody. The engine last: what it starts meanwhile is young, and what it stops meanwhile is still there."""
        self._table.wait_complete(deadline)
        containers = self._vsd.list_containers(self._addresses.external_id, deadline)
        self._table.absorb_containers(containers)
        ports = self._vrs.ports()
        links = tuple(link for link in self._links.list() if VethPair.of(link.name))
        endpoints = list(self._engine.list_endpoints(deadline))
        networks = self._engine.list_networks(deadline)
        for network in networks:
            endpoints += self._engine.get_network(network.network_id, deadline)[1]
        self._directory.learn_all(networks)
        now_s = self._clock()
        known = tuple(Known(endpoint.port_name, endpoint.endpoint_id, endpoint.network_id, str(endpoint.address), endpoint.vsd_id,
                            now_s - endpoint.changed_at) for endpoint in self._table.all)
        present = frozenset(container.vsd_id for container in containers) | frozenset(
            endpoint.vsd_id for endpoint in self._table.all if now_s - endpoint.changed_at < GRACE_S)
        return Snapshot(known, tuple(endpoints), frozenset(ports), links, present)

    def _repair(self, finding: Finding) -> bool:
        deadline = Deadline(_REPAIR_S, self._clock)
        endpoint = self._table.by_port(finding.port_name)
        try:
            if finding.kind is Kind.ENDPOINT and endpoint is not None:
                _log.warning("audit: %s is taken down, because the engine does not have it (%s)", finding.port_name, endpoint.cidr)
                self._endpoints.take_down(endpoint, deadline)
                self._addresses.condemn(endpoint)
            elif finding.kind is Kind.PORT and endpoint is None:
                _log.warning("audit: port %s is taken out of the VRS, because no endpoint has it", finding.port_name)
                self._vrs.detach(finding.port_name, deadline)
            elif finding.kind is Kind.LINK and endpoint is None:
                _log.warning("audit: link %s is deleted, because no endpoint has it", finding.port_name)
                self._links.delete_later(finding.port_name)
            elif finding.kind is Kind.CONTAINER and endpoint is not None:
                _log.warning("audit: the VSD lost the container of port %s; it is created again", finding.port_name)
                self._endpoints.create_anew(endpoint, deadline)
        except Fault as fault:
            _log.warning("audit: %s was not repaired: %s", finding.port_name, fault.message)
            return False
        return True
