"""The VSD simulator of a module, set back before each test."""

import pytest

from tests.support.vsd import VsdSimulator
from tests.support.vsd_kinds import seed_user
from tests.support.vsd_objects import DEFAULTS, Seed, container, created


@pytest.fixture(scope="module")
def simulator():
    """The simulator of a module."""
    with VsdSimulator() as running:
        yield running


@pytest.fixture
def vsd(simulator):
    """The simulator with its usual settings and its seed; it must not have failed when a
    test ends.
    """
    simulator.admin("POST", "/config", DEFAULTS)
    simulator.admin("POST", "/reset")
    yield simulator
    assert simulator.process.poll() is None
    assert "Traceback" not in simulator.errors()


@pytest.fixture
def root(vsd):
    """A client that is logged in as csproot."""
    client = vsd.client()
    client.me()
    yield client
    client.close()


@pytest.fixture
def seed(root):
    """The seeded tree, by names."""
    return Seed(root)


@pytest.fixture
def places(root, seed):
    """For each word of a parent in a path: an object of that kind in the seeded tree."""
    enterprise, domain, subnet = (
        seed.one("/enterprises", "Enterprise"),
        seed.domain(),
        seed.subnet("Subnet 2"),
    )
    made = created(root, container(subnet))
    found = {
        "enterprises": enterprise,
        "domains": domain,
        "subnets": subnet,
        "l2domains": seed.l2domain("L2"),
        "zones": root.get(f"/zones/{subnet['parentID']}")[2][0],
        "containers": made,
        "containerinterfaces": made["interfaces"][0],
        "vports": root.get(f"/vports/{made['interfaces'][0]['VPortID']}")[2][0],
        "policygroups": seed.group("Web"),
        "domaintemplates": root.get(f"/domaintemplates/{domain['templateID']}")[2][0],
        "l2domaintemplates": root.get(f"/enterprises/{enterprise['ID']}/l2domaintemplates")[2][0],
        "users": seed_user(root, "admin"),
        "groups": seed.one(f"/enterprises/{enterprise['ID']}/groups", "CMS Group"),
    }
    return {word: entity["ID"] for word, entity in found.items()}
