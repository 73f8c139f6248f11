"""The unit under a real systemd: how it starts, ends, is watched and confined, and what an engine
that starts after it sees.
"""

import json
import re
import stat
import time
from pathlib import Path

import pytest

from nuage_lab import image
from nuage_lab.hosts.http_unix import call
from nuage_lab.hosts.run import LabError, kill_session, wait_until
from nuage_lab.hosts.systemd_root import OTHER_SUITES
from tests.support import lab as lab_support
from tests.support.appliance import ROOT
from tests.support.invariants import IMAGE, address_of, clean, wait_agreement, wait_ping
from tests.support.systemd_root import (
    CONFIG_FILE,
    UNIT,
    USABLE,
    install,
    newer,
    running_root,
    wait_unit,
)

SOCKETS = ("/run/docker/plugins/nuage.sock", "/run/docker/plugins/nuage-ipam.sock")
DROP_IN = f"/etc/systemd/system/{UNIT}.d/test.conf"
# Docs/OPERATIONS.md tells it: for so long a broken appliance holds up the engine
LONGEST_START_S = 30


@pytest.fixture(scope="module")
def package(binary, build):
    """The Debian package, which brings unit and program."""
    return Path(build("scripts/buildDEB.sh")[-1])


@pytest.fixture(scope="module")
def root(package, tmp_path_factory):
    """A Debian that runs, with the package and a configuration, without a VRS, a VSD or
    an engine.
    """
    with running_root(tmp_path_factory.mktemp("unit") / "root") as machine:
        install(machine, package)
        machine.write(CONFIG_FILE, USABLE, 0o640)
        machine.boot()
        yield machine


@pytest.fixture()
def service(root):
    """The service as it ships, running; what a test adds to the unit is taken away."""
    begin(root)
    yield root
    root.path(DROP_IN).unlink(missing_ok=True)
    root.write(CONFIG_FILE, USABLE, 0o640)


def begin(root, **settings):
    """Start the service anew with these settings in a drop-in; a value of a list resets the setting
    first.
    """
    root.run("systemctl", "stop", UNIT, "docker.service", "docker.socket")
    root.write(
        DROP_IN, "[Service]\n" + "".join(f"{key}={value}\n" for key, value in settings.items())
    )
    root.run("systemctl", "daemon-reload")
    root.run("systemctl", "reset-failed")
    if not settings.get("ExecStart"):
        root.run("systemctl", "start", UNIT)


def answers(root, path):
    """True when a plugin socket answers the engine's first question."""
    try:
        return call(root.path(path), "POST", "/Plugin.Activate", timeout=5.0)[0] == 200
    except OSError:
        return False


def status(root):
    return call(root.path("/run/nuage-libnetwork/status.sock"), "GET", "/", timeout=5.0)[1]


def serves_again(root, before, seconds=60.0):
    """Wait until another process of the service serves both sockets."""
    wait_until(
        lambda: root.show(UNIT, "MainPID") not in ("0", before),
        seconds,
        "systemd starts the service anew",
        pause=0.1,
    )
    wait_unit(root, seconds, ActiveState="active")
    assert all(answers(root, path) for path in SOCKETS)


def programs(root):
    """The pids of all processes of the program, whoever started them."""
    return sorted(
        int(pid) for pid in root.run("pgrep", "-x", "nuage-libnetwor", check=False).stdout.split()
    )


# -- start and stop


def test_it_is_ready_exactly_when_its_sockets_answer_with_no_backend_there(service):
    assert all(answers(service, path) for path in SOCKETS)
    components = status(service)["components"]
    assert (
        components["vsd"]["problem"]
        and components["vrs"]["problem"]
        and components["engine"]["problem"]
    )


