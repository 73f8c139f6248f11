"""The audit's cycle: read every backend, find what is wrong, and put it right or take it away.

Owns what was seen wrong in earlier cycles. Nothing is taken away unless every backend could be read
in this cycle, the thing is this driver's own, and it was seen wrong in three cycles over at least a
minute in which this process ran.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Fault, Refused
from nuage_appliance.base.yielding import in_batches, pause
from nuage_appliance.core import findings
from nuage_appliance.core.addresses import Addresses
from nuage_appliance.core.endpoint import Endpoint
from nuage_appliance.core.endpoint_table import EndpointTable
from nuage_appliance.core.endpoints import Endpoints
from nuage_appliance.core.findings import DESTRUCTIVE, Finding, FindingKind, Known, Snapshot
from nuage_appliance.core.host import HostIdentity
from nuage_appliance.core.networks import Networks
from nuage_appliance.model import Stage, VethPair

if TYPE_CHECKING:
    from nuage_appliance.clients.docker_engine import DockerEngine
    from nuage_appliance.clients.links import Links
    from nuage_appliance.clients.vrs import Vrs
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

_LIST_S = 120.0
_REPAIR_S = 20.0
_WAIT_S = 150.0
_WAIT_FOR_LIST_S = 5.0
_PIECE = 200


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a cycle found and did.

    `waiting` are still in their grace, `failed` could not be repaired.
    """

    sentence: str
    found: int = 0
    repaired: int = 0
    waiting: int = 0
    failed: int = 0
    is_complete: bool = True


