"""A VSD simulator, and docker hosts beside it (tests/support/host.py), as fixtures of the contract
tests.
"""

import itertools

import pytest

from tests.support import ovsdb as ovsdb_support
from tests.support.host import Host, delete_containers, start_simulator

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def simulator(own_network):
    """The VSD of a module."""
    if not ovsdb_support.is_available():
        pytest.skip("ovsdb-server is not installed")
    with start_simulator() as running:
        yield running


@pytest.fixture(scope="module")
def shared_host(simulator):
    """One host for a module's tests that kill nothing."""
    host = Host(simulator, "shared")
    yield host
    host.close()


@pytest.fixture
def host(shared_host):
    """The module's host, clean before and after; a bug of ours in its log fails the test."""
    shared_host.begin()
    yield shared_host
    shared_host.simulator.admin("DELETE", "/faults")
    try:
        shared_host.tear_down()
        shared_host.wait_clean()
    finally:
        shared_host.check_log()


@pytest.fixture
def hosts(simulator):
    """Makes hosts that a test may kill; all of them end with it, without a bug of ours
    in any log.
    """
    made = []

    def make(name=None, **settings):
        made.append(Host(simulator, name or f"own-{next(_NUMBERS)}", **settings))
        return made[-1]

    yield make
    simulator.admin("DELETE", "/faults")
    try:
        for one in made:
            one.check_log()
    finally:
        for one in made:
            one.close()
        delete_containers(simulator, [one.name for one in made])


@pytest.fixture
def own_host(hosts):
    """One host that a test may kill."""
    return hosts()


@pytest.fixture(scope="module")
def mortal_host(simulator):
    """The host of a module whose tests kill the appliance."""
    made = Host(simulator, "mortal")
    yield made
    made.close()


@pytest.fixture
def mortal(mortal_host):
    """A host whose appliance is killed by every test that uses it."""
    mortal_host.begin()
    yield mortal_host
    mortal_host.check_log()
