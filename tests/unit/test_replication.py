"""The cluster's rules one by one: what a record must be, where networks differ, what is decided.

test_cluster.py has the same rules as random histories of several hosts.
"""

import dataclasses
import json

import pytest

from nuage_appliance.core.cluster.records import (
    Malformed,
    Record,
    Replica,
    ReplicaState,
    encode_replicas,
    is_key,
    is_ours,
    read_replicas,
)
from nuage_appliance.core.cluster.replication import (
    ORIGIN_LABEL,
    REPLICA_LABEL,
    Action,
    ReplicaStep,
    decide,
    difference,
    incarnations,
    removals,
)
from nuage_appliance.model import NetworkSpec


def _spec(**changes):
    made = NetworkSpec(
        name="n",
        network_id="1",
        driver="nuage",
        ipam_driver="nuage-ipam",
        is_internal=False,
        is_attachable=True,
        options={"o": "1"},
        ipam_options={"zone": "Z"},
        subnet="10.0.0.0/24",
        gateway="10.0.0.1",
        ip_range="10.0.0.0/25",
        labels={"l": "1"},
    )
    return dataclasses.replace(made, **changes)


def _record(spec=None, incarnation="1", **changes):
    return dataclasses.replace(Record(spec or _spec(), incarnation, "h1"), **changes)


# -- records in Consul ---------------------------------------------------------------------------


def test_a_records_key_has_the_form_that_other_versions_read():
    assert _record(incarnation="2", replaces=("1", "0")).to_json() == {
        "state": "present",
        "incarnation": "2",
        "origin": "h1",
        "replaces": ["1", "0"],
        "spec": {
            "driver": "nuage",
            "ipam_driver": "nuage-ipam",
            "subnet": "10.0.0.0/24",
            "gateway": "10.0.0.1",
            "ip_range": "10.0.0.0/25",
            "options": {"o": "1"},
            "ipam_options": {"zone": "Z"},
            "labels": {"l": "1"},
            "internal": False,
            "attachable": True,
        },
    }
    assert _record(is_removed=True).to_json()["state"] == "removed"


def test_a_removed_record_is_over_and_a_present_one_only_what_it_replaces():
    assert _record(incarnation="2", replaces=("1",)).gone == {"1"}
    assert _record(incarnation="2", replaces=("1",), is_removed=True).gone == {"1", "2"}


@pytest.mark.parametrize("is_removed", [True, False])
@pytest.mark.parametrize("is_internal", [True, False])
@pytest.mark.parametrize("is_attachable", [True, False])
def test_a_record_is_read_as_it_was_written(is_removed, is_internal, is_attachable):
    spec = _spec(network_id="", is_internal=is_internal, is_attachable=is_attachable)
    made = _record(spec, "5", replaces=("4",), is_removed=is_removed)
    assert Record.read("n", json.dumps(made.to_json()).encode()) == made


def _reason(value):
    with pytest.raises(Malformed) as caught:
        Record.read("n", value)
    return str(caught.value)


def _spoil(key, value, in_spec=False):
    data = _record().to_json()
    place = data["spec"] if in_spec else data
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return json.dumps(data).encode()


_NO_OBJECT = "it is not a JSON object with a spec"
_STATE = "state is neither present nor removed"


@pytest.mark.parametrize(
    "value, reason",
    [
        (b"", _NO_OBJECT),
        (b"[]", _NO_OBJECT),
        (b"{}", _NO_OBJECT),
        (b"[" * 30000, _NO_OBJECT),
        (_spoil("spec", []), _NO_OBJECT),
        (_spoil("state", ...), _STATE),
        (_spoil("state", "gone"), _STATE),
        (_spoil("incarnation", ...), "incarnation is not a text of 1 to 255 letters"),
        (_spoil("incarnation", ""), "incarnation is not a text of 1 to 255 letters"),
        (_spoil("incarnation", "x" * 256), "incarnation is not a text of 1 to 255 letters"),
        (_spoil("incarnation", 7), "incarnation is not a text of 1 to 255 letters"),
        (_spoil("origin", ...), "origin is not a text of 1 to 255 letters"),
        (_spoil("origin", ""), "origin is not a text of 1 to 255 letters"),
        (_spoil("replaces", ...), "replaces is not a list of texts"),
        (_spoil("replaces", "1"), "replaces is not a list of texts"),
        (_spoil("replaces", ["1", 2]), "replaces is not a list of texts"),
        (_spoil("internal", ..., True), "spec.internal is not true or false"),
        (_spoil("internal", 0, True), "spec.internal is not true or false"),
        (_spoil("attachable", ..., True), "spec.attachable is not true or false"),
        (_spoil("attachable", "yes", True), "spec.attachable is not true or false"),
        (
            _spoil("driver", "bridge", True),
            "its drivers are 'bridge' and 'nuage-ipam', not nuage and nuage-ipam",
        ),
        (
            _spoil("ipam_driver", "null", True),
            "its drivers are 'nuage' and 'null', not nuage and nuage-ipam",
        ),
    ],
)
def test_a_value_that_is_no_record_has_its_reason(value, reason):
    assert _reason(value) == reason


