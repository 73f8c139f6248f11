"""The networks of the cluster: publishes this host's, makes and removes replicas of the others'.

Owns when a step that failed may be tried again. Must never act on an incomplete list or on a record
that cannot be read. docs/MULTIHOST.md, way 4, has it in an operator's words.

One comparison (`compare`) is a round of four things, repeated until a round changes nothing:

1. Read: every record and every host's notes (Consul), then this host's networks (engine). The
   engine comes last: a network that is made meanwhile is in its list, and its record comes next
   time.
2. Removals first: what this host's engine removed is marked in the records (replication, rule 1).
   When that changed anything, start over with fresh records, before anything is made.
3. Decide (replication, pure) and act. What failed before comes last, and creations come after all
   the rest: the engine may take long for them, and nothing cheap should wait.
4. Write this host's notes, when they changed.

Why nothing goes wrong when two hosts do this at once. Records are written by compare-and-set with
the index that was read: of two writers one loses, reads again and decides anew. Before a network is
made or removed for a record's sake, that one record is read again (`View.is_unchanged`), as the
leader has it, since minutes may lie between reading and acting. And before a network is made, this
host's note says that it is being made (CREATING), so that no host takes the record for one that
nobody has, and purges it.

Why the engine's slow events do no harm. The word that a network was removed may come later than the
list that lacks it. So a network that was here, and is missing without such a word, is not made
again before ABSENT_S seconds have passed (`_create`): if it was removed, the word is here by then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Conflict, Fault, Refused, Unavailable
from nuage_appliance.base.state_file import StateFile
from nuage_appliance.core.cluster.records import (
    Record,
    Replica,
    ReplicaState,
    is_ours,
)
from nuage_appliance.core.cluster.removals import Removals
from nuage_appliance.core.cluster.replication import (
    ORIGIN_LABEL,
    REPLICA_LABEL,
    Action,
    ReplicaStep,
    decide,
    removals,
)
from nuage_appliance.core.cluster.view import View
from nuage_appliance.model import shorten

if TYPE_CHECKING:
    from nuage_appliance.clients.cluster_store import ClusterStore
    from nuage_appliance.clients.docker_engine import DockerEngine

_log = logging.getLogger(__name__)

WAIT_S = 25.0
PURGE_S, HOLD_S = 600.0, 600.0
ABSENT_S = 10.0
_LIST_S, _CREATE_S, _REMOVE_S = 30.0, 60.0, 30.0
_HANGING_S, _FOLLOWED_S, _BETWEEN_S = 2.0, 60.0, 0.05
_MOST_ROUNDS = 20
_NAMED = 3


@dataclasses.dataclass
class _Retry:
    """When a step about a name may be tried again."""

    due_s: float
    backoff: Backoff


class Replicas:
    """One host's part in the cluster. Everything may switch greenlets.

    By the name of a network: `_absent_since`, when a noted network was first missing, and
    `_retries`, when to try a step again. By name and incarnation: `_removed_since` and
    `_idle_since`, when a record was first seen as removed, and as removed without a trace at any
    host.
    """

    def __init__(
        self,
        store: ClusterStore,
        engine: DockerEngine,
        host_id: Callable[[], str],
        interval_s: Callable[[], float],
        held: StateFile,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`host_id` is empty until it is known; `held` keeps removals while Consul is away."""
        self._store = store
        self._engine = engine
        self._clock = clock
        self._host_id = host_id
        self._interval_s = interval_s
        self._removals = Removals(held, clock)
        self._view = View(store, host_id)
        self._wanted = threading.Event()
        self._removed_since: dict[tuple[str, str], float] = {}
        self._idle_since: dict[tuple[str, str], float] = {}
        self._absent_since: dict[str, float] = {}
        self._retries: dict[str, _Retry] = {}
        self._problem = store.problem
        self._is_warned = False

    # -- what happened on this host ---------------------------------------------------------------

    def wake(self) -> None:
        """Something changed: compare soon."""
        self._wanted.set()

    def wake_if_hanging(self) -> None:
        """A container went: a network that is to be removed may have waited for that."""
        for name, replica in self._view.mine.items():
            if replica.state is ReplicaState.HANGING:
                self._retries.pop(name, None)
                self._wanted.set()

    def note_destroyed(self, network_id: str) -> None:
        """The engine removed a network."""
        if not self._removals.note(network_id):
            return
        self._removals.resolve(self._view.mine)
        if self._problem:
            self._removals.save()
        self._wanted.set()

    # -- the greenlets ----------------------------------------------------------------------------

    def serve_watch(self) -> None:
        """The greenlet that waits for changes of the cluster's networks; never returns."""
        backoff = Backoff(0.5, 2.0, 5.0, rng=random.Random())
        index = 0
        while True:
            try:
                found = self._store.wait_for_networks(index, WAIT_S)
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
        """The greenlet that compares and acts, when woken and now and then; never returns."""
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
                if self._removals.are_any:
                    self._removals.save()
                wait_s = backoff.next_s()
            time.sleep(_BETWEEN_S)
            self._wanted.wait(timeout=wait_s)

    # -- comparing --------------------------------------------------------------------------------

    def compare(self) -> float:
        """Compare and act until nothing is left to do. Raises Fault.

        Returns after how many seconds to look again.
        """
        for _ in range(_MOST_ROUNDS):
            self._view.read()
            self._retries = {
                name: retry for name, retry in self._retries.items() if name in self._view.records
            }
            networks = [
                one
                for one in self._engine.list_specs(Deadline(_LIST_S, self._clock))
                if is_ours(one.driver, one.ipam_driver)
            ]
            records = {name: known.record for name, known in self._view.records.items()}
            mine = self._view.mine
            self._removals.resolve(mine)
            over = self._removals.over(networks)
            done = sum(self._act(action) for action in removals(records, over))
            if done:
                continue
            self._removals.mark_known(HOLD_S)
            self._absent_since = {
                name: self._absent_since.get(name, self._clock())
                for name in mine.keys() - {one.name for one in networks}
            }
            # What may take long comes last, and what failed before after that.
            for action in sorted(
                decide(records, networks, mine, self._view.unreadable),
                key=lambda one: (one.step is ReplicaStep.CREATE, one.name in self._retries),
            ):
                done += self._act(action)
            self._view.write_notes()
            if not done:
                break
        if self._is_warned:
            self._is_warned = False
            _log.warning(
                "Consul and the engine answer: the networks of this host and the cluster's are "
                "compared again"
            )
        self._problem = ""
        self._purge()
        removed = {
            (name, known.record.incarnation)
            for name, known in self._view.records.items()
            if known.record.is_removed
        }
        self._removed_since = {key: self._removed_since.get(key, self._clock()) for key in removed}
        waits = [retry.due_s - self._clock() for retry in self._retries.values()]
        if any(self._clock() - since_s < _FOLLOWED_S for since_s in self._removed_since.values()):
            waits.append(_HANGING_S)  # the others are writing where it hangs
        return max(_BETWEEN_S, min(waits)) if waits else self._interval_s()

    # -- acting -----------------------------------------------------------------------------------

    def _act(self, action: Action) -> bool:
        """Take a step; True when something was changed and a fresh look is worth it.

        Raises Fault when Consul or the engine fails.
        """
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
            return self._mark_removed(action)
        if action.step is ReplicaStep.FORGET:
            self._view.mine.pop(action.name, None)
            return False
        assert action.replica is not None
        if action.step is ReplicaStep.CONFLICT:
            _log.error("%s", action.replica.problem)
        self._view.mine[action.name] = action.replica
        return False

    def _publish(self, action: Action) -> bool:
        assert action.record is not None and action.network is not None
        known = self._view.records.get(action.name)
        record = dataclasses.replace(action.record, origin=action.record.origin or self._host_id())
        self._view.mine[action.name] = Replica(
            record.incarnation, action.network.network_id, ReplicaState.PRESENT
        )
        index = known.index if known is not None else 0
        if self._store.write_network(action.name, record.to_json(), index):
            _log.info("network %s is published to the cluster", shorten(action.name))
        else:
            # Another host was first; the next look shows whether its network is equal.
            self._view.mine.pop(action.name, None)
        return True

    def _mark_removed(self, action: Action) -> bool:
        known = self._view.records[action.name]
        tombstone = dataclasses.replace(known.record, is_removed=True)
        if self._store.write_network(action.name, tombstone.to_json(), known.index):
            _log.warning(
                "network %s was removed on this host; it is removed on every host of the cluster",
                shorten(action.name),
            )
        return True

    def _create(self, action: Action) -> bool:
        assert action.record is not None
        name, record = action.name, action.record
        noted = self._view.mine.get(name)
        due_s = self._absent_since.get(name, self._clock()) + ABSENT_S
        if (
            noted is not None
            and noted.network_id
            and noted.network_id not in self._removals
            and self._clock() < due_s
        ):
            # It was here; the engine's word that it was removed may be on its way.
            self._retries[name] = _Retry(due_s, Backoff(2.0, 1.6, 30.0))
            return False
        if noted is None or noted.incarnation != record.incarnation:
            # Noted before the network is there: see the head of this file.
            self._view.mine[name] = Replica(record.incarnation, "", ReplicaState.CREATING)
        self._view.write_notes()
        if not self._view.is_unchanged(name, record):
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
        self._view.mine[name] = Replica(record.incarnation, network_id, ReplicaState.PRESENT)
        return True

    def _delete(self, action: Action) -> bool:
        assert action.record is not None and action.network is not None
        name, network = action.name, action.network
        if not self._view.is_unchanged(name, action.record):
            return True
        noted = self._view.mine.get(name)
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
        except Fault as fault:
            self._failed(
                name, Replica(incarnation, network.network_id, ReplicaState.HANGING, fault.message)
            )
            if isinstance(fault, Unavailable):
                raise
            return False
        _log.warning("network %s was removed from the cluster, and is removed here", shorten(name))
        self._retries.pop(name, None)
        self._view.mine.pop(name, None)
        return True

    def _failed(self, name: str, replica: Replica) -> None:
        retry = self._retries.setdefault(
            name, _Retry(0.0, Backoff(2.0, 1.6, 30.0, rng=random.Random()))
        )
        retry.due_s = self._clock() + retry.backoff.next_s()
        if self._view.mine.get(name) != replica:
            _log.warning(
                "%s",
                replica.problem
                if replica.state is ReplicaState.HANGING
                else f"no replica of network {shorten(name)}: {replica.problem}",
            )
        self._view.mine[name] = replica

    def _purge(self) -> None:
        """Delete removed records from Consul, some minutes after no host has a trace of them."""
        used = self._view.used_names()
        idle = {
            (name, known.record.incarnation)
            for name, known in self._view.records.items()
            if known.record.is_removed and name not in used
        }
        self._idle_since = {key: self._idle_since.get(key, self._clock()) for key in idle}
        for (name, _), since_s in self._idle_since.items():
            if self._clock() - since_s >= PURGE_S:
                with contextlib.suppress(Refused):
                    self._store.remove_network(name, self._view.records[name].index)

    # -- state ------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What the status socket shows; makes no call."""
        hosts: dict[str, Mapping[str, Replica]] = {
            self._host_id(): self._view.mine,
            **self._view.others,
        }
        networks: dict[str, Any] = {}
        for name in sorted({*self._view.records, *self._view.mine}):
            known = self._view.records.get(name)
            networks[name] = {
                "state": _state_of(known.record if known is not None else None),
                "origin": known.record.origin if known is not None else "",
                "hosts": {
                    host: replicas[name].to_json()
                    for host, replicas in hosts.items()
                    if name in replicas
                },
            }
        problems = [
            self._problem,
            *self._view.unreadable.values(),
            *(
                f"no replica of network {shorten(name)}: {one.problem}"
                if one.state is ReplicaState.FAILED
                else one.problem
                for name, one in self._view.mine.items()
                if one.problem and one.state is not ReplicaState.HANGING
            ),
        ]
        return {
            "problem": next(filter(None, problems), ""),
            "networks": networks,
            "held_removals": self._removals.waiting,
        }


def _state_of(record: Record | None) -> str:
    if record is None:
        return "not published"
    return "removed" if record.is_removed else "present"
