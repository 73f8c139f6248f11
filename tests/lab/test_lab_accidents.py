"""What the lab can do to its own hosts: cut them apart, kill them, give them another engine or a
Consul that forgets.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nuage_lab.hosts.run import LabError, wait_until
from nuage_lab.hosts.underlay import tunnel_address
from nuage_lab.lab import VSD_URL, Lab
from tests.support import lab as support
from tests.support.invariants import IMAGE

WAIT_S = 60.0


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three hosts without the appliance, and a Consul."""
    with support.running_lab(
        tmp_path_factory.mktemp("three"), hosts=3, appliance=False, consul=True
    ) as running:
        yield running


@pytest.fixture()
def hosts(three):
    """The three hosts, up and not cut, before and after."""
    yield three.hosts()
    three.heal()
    three.up(3, appliance=False)
    assert three.status()["cuts"] == []


def answers(host, address, count=2):
    """Tell whether an address answers one of some echo requests."""
    return (
        host.exec(
            ["busybox", "ping", "-c", str(count), "-i", "0.3", "-W", "1", address], check=False
        ).returncode
        == 0
    )


def gets(host, url):
    """Tell whether a service answers at all."""
    return (
        host.exec(
            ["curl", "-ks", "--max-time", "2", "-o", "/dev/null", url], check=False
        ).returncode
        == 0
    )


def wait_all_answer(hosts):
    """Wait until every host reaches every other one on both networks."""
    for host in hosts:
        for other in hosts:
            if other is not host:
                for address in (other.address, tunnel_address(other.address)):
                    wait_until(
                        lambda host=host, address=address: answers(host, address, count=1),
                        WAIT_S,
                        f"{host.name} reaches {address}",
                    )


def test_a_cut_parts_two_hosts_on_both_networks_and_nobody_else_until_it_is_healed(three, hosts):
    wait_all_answer(hosts)
    h1, h2, h3 = hosts
    three.partition("h1", "h2")
    cuts = three.status()["cuts"]
    three.partition("h2", "h1")
    assert three.status()["cuts"] == cuts and len(cuts) == 4
    for address in (h2.address, tunnel_address(h2.address)):
        assert not answers(h1, address)
    assert not answers(h2, h1.address)
    wait_all_answer([h1, h3])
    wait_all_answer([h2, h3])
    assert all(gets(host, VSD_URL) for host in hosts)
    three.heal("h2", "h1")
    three.heal("h2", "h1")
    wait_all_answer(hosts)


@pytest.mark.parametrize("only, rest", [("control", "tunnel"), ("tunnel", "control")])
def test_one_of_the_two_networks_can_be_cut_alone(three, hosts, only, rest):
    wait_all_answer(hosts[:2])
    address = {"control": hosts[1].address, "tunnel": tunnel_address(hosts[1].address)}
    three.partition("h1", "h2", only=only)
    assert not answers(hosts[0], address[only]) and answers(hosts[0], address[rest])


def test_services_can_be_taken_from_one_host(three, hosts):
    h1, h2, _ = hosts
    urls = {"vsd": VSD_URL, "consul": f"{three.consul_url}/v1/status/leader"}
    for only, rest in (("vsd", "consul"), ("consul", "vsd")):
        three.partition("h1", "infra", only=only)
        assert not gets(h1, urls[only]) and gets(h1, urls[rest]) and gets(h2, urls[only])
        three.heal("infra", "h1")
        assert gets(h1, urls[only])
    three.partition("infra", "h1")
    assert not gets(h1, urls["vsd"]) and not gets(h1, urls["consul"]) and gets(h2, urls["vsd"])
    assert answers(h1, h2.address)


def test_a_killed_host_is_gone_at_once_and_comes_back_with_its_files_and_its_cuts(three, hosts):
    h1, h2, h3 = hosts
    others = {name: found for name, found in three.status()["hosts"].items() if name != "h2"}
    h2.docker("create", "--name", "kept", "--net", "none", IMAGE, "true")
    three.partition("h2", "h3")
    three.kill("h2")
    found = three.status()["hosts"]
    assert not found["h2"]["up"] and not any(found["h2"]["daemons"].values())
    assert not answers(h1, h2.address)
    three.kill("h2")
    three.revive("h2", appliance=False)
    assert "kept" in h2.docker("ps", "-a", "--format", "{{.Names}}").stdout
    h2.docker("rm", "kept")
    assert {
        name: found for name, found in three.status()["hosts"].items() if name != "h2"
    } == others
    wait_all_answer([h1, h2])
    assert not answers(h2, h3.address)
    three.heal()
    wait_all_answer(hosts)


