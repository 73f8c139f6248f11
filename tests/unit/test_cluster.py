"""What a host does about the cluster's networks, as a pure function: the rules one by one, and
random histories of several hosts.
"""

import dataclasses
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuage_appliance.core.cluster.records import (
    Malformed,
    Record,
    Replica,
    ReplicaState,
    read_replicas,
)
from nuage_appliance.core.cluster.replication import (
    ORIGIN_LABEL,
    REPLICA_LABEL,
    ReplicaStep,
    decide,
    difference,
    removals,
)
from nuage_appliance.model import NetworkSpec

_OPTIONS = {
    "organization": "Enterprise",
    "domain": "Domain",
    "zone": "Zone",
    "subnet": "Subnet 1",
    "user": "admin",
}


def spec(name="n", network_id="1", subnet="10.0.0.0/24", zone="Zone", **changes):
    """A network as an engine shows it."""
    made = NetworkSpec(
        name=name,
        network_id=network_id,
        driver="nuage",
        ipam_driver="nuage-ipam",
        is_internal=False,
        is_attachable=False,
        options={},
        ipam_options={**_OPTIONS, "zone": zone},
        subnet=subnet,
        gateway="10.0.0.1",
        ip_range="",
        labels={},
    )
    return dataclasses.replace(made, **changes)


def record(network=None, incarnation="1", **changes):
    """What Consul has of it."""
    return dataclasses.replace(Record(network or spec(), incarnation, "h1"), **changes)


def steps(records, networks, mine=None, unreadable=()):
    """The steps by name."""
    return {
        action.name: action.step for action in decide(records, networks, mine or {}, unreadable)
    }


# -- the rules -----------------------------------------------------------------------------------


def test_a_network_without_a_record_is_published_and_is_its_own_incarnation():
    (action,) = decide({}, [spec(network_id="7")], {})
    assert (
        action.step,
        action.record.incarnation,
        action.record.replaces,
        action.record.is_removed,
    ) == (ReplicaStep.PUBLISH, "7", (), False)


def test_a_replica_whose_record_was_lost_is_published_as_what_it_was():
    replica = spec(network_id="9", labels={REPLICA_LABEL: "7", ORIGIN_LABEL: "h7"})
    (action,) = decide({}, [replica], {})
    assert (action.step, action.record.incarnation, action.record.origin) == (
        ReplicaStep.PUBLISH,
        "7",
        "h7",
    )


def test_a_record_without_a_network_is_made_whatever_was_noted():
    for mine in (
        {},
        {"n": Replica("1", "1", ReplicaState.PRESENT)},
        {"n": Replica("0", "", ReplicaState.FAILED)},
    ):
        assert steps({"n": record()}, [], mine) == {"n": ReplicaStep.CREATE}


def test_absence_alone_removes_nothing():
    assert steps({}, [], {"n": Replica("1", "1", ReplicaState.PRESENT)}) == {
        "n": ReplicaStep.FORGET
    }
    assert removals({"n": record()}, frozenset()) == []


def test_a_removed_record_takes_the_network_of_its_incarnation_and_no_other():
    gone = {"n": record(is_removed=True)}
    assert steps(gone, [spec(network_id="1")]) == {"n": ReplicaStep.DELETE}
    assert steps(gone, [spec(network_id="9", labels={REPLICA_LABEL: "1"})]) == {
        "n": ReplicaStep.DELETE
    }
    assert steps(gone, [spec(network_id="9")], {"n": Replica("1", "9", ReplicaState.PRESENT)}) == {
        "n": ReplicaStep.DELETE
    }
    (action,) = decide(gone, [spec(network_id="2")], {})
    assert (action.step, action.record.incarnation, action.record.replaces) == (
        ReplicaStep.PUBLISH,
        "2",
        ("1",),
    )


def test_a_replaced_network_that_differs_goes_and_an_equal_one_becomes_the_replica():
    replaced = {"n": record(spec(zone="Other"), "2", replaces=("1",))}
    assert steps(replaced, [spec(network_id="1")]) == {"n": ReplicaStep.DELETE}
    assert steps({"n": record(spec(), "2", replaces=("1",))}, [spec(network_id="1")]) == {
        "n": ReplicaStep.HAVE
    }