@pytest.mark.parametrize("key", ["driver", "ipam_driver", "subnet", "gateway", "ip_range"])
@pytest.mark.parametrize("value", [..., None, 7])
def test_a_text_that_is_none_is_named(key, value):
    assert _reason(_spoil(key, value, True)) == f"spec.{key} is not a text"


@pytest.mark.parametrize("key", ["options", "ipam_options", "labels"])
@pytest.mark.parametrize("value", [..., "x", {"a": 1}, {"a": "b", "c": None}])
def test_a_map_that_is_none_is_named(key, value):
    assert _reason(_spoil(key, value, True)) == f"spec.{key} is not a map of texts"


def test_an_incarnation_of_255_letters_is_the_longest():
    for key in ("incarnation", "origin"):
        assert isinstance(Record.read("n", _spoil(key, "x" * 255)), Record)


def test_a_record_of_64_kib_is_the_longest():
    value = json.dumps(_record().to_json()).encode()
    assert isinstance(Record.read("n", value.ljust(64 << 10)), Record)
    assert _reason(value.ljust((64 << 10) + 1)) == _NO_OBJECT


# -- what a host noted ---------------------------------------------------------------------------


@pytest.mark.parametrize("state", ReplicaState)
def test_a_note_is_read_as_it_was_written(state):
    note = Replica("1", "2", state, "why")
    assert note.to_json() == {
        "incarnation": "1",
        "network_id": "2",
        "state": state.value,
        "problem": "why",
    }
    assert read_replicas(encode_replicas({"n": note})) == {"n": note}


def test_equal_notes_have_equal_texts():
    one, other = (Replica(text, text, ReplicaState.PRESENT) for text in "12")
    assert encode_replicas({"a": one, "b": other}) == encode_replicas({"b": other, "a": one})


def test_a_problem_is_noted_in_at_most_300_letters():
    assert Replica("1", "2", ReplicaState.FAILED, "x" * 301).to_json()["problem"] == "x" * 300


def test_a_malformed_note_is_left_out_and_the_others_stay():
    good = Replica("1", "2", ReplicaState.PRESENT)
    notes = {
        "number": 7,
        "text": "x",
        "state": {**good.to_json(), "state": "odd"},
        **{key: {**good.to_json(), key: 7} for key in good.to_json()},
        "good": good.to_json(),
    }
    assert read_replicas(json.dumps(notes).encode()) == {"good": good}


@pytest.mark.parametrize("value", [b"", b"[]", b"7", b"[" * 30000])
def test_notes_that_are_none_are_empty(value):
    assert read_replicas(value) == {}


# -- whose it is, and where two differ -----------------------------------------------------------


@pytest.mark.parametrize(
    "driver, ipam_driver, expected",
    [
        ("nuage", "nuage-ipam", True),
        ("nuage", "nuage", True),
        ("nuage", "default", False),
        ("bridge", "nuage-ipam", False),
        ("nuage:latest", "nuage:latest", False),
    ],
)
def test_only_the_drivers_of_the_two_sockets_are_ours(driver, ipam_driver, expected):
    assert is_ours(driver, ipam_driver) is expected


