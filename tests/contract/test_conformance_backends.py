"""Conformance tests 11, 12, 13 and 17 of libnetwork §10: load, and a VSD, VRS or
engine that is slow, silent or away.
"""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.host import Host
from tests.support.plugin_calls import (
    BIG_SUBNET,
    EID,
    at_once,
    endpoint_body,
    pool_body,
    refusal,
    release,
    reserved,
)
from tests.support.scripted_engine import OPTIONS

# -- 11 -------------------------------------------------------------------------------------------


@pytest.fixture
def slow_vsd(simulator):
    """A VSD that takes a fifth of a second for every answer."""
    simulator.admin("POST", "/config", {"latency_ms": 200})
    yield
    simulator.admin("POST", "/config", {"latency_ms": 0})


def test_fifty_containers_start_at_once_on_one_network(host, slow_vsd):
    network_id = host.engine.network_create("n")
    endpoints, seconds = at_once(
        lambda number: host.engine.run(f"c{number}", network_id), range(50)
    )
    assert len({endpoint["address"] for endpoint in endpoints}) == 50
    assert (
        len({endpoint["mac"] for endpoint in endpoints}) == 50
        and len({endpoint["entity_port"] for endpoint in endpoints}) == 50
    )
    assert seconds < 9, "one after another they would take more than 10 s"
    host.wait_attached(*endpoints)
    at_once(host.engine.stop, endpoints)
    host.engine.network_rm(network_id)
    host.wait_clean()


def test_fifty_networks_are_made_and_used_at_once(host, slow_vsd):
    def one(number):
        network_id = host.engine.network_create(
            f"n{number}", options=BIG_SUBNET, subnet=f"10.40.{number + 1}.0/24"
        )
        return host.engine.run(f"c{number}", network_id)

    endpoints, seconds = at_once(one, range(50))
    assert [endpoint["address"].split(".")[2] for endpoint in endpoints] == [
        str(number + 1) for number in range(50)
    ]
    assert seconds < 30, "one after another they would take more than 60 s"
    host.wait_attached(*endpoints)
    at_once(host.engine.stop, endpoints)
    at_once(lambda endpoint: host.engine.network_rm(endpoint["network_id"]), endpoints)
    host.wait_clean()


def test_an_automatic_pool_is_given_once_however_slow_the_vsd_is(host, simulator):
    """Each request asks the VSD four times: that alone takes longer than a burst."""
    simulator.admin("POST", "/config", {"latency_ms": 900})
    try:
        first = host.engine.ipam.call("IpamDriver.RequestPool", pool_body())
        assert "a moment ago" in refusal(
            host.engine.ipam.call, "IpamDriver.RequestPool", pool_body()
        )
    finally:
        simulator.admin("POST", "/config", {"latency_ms": 0})
    host.engine.ipam.call("IpamDriver.ReleasePool", {"PoolID": first["PoolID"]})


@pytest.mark.parametrize("is_fixed", [False, True], ids=["any address", "fixed addresses"])
def test_an_audit_while_containers_start_disturbs_none(host, slow_vsd, is_fixed):
    network_id = host.engine.network_create("n", subnet="10.21.59.0/24")
    with ThreadPoolExecutor(20) as pool:
        running = [
            pool.submit(
                host.engine.run,
                f"c{number}",
                network_id,
                f"10.21.59.{number + 100}" if is_fixed else "",
            )
            for number in range(20)
        ]
        while not all(one.done() for one in running):
            host.appliance.process.send_signal(signal.SIGUSR2)
            time.sleep(0.02)
        endpoints = [one.result() for one in running]
    host.wait_attached(*endpoints)
    assert host.addresses() == sorted(endpoint["address"].split("/")[0] for endpoint in endpoints)
    at_once(host.engine.stop, endpoints)
    host.engine.network_rm(network_id)
    host.wait_clean()