class Audit:
    """The cycle. run() may switch greenlets.

    `awake` counts the seconds in which this process ran, for the graces.
    """

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
        host: HostIdentity,
        awake: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vsd = vsd
        self._vrs = vrs
        self._links = links
        self._engine = engine
        self._networks = networks
        self._table = table
        self._addresses = addresses
        self._endpoints = endpoints
        self._host = host
        self._awake = awake
        self._clock = clock
        self._sightings = findings.Sightings()
        # Why each finding of the last cycle could not be repaired, so that the log has it once.
        self._failures: dict[Finding, str] = {}
        self._lock = threading.Lock()
        self.last = Outcome("no audit has run yet", is_complete=False)

    def run(self) -> Outcome:
        """One cycle, and one at a time; a backend that cannot be read ends it with nothing done.

        Switches greenlets.
        """
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
            snapshot = self._read_all(Deadline(_LIST_S, self._clock))
        except Fault as fault:
            outcome = Outcome(
                "audit: nothing is taken away, because not everything could be read: "
                f"{fault.message}",
                is_complete=False,
            )
            _log.warning("%s", outcome.sentence)
            return outcome
        found = findings.compare(snapshot, pause)
        due = self._sightings.due(found, self._awake())
        self._failures = {
            finding: reason for finding, reason in self._failures.items() if finding in due
        }
        results = [self._repair(finding) for finding in due]
        repaired = results.count(True)
        failed = results.count(False)
        waiting = results.count(None) + len(found) - len(due)
        compared = (
            f"{len(snapshot.known)} endpoints, {len(snapshot.ports)} ports, "
            f"{len(snapshot.links)} links, {len(snapshot.containers)} VSD containers "
            f"and {len(snapshot.remembered_networks)} networks compared "
            f"in {self._clock() - started_s:.1f} s"
        )
        result = (
            f"{len(found)} findings: {repaired} repaired, {waiting} waiting, {failed} failed"
            if found
            else "all agree"
        )
        outcome = Outcome(f"audit: {compared}; {result}", len(found), repaired, waiting, failed)
        _log.log(logging.INFO if found else logging.DEBUG, "%s", outcome.sentence)
        return outcome

    def _read_all(self, deadline: Deadline) -> Snapshot:
        """Read every backend, and take over what the VSD and the engine list. Raises Fault.

        The engine comes last: what it starts meanwhile is young, and what it stops meanwhile is
        still there.
        """
        self._table.wait_complete(Deadline(_WAIT_FOR_LIST_S, self._clock))
        begun_s = self._table.now_s()
        listed = self._vsd.list_containers(self._host.external_id, deadline)
        self._table.absorb_containers(listed, begun_s, pause)
        ports = self._vrs.ports(pause)
        tagged = frozenset(self._vrs.networks())
        links = tuple(link for link in self._links.list_devices() if VethPair.of(link.name))
        engine = list(self._engine.list_endpoints(deadline))
        network_ids = self._engine.list_network_ids(deadline)
        networks = self._engine.list_networks(deadline)
        for network_id in sorted(network_ids.ours):
            engine += self._engine.get_network(network_id, deadline).endpoints
        self._networks.learn_all(networks)
        known = tuple(_known(endpoint) for endpoint in in_batches(self._table.all, _PIECE))
        return Snapshot(
            known=known,
            engine=tuple(engine),
            ports=ports,
            links=links,
            containers={
                container.vsd_id: container
                for container in listed
                if not self._table.is_deleted(container.vsd_id)
            },
            network_ids=network_ids.every,
            places={network.network_id: network.place for network in networks},
            # Also what is known here without a tag, as after a removal that the VRS did not take.
            remembered_networks=tagged
            | frozenset(self._networks.all)
            | frozenset(self._vrs.networks()),
        )

    # -- repairs ----------------------------------------------------------------------------------

    def _repair(self, finding: Finding) -> bool | None:
        """Look again, then repair: True when it was, False when not, None when it is too early."""
        deadline = Deadline(_REPAIR_S, self._clock)
        try:
            if finding.kind in DESTRUCTIVE:
                return self._take_away(finding, deadline)
            return self._put_right(finding, deadline)
        except Fault as fault:
            if self._failures.get(finding) != fault.message:
                _log.warning(
                    "audit: %s (%s) was not repaired: %s",
                    finding.kind.value,
                    finding.subject,
                    fault.message,
                )
            self._failures[finding] = fault.message
            return False

    def _take_away(self, finding: Finding, deadline: Deadline) -> bool | None:
        subject = finding.subject
        if finding.kind is FindingKind.ENDPOINT:
            return self._end_endpoint(finding, deadline)
        if finding.kind is FindingKind.PORT:
            return self._remove_port(subject, deadline)
        if finding.kind is FindingKind.LINK:
            return self._remove_link(subject)
        if finding.kind is FindingKind.CONTAINER:
            return self._delete_container(subject, deadline)
        return self._forget_network(subject, deadline)

    def _end_endpoint(self, finding: Finding, deadline: Deadline) -> bool | None:
        endpoint = self._table.by_port(finding.subject)
        if endpoint is None or f"{endpoint.vsd_id}/{endpoint.endpoint_id}" != finding.life:
            return None
        if self._table.age_s(endpoint) < findings.GRACE_S:
            return None
        _log.warning(
            "audit: %s is taken down, because the engine does not have it (%s)",
            endpoint.port_name,
            endpoint.interface,
        )
        self._endpoints.end(endpoint, deadline)
        return True

    def _remove_port(self, port_name: str, deadline: Deadline) -> bool | None:
        if self._table.by_port(port_name) is not None:
            return None
        _log.warning("audit: port %s is removed, because no endpoint has it", port_name)
        self._vrs.detach(port_name, deadline)
        return True

    def _remove_link(self, port_name: str) -> bool | None:
        if self._table.by_port(port_name) is not None:
            return None
        _log.warning("audit: link %s is removed, because no endpoint has it", port_name)
        self._links.delete_later(port_name)
        return True

    def _delete_container(self, vsd_id: str, deadline: Deadline) -> bool | None:
        if self._table.by_vsd(vsd_id) is not None or self._table.is_deleted(vsd_id):
            return None
        _log.warning(
            "audit: container %s of this host is deleted from the VSD, because no endpoint has it",
            vsd_id,
        )
        self._addresses.deletions.delete_container(vsd_id, deadline)
        return True

    def _forget_network(self, network_id: str, deadline: Deadline) -> bool | None:
        if any(endpoint.network_id == network_id for endpoint in self._table.all):
            return None
        _log.warning(
            "audit: network %s is forgotten, because the engine does not have it", network_id
        )
        self._networks.delete_network(network_id, deadline)
        return True

    def _put_right(self, finding: Finding, deadline: Deadline) -> bool | None:
        endpoint = self._table.by_port(finding.subject)
        if endpoint is None or endpoint.is_leaving:
            return None
        if finding.kind is FindingKind.LOST_CONTAINER:
            return self._endpoints.lost_containers.recover(endpoint, deadline)
        if finding.kind is FindingKind.ROWS:
            return self._endpoints.plugging.plug_again(endpoint, deadline)
        if finding.kind is FindingKind.NAME:
            return self._endpoints.plugging.name_again(endpoint, deadline)
        raise Refused(f"the link {finding.subject} is gone; restart its container")


def _known(endpoint: Endpoint) -> Known:
    identity = endpoint.identity
    known = Known(
        port_name=endpoint.port_name,
        endpoint_id=endpoint.endpoint_id,
        network_id=endpoint.network_id,
        address=str(endpoint.address),
        vsd_id=endpoint.vsd_id,
        mac=endpoint.mac,
        place=endpoint.place,
        uuid=endpoint.uuid,
    )
    if endpoint.stage is not Stage.ATTACHED or identity is None or endpoint.is_leaving:
        return known
    return dataclasses.replace(
        known,
        is_plugged=True,
        container_id=identity.container_id,
        container_name=identity.name,
    )
