"""Networks of several hosts by Consul (docs/MULTIHOST.md, way 4): real Consul, real appliances,
engines that are scripted.
"""

import threading
import time

import pytest

from nuage_appliance.core.cluster.replication import ORIGIN_LABEL, REPLICA_LABEL
from tests.support.appliance import PATIENCE_S
from tests.support.cluster import problem_of, wait, where_of
from tests.support.scripted_engine import PluginError

VISIBLE_S = 5.0  # two seconds are promised; a busy machine is given more


# -- creating and removing ------------------------------------------------------------------------


def test_a_network_created_on_one_host_is_on_the_other_within_two_seconds_and_is_the_same(
    site, pair
):
    first, second = pair
    times = []
    for turn in range(5):
        started = time.monotonic()
        site.create(
            first,
            f"seen-{turn}",
            internal=turn == 0,
            labels={"team": "blue"},
            driver_options={"a": "b"},
            is_attachable=True,
        )
        wait(lambda turn=turn: site.network(second, f"seen-{turn}"), "the replica", second)
        times.append(time.monotonic() - started)
    print(f"visible after {', '.join(f'{seconds:.2f}' for seconds in times)} s")
    assert sorted(times)[2] < VISIBLE_S, times
    origin, replica = site.networks("seen-0")
    assert replica["Labels"] == {
        "team": "blue",
        REPLICA_LABEL: origin["Id"],
        ORIGIN_LABEL: first.name,
    } and origin["Labels"] == {"team": "blue"}
    for key in ("Driver", "Internal", "Attachable", "Options", "Scope", "IPAM"):
        assert replica[key] == origin[key], key
    assert origin["Scope"] == "local" and origin["Internal"]
    site.wait_settled("seen-0")
    wait(
        lambda: (
            {
                host: one["state"]
                for host, one in site.component(first)["networks"]["seen-0"]["hosts"].items()
            }
            == {host.name: "present" for host in pair}
        ),
        "that the status shows both",
        first,
    )
    assert site.component(first)["problem"] == ""


@pytest.mark.parametrize("where", ["where it was created", "where the replica is"])
def test_a_network_removed_on_either_host_is_removed_on_both(site, pair, where):
    site.create(pair[0], "n")
    site.wait_everywhere("n")
    started = time.monotonic()
    site.remove(pair[where.endswith("is")], "n")
    site.wait_nowhere("n")
    print(f"gone after {time.monotonic() - started:.2f} s")
    wait(lambda: site.record("n")["state"] == "removed", "the record")
    assert not any(host.engine.pools for host in pair)
    for host in pair:
        host.wait_clean()


def test_a_removed_network_can_be_created_again_with_other_options(site, pair):
    site.create(pair[0], "again")
    old = {network["Id"] for network in site.wait_everywhere("again")}
    site.remove(pair[1], "again")
    site.create(pair[1], "again", 1)
    wait(
        lambda: all(network and network["Id"] not in old for network in site.networks("again")),
        "the new one on both",
        *pair,
    )
    assert [network["IPAM"]["Options"] for network in site.networks("again")] == [
        site.options("again", 1)
    ] * 2
    assert site.record("again")["replaces"] and site.record("again")["origin"] == pair[1].name


def test_containers_stay_on_a_network_that_was_removed_and_created_again_with_the_same_options(
    site, pair
):
    first, second = pair
    site.create(first, "again")
    old = site.wait_everywhere("again")
    site.wait_settled("again")
    endpoint = second.engine.run("tenant", old[1]["Id"])
    second.wait_attached(endpoint)
    site.remove(first, "again")
    site.create(first, "again")
    wait(
        lambda: (
            site.record("again")["state"] == "present"
            and old[0]["Id"] in site.record("again")["replaces"]
        ),
        "the new record",
        *pair,
    )
    site.wait_settled("again")
    wait(
        lambda: (
            (where_of(site, first, "again", second, "present") or {}).get("incarnation")
            == site.network(first, "again")["Id"]
        ),
        "one incarnation",
        *pair,
    )
    assert site.network(second, "again")["Id"] == old[1]["Id"] and second.ovsdb.names(
        "Nuage_Port_Table"
    )
    second.engine.stop(endpoint)
    site.remove(second, "again")
    site.wait_nowhere("again")


