"""Docker engine 29: the appliance with an engine whose oldest API version is 1.44 and newest 1.52.

No Debian suite has that engine yet, so the scripted one plays it (tests/support/engine_29.py). What
older engines do alike is tested with them; here is what 29 does otherwise.
"""

import signal

import pytest

from tests.support import ovsdb as ovsdb_support
from tests.support.cluster import Site, start_simulator_with_subnets
from tests.support.consul import why_not
from tests.support.host import Host
from tests.support.plugin_calls import refusal
from tests.support.scripted_engine import OPTIONS
from tests.support.shifted_clock import launcher

_API = "1.52"
_GRACE_S = 0.4
_PING = "/_ping"
_OTHER = {**OPTIONS, "subnet": "Subnet 1"}


@pytest.fixture(scope="module")
def shared_host(simulator):
    """A host with engine 29, and a clock that makes the audit's minute short."""
    made = Host(simulator, "engine-29", api_version=_API, **launcher(grace_s=_GRACE_S))
    yield made
    made.check_log()
    made.close()


@pytest.fixture
def host(shared_host):
    """The host, empty, before a test and after it."""
    shared_host.begin()
    yield shared_host
    shared_host.tear_down()
    shared_host.wait_clean()


def _names_on_the_vsd(host):
    return sorted(one["name"] for one in host.containers())


def _wait_for_names(host, *names):
    host.appliance.wait_until(
        lambda: _names_on_the_vsd(host) == sorted(names), what=f"the names {names}"
    )


def _audit_until(host, condition, what):
    """Audit until it is so; every audit must have read everything."""

    def is_so():
        outcome = host.appliance.audit()
        assert outcome["is_complete"], outcome
        return condition(outcome)

    host.appliance.wait_until(is_so, what=what)


# -- the version of the API ----------------------------------------------------------------------


def test_the_newest_version_of_the_engine_is_spoken_and_nothing_is_refused(host):
    network_id = host.engine.network_create("n")
    host.wait_attached(host.engine.run("c", network_id))
    asked = {path.split("/")[1] for path in host.api.requests if path != _PING}
    assert asked == {f"v{_API}"}
    assert host.appliance.status()["components"]["engine"]["problem"] == ""


@pytest.mark.parametrize("before, after", [("1.41", _API), (_API, "1.41"), ("1.51", "1.56")])
def test_an_engine_that_was_replaced_by_another_release_is_asked_in_its_own_version(
    hosts, before, after
):
    """What was negotiated is too old for engine 29, or too new for the one before it."""
    host = hosts(api_version=before)
    network_id = host.engine.network_create("n")
    host.wait_attached(host.engine.run("old", network_id))
    host.api.stop()
    host.api.install(after)
    asked_before = len(host.api.requests)
    host.api.start()
    host.wait_attached(host.engine.run("new", network_id))
    _wait_for_names(host, "new", "old")
    asked = host.api.requests[asked_before:]
    spoken = asked[asked.index(_PING) :]
    assert all(path == _PING or path.startswith(f"/v{after}/") for path in spoken), spoken


def test_an_engine_that_takes_only_newer_versions_is_named_with_what_it_said(hosts):
    """Such an engine does not exist yet; what the operator reads must then say what is wrong."""
    host = hosts(api_version=_API)
    host.api.stop()
    host.api.install("1.70")
    host.api.oldest_api = "1.60"
    host.api.start()
    host.appliance.wait_until(
        lambda: "client version 1.56 is too old" in host.appliance.errors() + host.appliance.log(),
        what="the engine's sentence in the log",
    )


# -- what it shows -------------------------------------------------------------------------------


def test_who_a_container_is_comes_from_an_inspection_without_the_fields_that_are_gone(host):
    network_id = host.engine.network_create("n")
    host.engine.run("plain", network_id)
    labelled = host.engine.run("labelled", network_id, labels={"MESOS_TASK_ID": "task-7"})
    host.wait_attached(labelled)
    _wait_for_names(host, "labelled", "plain")
    rows = host.ovsdb.rows("Nuage_VM_Table", "vm_uuid")
    assert labelled["container_id"] in str(rows)


def test_a_container_is_stopped_started_and_removed(host):
    network_id = host.engine.network_create("n")
    endpoint = host.engine.run("c", network_id)
    host.wait_attached(endpoint)
    host.engine.halt(endpoint)
    host.wait_detached(endpoint)
    again = host.engine.run("c", network_id, container_id=endpoint["container_id"])
    host.wait_attached(again)
    host.engine.stop(again)
    host.wait_detached(again)


def test_an_event_that_was_lost_is_made_up_for_from_the_lists(host):
    network_id = host.engine.network_create("n")
    endpoint = host.engine.run("c", network_id, deliver=False)
    host.appliance.process.send_signal(signal.SIGUSR2)
    host.wait_attached(endpoint)
    _wait_for_names(host, "c")


def test_a_restart_finds_networks_and_containers_as_they_were(hosts):
    host = hosts(api_version=_API)
    network_id = host.engine.network_create("n")
    host.wait_attached(*[host.engine.run(f"c{number}", network_id) for number in range(2)])
    _wait_for_names(host, "c0", "c1")
    before = host.state()
    host.restart()
    host.appliance.wait_until(lambda: host.state() == before, what="as it was")


