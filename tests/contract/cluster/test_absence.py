"""A host, Consul or an engine's memory is away for a while or lost: what was changed meanwhile
comes to every host.
"""

import contextlib
import time

import pytest

from nuage_appliance.core.cluster.replication import ORIGIN_LABEL
from tests.support.cluster import ROOT, wait, where_of

# -- a host that was away -------------------------------------------------------------------------


def test_a_host_that_was_away_converges_with_what_was_created_removed_and_replaced(site, pair):
    first, second = pair
    for name in ("kept", "removed", "replaced", "busy", "removed here"):
        site.create(first, name)
    for name in ("kept", "removed", "replaced", "busy", "removed here"):
        site.wait_everywhere(name)
        site.wait_settled(name)
    endpoint = second.engine.run("tenant", site.network(second, "busy")["Id"])
    site.cut(second)
    wait(lambda: site.component(second)["problem"], "that it notices", second)
    site.create(first, "new")
    for name in ("removed", "replaced", "busy"):
        site.remove(first, name)
    site.create(first, "replaced", 1)
    site.remove(second, "removed here")
    wait(
        lambda: (
            site.record("replaced")["origin"] == first.name and site.record("replaced")["replaces"]
        ),
        "the replacement's record",
        first,
    )
    assert {item["Name"] for item in second.api.networks.values()} == {
        "kept",
        "removed",
        "replaced",
        "busy",
    }, "nothing changes where nothing is known"
    kept = site.network(second, "kept")["Id"]
    site.heal()
    site.wait_everywhere("new")
    site.wait_nowhere("removed")
    site.wait_nowhere("removed here")
    wait(
        lambda: (
            (site.network(second, "replaced") or {}).get("IPAM", {}).get("Options")
            == site.options("replaced", 1)
        ),
        "the replacement",
        *pair,
    )
    wait(
        lambda: where_of(site, first, "busy", second, "hanging"),
        "the one with a container hangs",
        *pair,
    )
    assert site.network(second, "kept")["Id"] == kept
    second.engine.stop(endpoint)
    site.wait_nowhere("busy")
    wait(lambda: site.component(second)["problem"] == "", "well again", second)


# -- Consul away ----------------------------------------------------------------------------------


@contextlib.contextmanager
def consul_trouble(site, kind):
    """Consul is of no use to anybody as long as the block lasts."""
    if kind == "killed":
        site.consul.kill()
        yield
        site.consul.start()
    elif kind == "hanging":
        with site.consul.hanging():
            yield
    else:
        for wire in site.wires:
            wire.mode = kind
        yield
        site.heal()


@pytest.mark.parametrize("kind", ["killed", "hanging", "failing"])
def test_without_consul_everything_local_goes_on_and_changes_are_made_up_for(site, pair, kind):
    first, second = pair
    for name in ("old", "older"):
        site.create(first, name)
    for name in ("old", "older"):
        site.wait_everywhere(name)
        site.wait_settled(name)
    endpoint = second.engine.run("c1", site.network(second, "old")["Id"])
    second.wait_attached(endpoint)
    with consul_trouble(site, kind):
        wait(
            lambda: all(
                f"Consul at {wire.url}" in site.component(host)["problem"]
                for host, wire in zip(pair, site.wires, strict=True)
            ),
            "that both notice",
            *pair,
        )
        started = time.monotonic()
        created = site.create(first, "new")
        another = second.engine.run("c2", site.network(second, "old")["Id"])
        third = first.engine.run("c3", created)
        second.wait_attached(another)
        assert time.monotonic() - started < 10, "local work does not wait for Consul"
        site.remove(first, "older")
        for host in pair if kind == "killed" else ():
            host.appliance.restart()  # kill -9: what was removed must not be forgotten
            host.engine.network.disconnect()
            host.engine.ipam.disconnect()
            host.wait_attached(*([endpoint, another] if host is second else [third]))
        assert site.network(second, "older") and not site.network(second, "new"), "nobody can know"
        assert endpoint["container_id"] in second.api.containers
    site.wait_everywhere("new")
    site.wait_nowhere("older")
    assert site.network(second, "old")["Containers"].keys() == {
        endpoint["container_id"],
        another["container_id"],
    }
    wait(lambda: not any(site.component(host)["problem"] for host in pair), "well again", *pair)
    for one in (endpoint, another):
        second.engine.stop(one)
    first.engine.stop(third)


def test_a_consul_that_comes_back_empty_is_rebuilt_and_nobodys_network_is_deleted(site, pair):
    first, second = pair
    site.create(first, "one")
    site.create(second, "two")
    site.wait_everywhere("one")
    site.wait_everywhere("two")
    site.wait_settled("two")
    before = [{key: network["Id"] for key, network in host.api.networks.items()} for host in pair]
    site.consul.restart_empty()
    for name in ("one", "two"):
        wait(lambda name=name: site.record(name), f"the record of {name}", *pair)
        site.wait_settled(name)
    assert [
        {key: network["Id"] for key, network in host.api.networks.items()} for host in pair
    ] == before
    wait(
        lambda: (
            set(site.consul.checks()) == {f"{ROOT}-site-{site.number}-{host.name}" for host in pair}
        ),
        "both are registered again",
        *pair,
    )
    wait(
        lambda: not any(site.component(host)["problem"] for host in pair),
        "no problem on either, once that of Consul is over",
        *pair,
    )
    site.remove(second, "one")
    site.wait_nowhere("one")
    assert all(site.networks("two"))


# -- what Consul should not hold ------------------------------------------------------------------


