"""The networks of the cluster: publishes this host's, makes and removes replicas of the others' (docs/MULTIHOST.md, way 4).

Owns what was last read of Consul's networks, this host's notes about its replicas, and the removals that could not be
carried out yet. Must never act on an incomplete list or on a record that cannot be read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import random
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Conflict, Fault, Refused, Unavailable
from nuage_appliance.base.state_file import StateFile
from nuage_appliance.core.cluster.replication import (
    ORIGIN_LABEL,
    REPLICA_LABEL,
    Action,
    Record,
    Replica,
    ReplicaState,
    ReplicaStep,
    decide,
    is_key,
    is_ours,
    read_replicas,
    removals,
)
from nuage_appliance.model import NetworkSpec, shorten

if TYPE_CHECKING:
    from nuage_appliance.clients.consul import Consul, Entry
    from nuage_appliance.clients.docker_engine import DockerEngine

_log = logging.getLogger(__name__)

ROOT = "nuage-libnetwork"
WAIT_S = 25.0
PURGE_S, HOLD_S = 600.0, 600.0
ABSENT_S = 10.0
_LIST_S, _CREATE_S, _REMOVE_S = 30.0, 60.0, 30.0
_HANGING_S, _FOLLOWED_S, _BETWEEN_S = 2.0, 60.0, 0.05
_MOST_ROUNDS = 20
_MOST_DESTROYED = 4096
_NAMED = 3


@dataclasses.dataclass
class _Removal:
    """A network that this host's engine removed: what it was an incarnation of, and since when the cluster could know."""

    incarnation: str = ""
    known_since_s: float | None = None


@dataclasses.dataclass
class _Retry:
    """When a step about a name may be tried again."""

    due_s: float
    backoff: Backoff


