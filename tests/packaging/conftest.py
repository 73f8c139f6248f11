"""What the tests of the artifacts share: each artifact is built once in a test run, whichever
worker asks for it first.
"""

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import rpm

ROOT = Path(__file__).resolve().parents[2]
_BUILD_S = 900


class Builds:
    """Build scripts that ran in this test run, and what they printed; shared by the workers through
    files in `directory`.
    """

    def __init__(self, directory):
        self._directory = directory

    def __call__(self, script, *words, **environment):
        """The lines that `scripts/…` or `build/…` printed; it runs when no worker has run it yet.
        The test fails when it failed.
        """
        label = " ".join(
            [script, *words, *(f"{key}={value}" for key, value in sorted(environment.items()))]
        )
        place = self._directory / ("built " + label.replace("/", "_"))
        with open(f"{place}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not place.exists():
                done = subprocess.run(
                    [str(ROOT / script), *words],
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=_BUILD_S,
                )
                place.write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
        code, output, errors = json.loads(place.read_text())
        assert code == 0, f"{label} ended with {code}:\n{errors[-4000:]}"
        return output.splitlines()


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Runs a build script, once: build("scripts/buildRPM.sh") -> the lines that it printed."""
    base = tmp_path_factory.getbasetemp()
    return Builds(base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base)


@pytest.fixture(scope="session")
def binary(build):
    """dist/nuage-libnetwork, made of the sources as they are now."""
    if not (ROOT / "dist" / "nuage-libnetwork").exists():
        pytest.skip("the tests have no network to build the first binary: run scripts/build-binary")
    return Path(build("scripts/build-binary")[-1])


# --- the RPM


@pytest.fixture(scope="session")
def rpm_tools():
    """Skip when the tools of RPM are missing."""
    missing = [
        package
        for program, package in (("rpmbuild", "rpm"), ("rpm2cpio", "rpm"), ("cpio", "cpio"))
        if not shutil.which(program)
    ]
    if missing:
        pytest.skip(f"needs the packages {', '.join(missing)}; scripts/setup installs them")
    if os.geteuid() != 0:
        pytest.skip("needs root to install packages in a root of its own")


@pytest.fixture(scope="session")
def rpm_packages(rpm_tools, binary, build):
    """The paths of the binary and the source package."""
    return build("scripts/buildRPM.sh")


@pytest.fixture(scope="session")
def rpm_package(rpm_packages):
    """The binary package."""
    return rpm_packages[0]


@pytest.fixture(scope="session")
def newer_rpm(rpm_packages, tmp_path_factory):
    """A later version, with a configuration of its own."""
    return rpm.repackaged(
        rpm_packages[1],
        "99.1",
        tmp_path_factory.mktemp("newer"),
        f'echo "# new" >>"$RPM_BUILD_ROOT/{rpm.CONFIG}"',
    )


@pytest.fixture(scope="session")
def base_rpm(rpm_tools, tmp_path_factory):
    """What stands for RHEL 8."""
    return rpm.base_package(tmp_path_factory.mktemp("base"))
