"""Names that carry their meaning: PoolIDs, tags, aliases, device names."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuage_appliance.base.faults import Refused
from nuage_appliance.model import (
    LinkTag,
    Network,
    Place,
    Pool,
    PortOwner,
    PortState,
    PredecessorPool,
    VethPair,
    is_name,
    parse_pool_id,
    shorten,
)

# What is printable is neither Other (C) nor a separator (Z), apart from the blank.
_printable = st.characters(exclude_categories=("C", "Z")) | st.just(" ")
_texts = st.text(_printable, max_size=60).map(str.strip)
_names = _texts.filter(is_name)


@given(_names, _names, _names, _names, _texts)
def test_a_pool_id_describes_its_pool_whatever_the_names_hold(
    organization, domain, zone, subnet, user
):
    pool = Pool(
        "nuage-local",
        Place(organization, domain, zone, subnet),
        user,
        ipaddress.ip_network("10.1.0.0/25"),
        ipaddress.ip_network("10.1.0.0/24"),
        ipaddress.ip_address("10.1.0.1"),
        "cd8a9864",
        ipaddress.ip_network("10.1.0.64/26"),
    )
    assert parse_pool_id(pool.pool_id) == pool
    assert pool.pool_id.isascii() and pool.pool_id.isprintable()


def test_names_that_the_predecessor_confused_are_told_apart():
    def pool_id(*names):
        return Pool(
            "nuage-local",
            Place(*names),
            "",
            ipaddress.ip_network("10.1.0.0/24"),
            ipaddress.ip_network("10.1.0.0/24"),
            ipaddress.ip_address("10.1.0.1"),
            "id",
        ).pool_id

    assert pool_id("ab", "c", "z", "x") != pool_id("a", "bc", "z", "x")
    assert pool_id("a", "b", "z1", "x") != pool_id("a", "b", "z2", "x")
    assert Place("ab", "c", "", "x").predecessor_hash == Place("a", "bc", "", "x").predecessor_hash


def test_a_predecessors_pool_id_gives_the_hash_of_its_names():
    place = Place("Enterprise", "Domain", "Zone", "Subnet 2")
    parsed = parse_pool_id(place.predecessor_hash + "-a1b2c3d4e5")
    assert parsed == PredecessorPool(place.predecessor_hash)


@pytest.mark.parametrize(
    "pool_id",
    [
        "",
        "x",
        "LocalDefault/10.0.0.0/24",
        "nuage-pool-v2",
        "nuage-pool-v2/a/b/c/d/e/f/g/h/i/j/k",
        "nuage-pool-v2/nuage-local/10.0.0.0%2F24/10.0.0.0%2F24/nonsense//o/d/z/s/u/id",
        "é" * 3000,
    ],
)
def test_a_foreign_or_damaged_pool_id_is_refused_in_one_short_line(pool_id):
    with pytest.raises(Refused) as caught:
        parse_pool_id(pool_id)
    assert len(caught.value.message) < 300 and "\n" not in caught.value.message


def test_only_names_of_the_drivers_own_form_are_its_devices():
    assert VethPair.of("nln1f-1") == VethPair(0x1F) and VethPair.of("nln1f-2") == VethPair(0x1F)
    for foreign in (
        "nln-1",
        "nlnG-1",
        "nln1-3",
        "xnln1-1",
        "nln1-1x",
        "nln1-1\n",
        "nuabcdef-1",
        "eth0",
        "nln1-11",
        "NLN1-1",
    ):
        assert VethPair.of(foreign) is None
    assert VethPair.is_bridge_port("nln1-1") and not VethPair.is_bridge_port("nln1-2")


def test_device_numbers_wrap_after_four_million_and_fit_the_kernel():
    assert VethPair(4_000_000).next() == VethPair(0)
    assert max(len(VethPair(4_000_000).bridge_port), len(VethPair(4_000_000).entity_port)) <= 15


def test_a_link_tag_survives_the_alias_and_fits_the_kernel():
    tag = LinkTag(
        "e" * 64, "n" * 64, "255.255.255.255/32", "255.255.255.255", "7a:42:d6:aa:d0:11", "c" * 36
    )
    assert LinkTag.from_alias(tag.to_alias()) == tag
    assert len(tag.to_alias()) <= 255
    assert LinkTag.from_alias("somebody else's") is None


def test_a_network_tag_survives_its_text():
    for network in (Network("n1", "pool|with|bars", True), Network("n2", "p")):
        assert Network.from_tag(network.network_id, network.to_tag()) == network
    assert Network.from_tag("n", "nonsense") is None


@given(st.text())
def test_foreign_text_in_a_message_is_one_short_printable_line(text):
    assert shorten(text).isprintable() and len(shorten(text)) <= 1000


_OWNER = PortOwner("02:00:00:00:00:0a", "uuid", "container", "endpoint", "vsd-container")
_IDS = {
    "vm_uuid": "container",
    "nuage-endpoint-id": "endpoint",
    "nuage-vsd-container-id": "vsd-container",
}


def _port(*, mac="02:00:00:00:00:0A", uuid="uuid", ids=_IDS, has_port=True, has_port_row=True):
    return PortState("nln1-1", mac, uuid, ids, "", has_port, has_port_row, 1, "")


def test_rows_fit_their_owner_whatever_the_case_of_the_mac():
    assert _port().fits(_OWNER)


def test_rows_of_the_predecessor_fit_although_they_name_neither_endpoint_nor_vsd_container():
    assert _port(ids={"vm_uuid": "container"}).fits(_OWNER)


@pytest.mark.parametrize(
    "port",
    [
        _port(mac="02:00:00:00:00:0b"),
        _port(uuid="another"),
        _port(ids={}),
        *(_port(ids={**_IDS, key: "another"}) for key in _IDS),
        _port(has_port=False),
        _port(has_port_row=False),
        _port(uuid=""),
    ],
)
def test_rows_do_not_fit_when_one_thing_is_missing_or_names_another_owner(port):
    assert not port.fits(_OWNER)