def test_it_makes_the_plugin_directory_before_there_is_an_engine_and_leaves_it_to_others(service):
    service.run("systemctl", "stop", UNIT)
    service.run(
        "rm",
        "-rf",
        "/run/docker",
        "/run/nuage-libnetwork",
        "/var/log/nuage-libnetwork",
        "/var/lib/nuage-libnetwork",
    )
    service.run("systemctl", "start", UNIT)
    assert all(answers(service, path) for path in SOCKETS)
    assert stat.S_IMODE(service.path("/run/docker/plugins").stat().st_mode) == 0o755
    for name in ("lib", "log"):
        assert stat.S_IMODE(service.path(f"/var/{name}/nuage-libnetwork").stat().st_mode) == 0o750
    service.write("/run/docker/plugins/other.spec", "unix:///run/other.sock\n")
    service.run("systemctl", "stop", UNIT)
    assert [path.name for path in service.path("/run/docker/plugins").iterdir()] == ["other.spec"]


def test_a_stop_is_orderly_and_leaves_no_process_and_no_socket(service):
    service.run("systemctl", "stop", UNIT)
    assert service.show(UNIT, "ActiveState", "Result", "ExecMainStatus") == {
        "ActiveState": "inactive",
        "Result": "success",
        "ExecMainStatus": "0",
    }
    assert programs(service) == [] and not list(service.path("/run/docker/plugins").glob("nuage*"))


def test_a_reload_reads_the_configuration_again_in_the_same_process(service):
    before = service.show(UNIT, "MainPID", "NRestarts")
    service.write(CONFIG_FILE, USABLE.replace("Info", "Debug"), 0o640)
    # Sends the signal and does not wait for what becomes of it.
    service.run("systemctl", "reload", UNIT)
    wait_until(
        lambda: "the configuration was read again; changed: loglevel" in service.journal(UNIT),
        30.0,
        "the changed level",
    )
    service.write(CONFIG_FILE, USABLE + "scope: galaxy\n", 0o640)
    service.run("systemctl", "reload", UNIT)
    wait_until(
        lambda: "the configuration was not changed" in service.journal(UNIT),
        30.0,
        "the refusal of the bad one",
    )
    assert service.show(UNIT, "MainPID", "NRestarts") == before and answers(service, SOCKETS[0])


def test_usr2_to_the_main_process_audits_once(service):
    service.write(CONFIG_FILE, USABLE + "auditinterval: 86400\n", 0o640)
    service.run("systemctl", "restart", UNIT)
    wait_until(
        lambda: status(service)["components"]["audit"]["last"], 60.0, "the audit of the start"
    )
    before = service.journal(UNIT).count("|audit: ")
    service.run("systemctl", "kill", "-s", "USR2", "--kill-who=main", UNIT)
    wait_until(
        lambda: service.journal(UNIT).count("|audit: ") > before, 60.0, "an audit by the signal"
    )
    time.sleep(1.0)
    assert service.journal(UNIT).count("|audit: ") == before + 1


# -- what goes wrong


@pytest.mark.parametrize("which", [0, -1], ids=["the first process", "the last process"])
def test_whichever_process_is_killed_exactly_one_service_is_there_again(service, which):
    before, processes = service.show(UNIT, "MainPID"), service.pids(UNIT)
    assert programs(service) == processes
    service.run("kill", "-KILL", processes[which])
    serves_again(service, before)
    assert len(programs(service)) == len(processes) and programs(service) == service.pids(UNIT)
    assert not set(programs(service)) & set(processes)


@pytest.mark.parametrize("which", ["the process that serves", "every process"])
def test_what_hangs_is_replaced_by_the_watchdog(root, service, which):
    begin(root, WatchdogSec=3)
    before, processes = root.show(UNIT, "MainPID"), root.pids(UNIT)
    root.run("kill", "-STOP", *(processes if which == "every process" else processes[-1:]))
    serves_again(root, before)
    assert "Watchdog timeout" in root.journal(UNIT) and programs(root) == root.pids(UNIT)


def test_it_ships_with_a_watchdog_that_beats(service):
    found = service.show(UNIT, "WatchdogUSec", "WatchdogTimestampMonotonic")
    assert found["WatchdogUSec"] == "30s"
    wait_until(
        lambda: (
            service.show(UNIT, "WatchdogTimestampMonotonic") != found["WatchdogTimestampMonotonic"]
        ),
        60.0,
        "a beat",
        pause=0.5,
    )


