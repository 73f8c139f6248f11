"""Hosts in Consul (docs/MULTIHOST.md): registration and health, and what becomes of the addresses
of a host that is lost.

The times of core/membership.py are shorter here, apart from those that Consul does not let be
shorter.
"""

import json
import re
import signal
import time

import pytest

from tests.support.cluster import ROOT, Site, wait
from tests.support.plugin_calls import reserved
from tests.support.shifted_clock import launcher

GC_AFTER_S = 3
_TIMES = {"TTL_S": 10, "BEAT_S": 1.0, "LOOK_S": 0.5}
_DELETED = re.compile(
    r"host (\S+) is lost for more than \d+ s: its container (.*) is deleted from the VSD, "
    r"which returns (\S+)"
)


class Trio(Site):
    """Three hosts; what their VRS would tell the VSD is told by the test."""

    def __init__(self, simulator):
        super().__init__(
            simulator, 3, hostgcafter=GC_AFTER_S, **launcher(grace_s=0.4, membership=_TIMES)
        )

    def service(self, host):
        """The id of a host's service."""
        return f"{ROOT}-site-{self.number}-{host.name}"

    def check(self, host):
        """The state of a host's check, None when it is not registered."""
        return self.consul.checks().get(self.service(host), (None, ""))[0]

    def run(self, host, name, network="n", ip=""):
        """`docker run` until the VSD says that it runs."""
        endpoint = host.engine.run(name, self.network(host, network)["Id"], ip)
        host.wait_attached(endpoint)
        self.report(host, name)
        return endpoint

    def report(self, host, name):
        """The VRS's controller has seen a container run."""
        one = wait(lambda: self.container(host, name), f"{name} on the VSD", host)
        self.simulator.admin(
            "POST",
            "/vsc/report",
            {
                "uuid": one["UUID"],
                "mac": one["interfaces"][0]["MAC"],
                "state": "running",
                "hypervisor_ip": "192.0.2.7",
                "vrs_id": host.name,
            },
        )

    def make_by_hand(self, host):
        """A container that somebody else made on the VSD with the host's id; returns what takes it
        away again.
        """
        client = self.simulator.client()
        client.me()
        subnet = client.get("/subnets", filter=f'name == "{self.options("n")["subnet"]}"')[2][0][
            "ID"
        ]
        status, _, body = client.post(
            "/containers",
            {
                "UUID": "ab" * 32,
                "name": "by hand",
                "externalID": host.name,
                "interfaces": [
                    {"name": "by-hand", "MAC": "02:00:00:00:ab:ab", "attachedNetworkID": subnet}
                ],
            },
        )
        assert status == 201, body
        return lambda: client.delete(f"/containers/{body[0]['ID']}?responseChoice=1")

    @staticmethod
    def container(host, name):
        """The VSD's container of this name and host, or None."""
        return next((one for one in host.containers() if one["name"] == name), None)

    def vrs(self, host, state):
        """The VSD has lost a host's VRS, or it is back."""
        self.simulator.admin("POST", "/vsc/vrs", {"vrs_id": host.name, "state": state})

    def leader(self):
        """The elected one of the hosts that run, once there is exactly one."""

        def elected():
            found = [
                host
                for host in self.hosts
                if host.appliance.process.poll() is None and self.component(host)["is_elected"]
            ]
            return found if len(found) == 1 else None

        return wait(elected, "one elected host", *self.hosts)[0]

    def deletions(self, before=()):
        """Who says that which container of which host was deleted with which address; without those
        before.
        """
        found = [
            (host.name, *words)
            for host in self.hosts
            for words in _DELETED.findall(host.appliance.log())
        ]
        for one in before:
            found.remove(one)
        return found


def wait_audited(host, condition, what):
    """Wait for a state that the audits of a host bring about."""

    def is_so():
        host.appliance.audit()
        time.sleep(0.3)
        return condition()

    wait(is_so, what, host)


@pytest.fixture(scope="module")
def shared_trio(simulator):
    """Three hosts with a network."""
    made = Trio(simulator)
    yield made
    made.close()


@pytest.fixture
def trio(shared_trio):
    """The same with a network on every host; all run and are healthy in the beginning."""
    for host in shared_trio.hosts:
        if host.appliance.process.poll() is not None:
            host.restart()
    shared_trio.create(shared_trio.hosts[0], "n")
    shared_trio.wait_everywhere("n")
    wait(
        lambda: [shared_trio.check(host) for host in shared_trio.hosts] == ["passing"] * 3,
        "three healthy hosts",
        *shared_trio.hosts,
    )
    yield shared_trio
    for host in shared_trio.hosts:
        shared_trio.vrs(host, "back")
    shared_trio.restore()


