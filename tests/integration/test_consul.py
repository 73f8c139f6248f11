"""Networks that the appliances make known by Consul (`scope: global`, `consul`), on real engines:
created on one host, there on all.

Every test starts with docker commands, and ends with all hosts in agreement and nothing left.
"""

import json
import time

import pytest

from nuage_lab.hosts.run import wait_until
from tests.support import multihost
from tests.support.convergence import CONVERGE_S, wait_whole_agreement
from tests.support.docker_cli import create, run
from tests.support.invariants import address_of, vsd_endpoints
from tests.support.lab import running_lab, wait_ready
from tests.support.multihost import SERVE, WAIT_S, wait_nothing_left, wait_reach

VISIBLE_S = 2.0  # what is promised on a machine that is not busy
LOST_S = 60  # hostgcafter, and VMUnreachableTime of the simulator


@pytest.fixture(scope="module")
def lab(tmp_path_factory, engine_name):
    """Three hosts with one Consul; h3 is there to be killed."""
    with running_lab(
        tmp_path_factory.mktemp("consul"),
        hosts=3,
        appliance=False,
        consul=True,
        engine=engine_name,
        vsd_options=("--unreachable", str(LOST_S)),
    ) as running:
        for host in running.hosts():
            host.write_config(
                running.ca_file,
                scope="global",
                consul=running.consul_url,
                hostgcafter=LOST_S,
                auditinterval=10,
            )
            host.appliance.start()
            wait_ready(host)
        yield running


@pytest.fixture()
def hosts(lab):
    """The three hosts without containers or networks; what a test leaves must agree, and go
    everywhere.
    """
    hosts = lab.hosts()
    wait_until(
        lambda: all(not cluster(host)["problem"] for host in hosts),
        WAIT_S,
        "every host is in the cluster",
    )
    wait_nothing_left_anywhere(lab, hosts)
    yield hosts
    lab.heal()
    multihost.wait_agreement(lab, hosts)
    wait_nothing_left_anywhere(lab, hosts)


def wait_nothing_left_anywhere(lab, hosts):
    """Remove the containers of all hosts first: a network goes with the last one."""
    for host in hosts:
        ids = host.docker("ps", "-aq").stdout.split()
        if ids:
            host.docker("rm", "-f", *ids, timeout=120)
    for host in hosts:
        for name in names(host):
            # Another host's removal may have come first.
            host.docker("network", "rm", name, check=False)
    wait_until(
        lambda: not any(names(host) for host in hosts), WAIT_S, "the networks go on every host"
    )
    wait_nothing_left(lab, hosts)


def cluster(host):
    """The component `cluster` of a host's status."""
    done = host.exec(
        [
            "curl",
            "-s",
            "--max-time",
            "5",
            "--unix-socket",
            "/run/nuage-libnetwork/status.sock",
            "http://status/",
        ],
        check=False,
    )
    return (
        json.loads(done.stdout)["components"]["cluster"]
        if done.stdout
        else {"problem": "no status", "networks": {}, "hosts": {}}
    )


def names(host):
    """The networks of ours that `docker network ls` shows."""
    return host.docker(
        "network", "ls", "--filter", "driver=nuage", "--format", "{{.Name}}"
    ).stdout.split()


def inspect(host, name):
    return json.loads(host.docker("network", "inspect", name).stdout)[0]


def wait_there(hosts, name, seconds=WAIT_S):
    wait_until(
        lambda: all(name in names(host) for host in hosts),
        seconds,
        f"{name} is on {', '.join(host.name for host in hosts)}",
    )


def wait_gone(hosts, name, seconds=WAIT_S):
    wait_until(
        lambda: not any(name in names(host) for host in hosts),
        seconds,
        f"{name} is gone from {', '.join(host.name for host in hosts)}",
    )


