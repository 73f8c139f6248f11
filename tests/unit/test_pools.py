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
    pools.check_gateway(_subnet("10.21.59.1"))


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
