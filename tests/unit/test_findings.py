"""What the audit decides, rule by rule, on one endpoint; test_audit.py has random worlds."""

import dataclasses
import ipaddress

import pytest

from nuage_appliance.core.findings import (
    DESTRUCTIVE,
    Finding,
    FindingKind,
    Known,
    Sightings,
    Snapshot,
    compare,
)
from nuage_appliance.model import (
    Container,
    ContainerInterface,
    EngineEndpoint,
    Link,
    LinkTag,
    Place,
    PortState,
)

_PLACE = Place("E", "D", "Z", "S")
_ADDRESS = ipaddress.ip_address("10.0.0.1")
_IDS = {"vm_uuid": "c1", "nuage-endpoint-id": "e1", "nuage-vsd-container-id": "v1"}
_KNOWN = Known(
    "nln1-1",
    "e1",
    "net1",
    "10.0.0.1",
    "v1",
    mac="02:00:00:00:00:01",
    place=_PLACE,
    is_plugged=True,
    uuid="u1",
    container_id="c1",
    container_name="name",
)
_ENGINE = EngineEndpoint("c1", "name", "net1", "e1", _ADDRESS, True)
_PORT = PortState("nln1-1", "02:00:00:00:00:01", "u1", _IDS, "", True, True, 1, "")
_TAG = LinkTag("e1", "net1", "10.0.0.1/24", "10.0.0.254", "02:00:00:00:00:01", "v1")
_LINK = Link("nln1-1", "veth", _TAG.to_alias(), 0, 1500, True)
_INTERFACE = ContainerInterface(
    "i1", "nln1-1", "02:00:00:00:00:01", _ADDRESS, 24, None, "p1", "s1", "d1", False, _PLACE
)
_CONTAINER = Container("v1", "u1", "name", "host", 0, (_INTERFACE,))


def _world(**changes):
    """One endpoint on which all agree."""
    made = Snapshot(
        known=(_KNOWN,),
        engine=(_ENGINE,),
        ports={"nln1-1": _PORT},
        links=(_LINK,),
        containers={"v1": _CONTAINER},
        network_ids=frozenset({"net1"}),
        places={"net1": _PLACE},
        remembered_networks=frozenset({"net1"}),
    )
    return dataclasses.replace(made, **changes)


def _with(record, **changes):
    return dataclasses.replace(record, **changes)


_GONE = Finding(FindingKind.ENDPOINT, "nln1-1", "v1/e1")


def test_a_world_in_which_all_agree_has_no_finding():
    assert compare(_world()) == []
    assert compare(Snapshot()) == []


# -- is an endpoint alive ------------------------------------------------------------------------


def test_an_endpoint_that_the_engine_does_not_have_is_found_with_both_of_its_lives():
    assert compare(_world(engine=())) == [_GONE]


def test_what_does_not_run_is_not_in_the_engine():
    assert compare(_world(engine=(_with(_ENGINE, is_running=False),))) == [_GONE]


def test_what_does_not_run_says_nothing_of_those_after_it():
    stopped = _with(_ENGINE, endpoint_id="e0", is_running=False)
    assert compare(_world(engine=(stopped, _ENGINE))) == []


def test_an_endpoint_without_its_id_in_the_engine_is_alive_by_network_and_address():
    for kind in ({"endpoint_id": ""}, {"endpoint_id": "e2"}):
        assert compare(_world(engine=(_with(_ENGINE, **kind),))) == []


@pytest.mark.parametrize(
    "change",
    [
        {"address": ipaddress.ip_address("10.0.0.2")},
        {"address": None},
        {"network_id": "net2"},
    ],
)
def test_another_address_or_network_is_another_endpoint(change):
    seen = _with(_ENGINE, endpoint_id="e2", **change)
    places = {"net1": _PLACE, "net2": _PLACE}
    assert compare(_world(engine=(seen,), places=places)) == [_GONE]


