"""UUIDs and MACs of VSD containers."""

import ipaddress
import random
import re

from nuage_appliance.core.identifiers import Identifiers
from nuage_appliance.model import Place

_PLACE = Place("E", "D", "Z", "S")
_ADDRESS = ipaddress.ip_address("10.21.59.100")


def _is_local_unicast(mac):
    return bool(re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac)) and int(mac[:2], 16) & 3 == 2


def test_every_mac_is_a_locally_administered_unicast_address():
    identifiers = Identifiers("host", random.Random(1))
    assert all(_is_local_unicast(identifiers.new_mac()) for _ in range(300))
    network = ipaddress.ip_network("10.21.59.0/24")
    assert all(_is_local_unicast(identifiers.mac_of(_PLACE, one)) for one in network)


def test_the_mac_of_an_address_is_the_same_at_every_start_and_on_every_host():
    macs = {Identifiers(host).mac_of(_PLACE, _ADDRESS) for host in ("h1", "h2", "h1")}
    assert macs == {"82:f0:f5:1b:85:07"}


def test_other_addresses_and_other_subnets_have_other_macs():
    identifiers = Identifiers("host")
    places = [_PLACE, Place("E", "D", "Z", "T"), Place("E", "DZ", "", "S"), Place("E", "D", "", "")]
    network = ipaddress.ip_network("10.21.59.0/24")
    macs = {identifiers.mac_of(place, one) for place in places for one in network}
    assert len(macs) == len(places) * 256
