"""The twenty-five things that remote drivers most often get wrong (libnetwork §8), one
test each, in its order.
"""

import json
import re
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.host import Host
from tests.support.plugin_calls import (
    BODIES,
    EID,
    endpoint_body,
    plugin_of,
    pool_body,
    raw_http,
    refusal,
    release,
    reserved,
)
from tests.support.scripted_engine import GATEWAY, OPTIONS, PluginError, ScriptedEngine

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hung_vsd(simulator):
    """A VSD that takes every request and answers none, until the test ends."""

    def hang():
        simulator.admin(
            "POST", "/faults", {"method": "*", "path": ".", "count": 0, "action": "hang"}
        )

    yield hang
    simulator.admin("DELETE", "/faults")


def test_01_bodies_are_json_whatever_the_content_type_and_the_host_say(host):
    text = json.dumps(BODIES["NetworkDriver.EndpointOperInfo"]).encode() + b"\n"
    for head in (
        "",
        "Host:\r\n",
        "Host: plugin.moby.localhost\r\nContent-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
    ):
        request = (
            f"POST /NetworkDriver.EndpointOperInfo HTTP/1.1\r\n{head}Content-Length: "
            f"{len(text)}\r\n\r\n"
        ).encode() + text
        status, body = raw_http(host.appliance.sockets[0], request)
        assert (status, json.loads(body)) == (200, {"Value": {}}), head


def test_02_a_repeated_call_that_lost_its_body_is_never_a_success(host):
    for method in BODIES:
        status, answer = plugin_of(host, method).raw(method, b"")
        assert status == 500 and answer["Err"] == answer["Error"] != "", method


def test_03_an_idle_connection_stays_open_and_serves_again(host):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(host.appliance.sockets[0])
        for idle_s in (5.5, 0.1):
            connection.settimeout(60)
            connection.sendall(
                b"POST /NetworkDriver.GetCapabilities HTTP/1.1\r\nHost:\r\nContent-Length: "
                b"0\r\n\r\n"
            )
            got = b""
            while not got.endswith(b"}"):
                got += connection.recv(65536)
            assert got.startswith(b"HTTP/1.1 200")
            connection.settimeout(idle_s)
            with pytest.raises(TimeoutError):  # neither closed, nor anything sent
                connection.recv(1)


def test_04_no_handler_and_no_start_waits_for_the_engines_api(own_host):
    network_id = own_host.engine.network_create("n")
    own_host.api.hang = True
    own_host.restart(wait=False)
    started = time.monotonic()
    for plugin, method in (
        (own_host.engine.network, "Plugin.Activate"),
        (own_host.engine.network, "NetworkDriver.GetCapabilities"),
        (own_host.engine.ipam, "Plugin.Activate"),
        (own_host.engine.ipam, "IpamDriver.GetDefaultAddressSpaces"),
    ):
        plugin.call(method)
    endpoint = own_host.engine.setup(network_id)
    own_host.engine.teardown(endpoint)
    assert time.monotonic() - started < 6
    own_host.api.hang = False


def test_05_no_handler_inspects_the_container_that_is_being_started(host):
    network_id = host.engine.network_create("n")
    before = len(host.api.requests)
    endpoint = host.engine.setup(network_id)
    host.engine.teardown(endpoint)
    asked = host.api.requests[before:]
    assert not [path for path in asked if re.search(r"/containers/[^/]+/json", path)], asked


def test_06_a_controller_that_hangs_costs_a_call_its_deadline_and_no_more(hosts, hung_vsd):
    host = hosts(requesttimeout=2)
    network_id = host.engine.network_create("n")
    hung_vsd()
    started = time.monotonic()
    assert "VSD" in refusal(
        host.engine.ipam.call,
        "IpamDriver.RequestPool",
        pool_body("10.21.58.0/24", {**OPTIONS, "subnet": "Subnet 1"}),
    )
    assert time.monotonic() - started < 6, (
        "without this deadline it would take the 20 s of the default"
    )
    host.engine.network.call("NetworkDriver.DeleteNetwork", {"NetworkID": network_id})