def test_an_endpoint_of_no_network_is_alive_by_its_place():
    known = _with(_KNOWN, network_id="", endpoint_id="", is_plugged=False)
    world = _world(known=(known,))
    assert compare(world) == []
    gone = Finding(FindingKind.ENDPOINT, "nln1-1", "v1/")
    for places in ({}, {"net1": _with(_PLACE, subnet="S2")}, {"net2": _PLACE}):
        assert compare(_with(world, places=places)) == [gone], places
    other = _with(known, address="10.0.0.2")
    assert compare(_with(world, known=(other,))) == [gone]


@pytest.mark.parametrize("field", ["organization", "domain", "subnet"])
def test_a_place_is_compared_by_organization_domain_and_subnet(field):
    known = _with(_KNOWN, network_id="", endpoint_id="", place=_with(_PLACE, **{field: "other"}))
    assert FindingKind.ENDPOINT in {one.kind for one in compare(_world(known=(known,)))}


def test_a_zone_that_is_not_known_does_not_matter():
    known = _with(
        _KNOWN, network_id="", endpoint_id="", place=_with(_PLACE, zone=""), is_plugged=False
    )
    assert compare(_world(known=(known,))) == []


def test_an_endpoint_of_no_network_and_no_place_is_not_alive():
    known = _with(_KNOWN, network_id="", endpoint_id="", place=None)
    assert Finding(FindingKind.ENDPOINT, "nln1-1", "v1/") in compare(_world(known=(known,)))
    # Nor is it because the engine has a network of no place.
    assert Finding(FindingKind.ENDPOINT, "nln1-1", "v1/") in compare(
        _world(known=(known,), places={})
    )


def test_an_empty_endpoint_id_is_nobodys():
    known = _with(_KNOWN, endpoint_id="", network_id="net2", place=None)
    seen = _with(_ENGINE, endpoint_id="")
    assert Finding(FindingKind.ENDPOINT, "nln1-1", "v1/") in compare(
        _world(known=(known,), engine=(seen,))
    )


# -- what a running endpoint must have -----------------------------------------------------------


def test_a_running_endpoint_without_its_vsd_container_is_found():
    assert compare(_world(containers={})) == [Finding(FindingKind.LOST_CONTAINER, "nln1-1", "v1")]


def test_a_running_endpoint_without_its_link_is_found():
    assert compare(_world(links=())) == [Finding(FindingKind.LOST_LINK, "nln1-1", "e1")]


def test_only_an_endpoint_that_the_engine_names_has_lost_anything():
    seen = _with(_ENGINE, endpoint_id="")
    assert compare(_world(engine=(seen,), containers={}, links=())) == []


@pytest.mark.parametrize(
    "ports",
    [
        {},
        {"nln1-1": _with(_PORT, mac="02:00:00:00:00:02")},
        {"nln1-1": _with(_PORT, entity_uuid="u2")},
        {"nln1-1": _with(_PORT, external_ids={**_IDS, "vm_uuid": "c2"})},
        {"nln1-1": _with(_PORT, external_ids={**_IDS, "nuage-endpoint-id": "e2"})},
        {"nln1-1": _with(_PORT, external_ids={**_IDS, "nuage-vsd-container-id": "v2"})},
        {"nln1-1": _with(_PORT, has_port=False)},
    ],
)
def test_a_plugged_endpoint_needs_rows_that_say_all_of_it(ports):
    assert compare(_world(ports=ports)) == [Finding(FindingKind.ROWS, "nln1-1", "e1")]


def test_an_endpoint_that_is_not_plugged_needs_no_rows_and_no_name():
    known = _with(_KNOWN, is_plugged=False)
    containers = {"v1": _with(_CONTAINER, name="other")}
    assert compare(_world(known=(known,), ports={}, containers=containers)) == []


def test_a_vsd_container_of_another_name_is_found():
    containers = {"v1": _with(_CONTAINER, name="other")}
    wrong = Finding(FindingKind.NAME, "nln1-1", "v1")
    assert compare(_world(containers=containers)) == [wrong]
    unnamed = _with(_KNOWN, container_name="")
    assert compare(_world(known=(unnamed,), containers=containers)) == []


