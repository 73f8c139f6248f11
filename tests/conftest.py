"""What every test shares: its options, a network namespace that is not the machine's, and a real
ovsdb-server.
"""

import ctypes
import os
import subprocess

import pytest
from hypothesis import settings

from nuage_lab import engines
from tests.support import lab as lab_support
from tests.support import ovsdb as ovsdb_support
from tests.support import reaper

_CLONE_NEWNET = 0x40000000

# How many examples a property test tries: a few, always the same, while one works; many, always the
# same, in CI (`--hypothesis-profile=full`), so that CI judges the change and not its luck; and many
# new ones with --nightly.
settings.register_profile("quick", max_examples=25, derandomize=True, deadline=None)
settings.register_profile("full", max_examples=250, derandomize=True, deadline=None)
settings.register_profile("nightly", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile("quick")


def pytest_addoption(parser):
    """Add the options that choose how much is run."""
    parser.addoption(
        "--nightly",
        action="store_true",
        help=(
            "run what takes long too: --engines=all --faults=all --hypothesis-profile=nightly, and "
            "the long tests"
        ),
    )
    parser.addoption(
        "--faults",
        default="sample",
        metavar="sample|all|learn|TEXT",
        help=(
            "cells of the table of deaths: a fixed sample, all, those whose name contains TEXT; "
            "learn writes the list of effects anew"
        ),
    )
    parser.addoption(
        "--engines",
        default="20.10",
        metavar="all|NAME,…",
        help=f"Docker engines of the tests that take one: {', '.join(engines.SUITES)}",
    )
    parser.addoption(
        "--picture",
        metavar="FILE.png",
        help="tests/lab/test_page.py writes the README's picture of the page there",
    )


def pytest_generate_tests(metafunc):
    """Run what takes `engine_name` on every engine that was asked for."""
    if "engine_name" in metafunc.fixturenames:
        asked = metafunc.config.getoption("--engines")
        metafunc.parametrize(
            "engine_name",
            list(engines.SUITES) if asked == "all" else asked.split(","),
            indirect=True,
            scope="module",
        )


# Files that one worker would run long after the others ended: into how many parts they are cut.
# Their tests need nothing of each other.
_PARTS = {
    "tests/contract/test_recordings.py": 2,
    "tests/contract/test_vsd_client.py": 3,
    "tests/faults/test_table.py": 5,
    "tests/unit/test_audit.py": 3,
}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Keep a file's tests on one worker of pytest-xdist (--dist loadgroup), or a part's, in order:
    what a module's tests share is made once.
    """
    files = {}
    for item in items:
        files.setdefault(str(item.path.relative_to(config.rootpath)), []).append(item)
    for name, tests in files.items():
        parts = _PARTS.get(name, 1)
        for index, item in enumerate(tests):
            group = f"{name}:{index * parts // len(tests)}"
            item.add_marker(pytest.mark.xdist_group(group))


def pytest_configure(config):
    """Leave the machine's network before anything runs: devices and listening ports of the tests
    are their own.
    """
    if config.option.nightly:
        config.option.engines = config.option.faults = "all"
        settings.load_profile("nightly")
    config.reaper = reaper.watch()
    config.own_network = ""
    if os.geteuid() != 0:
        config.own_network = "needs root to make a network namespace"
        return
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_CLONE_NEWNET) != 0:
        config.own_network = f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}"
        return
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@pytest.fixture(scope="session")
def own_network(request):
    """Skip a test that changes devices when it cannot have a network of its own."""
    if request.config.own_network:
        pytest.skip(request.config.own_network)


@pytest.fixture(scope="module")
def engine_name(request):
    """One of nuage_lab.engines.SUITES, for Lab.up(engine=…)."""
    if request.param not in engines.SUITES:
        pytest.fail(f"--engines: no engine {request.param}; there are {', '.join(engines.SUITES)}")
    if not engines.is_there(request.param):
        pytest.skip(
            f"the engine {request.param} is not there; `scripts/lab fetch {request.param}` "
            "builds it"
        )
    return request.param


@pytest.fixture()
def any_engine(request, engine_name):
    """Run what no engine does differently on the first engine only, unless all were asked for."""
    asked = request.config.getoption("--engines")
    if asked != "all" and engine_name != asked.split(",")[0]:
        pytest.skip(
            f"the same on every engine: ran on {asked.split(',')[0]}, runs on all with "
            "--engines=all"
        )


@pytest.fixture(scope="session")
def long_tests(request):
    """Skip what takes long by its nature, unless `--nightly` asks for it;
    tests/README.md lists it.
    """
    if not request.config.getoption("--nightly"):
        pytest.skip("takes long: runs with --nightly")


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """Two hosts with the appliance, for all tests of the session that leave it as they found it."""
    with lab_support.running_lab(tmp_path_factory.mktemp("lab"), hosts=2) as running:
        yield running


@pytest.fixture()
def ovsdb(own_network):
    """A real ovsdb-server with the Nuage tables and the bridge alubr0."""
    if not ovsdb_support.is_available():
        pytest.skip("ovsdb-server is not installed")
    with ovsdb_support.Ovsdb() as server:
        yield server