def test_07_capabilities_are_answered_whatever_is_down(simulator, own_network, hung_vsd):
    hung_vsd()
    host = Host(simulator, "lonely", wait=False)
    try:
        host.api.stop()
        host.ovsdb.stop()
        host.appliance.kill()
        host.appliance.start()
        host.engine.network.disconnect()
        host.engine.ipam.disconnect()
        started = time.monotonic()
        assert host.engine.network.call("NetworkDriver.GetCapabilities")["Scope"] == "local"
        assert host.engine.ipam.call("IpamDriver.GetCapabilities") == {
            "RequiresMACAddress": False,
            "RequiresRequestReplay": False,
        }
        assert len(set(host.engine.ipam.call("IpamDriver.GetDefaultAddressSpaces").values())) == 2
        assert time.monotonic() - started < 2, "whoever is asked would be waited for longer"
        host.check_log()
    finally:
        host.close()


def test_08_after_a_restart_no_handshake_is_needed(own_host):
    network_id = own_host.engine.network_create("n")
    own_host.restart(wait=False)
    endpoint = own_host.engine.run("c", network_id)
    own_host.wait_attached(endpoint)


@pytest.mark.parametrize("has_api", [True, False], ids=["with the engine's API", "without it"])
def test_09_what_create_network_said_is_still_known_after_a_crash(own_host, has_api):
    network_id = own_host.engine.network_create("n", internal=True)
    other_id = own_host.engine.network_create("m", options={**OPTIONS, "subnet": "Subnet 1"})
    own_host.api.hang = not has_api
    own_host.restart()
    first, second = own_host.engine.setup(network_id), own_host.engine.setup(other_id)
    assert (first["address"].rpartition(".")[0], second["address"].rpartition(".")[0]) == (
        "10.21.59",
        "10.21.58",
    )
    assert (first["gateway"], second["gateway"]) == ("", "10.21.58.1"), (
        "the first network is internal"
    )
    for endpoint in (first, second):
        own_host.engine.teardown(endpoint)
    own_host.api.hang = False


def test_10_a_container_gets_a_new_endpoint_at_every_start_and_stays_itself(host):
    network_id = host.engine.network_create("n", subnet="10.21.59.0/24")
    container_id = "c0ffee" + "0" * 58
    for _ in range(3):
        endpoint = host.engine.run("web", network_id, ip="10.21.59.50", container_id=container_id)
        host.wait_attached(endpoint)
        host.appliance.wait_until(
            lambda: (
                [(one["UUID"], one["name"]) for one in host.containers()] == [(container_id, "web")]
            )
        )
        assert [row["vm_uuid"] for row in host.ovsdb.rows("Nuage_VM_Table", "vm_uuid")] == [
            container_id
        ]
        host.engine.stop(endpoint)


def test_11_a_release_alone_takes_down_what_a_crashed_engine_forgot(host):
    network_id = host.engine.network_create("n")
    endpoint = host.engine.run("c", network_id)
    host.wait_attached(endpoint)
    host.api.networks[network_id]["Containers"].clear()
    host.api.containers.clear()
    release(host, network_id, endpoint["address"])
    host.appliance.wait_until(
        lambda: (
            not host.links() and not host.containers() and not host.ovsdb.names("Nuage_Port_Table")
        )
    )


def test_12_teardown_succeeds_on_anything_at_any_time(host):
    network_id = host.engine.network_create("n")
    endpoint = host.engine.setup(network_id)
    ids = {"NetworkID": network_id, "EndpointID": endpoint["endpoint_id"]}
    for method in (
        "DeleteEndpoint",
        "Leave",
        "Leave",
        "RevokeExternalConnectivity",
        "DeleteEndpoint",
        "Leave",
    ):
        assert host.engine.network.call(f"NetworkDriver.{method}", ids) == {}
    for _ in range(2):
        release(host, network_id, endpoint["address"])
    for _ in range(2):
        assert (
            host.engine.network.call("NetworkDriver.DeleteNetwork", {"NetworkID": "unknown"}) == {}
        )