def test_each_host_registers_with_a_check_that_tells_how_its_backends_are(trio):
    first, second, _ = trio.hosts
    note = "VSD and VRS answer"
    wait(
        lambda: list(trio.consul.checks().values()) == [("passing", note)] * 3,
        "three notes",
        *trio.hosts,
    )
    services = trio.consul.ask("GET", f"/v1/catalog/service/{ROOT}")
    assert {(one["ServiceID"], tuple(one["ServiceTags"])) for one in services} == {
        (trio.service(host), (f"site-{trio.number}",)) for host in trio.hosts
    }
    facts = {
        "state": "up",
        "version": first.appliance.status()["version"],
        "engine": first.api.release,
        "vsd": "",
        "vrs": "",
    }
    for host in trio.hosts:
        wait(
            lambda host=host: trio.consul.get(f"{trio.root}hosts/{host.name}") == facts,
            f"the facts of {host.name}",
            host,
        )
    wait(
        lambda: (
            trio.component(first)["hosts"]
            == {host.name: {**facts, "check": "passing"} for host in trio.hosts}
        ),
        "them in the status of another",
        first,
    )
    second.ovsdb.stop()
    wait(lambda: trio.check(second) == "warning", "a warning without the VRS", second)
    output = trio.consul.checks()[trio.service(second)][1]
    assert output.startswith("VRS: ") and second.ovsdb.socket in output, output
    wait(
        lambda: trio.component(first)["hosts"][second.name]["vrs"],
        "it in the status of another",
        first,
    )
    second.ovsdb.start()
    wait(lambda: trio.check(second) == "passing", "passing again", second)


def test_an_agent_that_forgot_a_host_is_told_again(trio):
    for host in trio.hosts:
        trio.consul.ask("PUT", f"/v1/agent/service/deregister/{trio.service(host)}")
    wait(
        lambda: [trio.check(host) for host in trio.hosts] == ["passing"] * 3,
        "three healthy hosts",
        *trio.hosts,
    )
    trio.consul.restart_empty()
    wait(
        lambda: [trio.check(host) for host in trio.hosts] == ["passing"] * 3,
        "three healthy hosts",
        *trio.hosts,
    )
    trio.leader()


def test_a_host_cut_off_from_consul_keeps_what_the_vsd_says_runs_and_no_address_is_double_later(
    trio,
):
    away = next(host for host in trio.hosts if host is not trio.leader())
    stays, goes = trio.run(away, "stays"), trio.run(away, "goes")
    trio.cut(away)
    wait(lambda: trio.check(away) == "critical", "critical", *trio.hosts)
    leader = trio.leader()
    spared = wait(
        lambda: trio.component(leader)["hosts"][away.name].get("spared"),
        "that it is spared, and why",
        leader,
    )
    assert "RUNNING" in spared and ("stays" in spared or "goes" in spared), spared
    assert trio.container(away, "stays") and trio.container(away, "goes") and not trio.deletions()
    trio.vrs(away, "lost")
    wait(lambda: not away.containers(), "the end of both on the VSD", *trio.hosts)
    told = trio.deletions()
    assert {told_by for told_by, *_ in told} == {leader.name} and len(told) == 2, told
    assert {(host, address) for _, host, _, address in told} == {
        (away.name, one["address"].split("/")[0]) for one in (stays, goes)
    }
    # Meanwhile another host gets one of the addresses.
    taken = trio.run(leader, "heir", ip=goes["address"].split("/")[0])
    assert taken["address"] == goes["address"]
    trio.vrs(away, "back")
    trio.heal()
    wait_audited(
        away,
        lambda: (
            [one["interfaces"][0]["IPAddress"] for one in away.containers()]
            == [stays["address"].split("/")[0]]
        ),
        "the old address",
    )
    gone = goes["entity_port"].replace("-2", "-1")
    wait_audited(
        away, lambda: gone not in away.ovsdb.names("Nuage_Port_Table"), "the other one unplugged"
    )
    problem = wait(
        lambda: away.appliance.status()["components"]["endpoints"]["unplugged"].get(gone),
        "the sentence",
        away,
    )
    assert goes["address"].split("/")[0] in problem, problem
    assert gone in away.appliance.log() and stays["entity_port"].replace(
        "-2", "-1"
    ) in away.ovsdb.names("Nuage_Port_Table")
    addresses = sorted(
        one["interfaces"][0]["IPAddress"] for host in trio.hosts for one in host.containers()
    )
    assert len(addresses) == len(set(addresses)) == 2, addresses
    wait(
        lambda: (
            trio.check(away) == "passing"
            and "spared" not in trio.component(leader)["hosts"][away.name]
        ),
        "healthy again",
        *trio.hosts,
    )
    for host, endpoint in ((away, stays), (away, goes), (leader, taken)):
        host.engine.stop(endpoint)
    trio.restore()
    for host in trio.hosts:
        host.wait_clean()