def test_a_network_created_on_one_host_is_on_all_with_the_same_options_and_carries_ping_and_tcp(
    lab, hosts
):
    h1, h2, h3 = hosts
    create(h1, "MyNet", "--subnet=10.21.59.0/24", "--gateway=10.21.59.1", "--label", "team=blue")
    started = time.monotonic()
    wait_there([h2, h3], "MyNet")
    print(f"on both other hosts {time.monotonic() - started:.2f} s after `docker network create`")
    made, replica = inspect(h1, "MyNet"), inspect(h2, "MyNet")
    for key in ("Name", "Driver", "Internal", "IPAM", "Options", "Scope"):
        assert replica[key] == made[key], key
    assert (
        replica["Labels"]["team"] == "blue"
        and replica["Labels"]["net.nuage.replica-of"] == made["Id"]
    )
    for host in hosts:
        run(host, f"{host.name}-a", "MyNet", command=SERVE)
    for host in hosts:
        for other in hosts:
            if other is not host:
                wait_reach(host, f"{host.name}-a", address_of(other, f"{other.name}-a", "MyNet"))
    multihost.wait_agreement(lab, hosts)


def test_a_network_is_visible_within_two_seconds(hosts):
    took = []
    for number in range(10):
        create(hosts[number % 2], f"net-{number}", subnet=f"Subnet {1 + number % 2}")
        started = time.monotonic()
        wait_there(hosts, f"net-{number}")
        took.append(time.monotonic() - started)
        hosts[number % 3].docker("network", "rm", f"net-{number}")
        wait_gone(hosts, f"net-{number}")
    assert sorted(took)[len(took) // 2] < VISIBLE_S, took


def test_a_removed_network_hangs_where_a_container_is_on_it_and_the_status_of_every_host_says_so(
    lab, hosts
):
    h1, h2, h3 = hosts
    create(h1, "MyNet")
    wait_there(hosts, "MyNet")
    run(h2, "keeps", "MyNet", command=SERVE)
    run(h3, "stopped", "MyNet", command=("true",))
    wait_until(lambda: h3.docker("ps", "-q").stdout == "", WAIT_S, "the container on h3 ends")
    h1.docker("network", "rm", "MyNet")
    for asked in hosts:
        for where, container in ((h2, "keeps"), (h3, "stopped")):
            wait_until(
                lambda container=container, asked=asked: any(
                    container in state["problem"]
                    for state in cluster(asked)["networks"]
                    .get("MyNet", {"hosts": {}})["hosts"]
                    .values()
                ),
                WAIT_S,
                f"{asked.name} says that {container} on {where.name} keeps the network",
            )
    assert names(h2) == names(h3) == ["MyNet"] and names(h1) == []
    h2.docker("rm", "-f", "keeps")
    wait_gone([h2], "MyNet")
    assert names(h3) == ["MyNet"]
    h3.docker("rm", "stopped")
    wait_gone(hosts, "MyNet")


def test_with_consul_cut_off_or_dead_containers_start_and_what_changed_meanwhile_is_made_up_for(
    lab, hosts
):
    h1, h2, h3 = hosts
    create(h1, "before", subnet="Subnet 1")
    wait_there(hosts, "before")
    lab.partition("h1", "infra", only="consul")
    create(h2, "while-cut", subnet="Subnet 2")
    wait_there([h2, h3], "while-cut")
    run(h1, "runs", "before", command=SERVE)
    run(h2, "peer", "before", command=SERVE)
    wait_reach(h1, "runs", address_of(h2, "peer", "before"))
    wait_until(lambda: "Consul at" in cluster(h1)["problem"], WAIT_S, "h1 says that Consul is away")
    assert names(h1) == ["before"]
    lab.heal("h1", "infra")
    wait_there([h1], "while-cut")
    lab.consul.kill()
    h3.docker("network", "rm", "while-cut")
    create(h1, "held", subnet="Big")
    lab.consul.start()
    wait_there(hosts, "held")
    wait_gone(hosts, "while-cut")
    wait_until(
        lambda: all(not cluster(host)["problem"] for host in hosts), WAIT_S, "all is well again"
    )
    wait_reach(h1, "runs", address_of(h2, "peer", "before"))


def test_a_consul_that_lost_its_data_is_filled_again_and_no_network_is_deleted(lab, hosts):
    h1, h2, h3 = hosts
    create(h1, "one", subnet="Subnet 1")
    create(h2, "two", subnet="Subnet 2")
    wait_there(hosts, "one")
    wait_there(hosts, "two")
    ids = {host.name: {name: inspect(host, name)["Id"] for name in names(host)} for host in hosts}
    run(h3, "runs", "two", command=SERVE)
    lab.consul.kill()
    lab.consul_wipe()
    lab.consul.start()
    wait_until(
        lambda: (
            {
                name
                for name in ("one", "two")
                if f"nuage-libnetwork/default/networks/{name}" in keys(lab)
            }
            == {"one", "two"}
        ),
        WAIT_S,
        "the records",
    )
    wait_until(
        lambda: all(
            set(cluster(host)["networks"]["one"]["hosts"])
            == set(cluster(host)["networks"]["two"]["hosts"])
            and len(cluster(host)["networks"]["one"]["hosts"]) == 3
            for host in hosts
        ),
        WAIT_S,
        "every host's notes",
    )
    assert ids == {
        host.name: {name: inspect(host, name)["Id"] for name in names(host)} for host in hosts
    }
    h2.docker("network", "rm", "one")
    wait_gone(hosts, "one")


def keys(lab):
    try:
        return lab.ask_consul("GET", "/v1/kv/nuage-libnetwork/?keys")
    except Exception as error:  # an empty store is a 404, a store without a leader a 500
        return [str(error)]


def test_a_host_that_was_killed_finds_what_changed_while_it_was_away(lab, hosts):
    h1, h2, h3 = hosts
    create(h1, "goes", subnet="Subnet 1")
    wait_there(hosts, "goes")
    lab.kill("h3")
    h2.docker("network", "rm", "goes")
    wait_gone([h1, h2], "goes")
    create(h2, "comes", subnet="Subnet 2")
    wait_there([h1, h2], "comes")
    lab.revive("h3")
    wait_ready(h3)
    wait_there([h3], "comes")
    wait_gone([h3], "goes")
    run(h1, "h1-a", "comes", command=SERVE)
    run(h3, "h3-a", "comes", command=SERVE)
    wait_reach(h1, "h1-a", address_of(h3, "h3-a", "comes"))
    wait_reach(h3, "h3-a", address_of(h1, "h1-a", "comes"))


def test_hosts_are_in_consul_with_their_checks_and_leave_cleanly(lab, hosts):
    def checks():
        found = lab.ask_consul("GET", "/v1/health/service/nuage-libnetwork")
        return sorted(
            check["Status"]
            for entry in found
            for check in entry["Checks"]
            if check["ServiceName"] == "nuage-libnetwork"
        )

    h3 = hosts[2]
    wait_until(lambda: checks() == ["passing"] * 3, WAIT_S, "three hosts pass")
    create(hosts[0], "MyNet")
    wait_there(hosts, "MyNet")
    run(h3, "runs", "MyNet", command=SERVE)
    h3.appliance.stop()
    wait_until(lambda: checks() == ["passing"] * 2, WAIT_S, "h3 has left")
    assert h3.docker("ps", "--format", "{{.Names}}").stdout.split() == ["runs"]
    h3.appliance.start()
    wait_ready(h3)
    wait_until(lambda: checks() == ["passing"] * 3, WAIT_S, "h3 is back")


def test_a_lost_hosts_addresses_are_returned_only_when_the_vsd_knows_that_nothing_runs_there(
    lab, hosts, long_tests
):
    h1, h2, h3 = hosts
    create(h1, "MyNet")
    wait_there(hosts, "MyNet")
    for host in hosts:
        run(host, f"{host.name}-a", "MyNet", "--restart=always", command=SERVE)
    address = address_of(h3, "h3-a", "MyNet")
    lab.partition("h2", "infra", only="consul")  # h2 runs on, and the VSD hears of it
    lab.kill("h3")
    wait_until(lambda: not vsd_endpoints(lab, h3), LOST_S * 6, "the addresses of h3 are returned")
    assert len(vsd_endpoints(lab, h2)) == 1, (
        "a host that is cut off from Consul only keeps what it runs"
    )
    wait_reach(h1, "h1-a", address_of(h2, "h2-a", "MyNet"))
    lab.heal("h2", "infra")
    lab.revive("h3")
    wait_ready(h3)
    wait_until(
        lambda: "h3-a" in h3.docker("ps", "--format", "{{.Names}}").stdout.split(),
        WAIT_S,
        "the engine starts its container again",
    )
    wait_reach(h1, "h1-a", address_of(h3, "h3-a", "MyNet"))
    wait_whole_agreement(lab, h3, CONVERGE_S)  # the power cut left rows of an endpoint that is over
    print(f"h3-a had {address}, and has {address_of(h3, 'h3-a', 'MyNet')}")