def test_13_a_failed_create_endpoint_has_undone_its_own_half(host):
    network_id = host.engine.network_create("n")
    cidr = reserved(host, network_id)
    # Every name that the driver could take for the link is taken by somebody else.
    number = max(
        int(one["interfaces"][0]["name"].removeprefix("nln").removesuffix("-1"), 16)
        for one in host.containers()
    )
    names = [f"nln{number + offset:x}-2" for offset in range(8)]
    for name in names:
        host.ip("link", "add", name, "type", "veth", "peer", "name", f"other-{name}")
    try:
        refusal(
            host.engine.network.call,
            "NetworkDriver.CreateEndpoint",
            endpoint_body(network_id, EID, cidr),
        )
        assert host.links() == [] and all(host.has_link(name) for name in names), (
            "foreign devices are not ours to touch"
        )
    finally:
        for name in names:
            host.ip("link", "del", name)
    host.engine.network.call("NetworkDriver.CreateEndpoint", endpoint_body(network_id, EID, cidr))
    assert len(host.links()) == 1, (
        "the second attempt must not be taken for a repetition of the first"
    )
    host.engine.network.call(
        "NetworkDriver.DeleteEndpoint", {"NetworkID": network_id, "EndpointID": EID}
    )
    release(host, network_id, cidr)
    host.engine.network_rm(network_id)
    host.wait_clean()


def test_14_an_address_without_an_endpoint_is_known_as_reserved_until_it_is_released(own_host):
    network_id = own_host.engine.network_create("n", subnet="10.21.59.0/24")
    cidr = reserved(own_host, network_id)
    own_host.restart()
    assert own_host.appliance.status()["components"]["endpoints"]["states"] == {"reserved": 1}
    release(own_host, network_id, cidr)
    assert reserved(own_host, network_id, cidr.split("/")[0]) == cidr
    release(own_host, network_id, cidr)
    own_host.engine.network_rm(network_id)
    own_host.wait_clean()


def test_15_create_endpoint_answers_nothing_that_was_asked(host):
    network_id = host.engine.network_create("n")
    for number, mac in enumerate(("02:42:0a:15:3b:07", "02:42:0A:15:3B:08", "")):
        cidr, ids = (
            reserved(host, network_id),
            {"NetworkID": network_id, "EndpointID": str(number) * 64},
        )
        answer = host.engine.network.call(
            "NetworkDriver.CreateEndpoint", endpoint_body(network_id, str(number) * 64, cidr, mac)
        )
        assert set(answer.get("Interface") or {}) == (set() if mac else {"MacAddress"})
        host.engine.network.call("NetworkDriver.DeleteEndpoint", ids)
        release(host, network_id, cidr)


def test_16_the_mac_is_read_from_the_interface_and_not_from_the_options(host):
    network_id = host.engine.network_create("n")
    cidr = reserved(host, network_id)
    body = endpoint_body(
        network_id,
        "16" * 32,
        cidr,
        "02:42:0a:15:3b:07",
        {"com.docker.network.endpoint.macaddress": "AkLerb7v"},
    )
    host.engine.network.call("NetworkDriver.CreateEndpoint", body)
    assert [one["interfaces"][0]["MAC"].lower() for one in host.containers()] == [
        "02:42:0a:15:3b:07"
    ]
    host.engine.network.call(
        "NetworkDriver.DeleteEndpoint", {"NetworkID": network_id, "EndpointID": "16" * 32}
    )
    release(host, network_id, cidr)


def test_17_an_automatic_pool_is_not_handed_out_again_and_again(host):
    pool_id = host.engine.ipam.call("IpamDriver.RequestPool", pool_body())["PoolID"]
    assert "--subnet" in refusal(host.engine.ipam.call, "IpamDriver.RequestPool", pool_body())
    host.engine.ipam.call("IpamDriver.ReleasePool", {"PoolID": pool_id})


