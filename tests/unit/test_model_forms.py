"""The forms that other versions and other programs read, and each word of the model at its edges.

test_model.py has the properties: what is written can be read.
"""

import dataclasses
import ipaddress
import random

import pytest

from nuage_appliance.base.faults import Refused
from nuage_appliance.model import (
    DELETED_ALIAS,
    ContainerInterface,
    Link,
    LinkTag,
    Network,
    Place,
    Pool,
    PortOwner,
    PortState,
    VethPair,
    is_name,
    parse_pool_id,
    shorten,
)

# -- places and subnets --------------------------------------------------------------------------


def test_a_place_without_a_subnet_is_an_l2_domain_and_says_so():
    l2, l3 = Place("E", "D", "", ""), Place("E", "D", "Z", "S")
    assert (l2.is_l2, l3.is_l2) == (True, False)
    assert str(l2) == "L2 domain 'D' of organization 'E'"
    assert str(l3) == "subnet 'S' (zone 'Z', domain 'D', organization 'E')"


def test_the_predecessors_hash_is_the_md5_of_three_names():
    place = Place("Org", "Dömain", "Zone", "Subnet")
    assert place.predecessor_hash == "e51b7700164bba0f5301268eae8d1646"


# -- pools ---------------------------------------------------------------------------------------


def _pool(**changes):
    made = Pool(
        space="nuage-local",
        place=Place("E/1", "D", "Z", "S"),
        user="U",
        cidr=ipaddress.ip_network("10.1.0.0/25"),
        subnet_cidr=ipaddress.ip_network("10.1.0.0/24"),
        gateway=ipaddress.ip_address("10.1.0.1"),
        subnet_id="id",
        address_range=ipaddress.ip_network("10.1.0.64/26"),
    )
    return dataclasses.replace(made, **changes)


def test_a_pool_id_has_the_form_that_other_versions_read():
    assert _pool().pool_id == (
        "nuage-pool-v2/nuage-local/10.1.0.0%2F25/10.1.0.0%2F24/10.1.0.1/10.1.0.64%2F26/"
        "E%2F1/D/Z/S/U/id"
    )
    assert "/10.1.0.1//E%2F1/" in _pool(address_range=None).pool_id


def test_a_pool_without_a_range_is_read_back():
    pool = _pool(address_range=None)
    assert parse_pool_id(pool.pool_id) == pool


def test_addresses_come_from_the_range_or_a_smaller_pool_or_anywhere():
    pool = _pool()
    assert pool.allocation_range == pool.address_range
    assert _pool(address_range=None).allocation_range == pool.cidr
    assert _pool(address_range=None, cidr=pool.subnet_cidr).allocation_range is None


@pytest.mark.parametrize(
    "pool_id, words",
    [
        ("odd", "^the pool 'odd' was not made by nuage-ipam; create the network with"),
        (_pool().pool_id.replace("v2", "v3"), "was not made by nuage-ipam"),
        (_pool().pool_id + "/more", "was not made by nuage-ipam"),
        (_pool().pool_id.removesuffix("/id"), "was not made by nuage-ipam"),
        (_pool().pool_id.replace("10.1.0.1/", "x/"), "^the pool '.*' is damaged; remove"),
        (_pool().pool_id.replace("10.1.0.64%2F26", "x"), "is damaged"),
    ],
)
def test_the_refusal_of_a_pool_id_says_which_and_what_to_do(pool_id, words):
    with pytest.raises(Refused, match=words):
        parse_pool_id(pool_id)


# -- tags, aliases, devices ----------------------------------------------------------------------


def test_a_tag_and_an_alias_have_the_form_that_other_versions_read():
    assert Network("n", "p", True).to_tag() == "internal|p"
    assert Network("n", "p").to_tag() == "open|p"
    assert LinkTag("e", "n", "a", "g", "m", "c").to_alias() == "nuage1|e|n|a|g|m|c"


@pytest.mark.parametrize("tag", ["", "open", "internal", "closed|p", "|p"])
def test_a_foreign_tag_is_no_network(tag):
    assert Network.from_tag("n", tag) is None


def test_a_tag_of_an_empty_pool_is_a_network():
    assert Network.from_tag("n", "internal|") == Network("n", "", True)


