"""One site for all cells of a module; a cell that fails leaves it behind, and the next one gets
another.
"""

import pytest

from tests.faults import table
from tests.faults.site import Site
from tests.support import ovsdb as ovsdb_support
from tests.support.host import start_simulator


def pytest_generate_tests(metafunc):
    """Cells are chosen by `--faults`."""
    if "cell" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--faults")
        cells = [] if wanted == "learn" else table.selected(wanted)
        metafunc.parametrize("cell", cells, ids=str)


@pytest.fixture(scope="module")
def simulator(own_network):
    """The VSD of a module."""
    if not ovsdb_support.is_available():
        pytest.skip("ovsdb-server is not installed")
    with start_simulator() as running:
        yield running


@pytest.fixture(scope="module")
def sites(simulator):
    """The module's site, in a list that is empty when there is none to be used."""
    made = []
    yield made
    for site in made:
        site.close()


@pytest.fixture
def site(sites, simulator):
    """A site in order, before and after."""
    if not sites:
        sites.append(Site(simulator))
    (current,) = sites
    yield current
    if not current.is_well:
        sites.clear()
        current.close()