def test_18_a_pool_id_is_the_same_everywhere_and_means_the_same_everywhere(hosts):
    first, second = hosts(), hosts()
    pools = []
    for host in (first, second, first):
        pool = host.engine.ipam.call("IpamDriver.RequestPool", pool_body("10.21.59.0/24"))
        host.engine.ipam.call("IpamDriver.ReleasePool", {"PoolID": pool["PoolID"]})
        pools.append(pool)
        if host is second:
            first.restart()
    assert pools[0] == pools[1] == pools[2]
    for name in ("Enterprise", "Domain", "Zone", "Subnet%202"):
        assert name in pools[0]["PoolID"], "it describes itself"
    other = hosts()
    body = {"PoolID": pools[0]["PoolID"], "Address": "", "Options": None}
    address = other.engine.ipam.call("IpamDriver.RequestAddress", body)["Address"]
    assert address.startswith("10.21.59.")
    other.restart(wait=False)
    assert (
        other.engine.ipam.call(
            "IpamDriver.ReleaseAddress",
            {"PoolID": pools[0]["PoolID"], "Address": address.split("/")[0]},
        )
        == {}
    )
    other.wait_clean()


@pytest.mark.parametrize("internal", [False, True], ids=["a network", "an internal network"])
def test_19_join_answers_the_gateway_of_the_subnet_and_no_default_route(host, internal):
    network_id = host.engine.network_create("n", internal=internal)
    cidr = reserved(host, network_id)
    host.engine.network.call(
        "NetworkDriver.CreateEndpoint", endpoint_body(network_id, "19" * 32, cidr)
    )
    ids = {"NetworkID": network_id, "EndpointID": "19" * 32}
    answer = host.engine.network.call(
        "NetworkDriver.Join", {**ids, "SandboxKey": "/x", "Options": {}}
    )
    assert answer["Gateway"] == ("" if internal else "10.21.59.1") and not answer.get("GatewayIPv6")
    assert not [
        route
        for route in answer.get("StaticRoutes") or []
        if route["Destination"] in ("0.0.0.0/0", "::/0")
    ]
    for method in ("Leave", "DeleteEndpoint"):
        host.engine.network.call(f"NetworkDriver.{method}", ids)
    release(host, network_id, cidr)


@pytest.mark.parametrize("is_gone", [False, True], ids=["the link is there", "the link is gone"])
def test_20_delete_endpoint_deletes_the_link_and_is_content_when_it_is_gone(host, is_gone):
    network_id = host.engine.network_create("n")
    endpoint = host.engine.run("c", network_id)
    host.wait_attached(endpoint)
    if is_gone:
        host.ip("link", "del", endpoint["entity_port"])
    host.engine.stop(endpoint)
    host.appliance.wait_until(lambda: not host.links())


def test_20b_the_link_has_the_configured_mtu_on_both_sides(hosts):
    host = hosts(mtu=1400)
    network_id = host.engine.network_create("n")
    endpoint = host.engine.setup(network_id)
    for name in (endpoint["entity_port"], endpoint["entity_port"].replace("-2", "-1")):
        done = host.namespace.run(
            subprocess.run,
            ["ip", "-o", "link", "show", name],
            capture_output=True,
            text=True,
            check=True,
        )
        assert " mtu 1400 " in done.stdout
    host.engine.teardown(endpoint)


def test_21_oper_info_program_and_revoke_are_served_for_any_endpoint(host):
    for ids in (
        {"NetworkID": "x", "EndpointID": "y"},
        {"NetworkID": "n" * 64, "EndpointID": "e" * 64},
    ):
        assert host.engine.network.call("NetworkDriver.EndpointOperInfo", ids) == {"Value": {}}
        assert (
            host.engine.network.call(
                "NetworkDriver.ProgramExternalConnectivity", {**ids, "Options": {"x": [1]}}
            )
            == {}
        )
        assert host.engine.network.call("NetworkDriver.RevokeExternalConnectivity", ids) == {}