@pytest.mark.parametrize("how", ["running", "stopped"])
def test_a_removed_network_hangs_while_a_container_belongs_to_it_and_the_status_says_where(
    site, pair, how
):
    first, second = pair
    network_id = site.create(first, "busy")
    site.wait_everywhere("busy")
    site.wait_settled("busy")
    endpoint = second.engine.run("tenant", site.network(second, "busy")["Id"])
    second.wait_attached(endpoint)
    if how == "stopped":
        second.engine.halt(endpoint)
    first.engine.network_rm(network_id)
    for host in pair:
        shown = wait(
            lambda host=host: where_of(site, host, "busy", second, "hanging"),
            f"hanging in the status of {host.name}",
            *pair,
        )
        assert "tenant" in shown["problem"], shown
    assert (
        site.network(second, "busy")
        and site.component(first)["networks"]["busy"]["state"] == "removed"
    )
    if how == "running":
        assert second.ovsdb.names("Nuage_Port_Table"), "the container is still plugged in"
    started = time.monotonic()
    (second.engine.stop if how == "running" else second.engine.forget)(endpoint)
    site.wait_nowhere("busy")
    print(f"gone {time.monotonic() - started:.2f} s after its last container")
    for host in pair:
        wait(
            lambda host=host: not site.component(host)["networks"]["busy"]["hosts"],
            f"nothing of it in the status of {host.name}",
            *pair,
        )
        host.wait_clean()


def test_names_are_what_docker_permits(site, pair):
    names = [
        "with space",
        "quo\"te's",
        "100%25",
        "per%cent",
        "ünï-çødé-网络",
        "a/b/../c",
        "?x=1&y",
        "-dash",
        "#hash",
        "a" * 200,
        "\\back\tslash",
        "{}",
        "CREATE",
    ]
    for name in names:
        site.create(pair[0], name)
    for name in names:
        site.wait_everywhere(name)
    assert {item["Name"] for item in pair[1].api.networks.values()} == set(names)
    wait(
        lambda: set(site.component(pair[1])["networks"]) == set(names),
        "the names in the status",
        *pair,
    )
    for name in names:
        site.remove(pair[1], name)
    for name in names:
        site.wait_nowhere(name)


def test_a_name_of_dots_stays_on_its_host_with_a_sentence_and_disturbs_no_other(site, pair):
    site.create(pair[0], "..")
    site.create(pair[0], ".")
    site.create(pair[1], "plain")
    site.wait_everywhere("plain")
    problem = wait(lambda: problem_of(site, pair[0], "is not published"), "the sentence", pair[0])
    assert (
        "another name" in problem
        and not site.network(pair[1], ".")
        and not site.network(pair[1], "..")
    )
    assert site.consul.get(f"{site.root}networks/") is None and site.consul.get(site.root) is None
    for name in (".", ".."):
        site.remove(pair[0], name)
    wait(lambda: site.component(pair[0])["problem"] == "", "the end of the sentence", pair[0])
    assert all(site.networks("plain"))


# -- one name, two networks -----------------------------------------------------------------------


def _create_apart(site, name, variants):
    """Have each host create a network of this name while it cannot know of the other's."""
    site.cut(*site.hosts)
    for host, variant in zip(site.hosts, variants, strict=True):
        site.create(host, name, variant)
    site.heal()


def test_equal_networks_of_two_hosts_merge_and_the_removal_of_one_is_the_removal_of_both(
    site, pair
):
    _create_apart(site, "twin", (0, 0))
    before = [network["Id"] for network in site.networks("twin")]
    site.wait_settled("twin")
    assert [network["Id"] for network in site.networks("twin")] == before, (
        "nobody's network was made anew"
    )
    assert site.record("twin")["incarnation"] in before
    wait(
        lambda: not any(site.component(host)["problem"] for host in pair),
        "no problem on either, once that of Consul is over",
        *pair,
    )
    loser = next(host for host in pair if host.name != site.record("twin")["origin"])
    site.remove(loser, "twin")
    site.wait_nowhere("twin")


