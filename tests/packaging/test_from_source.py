"""`pip install .`: the package with its console script, in a venv of its own."""

import importlib.util
import subprocess
import sys
import sysconfig

import pytest

from nuage_appliance import __version__
from tests.support.appliance import ROOT

BUILD_S = 300.0


def run(*words):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=BUILD_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The console script of a venv in which the package was installed; what it needs is this
    environment's, as the tests have no network.
    """
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed, and the tests have no network to get it")
    directory = tmp_path_factory.mktemp("venv")
    sources = directory / "sources"
    sources.mkdir()
    # A copy: a build leaves files beside its sources.
    for name in (
        "nuage_appliance",
        "pyproject.toml",
        "requirements.txt",
    ):
        run("cp", "-r", ROOT / name, sources)
    run(sys.executable, "-m", "venv", "--without-pip", directory / "venv")
    site = next((directory / "venv").glob("lib/python3*/site-packages"))
    run(
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "-q",
        # Else pip takes away what this environment has installed: the tests' own appliance.
        "--ignore-installed",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--prefix",
        directory / "venv",
        sources,
    )
    (site / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    script = directory / "venv" / "bin" / "nuage-libnetwork"
    lines = script.read_text().splitlines(keepends=True)
    # pip wrote the name of the Python that it ran with.
    script.write_text("".join([f"#!{directory}/venv/bin/python\n", *lines[1:]]))
    return script


def test_the_console_script_tells_the_version(program):
    assert run(program, "-version") == f"nuage-libnetwork {__version__}\n"


def test_every_module_is_installed_and_neither_the_lab_nor_the_tests(program):
    site = next(program.parents[1].glob("lib/python3*/site-packages"))
    installed = {path.relative_to(site).as_posix() for path in site.rglob("*.py")}
    assert installed == {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "nuage_appliance").rglob("*.py")
    }