def test_22_every_error_has_both_keys_and_every_answer_is_an_object(host):
    for method, body in (
        ("NetworkDriver.Join", {"NetworkID": "n", "EndpointID": "e"}),
        ("IpamDriver.RequestAddress", {"PoolID": "x"}),
        ("IpamDriver.RequestPool", {"V6": True}),
        ("NetworkDriver.NoSuchMethod", {}),
        ("IpamDriver.RequestPool", []),
    ):
        status, answer = plugin_of(host, method).raw(method, json.dumps(body).encode())
        assert status != 200 and answer["Err"] and answer["Err"] == answer["Error"], method
    for method in (
        "NetworkDriver.Leave",
        "NetworkDriver.DeleteNetwork",
        "IpamDriver.ReleasePool",
        "NetworkDriver.DiscoverNew",
    ):
        status, answer = plugin_of(host, method).raw(method, json.dumps(BODIES[method]).encode())
        assert status == 200 and isinstance(answer, dict), method


def test_23_a_swarm_manager_reserves_an_address_and_nothing_else(hosts):
    host = hosts(scope="global")
    options = {**OPTIONS, "com.docker.network.ipam.serial": "true"}
    ipam = host.engine.ipam
    central = ipam.call(
        "IpamDriver.RequestPool", {**pool_body(space="nuage-global"), "Options": options}
    )["PoolID"]
    ipam.call(
        "IpamDriver.RequestAddress",
        {"PoolID": central, "Address": "", "Options": {**GATEWAY, **options}},
    )
    echoed = host.engine.network.call(
        "NetworkDriver.AllocateNetwork",
        {
            "NetworkID": "2lyqqpuwyu60x352af50s8qkd",
            "Options": {"a": "b", "c": "d"},
            "IPv6Data": None,
            "IPv4Data": [{"AddressSpace": "", "Gateway": "10.21.59.1/24", "Pool": "10.21.59.0/24"}],
        },
    )
    assert echoed["Options"] == {"a": "b", "c": "d"}
    address = ipam.call(
        "IpamDriver.RequestAddress", {"PoolID": central, "Address": "", "Options": options}
    )["Address"]
    bare = address.split("/")[0]
    assert host.links() == [] and host.appliance.status()["components"]["endpoints"]["states"] == {}
    local = ipam.call("IpamDriver.RequestPool", {**pool_body("10.21.59.0/24"), "Options": options})[
        "PoolID"
    ]
    assert local != central
    network_id = "2lyqqpuwyu60x352af50s8qkd"
    host.engine.network.call(
        "NetworkDriver.CreateNetwork",
        {
            "NetworkID": network_id,
            "Options": {"com.docker.network.generic": echoed["Options"]},
            "IPv6Data": [],
            "IPv4Data": [
                {"AddressSpace": "nuage-local", "Gateway": "10.21.59.1/24", "Pool": "10.21.59.0/24"}
            ],
        },
    )
    assert (
        ipam.call("IpamDriver.RequestAddress", {"PoolID": local, "Address": bare, "Options": None})[
            "Address"
        ]
        == address
    )
    ipam.call("IpamDriver.ReleaseAddress", {"PoolID": local, "Address": bare})
    fresh = {
        ipam.call(
            "IpamDriver.RequestAddress", {"PoolID": central, "Address": "", "Options": options}
        )["Address"]
        for _ in range(3)
    }
    assert len(fresh) == 3 and address not in fresh, "the local release freed the reserved address"
    for one in [address, *fresh]:
        ipam.call("IpamDriver.ReleaseAddress", {"PoolID": central, "Address": one.split("/")[0]})
    host.engine.network.call("NetworkDriver.DeleteNetwork", {"NetworkID": network_id})
    assert (
        ipam.call(
            "IpamDriver.RequestAddress", {"PoolID": central, "Address": bare, "Options": options}
        )["Address"]
        == address
    )
    ipam.call("IpamDriver.ReleaseAddress", {"PoolID": central, "Address": bare})


