"""The VSD simulator of a module, set back before each test."""

import pytest

from tests.support.vsd import VsdSimulator
from tests.support.vsd_objects import DEFAULTS, Seed


@pytest.fixture(scope="module")
def simulator():
    """The simulator of a module."""
    with VsdSimulator() as running:
        yield running


@pytest.fixture
def vsd(simulator):
    """The simulator with its usual settings and its seed; it must not have failed when a test ends."""
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
