"""Roots with a real systemd for tests: own names, ended in any case, skipped where none can run."""

import contextlib
import itertools
import os
import shutil
import subprocess

import pytest

from nuage_lab.hosts import cgroups, systemd_root
from nuage_lab.hosts.run import LabError, wait_until

CONFIG_FILE = "/etc/default/nuage-libnetwork.yaml"
# A VSD that nobody can reach: the appliance needs none to serve.
USABLE = (
    "url: https://192.0.2.1:8443\nusername: Y3Nwcm9vdA==\npassword: Y3Nwcm9vdA==\norganization: "
    "Y3Nw\nscope: local\nloglevel: Info\n"
)
UNIT = "nuage-libnetwork.service"
_numbers = itertools.count(1)


def why_not(suite=systemd_root.SUITE):
    """Return why no root with a suite's systemd can run here, or None."""
    if os.geteuid():
        return "a root with systemd needs root"
    missing = [name for name in ("unshare", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"a root with systemd needs {', '.join(missing)}: run scripts/setup"
    try:
        found = cgroups.used_hierarchies()
    except LabError as error:
        return str(error)
    if not any(h.version == 2 or "name=systemd" in h.controllers for h in found):
        return "no cgroup hierarchy that systemd could use is mounted"
    if not systemd_root.is_there(suite):
        return (
            f"the tree with the systemd of {suite} is not there: run scripts/lab "
            f"fetch{'' if suite == systemd_root.SUITE else ' all'}"
        )
    return None


@contextlib.contextmanager
def running_root(directory, host=None, suite=systemd_root.SUITE):
    """A root that is up and not booted; its journal is printed when the test fails, and nothing is
    left of it in any case.
    """
    reason = why_not(suite)
    if reason:
        pytest.skip(reason)
    root = systemd_root.SystemdRoot(directory, f"nlt{os.getpid()}s{next(_numbers)}", host, suite)
    try:
        root.up()
        yield root
    except BaseException:
        with contextlib.suppress(LabError):
            print(root.journal()[-20_000:])
        raise
    finally:
        root.down()


def install(root, package, *options):
    """`dpkg -i` of a package of this machine; returns what it said."""
    root.put(package, "/root/package.deb")
    done = root.run("dpkg", *options, "-i", "/root/package.deb", timeout=120)
    return done.stdout + done.stderr


def newer(package, directory, version="99.0-1"):
    """The same package with a higher version, made into a directory."""
    tree, target = directory / "newer", directory / f"newer_{version}.deb"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True, timeout=60)
    control = tree / "DEBIAN" / "control"
    lines = [
        f"Version: {version}" if line.startswith("Version: ") else line
        for line in control.read_text().splitlines()
    ]
    control.write_text("\n".join(lines) + "\n")
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, target],
        check=True,
        timeout=60,
        capture_output=True,
    )
    shutil.rmtree(tree)
    return target


def wait_unit(root, seconds=60.0, unit=UNIT, **wanted):
    """Wait until a unit's properties are these, as ActiveState="active"; returns them."""

    def has_them():
        found = root.show(unit, "Id", *wanted)
        return found if all(found[key] == value for key, value in wanted.items()) else None

    return wait_until(has_them, seconds, f"{unit} has {wanted}", pause=0.1)
