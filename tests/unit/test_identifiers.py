"""UUIDs and MACs of VSD containers, also where OpenSSL allows FIPS algorithms only."""

import ipaddress
import random
import re
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from nuage_appliance.core.identifiers import Identifiers
from nuage_appliance.model import Place

ROOT = Path(__file__).resolve().parents[2]
_PLACE = Place("E", "D", "Z", "S")
_ADDRESS = ipaddress.ip_address("10.21.59.100")
_FIPS_ONLY = """
openssl_conf = init
[init]
providers = providers
alg_section = algorithms
[providers]
default = active
[active]
activate = 1
[algorithms]
default_properties = fips=yes
"""
_USE_MD5 = """
from nuage_appliance.core.identifiers import Identifiers
from nuage_appliance.model import Place
print(Identifiers("host").new_mac(), Place("E", "D", "Z", "S").predecessor_hash)
"""


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


@pytest.mark.skipif(
    ssl.OPENSSL_VERSION_INFO < (3,), reason="this Python's OpenSSL is older than 3: no properties"
)
def test_names_made_by_md5_are_made_where_openssl_allows_fips_algorithms_only(tmp_path):
    """Else the program would end in a traceback on a host with fips=1."""
    (tmp_path / "openssl.cnf").write_text(_FIPS_ONLY)
    environment = {"OPENSSL_CONF": str(tmp_path / "openssl.cnf"), "PYTHONPATH": str(ROOT)}

    def run(script):
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    assert "Error" in run("import hashlib; hashlib.md5(b'')").stderr  # so it is really restricted
    done = run(_USE_MD5)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[1] == Place("E", "D", "Z", "S").predecessor_hash