def test_the_next_leader_returns_a_dead_ones_addresses_and_not_those_of_a_host_that_stopped(
    trio,
):
    dead = trio.leader()
    stopped, third = (host for host in trio.hosts if host is not dead)
    running, reservation = trio.run(dead, "dead"), reserved(dead, trio.network(dead, "n")["Id"])
    kept, alive = trio.run(stopped, "kept"), trio.run(third, "alive")
    take_away = trio.make_by_hand(dead)
    before = trio.deletions()
    assert stopped.appliance.kill(signal.SIGTERM) == 0
    assert trio.check(stopped) is None, "a clean stop deregisters"
    assert trio.consul.get(f"{trio.root}hosts/{stopped.name}")["state"] == "stopped"
    dead.appliance.kill()
    for host in (stopped, dead):
        trio.vrs(host, "lost")
    assert trio.container(dead, "dead")["status"] == "UNREACHABLE"
    wait(lambda: trio.leader() is third, "another is elected", third)
    wait(
        lambda: [one["name"] for one in dead.containers()] == ["by hand"],
        "the end of the dead host's containers, but not of others'",
        third,
    )
    take_away()
    told = trio.deletions(before)
    assert {(who, host) for who, host, *_ in told} == {(third.name, dead.name)} and len(
        told
    ) == 2, told
    assert {address for *_, address in told} == {
        running["address"].split("/")[0],
        reservation.split("/")[0],
    }
    shown = trio.component(third)["hosts"]
    assert (
        shown[dead.name]["check"],
        shown[stopped.name]["state"],
        shown[stopped.name]["check"],
    ) == ("critical", "stopped", "not registered")
    assert (
        trio.container(stopped, "kept")["status"] == "UNREACHABLE"
        and trio.container(third, "alive")["status"] == "RUNNING"
    )
    # Both come back, and what ran there has what it had.
    for host, endpoint, name in ((stopped, kept, "kept"), (dead, running, "dead")):
        host.restart()
        trio.vrs(host, "back")

        def is_whole(host=host, endpoint=endpoint, name=name):
            one = trio.container(host, name)
            return one and one["interfaces"][0]["IPAddress"] == endpoint["address"].split("/")[0]

        wait_audited(host, is_whole, f"{name} as it was")
        wait(lambda host=host: trio.check(host) == "passing", "registered again", host)
    assert trio.container(third, "alive")
    for host, endpoint in ((stopped, kept), (dead, running), (third, alive)):
        host.engine.stop(endpoint)


def test_time_in_which_consul_could_not_be_seen_does_not_count(trio):
    """Every host may be critical in the eyes of a Consul that was away; none may be taken for dead
    because of that.
    """
    endpoints = [(host, trio.run(host, f"c-{host.name}")) for host in trio.hosts]
    for host in trio.hosts:
        trio.vrs(host, "lost")
    before = trio.deletions()
    with trio.consul.hanging():
        wait(
            lambda: all("Consul" in trio.component(host)["problem"] for host in trio.hosts),
            "that all notice",
            *trio.hosts,
        )
        assert trio.hosts[2].appliance.kill(signal.SIGTERM) == 0, (
            "a clean stop does not wait for Consul"
        )
    trio.hosts[2].restart()
    wait(
        lambda: [trio.check(host) for host in trio.hosts] == ["passing"] * 3,
        "three healthy hosts",
        *trio.hosts,
    )
    trio.leader()
    assert trio.deletions(before) == []
    for host, endpoint in endpoints:
        assert trio.container(host, f"c-{host.name}")
        host.engine.stop(endpoint)


def test_a_key_of_a_host_that_was_never_registered_is_nobodys_death(trio):
    before = trio.deletions()
    leader = trio.leader()
    trio.consul.put(f"{trio.root}hosts/ghost", json.dumps({"state": "up"}).encode())
    trio.consul.put(f"{trio.root}hosts/nonsense", b"{{")
    wait(
        lambda: trio.component(leader)["hosts"].get("ghost", {}).get("check") == "not registered",
        "the ghost in the status",
        leader,
    )
    assert trio.deletions(before) == [] and "nonsense" not in trio.component(leader)["hosts"]
    trio.consul.delete(f"{trio.root}hosts/ghost")
    trio.consul.delete(f"{trio.root}hosts/nonsense")
