"""`scope: global` with engines that form a cluster by a key-value store: what one host creates is
there on all, and may be removed from any.

The engine that did not create a network asks its driver neither for the pool nor for the network:
an address is the first it asks for. Every test starts with docker commands, asserts ping and TCP
across hosts, and ends with both hosts in agreement and nothing left.
"""

import concurrent.futures
import json

import pytest

from nuage_lab.hosts.run import kill_session, wait_until
from tests.support import multihost
from tests.support.convergence import CONVERGE_S
from tests.support.docker_cli import PLACE, create, refusal, run
from tests.support.invariants import IMAGE, address_of, engine_endpoints, wait_ping
from tests.support.lab import running_lab, wait_ready
from tests.support.multihost import SERVE, WAIT_S, wait_nothing_left, wait_reach

SIDES = [("h1", "h2"), ("h2", "h1")]


@pytest.fixture(scope="module", params=["etcd", "consul"])
def lab(request, tmp_path_factory):
    """Two hosts whose engines share a store."""
    with running_lab(
        tmp_path_factory.mktemp("store"),
        hosts=2,
        store=request.param,
        config={"scope": "global", "auditinterval": 5},
    ) as running:
        running.store = request.param
        yield running


@pytest.fixture()
def pair(lab):
    """Both hosts without containers; what a test leaves must agree, and go from both."""
    wait_nothing_left(lab, lab.hosts(), with_tags=False)
    yield lab.hosts()
    for host in lab.hosts():
        host.engine.start()
    multihost.wait_agreement(lab, lab.hosts())
    wait_nothing_left(lab, lab.hosts(), with_tags=False)


@pytest.fixture()
def each_store(lab, request):
    """On Consul, what differs from etcd in the store alone takes long."""
    if lab.store == "consul":
        request.getfixturevalue("long_tests")


@pytest.fixture()
def is_long(request):
    """True for a variant that takes long."""
    if request.param:
        request.getfixturevalue("long_tests")
    return request.param


def networks(host):
    """The names of the networks of ours that the engine lists, with their scopes."""
    lines = host.docker(
        "network", "ls", "--filter", "driver=nuage", "--format", "{{.Name}} {{.Scope}}"
    ).stdout.splitlines()
    return dict(line.split() for line in lines)


def running(host):
    return host.docker("ps", "--format", "{{.Names}}").stdout.split()


def start_one_each(hosts, *words):
    """The network is created on the first host; a container that serves on each. Returns their
    addresses by host.
    """
    create(hosts[0], "MyNet")
    for host in hosts:
        wait_until(
            lambda host=host: networks(host) == {"MyNet": "global"},
            WAIT_S,
            f"{host.name} lists the network",
        )
        run(host, f"on-{host.name}", "MyNet", *words, command=SERVE)
    return {host.name: address_of(host, f"on-{host.name}", "MyNet") for host in hosts}


def wait_both_ways(hosts, addresses):
    for here, there in SIDES:
        host = next(host for host in hosts if host.name == here)
        wait_reach(host, f"on-{here}", addresses[there])


@pytest.mark.parametrize("creator, other", SIDES)
def test_a_network_created_on_one_host_is_used_on_both_and_removed_from_the_other(
    lab, pair, creator, other
):
    first, second = lab.host(creator), lab.host(other)
    addresses = start_one_each([first, second])
    assert addresses[creator] != addresses[other]
    shown = json.loads(second.docker("network", "inspect", "MyNet").stdout)[0]
    assert shown["IPAM"] == {
        "Driver": "nuage-ipam",
        "Options": PLACE,
        "Config": [{"Subnet": "10.21.59.0/24", "Gateway": "10.21.59.1"}],
    }
    multihost.wait_agreement(lab, pair)
    wait_both_ways(pair, addresses)
    for host in pair:
        wait_ping(host, f"on-{host.name}", "10.21.59.1", WAIT_S)
    second.docker("rm", "-f", f"on-{other}")
    assert "active endpoints" in refusal(second.docker("network", "rm", "MyNet", check=False))
    first.docker("rm", "-f", f"on-{creator}")
    second.docker("network", "rm", "MyNet")
    for host in pair:
        wait_until(
            lambda host=host: networks(host) == {}, WAIT_S, f"{host.name} has no network any more"
        )
    create(first, "Another")  # the subnet is free for a network of another name, on either host
    run(second, "box-b", "Another", command=SERVE)
    wait_ping(second, "box-b", "10.21.59.1", WAIT_S)


