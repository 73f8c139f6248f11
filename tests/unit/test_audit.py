"""The audit's decision as properties: in a small world, every backend remembers whatever it likes.

The world has a few endpoints; the engine, the VSD, the VRS, the links and the driver's own table
each know a random part of them, with fields missing, duplicates of a crash, and things of others in
between.
"""

import dataclasses
import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from nuage_appliance.base.hub_watch import HubWatch
from nuage_appliance.core.findings import (
    DESTRUCTIVE,
    GRACE_S,
    SIGHTINGS,
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
    VethPair,
)

_SLOTS = range(1, 4)
_NETWORKS = ("net-a", "net-b")
_PLACES = {"net-a": Place("E", "D", "Z", "S1"), "net-b": Place("E", "D", "Z", "S2")}
_FOREIGN_LINKS = (
    Link("eth0", "", "", 0, 1500, True),
    Link("nln9-2", "veth", "", 0, 1500, True),
    Link("nln9-1", "bridge", "", 0, 1500, True),
    Link("nlnx-1", "veth", "", 0, 1500, True),
    Link("nln9-1x", "veth", "", 0, 1500, True),
)
# A container's own end cannot be given back; the log says so, and the container must be restarted.
_NOT_REPAIRABLE = {FindingKind.LOST_LINK}


def _port_name(slot):
    return VethPair(slot).bridge_port


def _network(slot):
    return _NETWORKS[slot % 2]


def _address(slot):
    return f"10.0.0.{slot}"


def _endpoint_id(slot, life):
    return f"endpoint-{slot}-{life}"


def _mac(slot):
    return f"02:00:00:00:00:{slot:02x}"


def _container(slot, *, life=0, vsd_id=None, name="name", port=None):
    interface = ContainerInterface(
        f"i{slot}",
        port or _port_name(slot),
        _mac(slot),
        ipaddress.ip_address(_address(slot)),
        24,
        None,
        f"p{slot}",
        "subnet",
        "domain",
        False,
        _PLACES[_network(slot)],
    )
    return Container(vsd_id or f"vsd-{slot}-{life}", f"uuid-{slot}", name, "host", 0, (interface,))


def _port(slot, *, life=0, mac=None, is_complete=True):
    ids = {
        "nuage-endpoint-id": _endpoint_id(slot, life),
        "nuage-network-id": _network(slot),
        "nuage-vsd-container-id": f"vsd-{slot}-{life}",
        "vm_uuid": f"container-{slot}",
        "vm_name": "name",
    }
    return PortState(
        _port_name(slot), mac or _mac(slot), f"uuid-{slot}", ids, "", True, is_complete, 1, ""
    )


def _link(slot, life=0):
    tag = LinkTag(
        _endpoint_id(slot, life),
        _network(slot),
        f"{_address(slot)}/24",
        "10.0.0.254",
        _mac(slot),
        f"vsd-{slot}-{life}",
    )
    return Link(_port_name(slot), "veth", tag.to_alias(), 0, 1500, True)


def _known(slot, life, *, fields, is_plugged):
    return Known(
        _port_name(slot),
        _endpoint_id(slot, life) if "endpoint" in fields else "",
        _network(slot) if "network" in fields else "",
        _address(slot),
        f"vsd-{slot}-{life}",
        mac=_mac(slot),
        place=_PLACES[_network(slot)] if "place" in fields else None,
        is_plugged=is_plugged and "endpoint" in fields,
        uuid=f"uuid-{slot}",
        container_id=f"container-{slot}" if is_plugged else "",
        container_name="name" if is_plugged else "",
    )


def _engine(slot, life, *, is_running, has_id):
    return EngineEndpoint(
        f"container-{slot}",
        "name",
        _network(slot),
        _endpoint_id(slot, life) if has_id else "",
        ipaddress.ip_address(_address(slot)),
        is_running,
    )