def test_another_network_of_that_name_stays_and_the_sentence_says_what_to_do():
    (action,) = decide({"n": record(spec(zone="Other"), "2")}, [spec(network_id="1")], {})
    assert action.step is ReplicaStep.CONFLICT and action.replica.state is ReplicaState.CONFLICT
    assert all(words in action.replica.problem for words in ("h1", "zone", "remove either"))
    assert (
        decide(
            {"n": record(spec(zone="Other"), "2")}, [spec(network_id="1")], {"n": action.replica}
        )
        == []
    )


def test_a_name_that_is_no_key_is_not_published():
    (action,) = decide({}, [spec("..")], {})
    assert action.step is ReplicaStep.CONFLICT and "another name" in action.replica.problem
    assert decide({}, [spec("..")], {"..": action.replica}) == []
    assert steps({}, [spec("..a")]) == {"..a": ReplicaStep.PUBLISH}


def test_a_name_whose_record_cannot_be_read_is_left_alone():
    assert steps({}, [spec()], {"n": Replica("1", "1", ReplicaState.PRESENT)}, {"n"}) == {}


@pytest.mark.parametrize(
    "change, is_equal",
    [
        ({"labels": {"a": "b"}}, True),
        ({"subnet": ""}, True),
        ({"gateway": ""}, True),
        ({"subnet": "10.0.1.0/24"}, False),
        ({"gateway": "10.0.0.2"}, False),
        ({"ip_range": "10.0.0.0/25"}, False),
        ({"is_internal": True}, False),
        ({"options": {"a": "b"}}, False),
        ({"ipam_options": {}}, False),
    ],
)
def test_equal_is_what_the_documentation_says(change, is_equal):
    left, right = spec(), spec(**change)
    assert (difference(left, right) == "", difference(right, left) == "") == (is_equal, is_equal)


# -- what Consul may hold ------------------------------------------------------------------------


def test_a_record_survives_its_key():
    made = record(
        spec(labels={"a": 'ü"%'}, subnet="", is_internal=True),
        "5",
        replaces=("4", "3"),
        is_removed=True,
    )
    read = Record.read("n", json.dumps(made.to_json()).encode())
    assert read == dataclasses.replace(made, spec=dataclasses.replace(made.spec, network_id=""))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def _spoiled(draw):
    """A record in which one thing is absent or something else."""
    value = record(spec(labels={"a": "b"})).to_json()
    place = draw(st.sampled_from([value, value["spec"]]))
    key = draw(st.sampled_from(sorted(place)))
    if draw(st.booleans()):
        del place[key]
    else:
        place[key] = draw(_JSON)
    return json.dumps(value).encode()