def test_it_is_never_given_up_on(root, service):
    begin(root, ExecStart="\nExecStart=/bin/false", RestartSec="20ms")
    root.run("systemctl", "start", "--no-block", UNIT)
    wait_until(
        lambda: int(root.show(UNIT, "NRestarts")) > 20,
        60.0,
        "more starts than systemd usually allows",
        pause=0.2,
    )
    assert root.show(UNIT, "Result") != "start-limit-hit"


def test_a_configuration_that_cannot_be_used_is_told_once_and_a_corrected_one_is_started(service):
    service.write(CONFIG_FILE, USABLE.replace("https://192.0.2.1:8443", ""), 0o640)
    done = service.run("systemctl", "restart", UNIT, check=False)
    assert done.returncode != 0
    time.sleep(3.0)  # longer than RestartSec
    found = service.show(UNIT, "ActiveState", "SubState", "ExecMainStatus", "NRestarts")
    assert found == {
        "ActiveState": "failed",
        "SubState": "failed",
        "ExecMainStatus": "2",
        "NRestarts": "0",
    }
    assert (
        "url: the key is missing or empty"
        in service.run("systemctl", "status", UNIT, check=False).stdout
    )
    service.write(CONFIG_FILE, USABLE, 0o640)
    service.run("systemctl", "start", UNIT)
    assert answers(service, SOCKETS[0])


# -- the engine after it


def engine_start(root):
    """Start the real engine and return the seconds until it was active."""
    start = time.monotonic()
    root.run("systemctl", "start", "docker.service", timeout=120)
    return time.monotonic() - start


def test_the_engine_brings_it_up_and_starts_when_its_sockets_answer(root, service):
    root.run("systemctl", "stop", UNIT)
    root.write(
        "/etc/systemd/system/docker.service.d/test.conf",
        "[Service]\nExecStartPre=/bin/sh -c 'ls /run/docker/plugins >/run/seen'\n",
    )
    root.run("systemctl", "daemon-reload")
    engine_start(root)
    seen = root.path("/run/seen").read_text().split()
    assert {"nuage.sock", "nuage-ipam.sock"} <= set(seen)
    ours, theirs = (
        root.show(unit, "ActiveEnterTimestampMonotonic", "InactiveExitTimestampMonotonic")
        for unit in (UNIT, "docker.service")
    )
    assert int(ours["ActiveEnterTimestampMonotonic"]) <= int(
        theirs["InactiveExitTimestampMonotonic"]
    )
    wait_until(
        lambda: not status(root)["components"]["engine"]["problem"],
        60.0,
        "the appliance reaches the engine",
    )
    before = root.show(UNIT, "InvocationID")
    root.run("systemctl", "restart", "docker.service", timeout=120)
    assert root.show(UNIT, "InvocationID") == before, (
        "a restart of the engine is none of the appliance"
    )
    root.run("systemctl", "stop", UNIT)
    assert root.show("docker.service", "ActiveState") == "active", (
        "the engine does not need it to stay"
    )


@pytest.mark.parametrize(
    "program, longest_s",
    [("/bin/false", 20.0), ("/bin/sleep infinity", 25.0), ("/nonexistent", 20.0)],
)
def test_a_broken_one_holds_up_the_engine_for_its_start_time_at_most(
    root, service, program, longest_s
):
    begin(root, ExecStart=f"\nExecStart={program}", TimeoutStartSec=3)
    assert engine_start(root) < longest_s
    assert root.show("docker.service", "ActiveState") == "active"
    assert root.show(UNIT, "ActiveState") in ("activating", "failed"), "it is still tried"


def test_the_time_for_which_it_may_hold_up_the_engine_is_the_documented_one(service):
    assert service.show(UNIT, "TimeoutStartUSec", "TimeoutStartFailureMode") == {
        "TimeoutStartUSec": f"{LONGEST_START_S}s",
        "TimeoutStartFailureMode": "kill",
    }