@st.composite
def worlds(draw):
    """A snapshot in which each backend knows its own part of the endpoints."""
    known, engine, links = [], [], []
    ports, containers = {}, {}
    remembered, network_ids = set(), set()
    for slot in _SLOTS:
        # A container that was restarted has a new endpoint in its old place.
        life = draw(st.integers(0, 1))
        if draw(st.booleans()):
            known.append(
                _known(
                    slot,
                    life,
                    fields=draw(st.sets(st.sampled_from(["endpoint", "network", "place"]))),
                    is_plugged=draw(st.booleans()),
                )
            )
        for place in draw(st.lists(st.sampled_from([0, 1]), max_size=2, unique=True)):
            engine.append(
                _engine(slot, place, is_running=draw(st.booleans()), has_id=draw(st.booleans()))
            )
        if draw(st.booleans()):
            mac = draw(st.sampled_from([_mac(slot), "02:ff:ff:ff:ff:ff", ""]))
            ports[_port_name(slot)] = _port(
                slot, life=draw(st.integers(0, 1)), mac=mac or None, is_complete=draw(st.booleans())
            )
        if draw(st.booleans()):
            links.append(_link(slot, draw(st.integers(0, 1))))
        for twin in draw(st.lists(st.sampled_from([0, 1]), max_size=2, unique=True)):
            one = _container(slot, life=twin, name=draw(st.sampled_from(["name", "other"])))
            containers[one.vsd_id] = one
    if draw(st.booleans()):
        foreign = _container(
            99,
            vsd_id="vsd-foreign",
            port=draw(st.sampled_from(["eth0", "nln1-2", "tap0", "xnln1-1"])),
        )
        containers[foreign.vsd_id] = foreign
    links += draw(st.lists(st.sampled_from(_FOREIGN_LINKS), max_size=3, unique=True))
    network_ids |= set(draw(st.lists(st.sampled_from([*_NETWORKS, "bridge"]), unique=True))) | {
        seen.network_id for seen in engine
    }
    remembered |= set(draw(st.lists(st.sampled_from([*_NETWORKS, "net-gone"]), unique=True)))
    places = {name: place for name, place in _PLACES.items() if name in network_ids}
    return Snapshot(
        tuple(known),
        tuple(engine),
        ports,
        tuple(links),
        containers,
        frozenset(network_ids),
        places,
        frozenset(remembered),
    )


def taken_away(snapshot):
    """The findings that would take something away."""
    return [finding for finding in compare(snapshot) if finding.kind in DESTRUCTIVE]


def _is_in_engine(snapshot, endpoint_id="", network_id="", place=None, address=""):
    """By its endpoint or by its place.

    What a container that does not run names was left by a crash of the engine.
    """
    for seen in snapshot.engine:
        if not seen.is_running:
            continue
        if endpoint_id and seen.endpoint_id == endpoint_id:
            return True
        if (
            address
            and str(seen.address) == address
            and (
                network_id == seen.network_id
                or (place and snapshot.places.get(seen.network_id) == place)
            )
        ):
            return True
    return False


@given(worlds())
def test_what_the_engine_still_has_is_never_taken_away(snapshot):
    known = {one.port_name: one for one in snapshot.known}
    for finding in taken_away(snapshot):
        if finding.kind is FindingKind.ENDPOINT:
            one = known[finding.subject]
            assert not _is_in_engine(
                snapshot,
                one.endpoint_id,
                one.network_id,
                None if one.network_id else one.place,
                one.address,
            ), finding
        elif finding.kind is FindingKind.LINK:
            tag = next(link for link in snapshot.links if link.name == finding.subject).tag
            assert not _is_in_engine(snapshot, tag.endpoint_id), (
                "a link whose own mark names an endpoint of the engine's"
            )
        elif finding.kind is FindingKind.PORT:
            assert not _is_in_engine(
                snapshot, snapshot.ports[finding.subject].external_ids["nuage-endpoint-id"]
            ), finding
        elif finding.kind is FindingKind.NETWORK:
            assert finding.subject not in snapshot.network_ids and finding.subject not in {
                one.network_id for one in snapshot.known
            }