def test_what_cannot_be_read_is_left_alone_and_said_in_the_status(site, pair):
    first, second = pair
    site.create(first, "good")
    site.wait_everywhere("good")
    site.wait_settled("good")
    value = site.record("good")
    spoiled = {
        "not json": b"{",
        "empty": b"",
        "a list": b"[]",
        "null": b"null",
        "no spec": {**value, "spec": None},
        "deep": b"[" * 50_000,
        "binary": bytes(range(256)),
        "other state": {**value, "state": "gone"},
        "driver": {**value, "spec": {**value["spec"], "driver": "bridge"}},
        "number": {**value, "spec": {**value["spec"], "subnet": 7}},
        "options": {**value, "spec": {**value["spec"], "ipam_options": {"a": 1}}},
        "internal": {**value, "spec": {**value["spec"], "internal": "yes"}},
        "huge": {**value, "spec": {**value["spec"], "labels": {"a": "x" * 200_000}}},
        "no incarnation": {key: item for key, item in value.items() if key != "incarnation"},
    }
    for name, content in spoiled.items():
        site.consul.put(f"{site.root}networks/{name}", content)
    site.consul.put(
        f"{site.root}networks/removed",
        {**value, "state": "removed", "incarnation": "unknown", "colour": "blue"},
    )
    foreign = {
        **value["spec"],
        "ipam_options": site.options("foreign"),
        "subnet": "",
        "gateway": "",
        "colour": {},
    }
    site.consul.put(
        f"{site.root}networks/foreign",
        {**value, "incarnation": "x", "colour": ["blue"], "spec": foreign},
    )
    site.wait_everywhere("foreign")
    for host in pair:
        wait(
            lambda host=host: "is left alone" in site.component(host)["problem"],
            "the sentence",
            host,
        )
    site.create(first, "after")
    site.wait_everywhere("after")
    for host in pair:
        assert {item["Name"] for item in host.api.networks.values()} == {"good", "foreign", "after"}
        for name in spoiled:
            assert (
                f"{site.root}networks/{name.replace(' ', '%20')}" in host.appliance.log()
                or f"networks/{name}" in host.appliance.log()
            ), name
    # A network of a name whose record cannot be read is neither published nor removed.
    made = site.create(second, "not json")
    site.create(first, "sentinel")
    site.wait_everywhere("sentinel")
    assert site.network(second, "not json")["Id"] == made and not site.network(first, "not json")
    assert site.consul.keys(f"{site.root}networks/")[f"{site.root}networks/not json"] == b"{"
    second.engine.network_rm(made)
    for name in spoiled:
        site.consul.delete(f"{site.root}networks/{name}")
    wait(
        lambda: not any(site.component(host)["problem"] for host in pair),
        "the end of the sentence",
        *pair,
    )


def test_keys_deleted_by_hand_are_written_again_and_notes_of_nonsense_are_replaced(site, pair):
    first, second = pair
    for name in ("one", "two"):
        site.create(first, name)
    for name in ("one", "two"):
        site.wait_everywhere(name)
        site.wait_settled(name)
    before = [site.networks(name) for name in ("one", "two")]
    site.consul.delete(f"{site.root}networks/one")
    site.consul.delete(f"{site.root}replicas/{first.name}")
    site.consul.put(f"{site.root}replicas/{second.name}", b"[{")
    site.consul.put(f"{site.root}replicas/stranger", {"two": 7, "one": {"state": "eaten"}})
    site.consul.put(f"{site.root}hosts/stranger", b"[]")
    site.consul.put(f"{site.root}hosts/{first.name}", b"{}")
    wait(lambda: site.record("one"), "the record again", *pair)
    for name in ("one", "two"):
        site.wait_settled(name)
    assert [site.networks(name) for name in ("one", "two")] == before
    site.remove(second, "one")
    site.wait_nowhere("one")
    for key in ("replicas/stranger", "hosts/stranger"):
        site.consul.delete(f"{site.root}{key}")


# -- the engine's losses --------------------------------------------------------------------------


def test_an_engine_that_lost_its_files_gets_its_networks_back_and_nobody_elses_go(site, pair):
    first, second = pair
    for name in ("one", "two"):
        site.create(first, name)
    for name in ("one", "two"):
        site.wait_everywhere(name)
        site.wait_settled(name)
    kept = [site.network(second, name)["Id"] for name in ("one", "two")]
    first.api.stop()
    first.api.wipe()
    first.engine.pools.clear()
    first.api.start()
    for name in ("one", "two"):
        site.wait_everywhere(name)
        assert site.network(first, name)["Labels"][ORIGIN_LABEL] == first.name
    assert [site.network(second, name)["Id"] for name in ("one", "two")] == kept
    site.wait_settled("two")
    site.remove(first, "one")
    site.wait_nowhere("one")


def test_a_removal_while_the_appliance_was_down_is_known_from_the_engines_memory(site, pair):
    first, second = pair
    for name in ("own", "replica"):
        site.create(first, name)
    for name in ("own", "replica"):
        site.wait_everywhere(name)
        site.wait_settled(name)
    for host, name in ((first, "own"), (second, "replica")):
        host.appliance.kill()
        network = site.network(host, name)
        # The engine goes on when a driver does not answer.
        del (
            host.api.networks[network["Id"]],
            host.engine.pools[network["Id"]],
        )
        host.api.emit("network", "destroy", network["Id"], {"name": name, "type": "nuage"})
    for host in pair:
        host.restart()
    for name in ("own", "replica"):
        site.wait_nowhere(name)
        wait(
            lambda name=name: site.record(name)["state"] == "removed",
            f"the record of {name}",
            *pair,
        )