def test_an_engine_starts_without_it(root, service):
    root.run("systemctl", "stop", UNIT)
    unit = root.path(f"/usr/lib/systemd/system/{UNIT}")
    text = unit.read_text()
    unit.unlink()
    try:
        root.path(DROP_IN).unlink()
        root.run("systemctl", "daemon-reload")
        assert engine_start(root) < 20.0
    finally:
        unit.write_text(text)
        root.run("systemctl", "daemon-reload")


def test_it_orders_nothing_in_a_circle_on_debian_and_on_rhel(package, tmp_path):
    with running_root(tmp_path / "root") as root:
        install(root, package)
        # The real ones, which are masked elsewhere.
        for name in (
            "openvswitch-switch.service",
            "ovsdb-server.service",
            "ovs-vswitchd.service",
        ):
            root.path(f"/etc/systemd/system/{name}").unlink()
        # As RHEL has it; its parts are ordered like Debian's.
        root.write(
            "/etc/systemd/system/openvswitch.service",
            "[Unit]\nBefore=network.target network.service\nAfter=network-pre.target "
            "ovsdb-server.service "
            "ovs-vswitchd.service\nRequires=ovsdb-server.service ovs-vswitchd.service\n"
            "[Service]\nType=oneshot\nExecStart=/bin/true\n"
            "[Install]\nWantedBy=multi-user.target\n",
        )
        # As the network's own services do, so that all of its targets are really there.
        root.write(
            "/etc/systemd/system/wait-online.service",
            "[Unit]\nWants=network-pre.target network.target\nAfter=network.target\n"
            "Before=network-online.target\n"
            "[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=network-online.target\n",
        )
        root.run(
            "systemctl",
            "enable",
            UNIT,
            "openvswitch.service",
            "wait-online.service",
            "docker.service",
            "docker.socket",
            "openvswitch-switch.service",
        )
        # The tree has no man that could be asked for the page, so the page is looked for.
        done = root.run(
            "systemd-analyze",
            "verify",
            "--man=no",
            UNIT,
            "docker.service",
            "openvswitch.service",
            "openvswitch-switch.service",
            "multi-user.target",
            check=False,
        )
        words = [
            line
            for line in (done.stdout + done.stderr).splitlines()
            if "nuage" in line or "cycle" in line
        ]
        assert done.returncode == 0 and not words, done.stderr
        assert root.path("/usr/share/man/man8/nuage-libnetwork.8.gz").exists()


# -- how it is confined


def test_it_may_do_little_and_every_bound_is_in_force(service):
    for pid in service.pids(UNIT):
        facts = dict(
            line.split(":", 1)
            for line in service.path(f"/proc/{pid}/status").read_text().splitlines()
        )
        allowed = (1 << 12) | (1 << 1)  # CAP_NET_ADMIN, CAP_DAC_OVERRIDE (capability.h)
        assert int(facts["CapBnd"], 16) == allowed and int(facts["CapEff"], 16) == allowed
        assert facts["NoNewPrivs"].strip() == "1" and facts["Seccomp"].strip() == "2"
    for path in ("/etc/x", "/usr/x", "/run/x", "/var/x", "/root/x"):
        done = inside(service, "sh", "-c", f": >{path}", check=False)
        assert done.returncode != 0 and "Read-only file system" in done.stderr, (path, done.stderr)
    for path in (
        "/run/docker/plugins/x",
        "/run/nuage-libnetwork/x",
        "/var/lib/nuage-libnetwork/x",
        "/var/log/nuage-libnetwork/x",
    ):
        inside(service, "sh", "-c", f": >{path}; rm {path}")
    devices = inside(service, "ls", "/dev").stdout.split()
    assert (
        "urandom" in devices
        and "console" not in devices
        and "console" in service.run("ls", "/dev").stdout.split()
    )


def test_another_place_for_the_log_is_given_to_the_unit_too_else_it_is_told(root, service):
    root.run("mkdir", "-p", "/srv/log")
    root.write(CONFIG_FILE, USABLE + "logfile: /srv/log/nuage.log\n", 0o640)
    begin(root)
    assert (
        "the log file /srv/log/nuage.log cannot be written: Read-only file system"
        in root.journal(UNIT)
    )
    begin(root, ReadWritePaths="/srv/log")
    assert "serves /run/docker/plugins/nuage.sock" in root.path("/srv/log/nuage.log").read_text()