def test_containers_started_at_once_on_both_hosts_never_get_the_same_address(lab, each_store, pair):
    create(pair[0], "MyNet")
    words = ("--net", "MyNet", "--stop-signal", "KILL", IMAGE, *SERVE)
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        list(
            threads.map(
                lambda n: pair[n % 2].docker(
                    "run", "-d", "--name", f"many-{n}", *words, timeout=180
                ),
                range(12),
            )
        )
    multihost.wait_agreement(lab, pair)
    assert len({address for host in pair for _, _, address, _ in engine_endpoints(host)}) == 12
    wait_reach(pair[0], "many-10", address_of(pair[1], "many-11", "MyNet"))


@pytest.mark.parametrize(
    "creator, other, how, is_long",
    [
        ("h1", "h2", "kill", False),
        ("h2", "h1", "stop", False),
        ("h1", "h2", "stop", True),
        ("h2", "h1", "kill", True),
    ],
    indirect=["is_long"],
)
def test_an_engine_that_ends_and_comes_back_has_its_containers_on_the_network_again(
    lab, is_long, each_store, pair, creator, other, how
):
    addresses = start_one_each([lab.host(creator), lab.host(other)], "--restart=always")
    wait_both_ways(pair, addresses)
    victim = lab.host("h2")
    run(victim, "gone", "MyNet")
    getattr(victim.engine, how)()
    victim.engine.start()
    wait_until(lambda: "on-h2" in running(victim), WAIT_S, "the container starts again")
    multihost.wait_agreement(lab, pair, CONVERGE_S)
    addresses["h2"] = address_of(victim, "on-h2", "MyNet")
    wait_both_ways(pair, addresses)


@pytest.mark.parametrize("how, is_long", [("kill", False), ("stop", True)], indirect=["is_long"])
def test_with_live_restore_no_packet_is_lost_when_an_engine_ends_and_comes_back(
    lab, is_long, each_store, pair, how
):
    h1, h2 = pair
    h2.engine.stop()
    h2.engine.start(extra=["--live-restore"])
    addresses = start_one_each(pair)
    wait_both_ways(pair, addresses)
    ping = h1.popen(
        [
            "docker",
            "exec",
            "on-h1",
            "ping",
            "-c",
            "40",
            "-i",
            "0.3",
            "-W",
            "10",
            "-q",
            addresses["h2"],
        ]
    )
    try:
        getattr(h2.engine, how)()
        h2.engine.start(extra=["--live-restore"])
        said, _ = ping.communicate(timeout=90)
    finally:
        kill_session(ping)
    assert "40 packets transmitted, 40 packets received" in said
    assert address_of(h2, "on-h2", "MyNet") == addresses["h2"]
    multihost.wait_agreement(lab, pair)
    run(h2, "next", "MyNet", command=SERVE)
    wait_reach(h1, "on-h1", address_of(h2, "next", "MyNet"))
    h2.docker("rm", "-f", "on-h2", "next", timeout=120)
    multihost.wait_agreement(lab, pair)
    h2.engine.stop()  # without live-restore again, for the next test
    h2.engine.start()


@pytest.mark.parametrize(
    "creator, other, is_long", [("h2", "h1", False), ("h1", "h2", True)], indirect=["is_long"]
)
def test_a_host_that_is_killed_does_not_hurt_the_other_and_comes_back_to_the_network(
    lab, is_long, each_store, pair, creator, other
):
    h1, h2 = lab.host("h1"), lab.host("h2")
    addresses = start_one_each([lab.host(creator), lab.host(other)], "--restart=always")
    wait_both_ways(pair, addresses)
    lab.kill("h2")
    run(h1, "next", "MyNet", command=SERVE)
    wait_reach(h1, "next", addresses["h1"])
    assert networks(h1) == {"MyNet": "global"}
    lab.revive("h2")
    wait_ready(h2)
    wait_until(lambda: "on-h2" in running(h2), WAIT_S, "the container starts again")
    multihost.wait_agreement(lab, pair, CONVERGE_S)
    addresses["h2"] = address_of(h2, "on-h2", "MyNet")
    wait_both_ways(pair, addresses)


def test_what_a_host_remembers_of_networks_that_the_other_one_removed_goes_with_the_audits(
    lab, long_tests, each_store, pair
):
    for creator, other in (pair, pair[::-1]):
        create(creator, "MyNet")
        run(creator, "box-a", "MyNet")
        creator.docker("rm", "-f", "box-a")
        wait_until(lambda other=other: networks(other), WAIT_S, f"{other.name} lists the network")
        other.docker("network", "rm", "MyNet")
    wait_nothing_left(lab, pair, CONVERGE_S)