@given(_spoiled() | st.binary(max_size=40) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_a_value_of_any_kind_is_a_whole_record_or_a_reason(value):
    try:
        read = Record.read("n", value)
    except Malformed as reason:
        assert str(reason)
        return
    assert Record.read("n", json.dumps(read.to_json()).encode()) == read, (
        "what is read can be written and read again"
    )
    decide({"n": read}, [spec()], {})


@given(
    st.binary(max_size=40)
    | _JSON.map(lambda value: json.dumps({"n": value}).encode())
    | st.sampled_from(
        [
            json.dumps({"n": Replica("1", "2", state).to_json(), "bad": 7}).encode()
            for state in ReplicaState
        ]
    )
)
def test_notes_of_any_kind_are_read_as_far_as_they_are_notes(value):
    assert all(isinstance(replica, Replica) for replica in read_replicas(value).values())


def test_foreign_fields_do_no_harm():
    value = record().to_json()
    value["colour"], value["spec"]["colour"] = "blue", ["blue"]
    assert Record.read("n", json.dumps(value).encode()) == record(
        dataclasses.replace(spec(), network_id="")
    )


# -- random histories ----------------------------------------------------------------------------

_HOSTS, _ROUNDS = 3, 12
_NAME = "a"  # each name is decided alone


class _Host:
    """An engine's networks, and what the appliance beside it knows."""

    def __init__(self, name):
        self.name, self.networks, self.mine, self.destroyed = name, {}, {}, {}
        self.is_connected, self.seen = True, None

    def resolve(self):
        """What was removed, by what the notes say it was: as the component does it."""
        for replica in (self.mine or {}).values():
            if (
                self.destroyed.get(replica.network_id) == ""
                and replica.state is not ReplicaState.CONFLICT
            ):
                self.destroyed[replica.network_id] = replica.incarnation

    def gone(self):
        """The incarnations that were removed here."""
        return frozenset(self.destroyed) | frozenset(filter(None, self.destroyed.values()))


class _History:
    """Several hosts and one Consul. Every host acts on what it saw before, as others act meanwhile;
    only compare-and-set holds.

    `lineage` is the truth that nobody else has: which networks are one, because one was made from
    the other or they merged.
    """

    def __init__(self):
        self.hosts = [_Host(f"h{number}") for number in range(_HOSTS)]
        self.records, self.notes = {}, {}
        self.numbers = itertools.count(1)
        self.lineage, self.removed = {}, set()
        self.has_ended = self.has_lost_memory = self.is_dying = False

    # -- the truth

    def root(self, network_id):
        while self.lineage.get(network_id, network_id) != network_id:
            network_id = self.lineage[network_id]
        return network_id

    def merge(self, one, other):
        first, second = self.root(one), self.root(other)
        if first != second:
            self.lineage[second] = first
            if second in self.removed:
                self.removed.add(first)

    def make(self, host, zone, labels=None):
        network_id = str(next(self.numbers))
        self.lineage[network_id] = network_id
        host.networks[network_id] = spec(_NAME, network_id, zone=zone, labels=labels or {})
        return network_id

    # -- what people and accidents do

    def create(self, host):
        if not host.networks:
            self.make(host, "Zone")
            self.has_ended = False

    def create_another(self, host):
        if not host.networks:
            self.make(host, "Other")
            self.has_ended = False

    def remove(self, host):
        found = list(host.networks)
        for network_id in found:
            del host.networks[network_id]
            host.destroyed[network_id] = ""
            host.resolve()
            self.removed.add(self.root(network_id))
        everywhere = {self.root(network_id) for one in self.hosts for network_id in one.networks}
        if found and everywhere <= {self.root(network_id) for network_id in found}:
            self.has_ended = True

    def cut_off(self, host):
        host.is_connected = False

    def connect(self, host):
        host.is_connected = True

    def lose_consul(self, _):
        self.records, self.notes, self.has_lost_memory = {}, {}, True

    def lose_the_record(self, _):
        self.records, self.has_lost_memory = {}, True

    def lose_notes(self, host):
        self.notes.pop(host.name, None)
        self.has_lost_memory = True

    def lose_engine(self, host):
        host.networks.clear()
        host.seen = None

    def restart(self, host):
        """The notes are read from Consul again; removals are kept by the engine and in a file."""
        host.mine, host.seen = None, None

    # -- what the appliances do

    def look(self, host):
        if host.is_connected:
            if host.mine is None:
                host.mine = dict(self.notes.get(host.name, {}))
            host.seen = dict(self.records)

    def act(self, host):
        """Carry out what follows from what was seen, which may be over by now."""
        if host.is_connected and host.seen is not None:
            seen, host.seen = host.seen, None
            self._compare(host, seen)

    def compare(self, host):
        self.look(host)
        self.act(host)

    def die_acting(self, host):
        """The step is done, and nothing of it is noted: what merged by it is not known to be one,
        and a new replica only as long as it is there.
        """
        notes, self.is_dying = dict(self.notes), True
        self.compare(host)
        self.notes, self.is_dying = notes, False
        self.restart(host)

    def _compare(self, host, seen):
        for network_id in host.networks:
            host.destroyed.pop(network_id, None)
        host.resolve()
        done = sum(self._do(host, action, seen) for action in removals(seen, host.gone()))
        if not done:
            done = sum(
                self._do(host, action, seen)
                for action in decide(seen, host.networks.values(), host.mine)
            )
        self.notes[host.name] = dict(host.mine)
        return done

    def _swap(self, name, before, after):
        if self.records.get(name) is not before:
            return False
        self.records[name] = after
        return True

    def _do(self, host, action, seen):
        """What the component does for a step; returns 1 when something changed."""
        name, before = action.name, seen.get(action.name)
        if action.step is ReplicaStep.TOMBSTONE:
            self._swap(name, before, dataclasses.replace(before, is_removed=True))
        elif action.step is ReplicaStep.PUBLISH:
            fresh = dataclasses.replace(action.record, origin=action.record.origin or host.name)
            if self._swap(name, before, fresh):
                host.mine[name] = Replica(
                    fresh.incarnation, action.network.network_id, ReplicaState.PRESENT
                )
        elif action.step is ReplicaStep.CREATE:
            if self.records.get(name) == before:
                labels = {REPLICA_LABEL: before.incarnation, ORIGIN_LABEL: before.origin}
                network_id = self.make(host, before.spec.ipam_options["zone"], labels)
                self.merge(before.incarnation, network_id)
                self.has_lost_memory |= self.is_dying
                host.mine[name] = Replica(before.incarnation, network_id, ReplicaState.PRESENT)
        elif action.step is ReplicaStep.DELETE:
            if self.records.get(name) == before:
                network_id = action.network.network_id
                assert self.root(network_id) in self.removed, (
                    f"network {network_id} was deleted, and nobody had removed it"
                )
                del host.networks[network_id]
                host.mine.pop(name, None)
        elif action.step is ReplicaStep.HAVE:
            if not self.is_dying:
                self.merge(action.replica.incarnation, action.replica.network_id)
            host.mine[name] = action.replica
            return 0
        elif action.step is ReplicaStep.CONFLICT:
            host.mine[name] = action.replica
            return 0
        else:
            host.mine.pop(name, None)
            return 0
        return 1

    # -- the end

    def end(self):
        """All are connected and nothing happens any more: then all agree."""
        for host in self.hosts:
            host.is_connected = True
        for _ in range(_ROUNDS):
            done = 0
            for host in self.hosts:
                self.look(host)
                done += self._compare(host, host.seen)
        assert done == 0, "it goes on for ever"
        standing, found = (
            self.records.get(_NAME),
            {host.name: list(host.networks.values()) for host in self.hosts},
        )
        if standing is None or standing.is_removed:
            assert not any(found.values()), f"{found} and no record"
            return
        for host in self.hosts:
            (network,) = found[host.name]
            differs = difference(network, standing.spec)
            assert bool(differs) == (host.mine[_NAME].state is ReplicaState.CONFLICT), (
                f"on {host.name} {differs or 'it is equal'}, noted {host.mine[_NAME]}"
            )
            assert (
                not differs
                or self.has_lost_memory
                or self.root(network.network_id) not in self.removed
            ), f"on {host.name} what was removed stands in the way"
        assert self.has_lost_memory or not self.has_ended, (
            f"it was removed everywhere it was, and is back: {found}"
        )


_WEIGHTS = {
    "create": 4,
    "create_another": 3,
    "remove": 4,
    "compare": 8,
    "look": 3,
    "act": 3,
    "die_acting": 1,
    "cut_off": 1,
    "connect": 2,
    "lose_consul": 1,
    "lose_the_record": 1,
    "lose_notes": 1,
    "lose_engine": 1,
    "restart": 1,
}
_STEPS = st.lists(
    st.tuples(
        st.sampled_from([name for name, weight in _WEIGHTS.items() for _ in range(weight)]),
        st.integers(0, _HOSTS - 1),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=2 * settings().max_examples)  # cheap, and histories are many
@given(_STEPS)
def test_whatever_happens_hosts_agree_in_the_end_and_nothing_is_deleted_that_nobody_removed(
    history,
):
    run = _History()
    for name, host in history:
        getattr(run, name)(run.hosts[host])
    run.end()