@pytest.mark.parametrize(
    "alias",
    ["", "nuage1", DELETED_ALIAS, "nuage1|e|n|a|g|m", "nuage1|e|n|a|g|m|c|x", "x|e|n|a|g|m|c"],
)
def test_a_foreign_alias_is_no_tag(alias):
    assert LinkTag.from_alias(alias) is None


def test_a_pair_has_two_ends_in_hexadecimal():
    assert (VethPair(0x1F).bridge_port, VethPair(0x1F).entity_port) == ("nln1f-1", "nln1f-2")
    assert VethPair(1).next() == VethPair(2)
    assert VethPair(3_999_999).next() == VethPair(4_000_000)


def test_only_the_first_end_of_a_pair_is_a_bridge_port():
    assert [VethPair.is_bridge_port(name) for name in ("nln1-1", "nln1-2", "eth0")] == [
        True,
        False,
        False,
    ]


class _Edge(random.Random):
    """Draws the lowest or the highest number."""

    def __init__(self, is_high):
        super().__init__()
        self.is_high = is_high

    def randrange(self, start, stop):
        return stop - 1 if self.is_high else start


def test_a_reservations_pair_has_a_number_above_those_that_hosts_count():
    lowest, highest = (VethPair.for_reservation(_Edge(is_high)) for is_high in (False, True))
    assert (lowest.number, highest.number) == (4_000_001, 0xFFFFFF)
    assert lowest.is_of_reservation and not VethPair(4_000_000).is_of_reservation
    assert VethPair.of(highest.bridge_port) == highest


def test_only_a_veths_bridge_port_has_a_tag():
    tag = LinkTag("e", "n", "a", "g", "m", "c")
    link = Link("nln1-1", "veth", tag.to_alias(), 0, 1500, True)
    assert link.tag == tag
    assert dataclasses.replace(link, kind="bridge").tag is None
    assert dataclasses.replace(link, name="nln1-2").tag is None
    assert dataclasses.replace(link, alias="").tag is None


# -- a port in the VRS ---------------------------------------------------------------------------


def _port(**changes):
    ids = {"vm_uuid": "c", "nuage-endpoint-id": "e", "nuage-vsd-container-id": "v"}
    made = PortState("nln1-1", "02:AB:00:00:00:01", "u", ids, "", True, True, 1, "")
    return dataclasses.replace(made, **changes)


def _fits(port, mac="02:ab:00:00:00:01", uuid="u", container="c", endpoint="e", vsd="v"):
    return port.fits(PortOwner(mac, uuid, container, endpoint, vsd))


def test_a_port_is_complete_with_all_three():
    assert _port().is_complete is True
    for part in ({"has_port": False}, {"has_port_row": False}, {"entity_uuid": ""}):
        assert _port(**part).is_complete is False


def test_a_port_fits_only_what_it_says():
    assert _fits(_port())
    for other in ("mac", "uuid", "container", "endpoint", "vsd"):
        assert not _fits(_port(), **{other: "other"}), other
    assert not _fits(_port(has_port_row=False))


def test_a_predecessors_port_that_names_less_fits():
    assert _fits(_port(external_ids={"vm_uuid": "c"}))
    assert not _fits(_port(external_ids={}))


# -- foreign text --------------------------------------------------------------------------------


def test_long_text_is_cut_at_eighty_characters():
    assert shorten("x" * 80) == f"'{'x' * 80}'"
    assert shorten("x" * 81) == f"'{'x' * 79}…'"
    assert (shorten("abc", 3), shorten("abcd", 3)) == ("'abc'", "'ab…'")
    assert shorten("a\nbé") == r"'a\nb\xe9'"
    assert shorten("é") == "'é'"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", False),
        ("x", True),
        ("x" * 255, True),
        ("x" * 256, False),
        ("a b", True),
        (" a", False),
        ("a ", False),
        ("a\tb", False),
    ],
)
def test_a_name_is_what_the_vsd_can_hold(text, expected):
    assert is_name(text) is expected


def test_what_is_not_given_is_empty():
    interface = ContainerInterface(
        "i", "nln1-1", "m", None, 24, None, "p", "s", "d", False, Place("E", "D", "Z", "S")
    )
    assert (interface.endpoint_id, interface.network_id, interface.external_id) == ("", "", "")
    assert (Network("n", "p").is_internal, Network("n", "p").name) == (False, "")