def test_a_name_is_compared_only_where_a_vsd_container_is():
    seen = _with(_ENGINE, endpoint_id="")
    assert compare(_world(engine=(seen,), containers={})) == []


def test_one_endpoint_that_is_gone_hides_nothing_of_the_next():
    gone = _with(_KNOWN, port_name="nln0-1", endpoint_id="e0", address="10.0.0.9", vsd_id="v0")
    assert compare(_world(known=(gone, _KNOWN), ports={})) == [
        Finding(FindingKind.ENDPOINT, "nln0-1", "v0/e0"),
        Finding(FindingKind.ROWS, "nln1-1", "e1"),
    ]


# -- what belongs to no endpoint -----------------------------------------------------------------


def test_a_port_of_no_endpoint_is_found():
    world = _world(known=(), engine=(), links=(), containers={}, remembered_networks=frozenset())
    assert compare(world) == [Finding(FindingKind.PORT, "nln1-1")]
    unmarked = {"nln1-1": _with(_PORT, external_ids={})}
    assert compare(_with(world, ports=unmarked)) == [Finding(FindingKind.PORT, "nln1-1")]


def test_a_port_whose_endpoint_the_engine_has_stays():
    assert compare(_world(known=(), links=(), containers={})) == []


def test_a_port_goes_by_its_own_mark_when_another_one_is_alive():
    other = {"nln1-1": _with(_PORT, external_ids={**_IDS, "nuage-endpoint-id": "e2"})}
    assert compare(_world(known=(), links=(), containers={}, ports=other)) == [
        Finding(FindingKind.PORT, "nln1-1")
    ]


def _links(*links):
    return _world(
        known=(), engine=(), ports={}, containers={}, remembered_networks=frozenset(), links=links
    )


def test_a_link_of_no_endpoint_is_found_with_and_without_a_tag():
    assert compare(_links(_LINK)) == [Finding(FindingKind.LINK, "nln1-1")]
    assert compare(_links(_with(_LINK, alias=""))) == [Finding(FindingKind.LINK, "nln1-1")]


@pytest.mark.parametrize(
    "foreign", [{"name": "eth0"}, {"name": "nln1-2"}, {"kind": "bridge"}, {"name": "nln1-1x"}]
)
def test_a_link_that_is_not_ours_stays_and_hides_nothing_of_the_next(foreign):
    assert compare(_links(_with(_LINK, **foreign), _with(_LINK, name="nln2-1"))) == [
        Finding(FindingKind.LINK, "nln2-1")
    ]


def test_a_link_stays_as_long_as_its_port_its_endpoint_or_the_engine_has_it():
    alone = _links(_LINK)
    assert compare(_with(alone, ports={"nln1-1": _PORT})) == [Finding(FindingKind.PORT, "nln1-1")]
    assert compare(_with(alone, known=(_KNOWN,))) == [_GONE]
    assert compare(_with(alone, engine=(_ENGINE,))) == []
    untagged = _with(_LINK, alias="")
    assert compare(_with(alone, engine=(_ENGINE,), links=(untagged,))) == [
        Finding(FindingKind.LINK, "nln1-1")
    ]


_TWIN = _with(_CONTAINER, vsd_id="v9")
_FOUND_TWIN = [Finding(FindingKind.CONTAINER, "v9")]


def test_a_vsd_container_of_no_endpoint_is_found_when_its_address_is_unused():
    world = _world(
        known=(),
        engine=(),
        ports={},
        links=(),
        remembered_networks=frozenset(),
        containers={"v9": _TWIN},
    )
    assert compare(world) == _FOUND_TWIN


def test_a_vsd_container_whose_address_the_engine_uses_stays_unless_an_endpoint_has_its_own():
    lost = _world(known=(), ports={}, links=(), containers={"v9": _TWIN})
    assert compare(lost) == []
    assert compare(_world(containers={"v1": _CONTAINER, "v9": _TWIN})) == _FOUND_TWIN