def test_it_unpacks_itself_in_its_state_directory_and_leaves_nothing_in_tmp(service):
    assert inside(service, "ls", "-A", "/tmp").stdout == ""
    assert inside(service, "ls", "/var/lib/nuage-libnetwork/unpacked").stdout.split()
    service.run("systemctl", "stop", UNIT)
    assert service.run("ls", "/var/lib/nuage-libnetwork/unpacked").stdout == ""


def test_a_start_that_finds_no_room_to_unpack_leaves_nothing_behind_however_often(service):
    state = "/var/lib/nuage-libnetwork"
    service.run("systemctl", "stop", UNIT)
    service.run("mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", state)
    try:
        service.run("systemctl", "start", "--no-block", UNIT)
        wait_until(lambda: int(service.show(UNIT, "NRestarts")) > 2, 60.0, "some starts", pause=0.2)
        service.run("systemctl", "stop", UNIT)
        assert "Failed to extract" in service.journal(UNIT)
        assert service.run("find", f"{state}/unpacked", "-mindepth", "1").stdout == ""
    finally:
        service.run("umount", state)
    service.run("systemctl", "start", UNIT)
    assert all(answers(service, path) for path in SOCKETS)


def inside(root, *argv, check=True):
    """Run argv in the mount namespace of the service."""
    return root.run("nsenter", "-t", root.show(UNIT, "MainPID"), "-m", "--", *argv, check=check)


def test_its_exposure_is_low_by_the_measure_of_systemd(service):
    done = service.run("systemd-analyze", "security", "--threshold=25", UNIT, check=False)
    assert done.returncode == 0, done.stdout[-200:]


def test_every_bound_has_its_reason_beside_it():
    lines = (
        (ROOT / "rpmbuild" / UNIT)
        .read_text()
        .split("[Service]")[1]
        .split("[Install]")[0]
        .splitlines()
    )
    confining = re.compile(
        r"(Protect|Private|Restrict|SystemCall|Capability|NoNew|Lock|Memory|UMask|ProcSubset)\w*="
    )
    blocks = "\n".join(lines).split("\n#")
    assert not confining.search(blocks[0]), "a setting stands before the first comment"
    assert sum(len(confining.findall(block)) for block in blocks[1:]) >= 24


@pytest.mark.parametrize("suite", OTHER_SUITES)
def test_an_older_and_a_newer_systemd_know_the_unit_and_confine_it_alike(
    package, tmp_path, long_tests, suite
):
    with running_root(tmp_path / "root", suite=suite) as root:
        install(root, package)
        root.write(CONFIG_FILE, USABLE, 0o640)
        root.boot()
        assert all(answers(root, path) for path in SOCKETS)
        root.run("systemctl", "reload", UNIT)
        wait_until(
            lambda: "the configuration was read again; changed: nothing" in root.journal(UNIT),
            30.0,
            "the reload",
        )
        done = root.run("systemd-analyze", "verify", "--man=no", UNIT)
        assert not done.stdout + done.stderr
        for path in ("/etc/x", "/usr/x", "/run/x", "/var/x"):
            assert (
                "Read-only file system"
                in inside(root, "sh", "-c", f": >{path}", check=False).stderr
            )
        before = root.show(UNIT, "MainPID")
        root.run("kill", "-KILL", before)
        serves_again(root, before)
        assert engine_start(root) < 60.0


# -- in a host with a VSD, a VRS and containers