class Replicas:
    """One host's part in the cluster. Everything may switch greenlets."""

    def __init__(
        self,
        consul: Consul,
        engine: DockerEngine,
        name: str,
        host_id: Callable[[], str],
        interval_s: Callable[[], float],
        held: StateFile,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`host_id` is empty until it is known; `held` keeps removals over a restart while Consul is away."""
        self._consul, self._engine, self._clock = consul, engine, clock
        self._root = f"{ROOT}/{name}/"
        self._host_id, self._interval_s = host_id, interval_s
        self._file = held
        self._wanted = threading.Event()
        self._records: dict[str, tuple[Record, int]] = {}
        self._unreadable: dict[str, str] = {}
        self._mine: dict[str, Replica] | None = None
        self._written: bytes | None = None
        self._others: dict[str, dict[str, Replica]] = {}
        self._destroyed = {
            network_id: _Removal(incarnation) for network_id, incarnation in held.load().items()
        }
        self._removed_since: dict[tuple[str, str], float] = {}
        self._idle_since: dict[tuple[str, str], float] = {}
        self._absent_since: dict[str, float] = {}
        self._retries: dict[str, _Retry] = {}
        self._problem, self._is_warned = consul.problem, False

    # -- what the doors tell ----------------------------------------------------------------------

    def wake(self) -> None:
        """Something changed: compare soon."""
        self._wanted.set()

    def wake_if_hanging(self) -> None:
        """A container went: a network may have waited for that."""
        if any(replica.state is ReplicaState.HANGING for replica in (self._mine or {}).values()):
            for name, replica in (self._mine or {}).items():
                if replica.state is ReplicaState.HANGING:
                    self._retries.pop(name, None)
            self._wanted.set()

    def note_destroyed(self, network_id: str) -> None:
        """The engine said that it removed a network; kept until the cluster knows, and for a while after."""
        if network_id in self._destroyed:
            return
        self._destroyed[network_id] = _Removal()
        self._resolve()
        while len(self._destroyed) > _MOST_DESTROYED:
            del self._destroyed[next(iter(self._destroyed))]
        if self._problem:
            self._save()
        self._wanted.set()

    def _resolve(self) -> None:
        """What the removed networks were incarnations of, as long as the notes still say it."""
        for replica in (self._mine or {}).values():
            removal = self._destroyed.get(replica.network_id)
            if (
                removal is not None
                and not removal.incarnation
                and replica.state is not ReplicaState.CONFLICT
            ):
                removal.incarnation = replica.incarnation

    def _gone(self, networks: list[NetworkSpec]) -> frozenset[str]:
        """The incarnations that ended by a removal on this host."""
        for network in networks:
            self._destroyed.pop(network.network_id, None)
        return frozenset(self._destroyed) | {
            removal.incarnation for removal in self._destroyed.values() if removal.incarnation
        }

    def _forget_removals(self) -> None:
        """The cluster knows them; but a Consul that lost its data may be told again by a host that still has the network."""
        now_s = self._clock()
        for removal in self._destroyed.values():
            removal.known_since_s = (
                now_s if removal.known_since_s is None else removal.known_since_s
            )
        if any(removal.known_since_s == now_s for removal in self._destroyed.values()):
            self._save()
        for network_id in [
            key
            for key, removal in self._destroyed.items()
            if now_s - (removal.known_since_s or now_s) > HOLD_S
        ]:
            del self._destroyed[network_id]

    def _save(self) -> None:
        """Keep the removals that the cluster does not know yet."""
        self._file.save(
            {
                network_id: removal.incarnation
                for network_id, removal in self._destroyed.items()
                if removal.known_since_s is None
            }
        )

    # -- the greenlets ----------------------------------------------------------------------------

    def serve_watch(self) -> None:
        """The greenlet that waits for changes of the cluster's networks; never returns."""
        backoff, index = Backoff(0.5, 2.0, 5.0, rng=random.Random()), 0
        while True:
            try:
                found = self._consul.wait_for_change(f"{self._root}networks/", index, WAIT_S)
                if found != index or not found:
                    self._wanted.set()
                index = found
                backoff.reset()
                time.sleep(_BETWEEN_S)
            except Fault as fault:
                _log.debug("%s", fault.message)
                index = 0
                time.sleep(backoff.next_s())

    def serve(self) -> None:
        """The greenlet that compares and acts, when something changed and now and then; never returns."""
        backoff = Backoff(1.0, 2.0, 5.0, rng=random.Random())
        while True:
            self._wanted.clear()
            wait_s = self._interval_s()
            try:
                if self._host_id():
                    wait_s = min(wait_s, self.compare())
                    backoff.reset()
                else:
                    wait_s = 1.0
            except Fault as fault:
                if fault.message != self._problem or not self._is_warned:
                    self._is_warned = True
                    _log.warning("the networks of other hosts are not compared: %s", fault.message)
                self._problem = fault.message
                if self._destroyed:
                    self._save()
                wait_s = backoff.next_s()
            time.sleep(_BETWEEN_S)
            self._wanted.wait(timeout=wait_s)

    # -- comparing --------------------------------------------------------------------------------

    def compare(self) -> float:
        """Compare and act until nothing is left to do; returns in how many seconds it is worth to look again. Raises Fault."""
        for _ in range(_MOST_ROUNDS):
            self._look()
            networks = [
                one
                for one in self._engine.list_specs(Deadline(_LIST_S, self._clock))
                if is_ours(one.driver, one.ipam_driver)
            ]
            records = {name: record for name, (record, _) in self._records.items()}
            mine = self._mine if self._mine is not None else {}
            self._resolve()
            done = sum(self._act(action) for action in removals(records, self._gone(networks)))
            if done:
                continue
            self._forget_removals()
            self._absent_since = {
                name: self._absent_since.get(name, self._clock())
                for name in mine.keys() - {one.name for one in networks}
            }
            # What may take long comes last, and what failed before after that.
            for action in sorted(
                decide(records, networks, mine, self._unreadable),
                key=lambda one: (one.step is ReplicaStep.CREATE, one.name in self._retries),
            ):
                done += self._act(action)
            self._write_notes()
            if not done:
                break
        if self._is_warned:
            self._is_warned = False
            _log.warning(
                "Consul and the engine answer: the networks of this host and the cluster's are compared again"
            )
        self._problem = ""
        self._purge()
        removed = {
            (name, record.incarnation)
            for name, (record, _) in self._records.items()
            if record.is_removed
        }
        self._removed_since = {key: self._removed_since.get(key, self._clock()) for key in removed}
        waits = [retry.due_s - self._clock() for retry in self._retries.values()]
        if any(self._clock() - since_s < _FOLLOWED_S for since_s in self._removed_since.values()):
            waits.append(_HANGING_S)  # the others are writing where it hangs
        return max(_BETWEEN_S, min(waits)) if waits else self._interval_s()

    def _look(self) -> None:
        """Read the cluster's networks and every host's notes."""
        prefix = f"{self._root}networks/"
        records, unreadable = {}, {}
        for key, entry in self._consul.read_tree(prefix).items():
            name = urllib.parse.unquote(key.removeprefix(prefix))
            record = (
                Record.read(name, entry.value)
                if is_key(name) and key == f"{prefix}{_quote(name)}"
                else "it is no network's name"
            )
            if isinstance(record, str):
                unreadable[name] = f"what Consul has as {key} is left alone: {record}"
            else:
                records[name] = (record, entry.index)
        for name, why in unreadable.items():
            if self._unreadable.get(name) != why:
                _log.error("%s", why)
        self._records, self._unreadable = records, unreadable
        self._retries = {name: retry for name, retry in self._retries.items() if name in records}
        prefix = f"{self._root}replicas/"
        self._others = {
            urllib.parse.unquote(key.removeprefix(prefix)): read_replicas(entry.value)
            for key, entry in self._consul.read_tree(prefix).items()
        }
        noted = self._others.pop(self._host_id(), None)
        if self._mine is None:
            self._mine = noted or {}
        self._written = None if noted is None else _encode(noted)

    def _write_notes(self) -> None:
        """Have Consul's notes of this host be what this host knows."""
        mine = self._mine or {}
        text = _encode(mine)
        if text == self._written or (not mine and self._written is None):
            return
        self._consul.write(
            f"{self._root}replicas/{_quote(self._host_id())}",
            {name: replica.to_json() for name, replica in sorted(mine.items())},
        )
        self._written = text

    # -- acting -----------------------------------------------------------------------------------

    def _act(self, action: Action) -> bool:
        """Take a step; True when something was changed, so that another look is worth it. Raises Fault when Consul fails."""
        assert self._mine is not None
        retry = self._retries.get(action.name)
        if action.step in (ReplicaStep.CREATE, ReplicaStep.DELETE):
            if retry is not None and retry.due_s > self._clock():
                return False
            return (
                self._create(action) if action.step is ReplicaStep.CREATE else self._delete(action)
            )
        self._retries.pop(action.name, None)
        if action.step is ReplicaStep.PUBLISH:
            return self._publish(action)
        if action.step is ReplicaStep.TOMBSTONE:
            return self._bury(action)
        if action.step is ReplicaStep.FORGET:
            self._mine.pop(action.name, None)
            return False
        assert action.replica is not None
        if action.step is ReplicaStep.CONFLICT:
            _log.error("%s", action.replica.problem)
        self._mine[action.name] = action.replica
        return False

    def _key(self, name: str) -> str:
        return f"{self._root}networks/{_quote(name)}"

    def _publish(self, action: Action) -> bool:
        assert action.record is not None and action.network is not None and self._mine is not None
        known = self._records.get(action.name)
        record = dataclasses.replace(action.record, origin=action.record.origin or self._host_id())
        self._mine[action.name] = Replica(
            record.incarnation, action.network.network_id, ReplicaState.PRESENT
        )
        if self._consul.write(self._key(action.name), record.to_json(), known[1] if known else 0):
            _log.info("network %s is published to the cluster", shorten(action.name))
        else:
            self._mine.pop(
                action.name, None
            )  # somebody was first: the next look says whether with an equal one
        return True

    def _bury(self, action: Action) -> bool:
        assert action.record is not None
        record, index = self._records[action.name]
        if self._consul.write(
            self._key(action.name), dataclasses.replace(record, is_removed=True).to_json(), index
        ):
            _log.warning(
                "network %s was removed on this host; it is removed on every host of the cluster",
                shorten(action.name),
            )
        return True

    def _still(self, name: str, record: Record) -> bool:
        """Read a record once more before something is done for its sake."""
        entry: Entry | None = self._consul.read(self._key(name))
        fresh = None if entry is None else Record.read(name, entry.value)
        return isinstance(fresh, Record) and (fresh.incarnation, fresh.is_removed, fresh.gone) == (
            record.incarnation,
            record.is_removed,
            record.gone,
        )

    def _create(self, action: Action) -> bool:
        assert action.record is not None and self._mine is not None
        name, record = action.name, action.record
        noted = self._mine.get(name)
        due_s = self._absent_since.get(name, self._clock()) + ABSENT_S
        if (
            noted is not None
            and noted.network_id
            and noted.network_id not in self._destroyed
            and self._clock() < due_s
        ):
            # It was here: the engine's word that it was removed may be on its way.
            self._retries[name] = _Retry(due_s, Backoff(2.0, 1.6, 30.0))
            return False
        if noted is None or noted.incarnation != record.incarnation:
            # Before the network is there, so that nobody takes the record for one that no host has.
            self._mine[name] = Replica(record.incarnation, "", ReplicaState.CREATING)
        self._write_notes()
        if not self._still(name, record):
            return True
        labels = {REPLICA_LABEL: record.incarnation, ORIGIN_LABEL: record.origin}
        try:
            network_id = self._engine.create_network(
                record.spec, labels, Deadline(_CREATE_S, self._clock)
            )
        except Fault as fault:
            self._failed(name, Replica(record.incarnation, "", ReplicaState.FAILED, fault.message))
            return False
        _log.warning(
            "network %s, which %s has published, is on this host now", shorten(name), record.origin
        )
        self._retries.pop(name, None)
        self._mine[name] = Replica(record.incarnation, network_id, ReplicaState.PRESENT)
        return True

    def _delete(self, action: Action) -> bool:
        assert action.record is not None and action.network is not None and self._mine is not None
        name, network = action.name, action.network
        if not self._still(name, action.record):
            return True
        noted = self._mine.get(name)
        incarnation = noted.incarnation if noted is not None else action.record.incarnation
        try:
            users = self._engine.containers_of(
                network.network_id, name, Deadline(_LIST_S, self._clock)
            )
            if users:
                shown = ", ".join(users[:_NAMED]) + (
                    f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
                )
                raise Conflict(
                    f"network {shorten(name)} was removed from the cluster, but here {shown} still "
                    f"{'belongs' if len(users) == 1 else 'belong'} to it"
                )
            self._engine.remove_network(network.network_id, Deadline(_REMOVE_S, self._clock))
        except Conflict as fault:
            self._failed(
                name, Replica(incarnation, network.network_id, ReplicaState.HANGING, fault.message)
            )
            return False
        except Fault as fault:
            self._failed(
                name, Replica(incarnation, network.network_id, ReplicaState.HANGING, fault.message)
            )
            if isinstance(fault, Unavailable):
                raise
            return False
        _log.warning("network %s was removed from the cluster, and is removed here", shorten(name))
        self._retries.pop(name, None)
        self._mine.pop(name, None)
        return True

    def _failed(self, name: str, replica: Replica) -> None:
        assert self._mine is not None
        retry = self._retries.setdefault(
            name, _Retry(0.0, Backoff(2.0, 1.6, 30.0, rng=random.Random()))
        )
        retry.due_s = self._clock() + retry.backoff.next_s()
        if self._mine.get(name) != replica:
            _log.warning(
                "%s",
                replica.problem
                if replica.state is ReplicaState.HANGING
                else f"no replica of network {shorten(name)}: {replica.problem}",
            )
        self._mine[name] = replica

    def _purge(self) -> None:
        """Take removed records away that no host has a trace of, some minutes later."""
        used = {
            name for replicas in (self._mine or {}, *self._others.values()) for name in replicas
        }
        idle = {
            (name, record.incarnation)
            for name, (record, _) in self._records.items()
            if record.is_removed and name not in used
        }
        self._idle_since = {key: self._idle_since.get(key, self._clock()) for key in idle}
        for (name, _), since_s in self._idle_since.items():
            if self._clock() - since_s >= PURGE_S:
                with contextlib.suppress(Refused):
                    self._consul.remove(self._key(name), self._records[name][1])

    # -- state ------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What the status socket shows; asks nobody."""
        hosts: dict[str, Mapping[str, Replica]] = {
            self._host_id(): self._mine or {},
            **self._others,
        }
        networks: dict[str, Any] = {}
        for name in sorted({*self._records, *(self._mine or {})}):
            record = self._records[name][0] if name in self._records else None
            networks[name] = {
                "state": "not published"
                if record is None
                else "removed"
                if record.is_removed
                else "present",
                "origin": record.origin if record else "",
                "hosts": {
                    host: replicas[name].to_json()
                    for host, replicas in hosts.items()
                    if name in replicas
                },
            }
        problems = [
            self._problem,
            *self._unreadable.values(),
            *(
                f"no replica of network {shorten(name)}: {one.problem}"
                if one.state is ReplicaState.FAILED
                else one.problem
                for name, one in (self._mine or {}).items()
                if one.problem and one.state is not ReplicaState.HANGING
            ),
        ]
        return {
            "problem": next(filter(None, problems), ""),
            "networks": networks,
            "held_removals": sum(
                removal.known_since_s is None for removal in self._destroyed.values()
            ),
        }


def _quote(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _encode(replicas: Mapping[str, Replica]) -> bytes:
    return json.dumps(
        {name: replica.to_json() for name, replica in replicas.items()}, sort_keys=True
    ).encode()