def test_a_path_of_dots_is_no_key():
    assert not any(is_key(name) for name in (".", "..", "..."))
    assert all(is_key(name) for name in (".a", "a.", "a", "X", "X.X"))


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({}, ""),
        ({"name": "m", "network_id": "2", "labels": {}, "is_attachable": False}, ""),
        ({"is_internal": True}, "only one of them is --internal"),
        ({"ipam_options": {}}, "--ipam-opt zone is 'Z' here and 'not given' there"),
        ({"ipam_options": {"zone": "Y"}}, "--ipam-opt zone is 'Z' here and 'Y' there"),
        ({"options": {"o": "1", "p": "2"}}, "--opt p is 'not given' here and '2' there"),
        ({"options": {"o": "2"}}, "--opt o is '1' here and '2' there"),
        ({"subnet": "10.0.1.0/24"}, "--subnet is 10.0.0.0/24 here and 10.0.1.0/24 there"),
        ({"subnet": ""}, ""),
        ({"gateway": "10.0.0.2"}, "--gateway is 10.0.0.1 here and 10.0.0.2 there"),
        ({"gateway": ""}, ""),
        ({"ip_range": ""}, "--ip-range is 10.0.0.0/25 here and not given there"),
        ({"driver": "other"}, "--driver is 'nuage' here and 'other' there"),
        ({"ipam_driver": "nuage"}, "--ipam-driver is 'nuage-ipam' here and 'nuage' there"),
    ],
)
def test_where_two_networks_differ_is_a_sentence(change, sentence):
    assert difference(_spec(), _spec(**change)) == sentence


def test_the_sentence_is_the_same_from_the_other_side():
    other = _spec(ip_range="", subnet="", gateway="", options={})
    assert difference(other, _spec()) == "--opt o is 'not given' here and '1' there"
    assert (
        difference(dataclasses.replace(other, options={"o": "1"}), _spec())
        == "--ip-range is not given here and 10.0.0.0/25 there"
    )


# -- what is decided -----------------------------------------------------------------------------


def test_what_a_network_may_be_an_incarnation_of_starts_with_the_surest():
    network = _spec(network_id="9", labels={REPLICA_LABEL: "7"})
    assert incarnations(network, Replica("5", "9", ReplicaState.PRESENT)) == ["5", "7", "9"]
    assert incarnations(network, Replica("5", "8", ReplicaState.PRESENT)) == ["7", "9"]
    assert incarnations(_spec(network_id="9"), None) == ["9"]


def test_the_labels_have_the_names_that_networks_of_other_versions_bear():
    assert (REPLICA_LABEL, ORIGIN_LABEL) == ("net.nuage.replica-of", "net.nuage.origin")


def test_a_removal_marks_the_present_records_of_its_incarnation():
    present, removed = _record(incarnation="1"), _record(incarnation="2", is_removed=True)
    records = {"b": present, "a": _record(incarnation="1"), "c": removed, "d": _record("x", "3")}
    assert removals(records, frozenset({"1", "2"})) == [
        Action(ReplicaStep.TOMBSTONE, "a", records["a"]),
        Action(ReplicaStep.TOMBSTONE, "b", present),
    ]


def test_a_record_without_a_network_is_made_from_the_record():
    record = _record()
    assert decide({"n": record}, [], {}) == [Action(ReplicaStep.CREATE, "n", record)]


def test_a_removed_record_without_a_network_is_nothing_to_do_unless_something_was_noted():
    gone = {"n": _record(is_removed=True)}
    assert decide(gone, [], {}) == []
    noted = {"n": Replica("1", "1", ReplicaState.PRESENT)}
    assert decide(gone, [], noted) == [Action(ReplicaStep.FORGET, "n")]


def test_a_network_without_a_record_is_published_as_it_is():
    network = _spec()
    (action,) = decide({}, [network], {})
    assert action == Action(ReplicaStep.PUBLISH, "n", Record(network, "1", "", (), False), network)
    replica = _spec(network_id="9", labels={REPLICA_LABEL: "7", ORIGIN_LABEL: "h7"})
    (action,) = decide({}, [replica], {"n": Replica("5", "9", ReplicaState.PRESENT)})
    assert action == Action(ReplicaStep.PUBLISH, "n", Record(replica, "5", "h7"), replica)


def test_a_removed_networks_replica_is_deleted():
    record, network = _record(is_removed=True), _spec()
    assert decide({"n": record}, [network], {}) == [
        Action(ReplicaStep.DELETE, "n", record, network)
    ]