def test_a_slow_vsd_holds_up_no_other_call(host):
    network_id = host.engine.network_create("n")
    host.simulator.admin(
        "POST",
        "/faults",
        {"method": "POST", "path": "/containers", "count": 1, "action": "delay", "seconds": 4},
    )
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(host.engine.run, "slow", network_id)
        host.appliance.wait_until(
            lambda: host.simulator.admin("GET", "/faults")["faults"][0]["hits"] == 1
        )
        quick = host.engine.run("quick", network_id)
        assert not slow.done()
        assert slow.result()["address"] != quick["address"]


# -- 12 -------------------------------------------------------------------------------------------


_EVERYTHING = {"method": "*", "path": ".", "count": 0}
# What a call may take with this deadline: one that ignored it would take the 20 s that are the
# default, or end with the fault.
_HASTY_S, _HASTY_AND_SLACK_S = 2, 6


@pytest.fixture(scope="module")
def hasty_host(simulator):
    made = Host(simulator, "hasty", requesttimeout=_HASTY_S)
    yield made
    made.close()


@pytest.fixture
def hasty(hasty_host):
    """A host whose calls are answered after two seconds at the latest."""
    hasty_host.begin()
    yield hasty_host
    hasty_host.check_log()


@pytest.mark.parametrize("action", ["hang", "reset", "503", "malformed", "500"])
def test_a_vsd_that_is_down_or_hangs_costs_no_more_than_the_deadline(hasty, action):
    network_id = hasty.engine.network_create("n")
    endpoint = hasty.engine.run("c", network_id)
    hasty.wait_attached(endpoint)
    hasty.simulator.admin("POST", "/faults", {**_EVERYTHING, "action": action})
    try:
        started = time.monotonic()
        assert "VSD" in refusal(reserved, hasty, network_id)
        assert time.monotonic() - started < _HASTY_AND_SLACK_S
        started = time.monotonic()
        for plugin, method in (
            (hasty.engine.network, "NetworkDriver.GetCapabilities"),
            (hasty.engine.ipam, "IpamDriver.GetCapabilities"),
            (hasty.engine.ipam, "IpamDriver.GetDefaultAddressSpaces"),
            (hasty.engine.network, "Plugin.Activate"),
        ):
            plugin.call(method)
        hasty.engine.network.call(
            "NetworkDriver.EndpointOperInfo",
            {"NetworkID": network_id, "EndpointID": endpoint["endpoint_id"]},
        )
        assert time.monotonic() - started < _HASTY_S, (
            "one that asked the VSD would take the whole deadline"
        )
        started = time.monotonic()
        hasty.engine.stop(endpoint)  # every call of it answers 200
        assert time.monotonic() - started < _HASTY_AND_SLACK_S
        assert hasty.ovsdb.names("Nuage_Port_Table") == []
    finally:
        hasty.simulator.admin("DELETE", "/faults")
    hasty.appliance.wait_until(
        lambda: endpoint["address"].split("/")[0] not in hasty.addresses(),
        what="the queued release",
    )
    hasty.engine.network_rm(network_id)
    assert hasty.ovsdb.names("Nuage_Port_Table") == []
    hasty.appliance.wait_until(
        lambda: hasty.links() == [], what="the end of the link, which is deleted after the answer"
    )
    # A creation whose answer could not be read may have happened; the audit deletes what it made.
    assert all(one["name"] == one["UUID"] for one in hasty.containers())


@pytest.mark.parametrize("action", ["reset_after", "reset", "503", "malformed", "401"])
def test_one_answer_that_the_vsd_lost_costs_nothing_and_makes_no_second_container(hasty, action):
    network_id = hasty.engine.network_create("n")
    hasty.simulator.admin(
        "POST", "/faults", {"method": "POST", "path": "/containers", "count": 1, "action": action}
    )
    endpoint = hasty.engine.run("c", network_id)
    hasty.wait_attached(endpoint)
    assert hasty.addresses() == [endpoint["address"].split("/")[0]]
    hasty.engine.stop(endpoint)
    hasty.engine.network_rm(network_id)
    hasty.wait_clean()


