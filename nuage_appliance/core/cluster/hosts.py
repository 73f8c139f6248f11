"""This host among the others in Consul: its service and check, the election, and lost hosts.

Owns the session and what this process saw of the others' health. Must never delete a container that
the VSD believes to run, nor count time in which it could not see.

Why one host is elected. The addresses of a host that is gone for good are returned by deleting its
containers from the VSD. All the others could do that, at the same time; one of them is enough. The
one that holds the lock does it: the lock belongs to a Consul session that ends TTL_S seconds after
its host stopped renewing it. Whoever wins starts to count from zero (`_critical_since`), so a
change of the elected host makes it later, never earlier.

What must be true before a container goes: its host's check has been critical for `hostgcafter`
seconds of this process's own running time, without a gap in which Consul could not be read; the
host did not leave in order; the VSD says that the container runs nowhere (_NOT_RUNNING), three
times over a minute, and once more just before.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Fault, NotFound, Unavailable
from nuage_appliance.core.addresses import Addresses
from nuage_appliance.core.findings import Finding, FindingKind, Sightings
from nuage_appliance.model import Container, VethPair, shorten

if TYPE_CHECKING:
    from nuage_appliance.clients.cluster_store import ClusterStore
    from nuage_appliance.clients.consul import Consul
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

TTL_S, BEAT_S, LOOK_S = 15, 5.0, 10.0
_VSD_S, _LEAVE_S, _FIRST_S = 60.0, 1.0, 1.0
# What the VSD calls a container that runs nowhere (vsd §10); anything else, also what is unknown,
# is left alone.
_NOT_RUNNING = frozenset(
    {"INIT", "UNREACHABLE", "SHUTDOWN", "SHUTOFF", "CRASHED", "DELETE_PENDING"}
)


class Hosts:
    """One host's place in the cluster. Everything may switch greenlets."""

    def __init__(
        self,
        consul: Consul,
        store: ClusterStore,
        vsd: Vsd,
        addresses: Addresses,
        host_id: Callable[[], str],
        facts: Callable[[], Mapping[str, str]],
        gc_after_s: int,
        awake: Callable[[], float],
    ) -> None:
        """`facts` answers the versions of appliance and engine, and the problems of VSD and VRS.

        `host_id` is empty until it is known; `awake` counts the seconds in which this process ran.
        """
        self._consul = consul
        self._store = store
        self._vsd = vsd
        self._addresses = addresses
        self._host_id = host_id
        self._facts = facts
        self._gc_after_s = gc_after_s
        self._awake = awake
        self._session = ""
        self._is_leader = False
        self._is_leaving = False
        self._critical_since: dict[str, float] = {}
        self._hosts: dict[str, dict[str, Any]] = {}
        self._critical: dict[str, bool] = {}
        self._sightings = Sightings()
        self._spared: dict[str, str] = {}
        self._problem = consul.problem

    # -- this host --------------------------------------------------------------------------------

    def serve(self) -> None:
        """The greenlet that beats every 5 s, as soon as the host id is known; never returns."""
        while True:
            is_known = bool(self._host_id())
            if is_known and not self._is_leaving:
                self._try(self.beat)
            time.sleep(BEAT_S if is_known else _FIRST_S)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Fault as fault:
            if fault.message != self._problem:
                _log.warning("this host's place in Consul is not kept: %s", fault.message)
            self._problem = fault.message

    def beat(self) -> None:
        """Pass the check, or register first; write what changed of this host; keep the session.

        Raises Fault.
        """
        host, facts = self._host_id(), self._facts()
        troubles = [f"{what.upper()}: {facts[what]}" for what in ("vsd", "vrs") if facts[what]]
        note = "; ".join(troubles) or "VSD and VRS answer"
        service_id = self._store.service_id(host)
        if not self._consul.beat(service_id, not troubles, note):
            self._store.register(host, TTL_S)
            self._consul.beat(service_id, not troubles, note)
        self._store.write_host(host, {**facts, "state": "up"})
        if self._gc_after_s:
            self._stand_for_election(host)
        self._problem = ""

    def _stand_for_election(self, host: str) -> None:
        if self._session and not self._consul.renew_session(self._session):
            self._session = ""
            self._is_leader = False
        if not self._session:
            self._session = self._consul.open_session(self._store.service_id(host), TTL_S)
        was_leader = self._is_leader
        self._is_leader = self._store.lead(host, self._session)
        if self._is_leader and not was_leader:
            self._critical_since.clear()
            _log.info(
                "this host is elected to return the addresses of hosts that are lost for %d s",
                self._gc_after_s,
            )

    def leave(self) -> None:
        """A clean stop: no service, no lock; the containers run on.

        Ends within ten seconds whatever Consul does.
        """
        self._is_leaving = True
        host = self._host_id()
        if not host:
            return
        self._consul.limit(_LEAVE_S)
        with contextlib.suppress(Fault):
            self._store.write_host(host, {**self._facts(), "state": "stopped"})
            self._consul.deregister(self._store.service_id(host))
            if self._session:
                self._consul.close_session(self._session)

    # -- the others -------------------------------------------------------------------------------

    def serve_collection(self) -> None:
        """The greenlet that looks at the other hosts; when elected, returns what lost ones hold."""
        while True:
            time.sleep(LOOK_S if self._hosts else _FIRST_S)
            try:
                self._look()
                if self._gc_after_s and self._is_leader:
                    self._collect()
            except Fault as fault:
                self._critical_since.clear()  # time in which nothing was seen does not count
                _log.debug("%s", fault.message)

    def _look(self) -> None:
        hosts = self._store.hosts()
        critical = self._store.are_critical(hosts)
        self._hosts = hosts
        self._critical = critical
        now_s = self._awake()
        lost = [
            host
            for host, is_critical in self._critical.items()
            if is_critical and host != self._host_id() and hosts[host].get("state") == "up"
        ]
        self._critical_since = {host: self._critical_since.get(host, now_s) for host in lost}

    def _collect(self) -> None:
        """Delete the containers of lost hosts: see the head of this file."""
        now_s = self._awake()
        found: dict[Finding, tuple[str, Container]] = {}
        self._spared = {}
        for host, since_s in self._critical_since.items():
            if now_s - since_s < self._gc_after_s:
                continue
            for container in self._vsd.list_containers(host, Deadline(_VSD_S)):
                if not any(
                    VethPair.is_bridge_port(interface.name) for interface in container.interfaces
                ):
                    continue
                if container.status in _NOT_RUNNING:
                    found[Finding(FindingKind.CONTAINER, container.vsd_id)] = (host, container)
                else:
                    status = container.status or "without a status"
                    self._spared[host] = (
                        f"its container {shorten(container.name)} is {status} on the VSD"
                    )
        for finding in self._sightings.due(found, now_s):
            self._return(*found[finding])

    def _return(self, host: str, container: Container) -> None:
        if not self._is_leader or host not in self._critical_since:
            return
        try:
            fresh = self._vsd.get_container(container.vsd_id, Deadline(_VSD_S))
        except NotFound:
            return
        if fresh.external_id != host or fresh.status not in _NOT_RUNNING:
            return
        addresses = ", ".join(str(interface.address) for interface in fresh.interfaces)
        _log.warning(
            "host %s is lost for more than %d s: its container %s is deleted from the VSD, "
            "which returns %s",
            host,
            self._gc_after_s,
            shorten(fresh.name),
            addresses,
        )
        with contextlib.suppress(Unavailable):
            self._addresses.end_container(fresh.vsd_id, Deadline(_VSD_S))

    # -- state ------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What the status socket shows; makes no call."""
        now_s = self._awake()
        hosts: dict[str, dict[str, Any]] = {}
        for host, facts in sorted(self._hosts.items()):
            shown: dict[str, Any] = {
                key: facts.get(key) for key in ("state", "version", "engine", "vsd", "vrs")
            }
            shown["check"] = self._check_of(host)
            if host in self._critical_since:
                shown["critical_for_s"] = round(now_s - self._critical_since[host])
            if host in self._spared:
                shown["spared"] = self._spared[host]
            hosts[host] = shown
        return {"problem": self._problem, "is_elected": self._is_leader, "hosts": hosts}

    def _check_of(self, host: str) -> str:
        if host not in self._critical:
            return "not registered"
        return "critical" if self._critical[host] else "passing"