def test_a_network_after_a_removed_one_is_published_and_replaces_it():
    record = _record(incarnation="20", replaces=tuple(map(str, range(19, 0, -1))), is_removed=True)
    network = _spec(network_id="21", labels={ORIGIN_LABEL: "h7"})
    (action,) = decide({"n": record}, [network], {})
    replaced = tuple(map(str, range(20, 4, -1)))
    assert len(replaced) == 16
    assert action == Action(
        ReplicaStep.PUBLISH, "n", Record(network, "21", "", replaced, False), network
    )


def test_an_equal_network_is_the_replica_and_is_noted_once():
    record, network = _record(incarnation="5"), _spec(network_id="9")
    replica = Replica("5", "9", ReplicaState.PRESENT, "")
    assert decide({"n": record}, [network], {}) == [
        Action(ReplicaStep.HAVE, "n", record, network, replica)
    ]
    assert decide({"n": record}, [network], {"n": replica}) == []


def test_of_several_networks_of_a_name_the_one_of_the_record_is_looked_at_and_the_note_says_so():
    record = _record(incarnation="5")
    first, second, third = (_spec(network_id=one) for one in ("1", "5", "3"))
    (action,) = decide({"n": record}, [first, second, third], {})
    assert action.network == second
    assert action.replica == Replica(
        "5", "5", ReplicaState.PRESENT, "this host has 3 networks of that name"
    )


def test_of_several_networks_of_a_name_the_one_that_was_noted_as_the_records_is_looked_at():
    record = _record(incarnation="5")
    noted = Replica("5", "2", ReplicaState.CREATING)
    (action,) = decide({"n": record}, [_spec(network_id=one) for one in "12"], {"n": noted})
    assert (action.step, action.network.network_id) == (ReplicaStep.HAVE, "2")


def test_of_several_networks_that_are_not_the_records_the_one_of_the_lowest_id_is_looked_at():
    for networks in (["3", "1", "2"], ["1", "2", "3"]):
        (action,) = decide({}, [_spec(network_id=one) for one in networks], {})
        assert action.network.network_id == "1"


def test_a_replaced_network_that_differs_is_deleted():
    record = _record(_spec(is_internal=True), "2", replaces=("1",))
    assert decide({"n": record}, [_spec()], {}) == [
        Action(ReplicaStep.DELETE, "n", record, _spec())
    ]


def test_another_network_of_the_name_is_a_conflict_that_is_noted_once():
    record = _record(_spec(is_internal=True), "2")
    replica = Replica(
        "1",
        "1",
        ReplicaState.CONFLICT,
        "network 'n' of this host is not the one that 'h1' has published: "
        "only one of them is --internal; remove either of them",
    )
    assert decide({"n": record}, [_spec()], {}) == [
        Action(ReplicaStep.CONFLICT, "n", record, _spec(), replica)
    ]
    assert decide({"n": record}, [_spec()], {"n": replica}) == []


def test_a_conflict_is_noted_in_at_most_300_letters():
    record = _record(_spec(ipam_options={"z" * 300: ""}), "2")
    (action,) = decide({"n": record}, [_spec(ipam_options={})], {})
    assert len(action.replica.problem) == 300


def test_a_name_that_is_no_key_is_a_conflict_that_is_noted_once():
    network = _spec(name="..")
    replica = Replica(
        "1",
        "1",
        ReplicaState.CONFLICT,
        "network '..' is not published: a name of dots cannot be a key in Consul; "
        "give it another name",
    )
    record = _record()
    assert decide({"..": record}, [network], {}) == [
        Action(ReplicaStep.CONFLICT, "..", record, network, replica)
    ]
    assert decide({}, [network], {"..": replica}) == []


def test_names_are_decided_in_their_order_and_unreadable_ones_are_left_alone():
    networks = [_spec(name=name) for name in ("c", "a", "u")]
    records = {"b": _record(), "v": _record()}
    noted = {"d": Replica("1", "1", ReplicaState.PRESENT)}
    found = decide(records, networks, noted, ["u", "v"])
    assert [(action.name, action.step) for action in found] == [
        ("a", ReplicaStep.PUBLISH),
        ("b", ReplicaStep.CREATE),
        ("c", ReplicaStep.PUBLISH),
        ("d", ReplicaStep.FORGET),
    ]
