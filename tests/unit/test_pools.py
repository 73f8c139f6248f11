"""What is refused of a VSD's subnet before anybody depends on it."""

import ipaddress

import pytest

from nuage_appliance.base.faults import Refused
from nuage_appliance.core import pools
from nuage_appliance.model import Place, Subnet


def _subnet(gateway):
    return Subnet(
        "id",
        Place("Enterprise", "Domain", "Zone", "Subnet"),
        ipaddress.ip_network("10.21.59.0/24"),
        None if gateway is None else ipaddress.ip_address(gateway),
        "",
    )


def test_a_gateway_inside_of_its_subnet_is_taken():
    assert str(pools.check_gateway(_subnet("10.21.59.1"))) == "10.21.59.1"


@pytest.mark.parametrize(
    "gateway, words",
    [
        (None, "has no gateway"),
        ("10.99.0.1", "10.99.0.1, which is outside of 10.21.59.0/24"),
        ("fd00::1", "fd00::1"),
    ],
)
def test_a_gateway_that_docker_could_not_use_is_refused_with_its_value(gateway, words):
    with pytest.raises(Refused, match=words):
        pools.check_gateway(_subnet(gateway))


_OPTIONS = {"organization": "Enterprise", "domain": "Domain", "zone": "Zone", "subnet": "Subnet"}


def _pool(subnet="", ip_range=""):
    request = pools.PoolRequest.read("", subnet, ip_range, _OPTIONS, False)
    return request.is_automatic, request.pool_in(_subnet("10.21.59.1"))


@pytest.mark.parametrize("subnet", ["", "0.0.0.0/24"])
def test_without_a_subnet_or_with_any_of_its_size_the_pool_is_the_vsds_subnet(subnet):
    is_automatic, pool = _pool(subnet)
    assert is_automatic
    assert str(pool.cidr) == str(pool.subnet_cidr) == "10.21.59.0/24"
    assert pool.space == "nuage-local" and pool.allocation_range is None


def test_addresses_come_from_the_part_of_the_subnet_that_was_asked_for():
    is_automatic, pool = _pool("10.21.59.128/25")
    assert not is_automatic
    assert str(pool.cidr) == str(pool.allocation_range) == "10.21.59.128/25"
    assert str(_pool("10.21.59.128/25", "10.21.59.192/26")[1].allocation_range) == "10.21.59.192/26"


def test_a_range_that_is_the_whole_subnet_is_none():
    assert _pool("", "10.21.59.0/24")[1].address_range is None


@pytest.mark.parametrize(
    "subnet, ip_range, words",
    [
        ("0.0.0.0/16", "", "any subnet of size /16, but the VSD's subnet 'Subnet'"),
        ("10.21.60.0/24", "", "use --subnet=10.21.59.0/24 --gateway=10.21.59.1"),
        ("10.21.0.0/16", "", "--subnet 10.21.0.0/16 does not match"),
        ("10.21.59.0/25", "10.21.59.128/25", "--ip-range 10.21.59.128/25 is outside of"),
        ("fd00::/64", "", "--subnet 'fd00::/64' is IPv6"),
        ("nonsense", "", "--subnet 'nonsense' is not a CIDR"),
    ],
)
def test_a_pool_that_the_vsds_subnet_does_not_hold_is_refused_with_the_right_value(
    subnet, ip_range, words
):
    with pytest.raises(Refused) as caught:
        _pool(subnet, ip_range)
    assert words in caught.value.message