def test_a_vsd_container_stays_when_one_of_its_addresses_is_used():
    unused = _with(_INTERFACE, name="nln2-1", address=ipaddress.ip_address("10.0.0.7"))
    both = _with(_TWIN, interfaces=(unused, _INTERFACE))
    assert compare(_world(known=(), ports={}, links=(), containers={"v9": both})) == []


@pytest.mark.parametrize("name", ["eth0", "nln1-2"])
def test_a_vsd_container_of_somebody_else_stays(name):
    foreign = _with(_TWIN, interfaces=(_with(_INTERFACE, name=name),))
    bare = _with(_TWIN, vsd_id="v8", interfaces=())
    containers = {"v1": _CONTAINER, "v8": bare, "v9": foreign}
    assert compare(_world(containers=containers)) == []


def test_a_foreign_interface_does_not_speak_for_ours():
    foreign = _with(_INTERFACE, name="eth0")
    ours = _with(_INTERFACE, address=ipaddress.ip_address("10.0.0.7"))
    twin = _with(_TWIN, interfaces=(foreign, ours))
    assert compare(_world(known=(), ports={}, links=(), containers={"v9": twin})) == _FOUND_TWIN


def test_a_network_that_the_engine_does_not_have_is_found_when_no_endpoint_uses_it():
    tags = frozenset({"net1", "net2"})
    assert compare(_world(remembered_networks=tags)) == [Finding(FindingKind.NETWORK, "net2")]
    unused = _world(remembered_networks=tags, network_ids=frozenset())
    assert compare(unused) == [Finding(FindingKind.NETWORK, "net2")]


def test_what_is_found_of_a_kind_is_in_its_order():
    names = ["nln3-1", "nln2-1", "nln1-1"]
    world = Snapshot(
        ports={name: _with(_PORT, port_name=name) for name in names},
        containers={one: _with(_CONTAINER, vsd_id=one) for one in ("v3", "v1", "v2")},
        remembered_networks=frozenset({"net3", "net1", "net2"}),
    )
    assert [(one.kind, one.subject) for one in compare(world)] == [
        *((FindingKind.PORT, f"nln{count}-1") for count in (1, 2, 3)),
        *((FindingKind.CONTAINER, f"v{count}") for count in (1, 2, 3)),
        *((FindingKind.NETWORK, f"net{count}") for count in (1, 2, 3)),
    ]


# -- time ----------------------------------------------------------------------------------------


def test_others_may_run_once_in_two_hundred_and_between_the_parts():
    def pauses(engine, known):
        count = []
        endpoint = _with(_ENGINE, is_running=False)
        compare(
            Snapshot(known=(_KNOWN,) * known, engine=(endpoint,) * engine),
            lambda: count.append(1),
        )
        return len(count)

    assert pauses(0, 0) == 1
    assert [pauses(count, 0) for count in (199, 200, 399, 400)] == [1, 2, 2, 3]
    # Three rules go through the endpoints of the table.
    assert [pauses(0, count) for count in (199, 200, 399, 400)] == [1, 4, 4, 7]


def test_what_may_be_put_right_is_due_at_once_and_what_is_taken_away_later():
    sightings = Sightings()
    found = [Finding(kind, "x") for kind in FindingKind]
    at_once = [one for one in found if one.kind not in DESTRUCTIVE]
    assert sightings.due(found, 0) == at_once
    assert sightings.due(found, 60) == at_once
    assert sightings.due(found, 60) == found


def test_three_sightings_within_less_than_a_minute_are_not_enough():
    sightings = Sightings()
    assert [sightings.due([_GONE], now_s) for now_s in (5, 20, 64.9, 65)] == [[], [], [], [_GONE]]


def test_what_is_taken_away_are_these_five():
    assert {kind.name for kind in DESTRUCTIVE} == {
        "ENDPOINT",
        "PORT",
        "LINK",
        "CONTAINER",
        "NETWORK",
    }