def test_a_container_starts_again_as_soon_as_the_vsd_is_back(hasty):
    network_id = hasty.engine.network_create("n")
    hasty.simulator.admin("POST", "/faults", {**_EVERYTHING, "action": "reset"})
    refusal(hasty.engine.run, "c", network_id)
    hasty.simulator.admin("DELETE", "/faults")
    endpoint = hasty.engine.run("c", network_id)
    hasty.wait_attached(endpoint)
    hasty.engine.stop(endpoint)
    hasty.engine.network_rm(network_id)
    hasty.wait_clean()


def test_a_release_that_comes_after_a_restart_while_the_vsd_is_away_is_carried_out_when_it_is_back(
    mortal,
):
    network_id = mortal.engine.network_create("n")
    endpoint = mortal.engine.run("c", network_id)
    mortal.wait_attached(endpoint)
    mortal.simulator.admin("POST", "/faults", {**_EVERYTHING, "action": "reset"})
    mortal.restart(wait=False)
    mortal.engine.stop(endpoint)
    mortal.engine.network_rm(network_id)
    mortal.simulator.admin("DELETE", "/faults")
    mortal.wait_clean()


def test_a_vrs_that_is_away_fails_no_teardown_and_loses_its_port_when_it_is_back(mortal):
    network_id = mortal.engine.network_create("n")
    endpoint = mortal.engine.run("c", network_id)
    mortal.wait_attached(endpoint)
    mortal.ovsdb.stop()
    started = time.monotonic()
    mortal.engine.stop(endpoint)
    mortal.engine.network_rm(network_id)
    assert time.monotonic() - started < 8, (
        "two calls that waited for the VRS would take five seconds each"
    )
    assert mortal.containers() == []
    mortal.ovsdb.start()
    mortal.wait_clean()


def test_a_container_that_starts_while_the_vrs_is_away_is_plugged_when_it_is_back(mortal):
    network_id = mortal.engine.network_create("n")
    mortal.ovsdb.stop()
    endpoint = mortal.engine.run("c", network_id)
    mortal.ovsdb.start()
    mortal.wait_attached(endpoint)
    mortal.engine.stop(endpoint)
    mortal.engine.network_rm(network_id)
    mortal.wait_clean()


def test_a_network_that_is_made_while_the_vrs_is_away_is_known_after_a_restart(mortal):
    mortal.ovsdb.stop()
    network_id = mortal.engine.network_create("n")
    mortal.ovsdb.start()
    mortal.appliance.wait_until(
        lambda: mortal.ovsdb.rows("Bridge", "external_ids")[0]["external_ids"],
        what="the network's tag",
    )
    mortal.api.hang = True
    mortal.restart()
    endpoint = mortal.engine.setup(network_id)
    mortal.engine.teardown(endpoint)
    mortal.engine.network_rm(network_id)
    mortal.api.hang = False
    mortal.wait_clean()


# -- 13 -------------------------------------------------------------------------------------------


def test_an_engine_that_accepts_and_never_answers_blocks_no_handler(own_host):
    network_id = own_host.engine.network_create("n")
    own_host.api.hang = True
    own_host.restart(wait=False)
    try:
        own_host.appliance.wait_ready()
        started = time.monotonic()
        endpoint = own_host.engine.setup(network_id)  # its network is known from the tag in the VRS
        own_host.engine.teardown(endpoint)
        assert time.monotonic() - started < 2, (
            "a call that asks the engine waits two seconds for it"
        )
        started = time.monotonic()
        cidr = reserved(own_host, network_id)
        # A network that nobody announced.
        own_host.engine.network.call(
            "NetworkDriver.CreateEndpoint", endpoint_body("e" * 64, EID, cidr)
        )
        assert time.monotonic() - started < 8
        own_host.engine.network.call(
            "NetworkDriver.DeleteEndpoint", {"NetworkID": "e" * 64, "EndpointID": EID}
        )
        release(own_host, network_id, cidr)
        started = time.monotonic()
        other = own_host.engine.ipam.call(
            "IpamDriver.RequestPool", pool_body(options={**OPTIONS, "subnet": "Subnet 1"})
        )
        own_host.engine.ipam.call("IpamDriver.ReleasePool", {"PoolID": other["PoolID"]})
        assert time.monotonic() - started < 8
        own_host.engine.network_rm(network_id)
    finally:
        own_host.api.hang = False
    own_host.wait_clean()