@pytest.mark.parametrize("has_api", [True, False], ids=["with the engine's API", "without it"])
def test_24_a_second_host_needs_neither_request_pool_nor_create_network(hosts, has_api):
    first, second = hosts(scope="global"), hosts(scope="global")
    network_id = first.engine.network_create("n")
    if has_api:
        second.api.networks[network_id] = {
            **first.api.networks[network_id],
            "Scope": "global",
            "Containers": {},
        }
    else:
        second.api.stop()
    engine = ScriptedEngine(second.appliance.plugins)
    engine.pools[network_id] = first.engine.pools[network_id]
    endpoint = engine.setup(network_id)
    assert second.has_link(endpoint["entity_port"]) and endpoint["gateway"] == "10.21.59.1"
    engine.teardown(endpoint)
    assert second.containers() == []


def test_25_the_api_version_is_the_engines_and_events_are_not_the_truth(hosts):
    host = hosts(api_version="1.44", auditinterval=10)
    network_id = host.engine.network_create("n")
    unseen = host.engine.run("unseen", network_id, deliver=False)
    host.api.stop()  # the stream is cut, and the events of that time are lost
    host.api.start()
    host.wait_attached(unseen)
    assert all(path.startswith(("/v1.44/", "/_ping")) for path in host.api.requests), (
        host.api.requests
    )
    host.engine.stop(unseen)


def test_25b_the_unit_starts_before_docker_and_never_after_it():
    units = list((_ROOT / "rpmbuild").glob("*.service"))
    assert units
    for path in units:
        text = path.read_text()
        assert not re.search(r"^(After|Requires|BindsTo)=.*docker", text, re.M), path.name
        assert re.search(r"^Before=.*docker\.service", text, re.M), path.name


def test_parallel_calls_about_one_endpoint_end_in_one_state(host):
    """libnetwork §1.7: Join, Leave, DeleteEndpoint and ReleaseAddress of one network overlap; none
    may fail or leave half of it.
    """
    network_id = host.engine.network_create("n")
    for _ in range(5):
        endpoint = host.engine.setup(network_id)
        ids = {"NetworkID": network_id, "EndpointID": endpoint["endpoint_id"]}
        pool_id = host.engine.pools[network_id][0]
        with ThreadPoolExecutor(8) as pool:
            calls = [
                pool.submit(host.engine.network.call, f"NetworkDriver.{method}", ids)
                for method in ("Leave", "DeleteEndpoint", "Leave", "DeleteEndpoint")
            ]
            calls += [
                pool.submit(
                    host.engine.ipam.call,
                    "IpamDriver.ReleaseAddress",
                    {"PoolID": pool_id, "Address": endpoint["address"].split("/")[0]},
                )
                for _ in range(3)
            ]
            join = pool.submit(
                host.engine.network.call,
                "NetworkDriver.Join",
                {**ids, "SandboxKey": "/x", "Options": {}},
            )
        assert [call.result() for call in calls] == [{}] * 7
        assert join.exception() is None or isinstance(join.exception(), PluginError)
    host.engine.network_rm(network_id)
    host.wait_clean()


def test_a_network_that_the_engine_does_not_list_yet_keeps_its_subnet(host):
    """The engine answers 404 for a network that it is still making; a second one on the subnet is
    refused all the same.
    """
    network_id = "d" * 64
    pool = host.engine.ipam.call("IpamDriver.RequestPool", pool_body())
    host.engine.network.call(
        "NetworkDriver.CreateNetwork",
        {
            "NetworkID": network_id,
            "Options": {},
            "IPv6Data": [],
            "IPv4Data": [
                {"AddressSpace": "nuage-local", "Pool": pool["Pool"], "Gateway": "10.21.59.1/24"}
            ],
        },
    )
    assert "already uses 10.21.59.0/24" in refusal(
        host.engine.ipam.call, "IpamDriver.RequestPool", pool_body("10.21.59.0/24")
    )
    assert list(host.appliance.status()["networks"]) == [network_id]
    host.engine.network.call("NetworkDriver.DeleteNetwork", {"NetworkID": network_id})
    host.engine.ipam.call("IpamDriver.ReleasePool", {"PoolID": pool["PoolID"]})
