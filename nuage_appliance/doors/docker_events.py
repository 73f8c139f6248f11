"""The engine's events: a container was connected, so its endpoint gets its identity and is plugged in.

Owns the event stream's position and the memory of who containers are. Events are hints, never the truth: after every gap
everything is compared with the engine's lists. Must never inspect a container on the way of a plugin call.
"""

from __future__ import annotations

import collections
import ipaddress
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import gevent
import gevent.event
import gevent.pool

from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Fault, NotFound
from nuage_appliance.core.directory import Directory
from nuage_appliance.core.endpoints import Endpoints
from nuage_appliance.model import Identity, Stage
from nuage_appliance.peers.docker_engine import DockerEngine, identity_of

_log = logging.getLogger(__name__)

_WORKERS = 64
_REMEMBERED = 4096
_LIST_S = 30.0
_INSPECT_S = 60.0
_BIND_S = 30.0
_OPEN_S = 10.0
_TRIED_S = 0.02


class DockerEvents:
    """Follows one engine."""

    def __init__(self, engine: DockerEngine, directory: Directory, endpoints: Endpoints, interval_s: float,
                 clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None) -> None:
        self._engine, self._directory, self._endpoints = engine, directory, endpoints
        self._clock, self._rng = clock, rng or random.Random()
        self.interval_s = interval_s
        self._workers = gevent.pool.Pool(_WORKERS)
        self._identities: collections.OrderedDict[str, Identity] = collections.OrderedDict()
        self._since: str | None = None
        self._wanted = gevent.event.Event()
        self.last_resync_s: float | None = None

    # -- the stream -------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """The greenlet that reads the event stream; reconnects for ever, never returns."""
        backoff = Backoff(0.2, 2.0, 5.0, rng=self._rng)
        while True:
            try:
                self._engine.renegotiate()
                events = self._engine.events(self._since, Deadline(_OPEN_S, self._clock))
                _log.info("following the events of the Docker engine")
                backoff.reset()
                self.resync_soon()
                for event in events:
                    self._take(event)
            except Fault as fault:
                _log.debug("%s", fault.message)
            gevent.sleep(backoff.next_s())

    def _take(self, event: Mapping[str, Any]) -> None:
        nanoseconds = event.get("timeNano")
        if isinstance(nanoseconds, int):
            self._since = f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
        actor = event.get("Actor") if isinstance(event.get("Actor"), Mapping) else {}
        attributes = actor.get("Attributes") if isinstance(actor.get("Attributes"), Mapping) else {}
        subject = actor.get("ID")
        if not isinstance(subject, str) or not subject:
            return
        kind, action = event.get("Type"), event.get("Action")
        container_id = attributes.get("container")
        if kind == "network" and action == "connect" and isinstance(container_id, str):
            if self._directory.is_known(subject) or str(attributes.get("type", "nuage")).split("/")[-1].startswith("nuage"):
                self._spawn(self._connected, subject, container_id)
        elif kind == "network" and action == "create" and str(attributes.get("type", "nuage")).split("/")[-1].startswith("nuage"):
            self._spawn(self._created, subject)
        elif kind == "container" and action == "create" and self._directory.networks:
            self._spawn(self._remember, subject)
        elif kind == "container" and action == "rename" and isinstance(attributes.get("name"), str):
            self._identities.pop(subject, None)
            self._spawn(self._renamed, subject, attributes["name"].removeprefix("/"))
        elif kind == "container" and action == "destroy":
            self._identities.pop(subject, None)

    def _spawn(self, work: Callable[..., None], *arguments: Any) -> None:
        """Run in a worker; with all of them busy, the resync does the work instead, so that the stream is never held up."""
        if self._workers.free_count() == 0:
            self.resync_soon()
            return
        self._workers.spawn(self._guarded, work, *arguments)

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except NotFound as fault:
            _log.debug("%s", fault.message)  # the container or network went away meanwhile
        except Fault as fault:
            _log.debug("%s", fault.message)
            gevent.spawn_later(1.0, self.resync_soon)

    # -- what happened ----------------------------------------------------------------------------------------------

    def _created(self, network_id: str) -> None:
        self._directory.learn(self._engine.get_network(network_id, Deadline(_OPEN_S, self._clock)))

    def _renamed(self, container_id: str, name: str) -> None:
        self._endpoints.rename(container_id, name, Deadline(_BIND_S, self._clock))

    def _remember(self, container_id: str) -> Identity:
        """Inspect a container as long as its lock is free: between its creation and its start."""
        identity = identity_of(self._engine.inspect(container_id, Deadline(_INSPECT_S, self._clock)))
        self._identities[container_id] = identity
        while len(self._identities) > _REMEMBERED:
            self._identities.popitem(last=False)
        return identity

    def _connected(self, network_id: str, container_id: str) -> None:
        network = self._engine.get_network(network_id, Deadline(_OPEN_S, self._clock))
        containers = network.get("Containers") if isinstance(network.get("Containers"), Mapping) else {}
        entry = containers.get(container_id)
        identity = self._identities.get(container_id)
        if identity is None:
            identity = self._remember(container_id)
        if not isinstance(entry, Mapping) or not entry.get("EndpointID"):
            self._directory.learn(network)
            entry = self._entry_of(self._engine.inspect(container_id, Deadline(_INSPECT_S, self._clock)), network_id)
        self._bind(network_id, str(entry.get("EndpointID") or ""), str(entry.get("IPv4Address") or entry.get("IPAddress") or ""), identity)

    @staticmethod
    def _entry_of(container: Mapping[str, Any], network_id: str) -> Mapping[str, Any]:
        settings = container.get("NetworkSettings") if isinstance(container.get("NetworkSettings"), Mapping) else {}
        networks = settings.get("Networks") if isinstance(settings.get("Networks"), Mapping) else {}
        for entry in networks.values():
            if isinstance(entry, Mapping) and entry.get("NetworkID") == network_id:
                return entry
        return {}

    def _bind(self, network_id: str, endpoint_id: str, address: str, identity: Identity) -> None:
        try:
            where = ipaddress.ip_interface(address).ip
        except ValueError:
            return  # not connected any more
        deadline = Deadline(_BIND_S, self._clock)
        endpoint = self._endpoints.adopt(network_id, endpoint_id, where, deadline)
        if endpoint is None:
            _log.warning("container %s has the address %s on network %s, but this driver has no such endpoint", identity.name, where, network_id[:12])
            return
        self._endpoints.bind(endpoint, identity, deadline)

    # -- comparing with the lists -----------------------------------------------------------------------------------

    def resync_soon(self) -> None:
        """Ask for a comparison with the engine's lists."""
        self._wanted.set()

    def serve_resync(self) -> None:
        """The greenlet that compares with the engine's lists when asked, and now and then; never returns."""
        backoff = Backoff(1.0, 2.0, 30.0, rng=self._rng)
        while True:
            self._wanted.clear()
            try:
                failed = self._resync()
            except Fault as fault:
                _log.debug("%s", fault.message)
                failed = 1
            if failed:
                wait_s = backoff.next_s()
            else:
                backoff.reset()
                wait_s = self.interval_s * self._rng.uniform(0.9, 1.1)
            gevent.sleep(_TRIED_S)
            self._wanted.wait(timeout=wait_s)

    def _resync(self) -> int:
        """Learn all networks, bind every running container of ours that is not plugged; returns how many failed."""
        self._directory.learn_all(self._engine.list_networks(Deadline(_LIST_S, self._clock)))
        jobs = []
        for container in self._engine.list_containers(Deadline(_LIST_S, self._clock)):
            container_id = container.get("Id")
            if not isinstance(container_id, str):
                continue
            settings = container.get("NetworkSettings") if isinstance(container.get("NetworkSettings"), Mapping) else {}
            networks = settings.get("Networks") if isinstance(settings.get("Networks"), Mapping) else {}
            names = container.get("Names") or []
            name = names[0].removeprefix("/") if names and isinstance(names[0], str) else ""
            is_running = container.get("State") in ("running", "paused", "restarting")
            for entry in networks.values():
                if not isinstance(entry, Mapping) or not self._directory.is_known(str(entry.get("NetworkID"))):
                    continue
                if not is_running and container_id not in self._identities and len(self._identities) < _REMEMBERED:
                    self._spawn(self._remember, container_id)  # so that its next start need not wait for its lock
                if is_running and entry.get("EndpointID"):
                    jobs.append(gevent.spawn(self._compare, container_id, name, dict(entry)))
        gevent.joinall(jobs)
        self.last_resync_s = self._clock()
        return sum(1 for job in jobs if job.value is not True)

    def _compare(self, container_id: str, name: str, entry: Mapping[str, Any]) -> bool:
        endpoint = self._endpoints.find(str(entry["EndpointID"]))
        try:
            if endpoint is not None and endpoint.stage is Stage.ATTACHED and endpoint.identity is not None:
                if endpoint.identity.container_id == container_id:
                    if name and endpoint.identity.name != name:
                        self._endpoints.rename(container_id, name, Deadline(_BIND_S, self._clock))
                    return True
            identity = self._identities.get(container_id) or self._remember(container_id)
            self._bind(str(entry["NetworkID"]), str(entry["EndpointID"]), str(entry.get("IPAddress") or ""), identity)
        except NotFound as fault:
            _log.debug("%s", fault.message)
        except Fault as fault:
            _log.debug("%s", fault.message)
            return False
        return True
