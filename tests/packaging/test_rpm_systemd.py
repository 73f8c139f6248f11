"""The RPM's scripts and unit under a real systemd: install, start, upgrade, erase, and what they
make of the Go plugin's.
"""

import pytest

from tests.support import rpm, systemd_root
from tests.support.rpm import GO_SCRIPTS, GO_UNIT_FILE, UNIT, go_plugin
from tests.support.systemd_root import CONFIG_FILE, USABLE, wait_unit

SERVICE = systemd_root.UNIT


class Packages:
    """The machine's rpm, on a root with systemd; the packages' scripts see that root and its
    processes only.
    """

    def __init__(self, root, database, base):
        """`database` is a directory of this machine for rpm's."""
        self._root, self._database = root, database
        self("-i", base)

    def __call__(self, *words):
        """What rpm and the scripts said; the test fails when rpm did."""
        # rpm itself is not in the root, but goes there for all but its database:
        around = [word for word in self._root.command([]) if word != "-m"]
        # SQLite takes /proc/PID/root for a link to this machine's own /, so that /var/lib/rpm would
        # be this machine's.
        return rpm.ask(self._root.path("/"), *words, database=self._database, around=around)


@pytest.fixture()
def root(tmp_path):
    """A system that systemd has booted."""
    with systemd_root.running_root(tmp_path / "root") as root:
        root.boot()
        yield root


@pytest.fixture()
def ask_rpm(root, base_rpm, tmp_path):
    """rpm on that system."""
    (tmp_path / "database").mkdir()
    return Packages(root, tmp_path / "database", base_rpm)


def links(root):
    """The links that enable the service."""
    found = root.run("find", "/etc/systemd/system", "-name", SERVICE).stdout.split()
    return sorted(found)


ENABLED = [
    f"/etc/systemd/system/{target}.wants/{SERVICE}"
    for target in ("docker.service", "multi-user.target")
]


def test_the_service_is_enabled_at_install_starts_when_told_and_is_restarted_once_by_an_upgrade(
    root, ask_rpm, rpm_package, newer_rpm
):
    ask_rpm("-i", rpm_package)
    assert links(root) == ENABLED
    assert root.show(SERVICE, "ActiveState", "UnitFileState") == {
        "ActiveState": "inactive",
        "UnitFileState": "enabled",
    }
    root.write(CONFIG_FILE, USABLE, 0o640)
    root.run("systemctl", "start", SERVICE)
    before = root.show(SERVICE, "MainPID", "ActiveState", "NRestarts")
    assert before["ActiveState"] == "active"
    assert root.path("/run/docker/plugins/nuage.sock").is_socket()
    ask_rpm("-U", newer_rpm)
    wait_unit(root, ActiveState="active", NRestarts="0")
    assert root.show(SERVICE, "MainPID") != before["MainPID"] != "0" == before["NRestarts"]
    assert root.path(CONFIG_FILE).read_text() == USABLE and links(root) == ENABLED
    assert ask_rpm("-V", "nuage-libnetwork", "--noconfig") == ""


def test_a_service_that_was_stopped_or_disabled_stays_so_over_an_upgrade(
    root, ask_rpm, rpm_package, newer_rpm
):
    ask_rpm("-i", rpm_package)
    root.run("systemctl", "disable", SERVICE)
    root.write(CONFIG_FILE, USABLE, 0o640)
    ask_rpm("-U", newer_rpm)
    assert root.show(SERVICE, "ActiveState", "UnitFileState") == {
        "ActiveState": "inactive",
        "UnitFileState": "disabled",
    }


def test_erasing_stops_the_service_and_leaves_neither_a_process_nor_a_link_nor_a_socket(
    root, ask_rpm, rpm_package
):
    ask_rpm("-i", rpm_package)
    root.write(CONFIG_FILE, USABLE, 0o640)
    root.run("systemctl", "start", SERVICE)
    assert root.pids(SERVICE)
    ask_rpm("-e", "nuage-libnetwork")
    assert root.show(SERVICE, "ActiveState", "LoadState") == {
        "ActiveState": "inactive",
        "LoadState": "not-found",
    }
    assert links(root) == [] and list(root.path("/run/docker/plugins").iterdir()) == []
    assert "nuage-libnetwork" not in root.run("ps", "-e", "-o", "args").stdout
    assert root.path("/var/log/nuage-libnetwork/nuage-libnetwork.log").exists()
    assert not root.path("/var/lib/nuage-libnetwork/unpacked").exists()
    assert root.run("systemctl", "--failed", "--no-legend").stdout == ""


def test_a_preset_of_the_administrator_decides_whether_it_is_enabled(root, ask_rpm, rpm_package):
    root.write("/etc/systemd/system-preset/10-site.preset", f"disable {SERVICE}\n")
    ask_rpm("-i", rpm_package)
    assert root.show(SERVICE, "UnitFileState") == "disabled" and links(root) == []


@pytest.mark.parametrize("scripts", GO_SCRIPTS)
def test_the_go_plugin_is_replaced_in_place_and_what_ran_and_was_enabled_runs_and_is_enabled(
    root, ask_rpm, rpm_package, scripts, tmp_path
):
    ask_rpm(
        "-i",
        go_plugin(tmp_path / "go", "", GO_SCRIPTS[scripts], program="#!/bin/sh\nexec sleep 1000\n"),
    )
    root.write(CONFIG_FILE, USABLE)
    root.run("systemctl", "enable", "--now", SERVICE)
    assert root.show(SERVICE, "ActiveState", "FragmentPath") == {
        "ActiveState": "active",
        "FragmentPath": f"/{GO_UNIT_FILE}",
    }
    ask_rpm("-U", rpm_package)
    wait_unit(root, ActiveState="active", Type="notify", UnitFileState="enabled", NRestarts="0")
    assert root.show(SERVICE, "FragmentPath").endswith(f"/{UNIT.removeprefix('usr/')}")
    assert links(root) == ENABLED
    assert (
        root.path(CONFIG_FILE).read_text() == USABLE
        and root.path(CONFIG_FILE).stat().st_mode & 0o777 == 0o640
    )
    assert root.path("/run/docker/plugins/nuage.sock").is_socket()
    assert "sleep 1000" not in root.run("ps", "-e", "-o", "args").stdout


def test_the_go_plugin_comes_back_in_place_as_the_documentation_says(
    root, ask_rpm, rpm_package, tmp_path
):
    go = go_plugin(
        tmp_path / "go",
        "%config(noreplace)",
        GO_SCRIPTS["careful"],
        program="#!/bin/sh\n[ $# = 2 ] || exit 2\nexec sleep 1000\n",
    )
    ask_rpm("-i", rpm_package)
    root.write(CONFIG_FILE, USABLE, 0o640)
    root.run("systemctl", "start", SERVICE)
    ask_rpm("-U", "--oldpackage", go)
    wait_unit(root, ActiveState="active", Type="simple", FragmentPath=f"/{GO_UNIT_FILE}")
    assert "sleep 1000" in root.run("ps", "-e", "-o", "args").stdout
    root.run("systemctl", "reenable", SERVICE)
    assert (
        root.show(SERVICE, "UnitFileState") == "enabled"
        and root.path(CONFIG_FILE).read_text() == USABLE
    )
