"""The same network created on several hosts, each for itself (`scope: local`): one subnet of the
VSD, one network for the containers.

Every test starts with docker commands, asserts ping and TCP across hosts, and ends with all hosts
in agreement and nothing left.
"""

import concurrent.futures
import itertools

import pytest

from nuage_lab import engines
from nuage_lab.hosts.run import wait_until
from tests.support import multihost
from tests.support.convergence import CONVERGE_S, wait_whole_agreement
from tests.support.docker_cli import create, refusal, run
from tests.support.invariants import IMAGE, address_of, engine_endpoints, vsd_endpoints, wait_ping
from tests.support.lab import need_fetched, running_lab, wait_ready
from tests.support.multihost import (
    SERVE,
    WAIT_S,
    churn,
    pings,
    wait_nothing_left,
    wait_page,
    wait_reach,
)

REQUEST_S = 4  # the appliance's limit for a call where a test makes the VSD silent
ACROSS = [("h1", "h2"), ("h2", "h1")]


@pytest.fixture(scope="module")
def lab(tmp_path_factory, engine_name):
    """Three hosts: h1 and h2 for every test, h3 to be killed."""
    with running_lab(tmp_path_factory.mktemp("multihost"), hosts=3, engine=engine_name) as running:
        yield running


@pytest.fixture()
def pair(lab):
    """h1 and h2 without containers; what a test leaves must agree, and go."""
    pair = [lab.host("h1"), lab.host("h2")]
    wait_nothing_left(lab, pair)
    yield pair
    lab.heal()
    multihost.wait_agreement(lab, pair)
    wait_nothing_left(lab, pair)


@pytest.fixture(scope="module")
def killed(lab):
    """h3: it died with everything in it while containers came and went, and came back."""
    host = lab.host("h3")
    host.write_config(lab.ca_file, auditinterval=5, requesttimeout=REQUEST_S)
    host.appliance.stop()
    host.appliance.start()
    wait_ready(host)
    create(host, "MyNet")
    run(host, "keeps", "MyNet", "--restart=always", command=SERVE)
    with churn(host, "MyNet") as finished:
        wait_until(lambda: len(finished) >= 3, WAIT_S, "containers come and go on h3")
        lab.kill("h3")
    lab.revive("h3")
    wait_ready(host)
    wait_until(
        lambda: "keeps" in host.docker("ps", "--format", "{{.Names}}").stdout.split(),
        WAIT_S,
        "the engine starts its container again",
    )
    return host


def start_pairs(hosts, network="MyNet"):
    """Two containers on each host, which serve; returns their addresses by name."""
    for host in hosts:
        create(host, network)
        for letter in "ab":
            run(host, f"{host.name}-{letter}", network, command=SERVE)
    return {
        f"{host.name}-{letter}": address_of(host, f"{host.name}-{letter}", network)
        for host in hosts
        for letter in "ab"
    }


def test_what_a_killed_host_ran_for_ever_is_reached_again_when_the_host_is_back(killed, pair):
    h1 = pair[0]
    create(h1, "MyNet")
    run(h1, "h1-a", "MyNet", command=SERVE)
    wait_reach(h1, "h1-a", address_of(killed, "keeps", "MyNet"))
    wait_reach(killed, "keeps", address_of(h1, "h1-a", "MyNet"))


def test_a_host_cut_off_from_the_vsd_keeps_its_traffic_says_so_and_makes_up_for_what_ended(
    lab, killed, pair
):
    h1 = pair[0]
    create(h1, "MyNet")
    run(h1, "h1-a", "MyNet", command=SERVE)
    run(killed, "ends", "MyNet", command=SERVE)
    wait_reach(h1, "h1-a", address_of(killed, "keeps", "MyNet"))
    lab.partition("h3", "infra", only="vsd")
    try:
        assert "the VSD at https://" in refusal(run(killed, "refused", "MyNet", check=False))
        wait_reach(h1, "h1-a", address_of(killed, "keeps", "MyNet"))
        killed.docker("rm", "-f", "refused", "ends", timeout=120)
        assert any(name == "ends" for _, name, *_ in vsd_endpoints(lab, killed)), (
            "the VSD cannot know yet"
        )
    finally:
        lab.heal("h3", "infra")
    wait_until(
        lambda: not any(name == "ends" for _, name, *_ in vsd_endpoints(lab, killed)),
        WAIT_S,
        "its address is given back",
    )
    run(killed, "after", "MyNet", command=SERVE)
    wait_reach(h1, "h1-a", address_of(killed, "after", "MyNet"))
    wait_reach(killed, "after", address_of(h1, "h1-a", "MyNet"))


def test_two_containers_on_each_of_two_hosts_reach_each_other_and_every_gateway(lab, pair):
    addresses = start_pairs(pair)
    assert len(set(addresses.values())) == 4
    multihost.wait_agreement(lab, pair)
    for host in pair:
        for letter in "ab":
            name = f"{host.name}-{letter}"
            wait_ping(host, name, "10.21.59.1", WAIT_S)
            for other, address in addresses.items():
                if other != name:
                    wait_reach(host, name, address)


