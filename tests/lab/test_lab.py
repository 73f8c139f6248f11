"""The lab keeps its own promises; without them no other integration test means anything."""

import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from nuage_lab.hosts.cgroups import parse_hierarchies
from nuage_lab.hosts.run import LabError, wait_until
from nuage_lab.lab import Lab
from nuage_lab.vrs.controller_faults import ControllerFaults
from tests.support import lab as support

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Two hosts without the appliance: their rows are ours alone."""
    with support.running_lab(tmp_path_factory.mktemp("bare"), hosts=2, appliance=False) as running:
        yield running


@pytest.fixture(scope="module")
def vsd(bare):
    return support.Vsd(bare, bare.host("h1"))


@pytest.fixture
def plug(bare, vsd):
    """Plug a port of a VSD container by hand; returns the port with its container."""
    ports = []

    def plug_one(host="h1", subnet="Subnet 1", domain="Domain", attach=True):
        number = uuid.uuid4()
        mac = "7a:42:" + ":".join(f"{byte:02x}" for byte in number.bytes[:4])
        port = support.Port(bare.host(host), mac, number.hex * 2)
        ports.append(port)
        port.container = vsd.create_container(port.uuid, mac, subnet, domain)
        port.address = port.container["interfaces"][0]["IPAddress"]
        gateway = port.container["interfaces"][0]["gateway"]
        port.make_device(port.address, gateway)
        port.gateway = gateway
        if attach:
            port.attach()
            port.wait_resolved()
        return port

    yield plug_one
    bare.host("h1").ask_controller({"faults": {}})
    for port in ports:
        port.remove()
        vsd.call("DELETE", f"containers/{port.container['ID']}?responseChoice=1")


# -- up and down


def daemons(lab):
    return {name: host["daemons"] for name, host in lab.status()["hosts"].items()}


def test_a_second_up_changes_nothing(bare):
    before = daemons(bare)
    bare.up(2, appliance=False)
    assert daemons(bare) == before
    assert all(pid for name, pid in before["h1"].items() if name != "appliance")


def test_up_starts_again_what_of_a_lab_has_died(bare):
    bare.host("h2").engine.kill()
    assert not bare.host("h2").engine.is_running()
    bare.up(2, appliance=False)
    assert bare.host("h2").docker("ps").returncode == 0


def test_down_leaves_nothing_behind(tmp_path):
    with support.running_lab(tmp_path, hosts=2, appliance=False) as lab:
        lab.host("h1").docker(
            "run",
            "-d",
            "--name",
            "left-running",
            "--net",
            "none",
            "nuage-lab/busybox",
            "sleep",
            "600",
        )
        assert support.leftovers(lab), "the check sees a running lab"
    support.check_clean(lab)
    assert not [path.name for path in tmp_path.iterdir() if path.name not in ("lock", "log")]
    lab.down()


@pytest.mark.parametrize("delay_s", [0.1, 0.2, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_down_cleans_what_a_killed_up_left(tmp_path, delay_s, number):
    lab = support.new_lab(tmp_path)
    try:
        interrupt_up(lab, delay_s, number)
    finally:
        lab.down()
    support.check_clean(lab)


def test_the_next_up_cleans_what_a_killed_up_left(tmp_path):
    lab = support.new_lab(tmp_path)
    try:
        interrupt_up(lab, 0.5, signal.SIGKILL)
        lab = Lab(tmp_path, lab.place.prefix)
        lab.up(1, appliance=False)
        assert lab.host("h1").docker("ps").returncode == 0
    finally:
        lab.down()
    support.check_clean(lab)


def interrupt_up(lab, delay_s, number):
    up = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "nuage_lab",
            "--state",
            str(lab.state),
            "--prefix",
            lab.place.prefix,
            "up",
            "--no-appliance",
        ],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(delay_s)
    up.send_signal(number)
    up.wait(timeout=60)


def test_two_ups_at_once_are_one(tmp_path):
    lab = support.new_lab(tmp_path)
    problems = []

    def up():
        try:
            Lab(tmp_path, lab.place.prefix).up(1, appliance=False)
        except LabError as error:
            problems.append(error)

    threads = [threading.Thread(target=up) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert all(daemons(lab)["h1"][name] for name in ("dockerd", "controller"))
    finally:
        lab.down()


def test_a_lab_refuses_the_names_of_another_one(bare, tmp_path):
    with pytest.raises(LabError, match="belong to the lab in"):
        Lab(tmp_path, bare.place.prefix).up()
    with pytest.raises(LabError, match="belong to the lab in"):
        Lab(tmp_path, bare.place.prefix).down()
    assert bare.host("h1").is_up()


def test_a_host_works_on_the_version_2_cgroups_alone(tmp_path):
    if not any(h.version == 2 for h in parse_hierarchies(Path("/proc/self/mountinfo").read_text())):
        pytest.skip("no version 2 cgroup hierarchy is mounted here")
    with support.running_lab(tmp_path, appliance=False, cgroup_mode="v2") as lab:
        host = lab.host("h1")
        assert host.docker("info", "-f", "{{.CgroupVersion}}").stdout.strip() == "2"
        assert (
            "uid=0" in host.docker("run", "--rm", "--net", "none", "nuage-lab/busybox", "id").stdout
        )
    support.check_clean(lab)


@pytest.mark.parametrize(
    "text, expected",
    [
        (
            (
                "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 "
                "rw,nsdelegate,memory_recursiveprot\n"
            ),
            [("", 2)],
        ),
        (
            "33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
            "34 30 0:30 / /sys/fs/cgroup/systemd rw shared:10 - cgroup cgroup "
            "rw,xattr,release_agent=/x,name=systemd\n"
            "35 30 0:31 / /sys/fs/cgroup/unified rw shared:11 - cgroup2 cgroup2 rw\n",
            [("cpu,cpuacct", 1), ("none,name=systemd", 1), ("", 2)],
        ),
        (
            (
                "36 30 0:32 / /mnt/cgroup rw - cgroup cgroup rw,cpu\n25 1 8:1 / / rw - ext4 "
                "/dev/sda rw\n"
            ),
            [],
        ),
    ],
)
def test_every_layout_of_cgroups_is_understood(text, expected):
    assert [(h.controllers, h.version) for h in parse_hierarchies(text)] == expected


# -- the VRS


def test_a_port_plugged_by_hand_is_resolved_and_pings(plug):
    first, second = plug(), plug()
    row = first.row()
    assert (row["ip_addr"], row["subnet_mask"], row["gateway"]) == (
        first.address,
        "255.255.255.0",
        "10.21.58.1",
    )
    assert (row["nuage_domain"], row["nuage_zone"], row["nuage_network"]) == (
        "Domain",
        "Zone",
        "Subnet 1",
    )
    assert row["evpn_id"] and row["vrf_id"]
    assert first.reaches(second.address)
    assert first.reaches(first.gateway)


def test_tcp_works_between_two_ports(plug):
    first, second = plug(), plug()
    server = second.host.popen(
        [
            "ip",
            "netns",
            "exec",
            second.namespace,
            "busybox",
            "nc",
            "-l",
            "-p",
            "7",
            "-e",
            "busybox",
            "cat",
        ]
    )
    try:
        wait_until(
            lambda: (
                "0.0.0.0:7 " in second.run("busybox", "netstat", "-tln").stdout
                or ":::7 " in second.run("busybox", "netstat", "-tln").stdout
            ),
            60,
            "the server listens",
        )
        answer = first.run(
            "busybox", "timeout", "25", "busybox", "nc", second.address, "7", input="x" * 100_000
        )
        assert answer.stdout == "x" * 100_000
    finally:
        server.kill()
        server.wait()


def test_subnets_of_a_domain_are_routed_and_domains_are_apart(plug):
    port, neighbour, stranger = (
        plug(),
        plug(subnet="Subnet 2"),
        plug(subnet="Subnet 2", domain="Domain B"),
    )
    assert port.reaches(neighbour.address)
    assert port.reaches("10.21.59.1"), "the gateway of the other subnet answers too"
    assert neighbour.row()["evpn_id"] != stranger.row()["evpn_id"]
    # Both subnets are 10.21.59.0/24, so the stranger's address is nobody's here, or the neighbour's
    # own.
    assert not stranger.pings(port.address)
    if stranger.address != neighbour.address:
        assert not port.pings(stranger.address, count=2)


def test_ports_reach_each_other_across_hosts(bare, plug):
    near, far, routed = plug(), plug(host="h2"), plug(host="h2", subnet="Subnet 2")
    try:
        bare.admin("GET", "/vsc/endpoints")
    except LabError:
        pytest.skip("this VSD simulator does not tell where endpoints are (GET /vsc/endpoints)")
    assert near.reaches(far.address)
    assert near.reaches(routed.address)
    assert routed.reaches(near.address)


def test_an_unknown_uuid_passes_no_traffic(plug, bare):
    good, bad = plug(), plug(attach=False)
    bad.uuid = "f" * 64
    bad.attach()
    wait_until(
        lambda: bare.host("h1").ask_controller({})["absent"],
        60,
        "VSD was asked about the unknown container",
    )
    assert bad.row()["ip_addr"] == "" and bad.row()["evpn_id"] == 0
    assert not bad.pings(good.address, count=2)
    assert not bad.pings(bad.gateway, count=2)


def test_a_port_cannot_speak_with_an_address_that_is_not_its_own(plug):
    port, neighbour = plug(), plug()
    assert port.reaches(neighbour.address)
    port.run("ip", "addr", "add", "10.21.58.200/24", "dev", "eth0")
    port.run("ip", "addr", "del", f"{port.address}/24", "dev", "eth0")
    assert not port.pings(neighbour.address, count=2)
    port.run("ip", "addr", "add", f"{port.address}/24", "dev", "eth0")
    port.run("ip", "link", "set", "eth0", "address", "7a:42:ff:ff:ff:ff")
    assert not port.pings(neighbour.address, count=2)


def test_a_container_deleted_in_the_vsd_loses_its_address_and_its_traffic(plug, vsd):
    port, neighbour = plug(), plug()
    assert port.reaches(neighbour.address)
    vsd.delete_container(port.container)
    wait_until(lambda: not port.row()["ip_addr"], 60, "the row is blanked")
    assert port.row()["evpn_id"] == 0
    assert not port.pings(neighbour.address, count=2)


def test_a_row_that_waits_is_resolved_as_soon_as_the_vsd_has_the_container(plug, vsd):
    port = plug(attach=False)
    vsd.delete_container(port.container)
    port.attach()
    time.sleep(0.3)
    assert port.row()["ip_addr"] == ""
    port.container = vsd.create_container(port.uuid, port.mac, "Subnet 1")
    assert (
        port.wait_resolved(timeout=4)["ip_addr"] == port.container["interfaces"][0]["IPAddress"]
    ), "not only when it is asked for again, in five seconds"


def test_the_vsd_learns_where_a_container_runs_and_that_it_is_gone(plug, vsd):
    port = plug()
    container = f"containers/{port.container['ID']}"
    wait_until(
        lambda: vsd.get(container)[0]["status"] == "RUNNING",
        60,
        "VSD shows the container as running",
    )
    assert vsd.get(container)[0]["hypervisorIP"] == port.host.address
    port.detach()
    wait_until(
        lambda: vsd.get(container)[0]["status"] == "DELETE_PENDING",
        60,
        "VSD shows the container as gone",
    )


def test_flows_return_after_each_program_of_the_host_was_killed(plug):
    port, neighbour = plug(), plug()
    host = port.host
    for daemon in (host.switch, host.database, host.controller):
        daemon.kill()
        daemon.start()
        wait_until(
            lambda: port.pings(neighbour.address, count=1),
            60,
            f"traffic after the end of {daemon.name}",
        )
    assert port.row()["ip_addr"] == port.address


def test_a_removed_row_takes_its_flows_with_it_at_once(plug):
    port, neighbour = plug(), plug()
    assert port.reaches(neighbour.address)
    port.detach()

    def flows():
        return port.host.exec(["ovs-ofctl", "dump-flows", "alubr0"]).stdout

    # Without the event they would be found when all is read again, every five seconds.
    wait_until(lambda: port.mac not in flows(), 4, "the flows are gone")


def test_thirty_rows_at_once_are_resolved(plug):
    ports = [plug(subnet="Big", attach=False) for _ in range(30)]
    threads = [threading.Thread(target=port.attach) for port in ports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for port in ports:
        assert port.wait_resolved()["ip_addr"] == port.address


def test_faults_can_be_ordered(plug, bare):
    controller = bare.host("h1").ask_controller
    assert controller({"faults": {"never": ["all"]}})["faults"]["never"] == ["all"]
    port = plug(attach=False)
    port.attach()
    time.sleep(0.5)
    assert port.row()["ip_addr"] == ""
    controller({"faults": {"wrong_address": True}})
    assert port.wait_resolved()["ip_addr"] != port.address
    port.detach()
    controller({"faults": {"delay_s": 1.0}})
    start = time.monotonic()
    port.attach()
    assert port.wait_resolved()["ip_addr"] == port.address
    assert time.monotonic() - start > 0.9
    assert "error" in controller({"faults": {"delay_s": "soon"}})


def test_a_wrong_address_stays_in_the_subnet():
    answer = {"ip": "10.21.59.2", "netmask": "255.255.255.0"}
    assert ControllerFaults(wrong_address=True).spoil(answer)["ip"] == "10.21.59.130"
    assert ControllerFaults().spoil(answer) is answer