def test_a_network_that_the_host_forgot_is_read_from_the_engine(hosts):
    """Its options, its subnet and its range are in the list, which has no containers."""
    host = hosts(api_version=_API)
    network_id = host.engine.network_create("n", subnet="10.21.59.0/24", ip_range="10.21.59.128/25")
    host.appliance.kill()
    host.ovsdb.transact(
        {"op": "update", "table": "Bridge", "where": [], "row": {"external_ids": ["map", []]}}
    )
    host.restart()
    endpoint = host.engine.run("c", network_id)
    host.wait_attached(endpoint)
    assert int(endpoint["address"].split("/")[0].split(".")[3]) >= 128


# -- the audit -----------------------------------------------------------------------------------


def test_an_audit_reads_everything_and_finds_nothing_to_do(host):
    network_id = host.engine.network_create("n")
    endpoints = [host.engine.run(f"c{number}", network_id) for number in range(3)]
    host.wait_attached(*endpoints)
    _wait_for_names(host, "c0", "c1", "c2")
    _audit_until(host, lambda outcome: outcome["found"] == 0, "that all agree")


def test_an_endpoint_that_the_engine_does_not_show_any_more_is_taken_away(host):
    network_id = host.engine.network_create("n")
    lost, kept = (host.engine.run(name, network_id) for name in ("lost", "kept"))
    host.wait_attached(lost, kept)
    _wait_for_names(host, "kept", "lost")
    del host.api.containers[lost["container_id"]]
    del host.api.networks[network_id]["Containers"][lost["container_id"]]
    _audit_until(host, lambda _: _names_on_the_vsd(host) == ["kept"], "that one is left")
    host.wait_detached(lost)
    assert kept["entity_port"].replace("-2", "-1") in host.ovsdb.names("Nuage_Port_Table")


def test_a_network_that_the_engine_does_not_show_any_more_is_forgotten(host):
    network_id = host.engine.network_create("n")
    other_id = host.engine.network_create("other", _OTHER)
    del host.api.networks[network_id]
    _audit_until(
        host,
        lambda _: list(host.appliance.status()["networks"]) == [other_id],
        "that one network is left",
    )
    del host.engine.pools[network_id]


# -- any subnet of a size ------------------------------------------------------------------------


def test_any_subnet_of_a_size_is_the_vsds_when_it_has_that_size(host):
    network_id = host.engine.network_create("n", subnet="0.0.0.0/24")
    endpoint = host.engine.run("c", network_id)
    host.wait_attached(endpoint)
    assert endpoint["address"].startswith("10.21.59.") and endpoint["address"].endswith("/24")
    said = refusal(host.engine.network_create, "m", subnet="0.0.0.0/16")
    assert "leave --subnet out" in said


# -- the endpoint's name in RequestAddress -------------------------------------------------------


@pytest.mark.parametrize("name", ["web", "com.docker.network.gateway", "RequestAddressType"])
def test_a_name_of_the_endpoint_beside_the_request_for_an_address_changes_nothing(host, name):
    """The options of an address have been null until 29, or said that it is the gateway's."""
    network_id = host.engine.network_create("n")
    endpoint = host.engine.run(name, network_id)
    host.wait_attached(endpoint)
    _wait_for_names(host, name)
    assert endpoint["address"] != "10.21.59.1/24"


def test_a_name_and_an_address_that_was_asked_for(host):
    network_id = host.engine.network_create("n", subnet="10.21.59.0/24")
    endpoint = host.engine.run("web", network_id, ip="10.21.59.77")
    assert endpoint["address"] == "10.21.59.77/24"
    said = refusal(host.engine.setup, network_id, ip="10.21.59.77", name="web2")
    assert "10.21.59.77" in said
    said = refusal(host.engine.setup, network_id, ip="10.21.59.1", name="web3")
    assert "is the gateway" in said


def test_several_endpoints_of_one_name_have_an_address_each(host):
    """A container on two networks gives both endpoints its name; so may a restart that overlaps."""
    first = host.engine.network_create("n")
    second = host.engine.network_create("m", _OTHER)
    endpoints = [host.engine.setup(network_id, name="web") for network_id in (first, second, first)]
    assert len({endpoint["address"] for endpoint in endpoints}) == 3
    for endpoint in endpoints:
        host.engine.teardown(endpoint)


# -- networks of several hosts -------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulator_with_subnets(own_network, tmp_path_factory):
    """A VSD with a subnet for each network of a cluster."""
    if not ovsdb_support.is_available() or why_not():
        pytest.skip(why_not() or "ovsdb-server is not installed")
    with start_simulator_with_subnets(tmp_path_factory.mktemp("seed")) as running:
        yield running


def test_a_replica_is_made_and_removed_on_engines_29(simulator_with_subnets):
    site = Site(simulator_with_subnets, 2, api_version=_API)
    try:
        first, second = site.hosts
        network_id = site.create(first, "shared")
        site.wait_everywhere("shared")
        assert any(
            path.startswith(f"POST /v{_API}/networks/create") for path in second.api.requests
        )
        first.wait_attached(first.engine.run("c", network_id))
        first.tear_down()
        site.wait_nowhere("shared")
        assert any(path.startswith(f"DELETE /v{_API}/networks/") for path in second.api.requests)
    finally:
        site.close()
