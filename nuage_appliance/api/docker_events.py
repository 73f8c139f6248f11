"""The engine's events: a container was connected, so its endpoint gets its identity and is plugged.

Owns the position in the event stream and the memory of who containers are. Events are hints, never
the truth: after every gap everything is compared with the engine's lists. Must never inspect a
container on the way of a plugin call.

Why not on that way: the engine holds a container's lock while it starts it, and calls the driver
meanwhile. An inspection waits for the same lock, so a handler that inspects would wait for itself
(libnetwork §1.6). Therefore a container is inspected at its `create` event, before its start needs
it, and what is read is remembered by its id. At `connect` the calls are over; an inspection that is
still needed then waits for the end of the start and for nothing else.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event
import gevent.pool

from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Fault, NotFound
from nuage_appliance.base.yielding import in_batches
from nuage_appliance.core.audit import Audit
from nuage_appliance.core.endpoints import Endpoints
from nuage_appliance.core.networks import Networks
from nuage_appliance.model import EngineEndpoint, Identity, Stage

if TYPE_CHECKING:
    from nuage_appliance.clients.docker_engine import DockerEngine

_log = logging.getLogger(__name__)

_WORKERS, _LOOKERS = 64, 32
_REMEMBERED = 4096
_LIST_S = 30.0
_INSPECT_S = 60.0
_BIND_S = 30.0
_OPEN_S = 10.0
_TRIED_S = 0.02
_COMPARE_S = 20.0
_BATCH = 100
# An endpoint that is still there so long after its `disconnect` is not being taken down by calls.
_ENDED_S = 20.0
_LOOK_S = 2.0
_LAST_S = 20.0
_Job = tuple[Callable[..., None], tuple[Any, ...]]


def _is_ours(attributes: Mapping[str, Any]) -> bool:
    """True when an event names our driver or, like a swarm manager's, none (libnetwork §6.4)."""
    return str(attributes.get("type", "nuage")).split("/")[-1].startswith("nuage")


def _nothing() -> None:
    """Nothing follows."""


def _ignore(network_id: str) -> None:
    """Nothing follows."""


def _mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object, or an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