def test_subnets_of_one_domain_are_routed_across_hosts_and_another_domain_is_not_reached(lab, pair):
    h1, h2 = pair
    create(h1, "one", subnet="Subnet 1")
    create(h2, "two", subnet="Subnet 2")
    create(h2, "other", "--subnet=10.21.59.0/24", domain="Domain B")
    run(h1, "box-a", "one", command=SERVE)
    run(h2, "box-b", "two", command=SERVE)
    run(h2, "box-c", "other", command=SERVE)
    near, far = address_of(h1, "box-a", "one"), address_of(h2, "box-b", "two")
    wait_reach(h1, "box-a", far)
    wait_reach(h2, "box-b", near)
    wait_ping(h1, "box-a", "10.21.59.1", WAIT_S)
    wait_ping(h2, "box-b", "10.21.58.1", WAIT_S)
    assert not pings(h2, "box-c", near)
    h2.docker("rm", "-f", "box-c")


def test_containers_started_at_once_on_two_hosts_never_get_the_same_address(lab, pair):
    for host in pair:
        create(host, "MyNet")
        run(host, f"{host.name}-a", "MyNet", command=SERVE)
    words = ("--net", "MyNet", "--stop-signal", "KILL", IMAGE, *SERVE)
    with concurrent.futures.ThreadPoolExecutor(10) as threads:
        list(
            threads.map(
                lambda n: pair[n % 2].docker(
                    "run", "-d", "--name", f"many-{n}", *words, timeout=180
                ),
                range(20),
            )
        )
    multihost.wait_agreement(lab, pair)
    addresses = [address for host in pair for _, _, address, _ in engine_endpoints(host)]
    assert len(addresses) == len(set(addresses)) == 22
    for number in (0, 7, 19):
        wait_reach(
            pair[(number + 1) % 2],
            f"{pair[(number + 1) % 2].name}-a",
            address_of(pair[number % 2], f"many-{number}", "MyNet"),
        )


def test_a_cut_between_two_hosts_parts_their_containers_alone_and_heals_without_a_trace(lab, pair):
    h1, h2 = pair
    addresses = start_pairs(pair)
    wait_reach(h1, "h1-a", addresses["h2-a"])
    wait_reach(h2, "h2-a", addresses["h1-a"])
    lab.partition("h1", "h2")
    assert not pings(h1, "h1-a", addresses["h2-a"]) and not pings(h2, "h2-a", addresses["h1-a"])
    for host in pair:
        wait_reach(host, f"{host.name}-a", addresses[f"{host.name}-b"])
        run(host, f"{host.name}-late", "MyNet", command=SERVE)
    late = {host.name: address_of(host, f"{host.name}-late", "MyNet") for host in pair}
    multihost.wait_agreement(lab, pair)  # in which no address is twice
    lab.heal("h1", "h2")
    for here, there in ACROSS:
        wait_reach(lab.host(here), f"{here}-a", addresses[f"{there}-a"])
        wait_reach(lab.host(here), f"{here}-late", late[there])


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_an_engine_that_ends_and_comes_back_is_reached_from_the_other_host_again(lab, request, how):
    if how == "stop":
        request.getfixturevalue("long_tests")
    h1, h2 = pair = request.getfixturevalue("pair")
    for host in pair:
        create(host, "MyNet")
        run(host, f"{host.name}-a", "MyNet", "--restart=always", command=SERVE)
    wait_reach(h1, "h1-a", address_of(h2, "h2-a", "MyNet"))
    getattr(h2.engine, how)()
    h2.engine.start()
    wait_until(
        lambda: "h2-a" in h2.docker("ps", "--format", "{{.Names}}").stdout.split(),
        WAIT_S,
        "the container starts again",
    )
    multihost.wait_agreement(lab, pair)
    wait_reach(h1, "h1-a", address_of(h2, "h2-a", "MyNet"))
    wait_page(h2, "h2-a", address_of(h1, "h1-a", "MyNet"))


def test_nothing_of_what_the_killed_host_was_about_to_do_is_left_when_the_audit_has_had_its_minute(
    lab, killed
):
    wait_whole_agreement(lab, killed, CONVERGE_S)
    assert {name for _, name, *_ in engine_endpoints(killed)} - {"after"} == {"keeps"}
    wait_nothing_left(lab, [killed])


def test_hosts_with_different_engines_reach_each_other(tmp_path, long_tests):
    need_fetched(engine="26")
    need_fetched(engine="28")
    with running_lab(
        tmp_path, hosts=3, specs={"h2": engines.spec("26"), "h3": engines.spec("28")}
    ) as mixed:
        hosts = mixed.hosts()
        versions = [
            host.docker("version", "-f", "{{.Server.Version}}").stdout.split(".")[0]
            for host in hosts
        ]
        assert versions == ["20", "26", "28"]
        for host in hosts:
            create(host, "MyNet")
            run(host, f"on-{host.name}", "MyNet", command=SERVE)
        multihost.wait_agreement(mixed, hosts)
        for here, there in itertools.permutations(hosts, 2):
            wait_reach(here, f"on-{here.name}", address_of(there, f"on-{there.name}", "MyNet"))
        wait_nothing_left(mixed, hosts)