@pytest.fixture(scope="module")
def machine(package, tmp_path_factory):
    """A lab host whose engine and appliance are services of a real systemd: (lab, root)."""
    with lab_support.running_lab(tmp_path_factory.mktemp("lab"), appliance=False) as lab:
        host = lab.host("h1")
        host.engine.stop()
        with running_root(host.directory / "systemd", host) as root:
            host.write_config("/etc/ssl/vsd.pem")
            root.write(CONFIG_FILE, host.path(CONFIG_FILE).read_text(), 0o640)
            root.put(lab.ca_file, "/etc/ssl/vsd.pem")
            root.put(lab.state / "busybox.tar", "/root/busybox.tar")
            root.put(package, "/root/package.deb")
            root.run("dpkg", "--force-confold", "-i", "/root/package.deb", timeout=120)
            root.run("systemctl", "enable", "docker.service", "docker.socket")
            root.boot()
            image.load(root, "/root/busybox.tar")
            yield lab, root


def test_containers_of_a_host_ping_through_an_upgrade_a_kill_and_a_restart_of_the_service(
    machine, package, tmp_path
):
    lab, root = machine
    place = {
        "organization": "Enterprise",
        "domain": "Domain",
        "zone": "Zone",
        "subnet": "Subnet 2",
        "user": "admin",
    }
    options = [word for key, value in place.items() for word in ("--ipam-opt", f"{key}={value}")]
    root.docker(
        "network", "create", "--driver=nuage", "--ipam-driver=nuage-ipam", *options, "MyNet"
    )
    for name in ("web", "db"):
        root.docker(
            "run",
            "-d",
            "--name",
            name,
            "--net",
            "MyNet",
            "--restart=always",
            "--stop-signal",
            "KILL",
            IMAGE,
            "httpd",
            "-f",
            "-h",
            "/www",
        )
    address = address_of(root, "db", "MyNet")
    wait_agreement(lab, root)
    wait_ping(root, "web", address)
    assert (
        root.docker(
            "exec", "web", "timeout", "25", "wget", "-q", "-O", "-", f"http://{address}/"
        ).stdout
        == "nuage-lab\n"
    )
    ping = root.popen(["docker", "exec", "web", "ping", "-i", "0.1", address])
    try:
        before = root.show(UNIT, "InvocationID")
        install(root, newer(package, tmp_path))
        assert (
            root.show(UNIT, "InvocationID") != before and root.show(UNIT, "ActiveState") == "active"
        )
        wait_agreement(lab, root)
        before = root.show(UNIT, "MainPID")
        root.run("kill", "-KILL", before)
        serves_again(root, before)
        root.run("systemctl", "restart", UNIT)
        wait_agreement(lab, root)
        root.docker("exec", "web", "sh", "-c", "kill -INT $(pidof ping)")
        text = ping.communicate(timeout=30)[0]
    finally:
        kill_session(ping)
    sent, received = map(
        int, re.search(r"(\d+) packets transmitted, (\d+) packets received", text).groups()
    )
    assert sent == received > 20, text[-500:]
    root.run("systemctl", "restart", "docker.service", timeout=120)
    wait_agreement(lab, root)
    wait_ping(root, "web", address_of(root, "db", "MyNet"))
    assert (
        json.loads(root.docker("network", "inspect", "MyNet").stdout)[0]["IPAM"]["Options"] == place
    )
    clean(root)
    wait_agreement(lab, root)


def test_without_network_rights_the_user_reads_what_the_unit_must_allow(machine):
    _, root = machine
    root.write(
        DROP_IN, "[Service]\nCapabilityBoundingSet=\nCapabilityBoundingSet=CAP_DAC_OVERRIDE\n"
    )
    root.run("systemctl", "daemon-reload")
    root.run("systemctl", "restart", UNIT)
    root.docker(
        "network",
        "create",
        "--driver=nuage",
        "--ipam-driver=nuage-ipam",
        "--ipam-opt",
        "organization=Enterprise",
        "--ipam-opt",
        "domain=Domain",
        "--ipam-opt",
        "zone=Zone",
        "--ipam-opt",
        "subnet=Subnet 1",
        "Small",
    )
    try:
        with pytest.raises(LabError, match="needs root and CAP_NET_ADMIN"):
            root.docker("run", "--rm", "--net", "Small", IMAGE, "true")
    finally:
        root.path(DROP_IN).unlink()
        root.run("systemctl", "daemon-reload")
        root.run("systemctl", "restart", UNIT)
        clean(root)