@given(worlds())
def test_a_vsd_container_of_no_endpoint_goes_only_where_another_one_is_the_endpoints(snapshot):
    """One with a running container's address goes only if it doubles the container's own."""
    for finding in taken_away(snapshot):
        if finding.kind is FindingKind.CONTAINER:
            interface = snapshot.containers[finding.subject].interfaces[0]
            if _is_in_engine(snapshot, place=interface.place, address=str(interface.address)):
                assert any(one.address == str(interface.address) for one in snapshot.known), (
                    "the engine has its address, and no endpoint has"
                )


@given(worlds())
def test_nothing_that_is_not_ours_is_touched(snapshot):
    kinds_of_port = {
        FindingKind.ENDPOINT,
        FindingKind.PORT,
        FindingKind.LINK,
        FindingKind.LOST_CONTAINER,
        FindingKind.LOST_LINK,
        FindingKind.ROWS,
        FindingKind.NAME,
    }
    foreign = {link.name for link in _FOREIGN_LINKS}
    for finding in compare(snapshot):
        if finding.kind in kinds_of_port:
            assert VethPair.is_bridge_port(finding.subject) and finding.subject not in foreign, (
                finding
            )
        elif finding.kind is FindingKind.CONTAINER:
            assert VethPair.is_bridge_port(
                snapshot.containers[finding.subject].interfaces[0].name
            ), finding
        else:
            assert (
                finding.subject in snapshot.remembered_networks and finding.subject != "bridge"
            ), finding


@given(worlds())
def test_a_snapshot_is_judged_the_same_way_twice_and_names_each_thing_once(snapshot):
    found = compare(snapshot)
    assert found == compare(snapshot) and len(found) == len(set(found))
    subjects = [(finding.kind, finding.subject) for finding in found]
    assert len(subjects) == len(set(subjects))


def _apply(snapshot, found):
    """What the world is like after all of these repairs."""
    known = {one.port_name: one for one in snapshot.known}
    ports, containers = dict(snapshot.ports), dict(snapshot.containers)
    links = {link.name: link for link in snapshot.links}
    remembered = set(snapshot.remembered_networks)
    for finding in found:
        one = known.get(finding.subject)
        slot = (
            int(finding.subject.removeprefix("nln").removesuffix("-1"), 16)
            if VethPair.is_bridge_port(finding.subject)
            else 0
        )
        if finding.kind is FindingKind.ENDPOINT:
            del known[finding.subject]
            ports.pop(finding.subject, None)
            links.pop(finding.subject, None)
            containers.pop(one.vsd_id, None)
        elif finding.kind is FindingKind.PORT:
            del ports[finding.subject]
        elif finding.kind is FindingKind.LINK:
            del links[finding.subject]
        elif finding.kind is FindingKind.CONTAINER:
            del containers[finding.subject]
        elif finding.kind is FindingKind.NETWORK:
            remembered.remove(finding.subject)
        elif finding.kind is FindingKind.LOST_CONTAINER:
            containers[one.vsd_id] = _container(
                slot, vsd_id=one.vsd_id, name=one.container_name or "name"
            )
        elif finding.kind is FindingKind.ROWS:
            ports[finding.subject] = _port(slot, life=int(one.vsd_id[-1]))
        elif finding.kind is FindingKind.NAME:
            containers[one.vsd_id] = dataclasses.replace(
                containers[one.vsd_id], name=one.container_name
            )
    return dataclasses.replace(
        snapshot,
        known=tuple(known.values()),
        ports=ports,
        containers=containers,
        links=tuple(links.values()),
        remembered_networks=frozenset(remembered),
    )


