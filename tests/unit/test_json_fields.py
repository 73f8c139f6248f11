"""Fields of a backend's JSON: what is missing, null or of another type is as good as not there."""

import ipaddress

import pytest

from nuage_appliance.base import json_fields

STRANGE = [None, 7, True, [], {}, [1], 1.5]


@pytest.mark.parametrize("value", STRANGE)
def test_a_field_of_another_type_is_as_good_as_missing(value):
    item = {"key": value}
    assert json_fields.text(item, "key") == ""
    assert json_fields.texts(item, "key") == {}
    assert json_fields.mapping(item, "key") == {}
    assert json_fields.mappings(item, "key") == []
    assert json_fields.address(value) is None
    assert json_fields.network(value) is None


def test_members_of_another_type_are_left_out():
    item = {"map": {"a": "1", "b": 2, "c": None}, "array": [{"a": 1}, None, "x", {}]}
    assert json_fields.texts(item, "map") == {"a": "1"}
    assert json_fields.mappings(item, "array") == [{"a": 1}, {}]


def test_an_address_may_have_a_prefix_length():
    expected = ipaddress.ip_address("10.0.0.5")
    assert json_fields.address("10.0.0.5/24") == json_fields.address("10.0.0.5") == expected
    assert json_fields.address("10.0.0.500") is None
    assert json_fields.address("") is None


def test_a_network_with_host_bits_is_refused_or_cut():
    assert json_fields.network("10.0.0.5/24") is None
    cut = json_fields.network("10.0.0.5/24", strict=False)
    assert cut == json_fields.network("10.0.0.0/255.255.255.0")
    assert str(cut) == "10.0.0.0/24"