@pytest.mark.parametrize("removed", ["the one that was refused", "the one that was published"])
def test_different_networks_of_one_name_are_refused_on_the_loser_with_a_sentence(
    site, pair, removed
):
    _create_apart(site, "rival", (0, 1))
    wait(lambda: site.record("rival"), "a winner", *pair)
    winner = next(host for host in pair if host.name == site.record("rival")["origin"])
    loser = next(host for host in pair if host is not winner)
    problem = wait(lambda: problem_of(site, loser, "rival"), "the sentence in the status", loser)
    for words in ("rival", winner.name, "--ipam-opt subnet", "Net 0", "Net 1", "remove either"):
        assert words in problem, problem
    assert problem in loser.appliance.log()
    wait(lambda: site.component(winner)["problem"] == "", "that the winner is well", winner)
    assert "conflict" in {
        one["state"] for one in site.component(loser)["networks"]["rival"]["hosts"].values()
    }
    subnets = [network["IPAM"]["Options"]["subnet"] for network in site.networks("rival")]
    assert subnets == ["Net 0", "Net 1"], "both are where they were made"
    gone, stays = (loser, winner) if removed.endswith("refused") else (winner, loser)
    wanted = site.network(stays, "rival")
    site.remove(gone, "rival")
    wait(
        lambda: (site.network(gone, "rival") or {}).get("IPAM") == wanted["IPAM"],
        "the other one in its place",
        *pair,
    )
    assert site.network(stays, "rival")["Id"] == wanted["Id"]
    wait(
        lambda: not any(site.component(host)["problem"] for host in pair),
        "the end of the sentence",
        *pair,
    )
    site.wait_settled("rival")
    if removed.endswith("refused"):
        site.remove(stays, "rival")
        site.wait_nowhere("rival")


def test_a_replica_that_the_driver_refuses_is_in_the_status_and_comes_when_the_reason_is_gone(
    site, pair
):
    site.cut(*pair)
    options = site.options("left")
    pair[0].engine.network_create("left", options)
    # Another name, the same subnet: each engine takes one of them only.
    pair[1].engine.network_create("right", options)
    site.heal()
    for host, missing in zip(pair, ("right", "left"), strict=True):
        problem = wait(
            lambda host=host, missing=missing: problem_of(site, host, missing), "the sentence", host
        )
        assert "already uses" in problem, problem
    shown = wait(
        lambda: where_of(site, pair[0], "left", pair[1], "failed"),
        "that each sees the other's trouble",
        *pair,
    )
    assert "already uses" in shown["problem"]
    site.remove(pair[0], "left")
    site.wait_everywhere("right")
    site.wait_nowhere("left")
    wait(
        lambda: not any(site.component(host)["problem"] for host in pair),
        "the end of the sentence",
        *pair,
    )


def test_two_hosts_that_create_one_name_at_the_same_moment_agree(site, pair):
    """Without a partition: compare-and-set alone decides, twelve times."""
    barrier, late = threading.Barrier(2), set()

    def create(host, variants):
        for turn, variant in enumerate(variants):
            barrier.wait(PATIENCE_S)
            try:
                if site.network(host, f"race-{turn}"):
                    late.add(turn)  # an engine takes no second network of this name
                else:
                    site.create(host, f"race-{turn}", variant)
            except PluginError:
                late.add(turn)  # the other's network came in the midst of it

    threads = [
        threading.Thread(target=create, args=(pair[0], [0] * 12)),
        threading.Thread(target=create, args=(pair[1], [0, 1] * 6)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait(lambda: all(site.record(f"race-{turn}") for turn in range(12)), "all records", *pair)

    def is_settled(turn):
        return sorted(map(str, site.noted(f"race-{turn}"))) == (
            ["conflict", "present"] if turn % 2 and turn not in late else ["present", "present"]
        )

    for turn in range(12):
        wait(lambda turn=turn: is_settled(turn), f"agreement about race-{turn}", *pair)
    for turn in range(12):
        found = [host.api.networks.values() for host in pair]
        assert [sum(one["Name"] == f"race-{turn}" for one in networks) for networks in found] == [
            1,
            1,
        ]


# -- many -----------------------------------------------------------------------------------------


def test_many_networks_come_and_go_and_the_hub_is_not_held(site, pair):
    _, second = pair
    count = 60
    started = time.monotonic()
    for number in range(count):
        site.create(pair[number % 2], f"many-{number}")
    names = {f"many-{number}" for number in range(count)}
    wait(
        lambda: all(
            {item["Name"] for item in list(host.api.networks.values())} == names for host in pair
        ),
        "all on both",
        *pair,
    )
    print(f"{count} networks on both hosts after {time.monotonic() - started:.1f} s")
    endpoint = second.engine.run("c", site.network(second, "many-0")["Id"])
    second.wait_attached(endpoint)
    second.engine.stop(endpoint)
    started = time.monotonic()
    for number in range(count):
        site.remove(pair[number // 2 % 2], f"many-{number}")
    wait(lambda: not any(host.api.networks for host in pair), "none on either", *pair)
    print(f"all gone after {time.monotonic() - started:.1f} s")
    for host in pair:
        pause = host.appliance.status()["event_loop"]["longest_pause_ms"]
        print(f"longest pause of {host.name}: {pause} ms")
        assert pause < 1500