class DockerEvents:
    """Follows one engine."""

    def __init__(
        self,
        engine: DockerEngine,
        networks: Networks,
        endpoints: Endpoints,
        audit: Audit,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._engine = engine
        self._networks = networks
        self._endpoints = endpoints
        self._audit = audit
        self._clock = clock
        self._rng = rng or random.Random()
        self.interval_s = interval_s
        self.on_network_change: Callable[[], None] = _nothing
        self.on_network_gone: Callable[[str], None] = _ignore
        self.on_container_gone: Callable[[], None] = _nothing
        self._workers = gevent.pool.Pool(_WORKERS)
        self._lookers = gevent.pool.Pool(_LOOKERS)
        # What workers still have to do, oldest first; at most _REMEMBERED.
        self._jobs: collections.deque[_Job] = collections.deque()
        # By Docker's container id: who the container is, the longest known first; at most
        # _REMEMBERED. A rename removes the entry.
        self._identities: collections.OrderedDict[str, Identity] = collections.OrderedDict()
        # The time of the last event, as the engine's `since` takes it; None before the first.
        self._since: str | None = None
        self._wanted = gevent.event.Event()
        self._audit_wanted = gevent.event.Event()
        # By (network id, container id) of a `disconnect`: when to look whether the driver's calls
        # took the endpoint down; at most _REMEMBERED.
        self._ended: collections.OrderedDict[tuple[str, str], float] = collections.OrderedDict()

    # -- the stream -------------------------------------------------------------------------------

    def serve(self) -> None:
        """Read the event stream; reconnects for ever, never returns. Switches greenlets."""
        backoff = Backoff(0.2, 2.0, 5.0, rng=self._rng)
        while True:
            try:
                self._engine.renegotiate()
                events = self._engine.events(self._since, Deadline(_OPEN_S, self._clock))
                _log.info("following the events of the Docker engine")
                backoff.reset()
                self.resync_soon()
                self.on_network_change()
                if self._since is None:
                    self._spawn(self._remember_the_past)
                for event in events:
                    self._take(event)
            except Fault as fault:
                _log.debug("the event stream ended: %s", fault.message)
            gevent.sleep(backoff.next_s())

    def _take(self, event: Mapping[str, Any]) -> None:
        nanoseconds = event.get("timeNano")
        if isinstance(nanoseconds, int):
            self._since = f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
        actor = _mapping(event.get("Actor"))
        attributes = _mapping(actor.get("Attributes"))
        subject = actor.get("ID")
        if not isinstance(subject, str) or not subject:
            return
        if event.get("Type") == "network":
            self._take_network(event.get("Action"), subject, attributes)
        elif event.get("Type") == "container":
            self._take_container(event.get("Action"), subject, attributes)

    def _take_network(self, action: Any, network_id: str, attributes: Mapping[str, Any]) -> None:
        container_id = attributes.get("container")
        if action == "connect" and isinstance(container_id, str):
            if self._networks.is_known(network_id) or _is_ours(attributes):
                self._spawn(self._connected, network_id, container_id)
        elif action == "disconnect" and isinstance(container_id, str):
            self._note_end(network_id, container_id, _ENDED_S)
            self.on_container_gone()
        elif action == "create" and _is_ours(attributes):
            self._spawn(self._created, network_id)
            self.on_network_change()
        elif action == "destroy" and _is_ours(attributes):
            self.on_network_gone(network_id)

    def _take_container(
        self, action: Any, container_id: str, attributes: Mapping[str, Any]
    ) -> None:
        name = attributes.get("name")
        if action == "create" and self._networks.all:
            self._look_ahead(container_id)
        elif action == "rename" and isinstance(name, str):
            self._identities.pop(container_id, None)
            self._spawn(self._renamed, container_id, name.removeprefix("/"))
        elif action == "destroy":
            self._identities.pop(container_id, None)
            self.on_container_gone()

    def _spawn(self, work: Callable[..., None], *arguments: Any) -> None:
        """Have a worker do it, now or when one is free, so that the stream is never held up.

        What is too much is left to the comparison with the engine's lists.
        """
        if len(self._jobs) >= _REMEMBERED:
            self.resync_soon()
            return
        self._jobs.append((work, arguments))
        if self._workers.free_count():
            self._workers.spawn(self._work)

    def _work(self) -> None:
        while self._jobs:
            work, arguments = self._jobs.popleft()
            try:
                work(*arguments)
            except NotFound as fault:
                # The container or the network went away meanwhile.
                _log.debug("an event came to nothing: %s", fault.message)
            except Fault as fault:
                _log.debug("an event is left to the comparison: %s", fault.message)
                gevent.spawn_later(1.0, self.resync_soon)

    def _look_ahead(self, container_id: str) -> None:
        """Inspect a container before its start needs it; with many at once, do not."""
        if self._lookers.free_count():
            self._lookers.spawn(self._look, container_id)

    def _look(self, container_id: str) -> None:
        with contextlib.suppress(Fault):
            self._remember(container_id)

    # -- what happened ----------------------------------------------------------------------------

    def _created(self, network_id: str) -> None:
        network = self._engine.get_network(network_id, Deadline(_OPEN_S, self._clock)).network
        if network is not None:
            self._networks.learn(network)

    def _renamed(self, container_id: str, name: str) -> None:
        self._endpoints.plugging.rename(container_id, name, Deadline(_BIND_S, self._clock))

    def _remember(self, container_id: str) -> Identity:
        """Inspect a container while its lock is free: between its creation and its start."""
        identity = self._engine.inspect(container_id, Deadline(_INSPECT_S, self._clock)).identity
        self._identities[container_id] = identity
        while len(self._identities) > _REMEMBERED:
            self._identities.popitem(last=False)
        return identity

    def _connected(self, network_id: str, container_id: str) -> None:
        seen = self._engine.get_network(network_id, Deadline(_OPEN_S, self._clock))
        network, endpoints = seen.network, seen.endpoints
        if network is not None and not self._networks.is_known(network_id):
            self._networks.learn(network)
        identity = self._identities.get(container_id) or self._remember(container_id)
        found = [
            endpoint
            for endpoint in endpoints
            if endpoint.container_id == container_id and endpoint.endpoint_id
        ]
        if not found:
            endpoints = self._engine.inspect(
                container_id, Deadline(_INSPECT_S, self._clock)
            ).endpoints
            found = [
                endpoint
                for endpoint in endpoints
                if endpoint.network_id == network_id and endpoint.endpoint_id
            ]
        if found:
            self._bind(found[0], identity)

    def _bind(self, seen: EngineEndpoint, identity: Identity) -> None:
        if seen.address is None:
            return  # not connected any more
        deadline = Deadline(_BIND_S, self._clock)
        endpoint = self._endpoints.match(seen.network_id, seen.endpoint_id, seen.address, deadline)
        if endpoint is None:
            _log.warning(
                "container %s has the address %s on network %s, "
                "but this driver has no such endpoint",
                identity.name,
                seen.address,
                seen.network_id[:12],
            )
            return
        self._endpoints.plugging.bind(endpoint, identity, deadline)

    # -- what ended without a call to the driver --------------------------------------------------

    def _note_end(self, network_id: str, container_id: str, seconds: float) -> None:
        """Look in so many seconds whether calls took the endpoint down.

        When too many are noted already, the audit finds it.
        """
        self._ended.pop((network_id, container_id), None)
        if len(self._ended) < _REMEMBERED:
            self._ended[network_id, container_id] = self._clock() + seconds

    def _remember_the_past(self) -> None:
        """After a start: read what the engine disconnected before; its calls have ended since.

        The stream is open already, so nothing is lost between the stream and what is asked here.
        """
        for network_id in self._engine.past_removals(time.time(), Deadline(_OPEN_S, self._clock)):
            self.on_network_gone(network_id)
        for seen in self._engine.past_disconnections(time.time(), Deadline(_OPEN_S, self._clock)):
            self._note_end(seen.network_id, seen.container_id, 0.0)

    def serve_endings(self) -> None:
        """Take down what the engine has surely disconnected; never returns. Switches greenlets."""
        while True:
            gevent.sleep(_LOOK_S)
            now_s = self._clock()
            due = [pair for pair, due_s in self._ended.items() if due_s <= now_s]
            networks: dict[str, frozenset[str]] = {}
            for pair in due:
                try:
                    if self._end(*pair, networks):
                        self._ended.pop(pair, None)
                except Fault as fault:
                    _log.debug("whether an endpoint ended is unknown: %s", fault.message)
                    break

    def _end(self, network_id: str, container_id: str, networks: dict[str, frozenset[str]]) -> bool:
        """End what a container had on a network, unless the engine has that endpoint (again).

        False to look again later. `networks` keeps what was read in this round: by network id, the
        ids and addresses of the endpoints that the engine shows on it. Raises Fault.
        """
        if not self._endpoints.is_everything_read:
            return False
        left = self._endpoints.of_container(network_id, container_id)
        if not left:
            return True
        if network_id not in networks:
            try:
                seen = self._engine.get_network(
                    network_id, Deadline(_OPEN_S, self._clock)
                ).endpoints
                networks[network_id] = frozenset(endpoint.endpoint_id for endpoint in seen) | {
                    str(endpoint.address) for endpoint in seen
                }
            except NotFound:
                networks[network_id] = frozenset()
        for endpoint in left:
            if (
                endpoint.endpoint_id not in networks[network_id]
                and str(endpoint.address) not in networks[network_id]
            ):
                _log.warning(
                    "container %s left network %s without a call to the driver; "
                    "port %s with %s is taken down",
                    container_id[:12],
                    network_id[:12],
                    endpoint.port_name,
                    endpoint.interface,
                )
                self._endpoints.end(endpoint, Deadline(_LAST_S, self._clock))
        return True

    # -- comparing with the lists -----------------------------------------------------------------

    def audit_now(self) -> None:
        """Ask for an audit. Does not switch greenlets."""
        self._audit_wanted.set()

    def resync_soon(self) -> None:
        """Ask for a comparison with the engine's lists. Does not switch greenlets."""
        self._wanted.set()

    def serve_audits(self) -> None:
        """Audit each interval, and when asked; never returns. Switches greenlets."""
        while True:
            self._audit_wanted.wait(timeout=self.interval_s * self._rng.uniform(0.9, 1.1))
            self._audit_wanted.clear()
            self.resync_soon()
            self._audit.run()

    def serve_resync(self) -> None:
        """Compare with the engine's lists when asked and each interval; never returns.

        Switches greenlets.
        """
        backoff = Backoff(1.0, 2.0, 30.0, rng=self._rng)
        while True:
            self._wanted.clear()
            try:
                failed = self.resync()
            except Fault as fault:
                _log.debug("the engine's lists could not be compared: %s", fault.message)
                failed = 1
            if failed:
                wait_s = backoff.next_s()
            else:
                backoff.reset()
                wait_s = self.interval_s
            gevent.sleep(_TRIED_S)
            self._wanted.wait(timeout=wait_s)

    def resync(self) -> int:
        """Learn all networks and bind every running container of ours that is not plugged.

        Returns how many could not be bound. Raises Fault when the engine cannot be read. Switches
        greenlets.
        """
        self._networks.learn_all(self._engine.list_networks(Deadline(_LIST_S, self._clock)))
        if not self._endpoints.is_everything_read:
            return 0  # nothing can be compared yet; what reads the rest asks again
        self._networks.settle(Deadline(_LIST_S, self._clock))
        jobs: list[gevent.Greenlet[..., bool]] = []
        pool = gevent.pool.Pool(_WORKERS)
        listed = self._engine.list_endpoints(Deadline(_LIST_S, self._clock))
        for seen in in_batches(listed, _BATCH):
            if not self._networks.is_known(seen.network_id) or not seen.container_id:
                continue
            if self._is_plugged(seen):
                continue
            if seen.is_running and seen.endpoint_id:
                jobs.append(pool.spawn(self._compare, seen))
            elif (
                not seen.is_running
                and seen.container_id not in self._identities
                and len(self._identities) < _REMEMBERED
            ):
                # So that its next start need not wait for its lock.
                self._look_ahead(seen.container_id)
        # Bounded, because a container that is being stopped may hold its lock for long.
        gevent.joinall(jobs, timeout=_COMPARE_S)
        return sum(1 for job in jobs if job.value is not True)

    def _is_plugged(self, seen: EngineEndpoint) -> bool:
        endpoint = self._endpoints.find(seen.endpoint_id)
        identity = (
            endpoint.identity if endpoint is not None and endpoint.stage is Stage.ATTACHED else None
        )
        return identity is not None and (identity.container_id, identity.name) == (
            seen.container_id,
            seen.container_name,
        )

    def _compare(self, seen: EngineEndpoint) -> bool:
        endpoint = self._endpoints.find(seen.endpoint_id)
        try:
            if (
                endpoint is not None
                and endpoint.stage is Stage.ATTACHED
                and endpoint.identity is not None
                and endpoint.identity.container_id == seen.container_id
            ):
                if seen.container_name and endpoint.identity.name != seen.container_name:
                    self._endpoints.plugging.rename(
                        seen.container_id, seen.container_name, Deadline(_BIND_S, self._clock)
                    )
                return True
            self._bind(
                seen, self._identities.get(seen.container_id) or self._remember(seen.container_id)
            )
        except NotFound as fault:
            _log.debug("container %s went away: %s", seen.container_id[:12], fault.message)
        except Fault as fault:
            _log.debug("container %s is not bound yet: %s", seen.container_id[:12], fault.message)
            return False
        return True