def test_the_next_up_brings_a_killed_host_back(three, hosts):
    three.kill("h3")
    three.up(1, appliance=False)
    wait_all_answer(hosts)


def test_consul_keeps_what_it_holds_over_its_death_and_forgets_it_when_told(three, hosts):
    three.ask_consul("PUT", "/v1/kv/lab/key", {"kept": True})
    three.consul.kill()
    with pytest.raises(LabError):
        three.ask_consul("GET", "/v1/kv/lab/key?raw")
    three.consul.start()
    assert three.ask_consul("GET", "/v1/kv/lab/key?raw") == {"kept": True}
    with pytest.raises(LabError, match="stop it first"):
        three.consul_wipe()
    three.consul.stop()
    three.consul_wipe()
    three.consul.start()
    with pytest.raises(LabError, match="404"):
        three.ask_consul("GET", "/v1/kv/lab/key?raw")
    assert gets(hosts[0], three.consul_url)


@pytest.mark.parametrize(
    "ask, text",
    [
        (lambda lab: lab.partition("h1", "h9"), "no host h9"),
        (lambda lab: lab.partition("h1", "h1"), "two hosts"),
        (lambda lab: lab.partition("h1", "h2", only="vsd"), "cannot cut vsd"),
        (lambda lab: lab.partition("h1", "infra", only="tunnel"), "cannot cut tunnel"),
        (lambda lab: lab.kill("infra"), "holds the networks"),
        (lambda lab: lab.kill("h4"), "no host h4"),
        (lambda lab: lab.revive("h4"), "no host h4"),
        (lambda lab: lab.up(3, engine="27"), "no engine 27"),
        (lambda lab: lab.up(3, engine="26", store="etcd"), "no engine 26 with the cluster store"),
        (lambda lab: lab.up(3, engine="20.10"), "take it down first"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(three, ask, text):
    before = three.status()
    with pytest.raises(LabError, match=text):
        ask(three)
    assert three.status() == before


def test_a_host_has_the_engine_that_was_asked_for_and_its_containers_are_their_own_world(
    tmp_path, engine_name
):
    with support.running_lab(tmp_path, appliance=False, engine=engine_name) as lab:
        host = lab.host("h1")
        for side in ("Server", "Client"):
            assert host.docker("version", "-f", f"{{{{.{side}.Version}}}}").stdout.startswith(
                f"{engine_name}."
            )
        host.docker(
            "run",
            "-d",
            "--name",
            "box",
            "--net",
            "none",
            "--restart=always",
            "--stop-signal",
            "KILL",
            IMAGE,
            "sleep",
            "86400",
        )
        for end in (lambda: None, lambda: host.engine.kill()):
            end()
            host.engine.start()
            wait_until(lambda: host.docker("ps", "-q").stdout, WAIT_S, "the container runs")
            assert host.docker("exec", "box", "cat", "/www/index.html").stdout == "nuage-lab\n"
        assert host.exec(["sh", "-c", "ls /run/docker/netns"]).stdout.strip(), (
            "the host sees the network namespaces of its engine"
        )
    support.check_clean(lab)


DIES_WITH_A_LAB = """
import os, subprocess, sys, time
from pathlib import Path
from tests.support import lab, reaper
reaper.watch()
program = subprocess.Popen(["sleep", "600"], start_new_session=True)
with lab.running_lab(Path(sys.argv[1]), appliance=False):
    print(os.getpid(), program.pid, flush=True)
    time.sleep(600)
"""


def test_tests_that_are_killed_leave_neither_a_lab_nor_a_program_behind(tmp_path):
    reason = support.why_not()
    if reason:
        pytest.skip(reason)
    with subprocess.Popen(
        [sys.executable, "-c", DIES_WITH_A_LAB, tmp_path / "lab"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as dying:
        try:
            pid, program = dying.stdout.readline().split()
            lab = Lab(tmp_path / "lab", prefix=f"nlt{pid}x1")
            assert support.leftovers(lab) and os.path.exists(f"/proc/{program}")
        finally:
            dying.kill()
    wait_until(
        lambda: not support.leftovers(lab) and not os.path.exists(f"/proc/{program}"),
        WAIT_S,
        "what the killed tests left is taken away",
    )