@given(worlds())
def test_what_was_repaired_is_not_found_again(snapshot):
    """Only what something else still used may need another round.

    That is a network by its endpoint, and a link by its port.
    """
    after = _apply(snapshot, compare(snapshot))
    left = [finding for finding in compare(after) if finding.kind not in _NOT_REPAIRABLE]
    assert {finding.kind for finding in left} <= {FindingKind.NETWORK, FindingKind.LINK}, left
    again = _apply(after, left)
    assert not [finding for finding in compare(again) if finding.kind not in _NOT_REPAIRABLE]
    # What the engine has is all there, and what is foreign too.
    assert again.engine == snapshot.engine
    assert {link for link in snapshot.links if link in _FOREIGN_LINKS} <= set(again.links)
    assert "vsd-foreign" not in snapshot.containers or "vsd-foreign" in again.containers


@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_the_lists_does_not_matter(snapshot, rng):
    shuffled = dataclasses.replace(
        snapshot,
        known=tuple(rng.sample(snapshot.known, len(snapshot.known))),
        engine=tuple(rng.sample(snapshot.engine, len(snapshot.engine))),
        links=tuple(rng.sample(snapshot.links, len(snapshot.links))),
    )
    assert set(compare(shuffled)) == set(compare(snapshot))


def test_a_world_in_which_all_agree_has_no_finding():
    snapshot = Snapshot(
        tuple(
            _known(slot, 0, fields={"endpoint", "network", "place"}, is_plugged=True)
            for slot in _SLOTS
        ),
        tuple(_engine(slot, 0, is_running=True, has_id=True) for slot in _SLOTS),
        {_port_name(slot): _port(slot) for slot in _SLOTS},
        tuple(_link(slot) for slot in _SLOTS) + _FOREIGN_LINKS,
        {f"vsd-{slot}-0": _container(slot) for slot in _SLOTS},
        frozenset(_NETWORKS),
        _PLACES,
        frozenset(_NETWORKS),
    )
    assert compare(snapshot) == []


# -- time ----------------------------------------------------------------------------------------

_THINGS = [
    Finding(kind, subject, life)
    for kind in (FindingKind.ENDPOINT, FindingKind.LINK, FindingKind.ROWS)
    for subject in ("nln1-1", "nln2-1")
    for life in ("", "later")
]
_cycles = st.lists(
    st.tuples(
        st.sampled_from([0.1, 5.0, 20.0, 29.9, 30.0, 30.1, 60.0, 61.0, 600.0]),
        st.sets(st.sampled_from(_THINGS)),
    ),
    max_size=12,
)


@given(_cycles)
def test_a_deletion_needs_three_sightings_without_a_break_over_a_minute(cycles):
    sightings, now_s, history = Sightings(), 1000.0, []
    for pause_s, found in cycles:
        now_s += pause_s
        history.append((now_s, found))
        due = sightings.due(found, now_s)
        assert set(due) <= found and len(due) == len(set(due)), "what recovered is never due"
        for finding in found:
            unbroken = []
            for at_s, seen in reversed(history):
                if finding not in seen:
                    break
                unbroken.append(at_s)
            is_old = len(unbroken) >= SIGHTINGS and now_s - unbroken[-1] >= GRACE_S
            assert (finding in due) == (is_old or finding.kind not in DESTRUCTIVE)


def test_the_promised_numbers_are_those_of_the_product():
    assert (SIGHTINGS, GRACE_S) == (3, 60.0)


def test_a_thing_that_is_gone_in_between_or_lives_anew_starts_again():
    first, anew = (
        Finding(FindingKind.ENDPOINT, "nln1-1", "a/b"),
        Finding(FindingKind.ENDPOINT, "nln1-1", "a/c"),
    )
    sightings = Sightings()
    for now_s, found, due in (
        (0, [first], []),
        (40, [first], []),
        (80, [], []),
        (100, [first], []),
        (130, [first], []),
        (159, [first], []),
        (160, [first], [first]),
        (170, [anew], []),
        (240, [anew], []),
        (241, [anew], [anew]),
    ):
        assert sightings.due(found, now_s) == due, now_s


def test_a_suspension_does_not_count_as_time_in_which_something_was_seen():
    now_s = [100.0]
    watch = HubWatch(clock=lambda: now_s[0])
    before_s = watch.awake_s()
    now_s[0] += 3600
    assert 0 <= watch.awake_s() - before_s <= 1.0
