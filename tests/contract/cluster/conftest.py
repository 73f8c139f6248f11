"""Two hosts and one Consul beside a VSD that has a subnet for every network."""

import pytest

from tests.support import ovsdb as ovsdb_support
from tests.support.cluster import Site, start_simulator_with_subnets
from tests.support.consul import why_not
from tests.support.shifted_clock import launcher


@pytest.fixture(scope="module")
def simulator(own_network, tmp_path_factory):
    """A VSD with many subnets."""
    if not ovsdb_support.is_available() or why_not():
        pytest.skip(why_not() or "ovsdb-server is not installed")
    with start_simulator_with_subnets(tmp_path_factory.mktemp("seed")) as running:
        yield running


@pytest.fixture(scope="module")
def shared_site(simulator):
    """Two hosts and a Consul for all tests that leave them usable. Some of their waits
    are shorter.
    """
    made = Site(
        simulator, **launcher(cluster={"ABSENT_S": 2.0}, membership={"BEAT_S": 1.0, "LOOK_S": 1.0})
    )
    yield made
    made.close()


@pytest.fixture
def site(shared_site):
    """The module's site, clean in the end."""
    yield shared_site
    shared_site.restore()


@pytest.fixture
def pair(site):
    """The two hosts of the module's site."""
    return site.hosts