def test_without_any_engine_socket_the_appliance_starts_and_serves(own_host):
    network_id = own_host.engine.network_create("n")
    own_host.api.stop()
    own_host.restart()
    endpoint = own_host.engine.setup(network_id)
    own_host.engine.teardown(endpoint)
    own_host.api.start()
    own_host.engine.network_rm(network_id)
    own_host.wait_clean()


# -- 17 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "version", ["1.24", "1.41", "1.52", "1.55", "1.99", ""], ids=lambda version: version or "none"
)
def test_events_are_followed_at_any_api_version(hosts, version):
    host = hosts(api_version=version)
    network_id = host.engine.network_create("n")
    endpoint = host.engine.run("c", network_id)
    host.wait_attached(endpoint)
    prefixes = {path.split("/")[1] for path in host.api.requests if not path.startswith("/_ping")}
    assert (
        prefixes == {f"v{version or '1.24'}"}
        if version != "1.99"
        else all(prefix.startswith("v1.") for prefix in prefixes)
    )
    host.engine.stop(endpoint)
    host.engine.network_rm(network_id)
    host.wait_clean()


def test_a_container_that_was_connected_while_the_stream_was_cut_is_plugged(own_host):
    network_id = own_host.engine.network_create("n")
    own_host.api.stop()
    endpoint = own_host.engine.run("c", network_id, deliver=False)
    own_host.api.start()
    own_host.wait_attached(endpoint)


def test_a_lost_event_is_made_up_for_by_the_next_comparison(own_host):
    network_id = own_host.engine.network_create("n")
    endpoint = own_host.engine.run("c", network_id, deliver=False)
    own_host.appliance.process.send_signal(signal.SIGUSR2)
    own_host.wait_attached(endpoint)


def test_an_engine_that_was_upgraded_is_asked_for_its_version_again(own_host):
    network_id = own_host.engine.network_create("n")
    own_host.api.stop()
    own_host.api.install("1.55")
    before = len(own_host.api.requests)
    own_host.api.start()
    endpoint = own_host.engine.run("c", network_id)
    own_host.wait_attached(endpoint)
    asked = own_host.api.requests[before:]
    assert "/_ping" in asked and [
        path for path in asked if path.startswith("/v1.55/containers/")
    ], asked
    # A call that was under way when the stream ended may still be in the old version; the stream
    # itself never is.
    assert not [
        path
        for path in asked[asked.index("/_ping") :]
        if not path.startswith(("/v1.55/", "/_ping"))
    ], asked


def test_odd_events_do_no_harm(host):
    network_id = host.engine.network_create("n")
    endpoint = host.engine.run("c", network_id)
    host.wait_attached(endpoint)
    before = host.state()
    for _ in range(2):  # 20.10 sends it twice
        host.api.emit(
            "network",
            "disconnect",
            network_id,
            {"container": endpoint["container_id"], "name": "n", "type": "nuage"},
        )
    host.api.emit(
        "network",
        "connect",
        network_id,
        {"container": endpoint["container_id"], "name": "n", "type": "nuage"},
    )
    for kind, action, subject, attributes in (
        ("network", "remove", "8qyhkfaqn3rgwt6w5imdyuzs0", {"name": "snet"}),
        ("network", "update", "8qyhkfaqn3rgwt6w5imdyuzs0", {"name": "snet"}),
        (
            "network",
            "connect",
            network_id,
            {"container": "0" * 64, "name": "n", "type": "nuage", "new": "x"},
        ),
        ("network", "connect", "f" * 64, {"container": endpoint["container_id"]}),
        ("network", "connect", network_id, {}),
        ("network", "connect", None, None),
        ("container", "rename", "0" * 64, {}),
        ("network", "connect", network_id, {"container": 5}),
        (None, None, {}, []),
        ("network", "create", "f" * 64, {"name": "x", "type": "nuage"}),
    ):
        host.api.emit(kind, action, subject, attributes)
    later = host.engine.run("later", network_id)
    host.wait_attached(later)
    host.engine.stop(later)
    host.appliance.wait_until(lambda: host.state() == before, what="the state before")
