"""The eighteen conformance tests of libnetwork §10; the engine is scripted, everything else is real."""

import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.conftest import (
    BODIES,
    EID,
    POOL,
    Host,
    at_once,
    endpoint_body,
    plugin_of,
    pool_body,
    raw_http,
    refusal,
    release,
    reserved,
)
from tests.support.appliance import Appliance
from tests.support.engine import GATEWAY, OPTIONS, PluginError, ScriptedEngine

_SERIAL = {"com.docker.network.ipam.serial": "true"}
_BIG = {**OPTIONS, "subnet": "Big"}
_BODILESS = (
    "NetworkDriver.GetCapabilities",
    "IpamDriver.GetCapabilities",
    "IpamDriver.GetDefaultAddressSpaces",
)
# What can be refused for a network or endpoint that nobody knows; everything else succeeds.
_NEEDS_AN_ENDPOINT = {"NetworkDriver.CreateEndpoint", "NetworkDriver.Join"}


# -- 1 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host_line",
    ["", "Host: \r\n", "Host: plugin.moby.localhost\r\n"],
    ids=["no Host", "an empty Host", "moby's Host"],
)
@pytest.mark.parametrize(
    "length_line", ["", "Content-Length: 0\r\n"], ids=["no length", "length 0"]
)
@pytest.mark.parametrize(
    ("name", "types"), [("nuage", {"NetworkDriver", "IpamDriver"}), ("nuage-ipam", {"IpamDriver"})]
)
def test_activation_needs_no_body_no_content_type_and_no_host(
    host, name, types, host_line, length_line
):
    path = f"{host.appliance.plugins}/{name}.sock"
    status, body = raw_http(
        path, f"POST /Plugin.Activate HTTP/1.1\r\n{host_line}{length_line}\r\n".encode()
    )
    assert status == 200
    assert set(json.loads(body)["Implements"]) == types


def test_every_method_may_be_the_first_call_of_a_fresh_process(own_host):
    for method in [*_BODILESS, *BODIES]:
        own_host.restart(wait=False)
        plugin, body = plugin_of(own_host, method), BODIES.get(method)
        status, answer = plugin.raw(
            method, b"" if body is None else json.dumps(body).encode() + b"\n"
        )
        assert isinstance(answer, dict), method
        if method in _NEEDS_AN_ENDPOINT:
            assert status == 500 and answer["Err"] and "internal" not in answer["Err"], (
                method,
                answer,
            )
        else:
            assert status == 200 and not answer.get("Err"), (method, answer)
    own_host.appliance.wait_ready()
    assert not own_host.containers() and not own_host.links()


# -- 2 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"\n", b"   \r\n"], ids=["nothing", "a newline", "blanks"])
@pytest.mark.parametrize("method", BODIES)
def test_an_empty_body_is_an_error_with_both_keys_and_changes_nothing(host, method, body):
    before = host.appliance.status()["networks"]
    status, answer = plugin_of(host, method).raw(method, body)
    assert status != 200
    assert answer["Err"] and answer["Err"] == answer["Error"]
    assert host.appliance.status()["networks"] == before


def test_empty_bodies_leave_a_running_container_alone(host):
    network_id = host.engine.network_create("n")
    endpoint = host.engine.run("c", network_id)
    host.wait_attached(endpoint)
    before = host.state()
    for method in BODIES:
        status, _ = plugin_of(host, method).raw(method, b"")
        assert status == 500, method
    assert host.state() == before


# -- 3 -------------------------------------------------------------------------------------------


def test_create_run_stop_and_rm_leave_nothing(host):
    network_id = host.engine.network_create("n")
    endpoint = host.engine.run("c", network_id)
    assert endpoint["gateway"] == "10.21.59.1"
    host.wait_attached(endpoint)
    assert [one["name"] for one in host.containers()] == ["c"] and host.links() == [
        endpoint["entity_port"].replace("-2", "-1")
    ]
    host.engine.stop(endpoint)
    assert host.containers() == [] and host.ovsdb.names("Nuage_Port_Table") == []
    host.engine.network_rm(network_id)
    host.wait_clean()


# -- 4 -------------------------------------------------------------------------------------------

_LIFE = [
    "GetDefaultAddressSpaces",
    "RequestPool",
    "RequestAddress of the gateway",
    "CreateNetwork",
    "RequestAddress",
    "CreateEndpoint",
    "Join",
    "ProgramExternalConnectivity",
    "EndpointOperInfo",
    "RevokeExternalConnectivity",
    "Leave",
    "DeleteEndpoint",
    "ReleaseAddress",
    "ReleaseAddress of the gateway",
    "ReleasePool",
    "DeleteNetwork",
]


@pytest.fixture(scope="module")
def mortal_host(simulator):
    made = Host(simulator, "mortal")
    yield made
    made.close()


@pytest.fixture
def mortal(mortal_host):
    """A host whose appliance is killed by every test that uses it."""
    mortal_host.begin()
    yield mortal_host
    mortal_host.check_log()


class _Interrupted:
    """Does something before the n-th plugin call of an engine."""

    def __init__(self, engine, position, what):
        self._plugins = (engine.network, engine.ipam)
        self._calls, self._position, self._what = 0, position, what
        self.names = []

    def __enter__(self):
        for plugin in self._plugins:
            plugin.call = self._wrap(plugin)
        return self

    def _wrap(self, plugin):
        send = type(plugin).call.__get__(plugin)

        def call(method, body=None):
            if self._calls == self._position:
                self._what()
            self._calls += 1
            self.names.append(method.split(".")[1])
            return send(method, body)

        return call

    def __exit__(self, *_):
        for plugin in self._plugins:
            del plugin.call


@pytest.mark.parametrize("wait", [True, False], ids=["and ready", "and not ready yet"])
@pytest.mark.parametrize("position", range(len(_LIFE)), ids=_LIFE)
def test_a_kill_before_any_call_of_a_containers_life_is_not_noticed(mortal, position, wait):
    with _Interrupted(mortal.engine, position, lambda: mortal.restart(wait)) as calls:
        network_id = mortal.engine.network_create("n")
        endpoint = mortal.engine.run("c", network_id)
        mortal.wait_attached(endpoint)
        assert [one["name"] for one in mortal.containers()] == ["c"]
        mortal.engine.stop(endpoint)
        mortal.engine.network_rm(network_id)
    assert calls.names == [name.split()[0] for name in _LIFE]
    mortal.appliance.wait_ready()
    mortal.wait_clean()


def test_a_call_that_a_kill_cut_short_comes_again_without_body_and_is_refused(mortal):
    """libnetwork §1.5: the engine repeats the call without a body, gets an error, rolls back."""
    network_id = mortal.engine.network_create("n")
    mortal.simulator.admin(
        "POST",
        "/faults",
        {"method": "POST", "path": "/containers", "count": 1, "action": "delay", "seconds": 3},
    )
    body = {"PoolID": mortal.engine.pools[network_id][0], "Address": "", "Options": None}
    with ThreadPoolExecutor() as pool:
        lost = pool.submit(
            mortal.engine.ipam.raw, "IpamDriver.RequestAddress", json.dumps(body).encode()
        )
        mortal.appliance.wait_until(
            lambda: mortal.simulator.admin("GET", "/faults")["faults"][0]["hits"] == 1
        )
        mortal.restart()
        assert lost.exception(60) is not None
    mortal.simulator.admin("DELETE", "/faults")
    status, answer = mortal.engine.ipam.raw("IpamDriver.RequestAddress", b"")
    assert status == 500 and "no body" in answer["Err"]
    endpoint = mortal.engine.run("c", network_id)
    mortal.wait_attached(endpoint)
    mortal.engine.stop(endpoint)
    mortal.engine.network_rm(network_id)
    # What the lost call makes on the VSD, once its delay is over, is a container of this host without a name; an audit deletes it.
    mortal.appliance.wait_until(mortal.containers, what="the creation that was under way")
    left = mortal.containers()
    assert len(left) == 1 and left[0]["name"] == left[0]["UUID"]
    client = mortal.simulator.client()
    client.me()
    for one in left:
        client.delete(f"/containers/{one['ID']}?responseChoice=1")
    client.close()
    mortal.restart()
    mortal.wait_clean()


# -- 5 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mac", ["01:00:5e:00:00:01", "00:00:00:00:00:00", "not a MAC"])
def test_a_refused_create_endpoint_needs_only_the_release_of_its_address(host, mac):
    network_id = host.engine.network_create("n")
    cidr = reserved(host, network_id)
    assert mac in refusal(
        host.engine.network.call,
        "NetworkDriver.CreateEndpoint",
        endpoint_body(network_id, EID, cidr, mac),
    )
    assert host.links() == []
    release(host, network_id, cidr)
    host.engine.network_rm(network_id)
    host.wait_clean()


def test_a_create_endpoint_with_a_mac_in_use_undoes_its_half(host):
    network_id = host.engine.network_create("n")
    first = host.engine.run("first", network_id, mac="02:42:0a:15:3b:07")
    cidr = reserved(host, network_id)
    said = refusal(
        host.engine.network.call,
        "NetworkDriver.CreateEndpoint",
        endpoint_body(network_id, EID, cidr, "02:42:0a:15:3b:07"),
    )
    assert "02:42:0a:15:3b:07" in said
    release(host, network_id, cidr)
    assert host.addresses() == [first["address"].split("/")[0]] and len(host.links()) == 1
    host.engine.stop(first)


@pytest.mark.parametrize(
    "leaves", [0, 1, 2], ids=["without Leave (28)", "with Leave (29)", "with Leave twice (29)"]
)
def test_a_join_that_the_engine_takes_back_leaves_nothing(host, leaves):
    network_id = host.engine.network_create("n")
    cidr = reserved(host, network_id)
    ids = {"NetworkID": network_id, "EndpointID": EID}
    host.engine.network.call("NetworkDriver.CreateEndpoint", endpoint_body(network_id, EID, cidr))
    if leaves == 2:
        host.engine.network.call("NetworkDriver.Join", {**ids, "SandboxKey": "/x", "Options": {}})
    for _ in range(leaves):
        host.engine.network.call("NetworkDriver.Leave", ids)
    host.engine.network.call("NetworkDriver.DeleteEndpoint", ids)
    release(host, network_id, cidr)
    host.engine.network_rm(network_id)
    host.wait_clean()


def test_a_refused_join_of_an_unknown_endpoint_is_rolled_back_by_any_engine(host):
    network_id = host.engine.network_create("n")
    cidr = reserved(host, network_id)
    ids = {"NetworkID": network_id, "EndpointID": EID}
    assert "not created" in refusal(
        host.engine.network.call, "NetworkDriver.Join", {**ids, "SandboxKey": "/x", "Options": {}}
    )
    host.engine.network.call("NetworkDriver.Leave", ids)
    host.engine.network.call("NetworkDriver.DeleteEndpoint", ids)
    release(host, network_id, cidr)
    assert host.containers() == []


def test_a_refused_ipv6_pool_is_rolled_back_and_the_network_can_be_made_without_it(host):
    ipam, space = host.engine.ipam, "nuage-local"
    pool = ipam.call(
        "IpamDriver.RequestPool",
        {
            "AddressSpace": space,
            "Pool": "10.21.59.0/24",
            "SubPool": "",
            "Options": OPTIONS,
            "V6": False,
        },
    )
    gateway = ipam.call(
        "IpamDriver.RequestAddress", {"PoolID": pool["PoolID"], "Address": "", "Options": GATEWAY}
    )["Address"]
    said = refusal(
        ipam.call,
        "IpamDriver.RequestPool",
        {"AddressSpace": space, "Pool": "fd00::/64", "SubPool": "", "Options": OPTIONS, "V6": True},
    )
    assert "IPv4" in said
    ipam.call(
        "IpamDriver.ReleaseAddress", {"PoolID": pool["PoolID"], "Address": gateway.split("/")[0]}
    )
    ipam.call("IpamDriver.ReleasePool", {"PoolID": pool["PoolID"]})
    network_id = host.engine.network_create("n", subnet="10.21.59.0/24")
    endpoint = host.engine.run("c", network_id)
    host.wait_attached(endpoint)


def test_a_refused_auxiliary_address_is_rolled_back_by_the_release_of_its_pool_alone(host):
    ipam = host.engine.ipam
    pool = ipam.call(
        "IpamDriver.RequestPool",
        {
            "AddressSpace": "nuage-local",
            "Pool": "10.21.59.0/24",
            "SubPool": "",
            "Options": OPTIONS,
            "V6": False,
        },
    )
    ipam.call(
        "IpamDriver.RequestAddress", {"PoolID": pool["PoolID"], "Address": "", "Options": GATEWAY}
    )
    said = refusal(
        ipam.call,
        "IpamDriver.RequestAddress",
        {"PoolID": pool["PoolID"], "Address": "10.21.59.200", "Options": None},
    )
    assert "--aux-address" in said
    ipam.call("IpamDriver.ReleasePool", {"PoolID": pool["PoolID"]})
    host.engine.network_create("n", subnet="10.21.59.0/24")


def test_a_refused_gateway_is_rolled_back_and_says_the_right_one(host):
    said = refusal(host.engine.network_create, "n", gateway="10.21.59.254")
    assert "10.21.59.1" in said and "--gateway" in said
    host.engine.network_create("n", gateway="10.21.59.1")


def test_an_ipv6_address_on_an_endpoint_is_refused_and_the_ipv4_address_can_be_used_again(host):
    network_id = host.engine.network_create("n")
    cidr = reserved(host, network_id)
    body = endpoint_body(network_id, EID, cidr)
    body["Interface"]["AddressIPv6"] = "fd00::2/64"
    assert "IPv4" in refusal(host.engine.network.call, "NetworkDriver.CreateEndpoint", body)
    release(host, network_id, cidr)
    assert reserved(host, network_id, cidr.split("/")[0]) == cidr
    release(host, network_id, cidr)


# -- 6 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_same", [True, False], ids=["the same address", "any address"])
@pytest.mark.parametrize("is_restarted", [False, True], ids=["", "after a kill of the appliance"])
def test_a_release_alone_takes_a_crashed_engines_endpoint_down_and_it_starts_again_at_once(
    mortal, is_same, is_restarted
):
    network_id = mortal.engine.network_create("n")
    endpoint = mortal.engine.run("c", network_id)
    mortal.wait_attached(endpoint)
    if is_restarted:
        mortal.restart()
    mortal.api.containers.clear()
    mortal.api.networks[network_id]["Containers"].clear()
    release(mortal, network_id, endpoint["address"])
    again = mortal.engine.run(
        "c", network_id, ip=endpoint["address"].split("/")[0] if is_same else ""
    )
    mortal.wait_attached(again)
    mortal.appliance.wait_until(
        lambda: mortal.links() == [again["entity_port"].replace("-2", "-1")]
    )
    assert mortal.addresses() == [again["address"].split("/")[0]], mortal.appliance.errors()[-6000:]
    assert mortal.ovsdb.names("Nuage_Port_Table") == mortal.links()
    mortal.engine.stop(again)
    mortal.engine.network_rm(network_id)
    mortal.wait_clean()


# -- 7 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [
        "Leave",
        "DeleteEndpoint",
        "RevokeExternalConnectivity",
        "ProgramExternalConnectivity",
        "EndpointOperInfo",
        "DeleteNetwork",
        "FreeNetwork",
    ],
)
@pytest.mark.parametrize(
    "ids",
    [
        ("x" * 64, "y" * 64),
        ("1", "2"),
        ("8qyhkfaqn3rgwt6w5imdyuzs0", "f" * 64),
        ("n" * 4096, "e" * 4096),
    ],
    ids=["unknown", "short", "swarm's", "long"],
)
def test_unknown_ids_and_repeats_are_no_errors(host, method, ids):
    for _ in range(2):
        answer = host.engine.network.call(
            f"NetworkDriver.{method}", {"NetworkID": ids[0], "EndpointID": ids[1]}
        )
        assert answer == ({"Value": {}} if method == "EndpointOperInfo" else {})


@pytest.mark.parametrize(
    "pool",
    [
        POOL,
        "lablocal/10.88.0.0/24",
        "d41d8cd98f00b204e9800998ecf8427e-abc",
        "x",
        "LocalDefault/172.18.0.0/16",
    ],
)
@pytest.mark.parametrize(
    "address", ["10.21.59.200", "10.21.59.1", "", "fd00::1", "192.0.2.77", "nonsense"]
)
def test_unknown_pools_and_addresses_are_released_without_an_error(host, pool, address):
    for _ in range(2):
        assert (
            host.engine.ipam.call("IpamDriver.ReleaseAddress", {"PoolID": pool, "Address": address})
            == {}
        )
        assert host.engine.ipam.call("IpamDriver.ReleasePool", {"PoolID": pool}) == {}


def test_every_teardown_may_come_three_times(host):
    network_id = host.engine.network_create("n")
    endpoint = host.engine.run("c", network_id)
    host.wait_attached(endpoint)
    pool_id = host.engine.pools[network_id][0]
    for _ in range(3):
        host.engine.teardown(endpoint)
    host.engine.stop(endpoint)
    for _ in range(3):
        host.engine.network_rm(network_id)
        host.engine.pools[network_id] = (pool_id, "10.21.59.1")
    del host.engine.pools[network_id]
    host.wait_clean()


# -- 8 -------------------------------------------------------------------------------------------


def test_a_mac_that_was_asked_for_is_not_echoed_and_one_that_was_not_is_answered(host):
    network_id = host.engine.network_create("n")
    asked, free = reserved(host, network_id), reserved(host, network_id)
    first = host.engine.network.call(
        "NetworkDriver.CreateEndpoint",
        endpoint_body(network_id, "1" * 64, asked, "02:42:0a:15:3b:4d"),
    )
    second = host.engine.network.call(
        "NetworkDriver.CreateEndpoint", endpoint_body(network_id, "2" * 64, free)
    )
    assert first.get("Interface", {}) == {}
    assert (
        set(second["Interface"]) == {"MacAddress"} and len(second["Interface"]["MacAddress"]) == 17
    )
    macs = {
        one["interfaces"][0]["IPAddress"]: one["interfaces"][0]["MAC"].lower()
        for one in host.containers()
    }
    assert macs == {
        asked.split("/")[0]: "02:42:0a:15:3b:4d",
        free.split("/")[0]: second["Interface"]["MacAddress"],
    }
    for endpoint_id, cidr in (("1" * 64, asked), ("2" * 64, free)):
        host.engine.network.call(
            "NetworkDriver.DeleteEndpoint", {"NetworkID": network_id, "EndpointID": endpoint_id}
        )
        release(host, network_id, cidr)


@pytest.mark.parametrize(
    "options",
    [
        None,
        {},
        {"unknown": {"nested": [1, None, {"x": True}]}, "true": True, "number": 1.5, "null": None},
        {
            "com.docker.network.endpoint.exposedports": [{"Proto": 6, "Port": 80}],
            "com.docker.network.endpoint.macaddress": "AkLerb7v",
            "com.docker.network.portmap": [
                {
                    "Proto": 6,
                    "IP": "",
                    "Port": 80,
                    "HostIP": "",
                    "HostPort": 8080,
                    "HostPortEnd": 8080,
                }
            ],
        },
        {
            "com.docker.network.endpoint.dnsservers": ["8.8.8.8"],
            "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1",
            "com.docker.network.endpoint.ifname": "foo",
            "any-driver-opt": "value",
        },
    ],
    ids=["null", "none", "odd types", "ports and a MAC", "28 and later"],
)
def test_any_endpoint_options_are_tolerated(host, options):
    network_id = host.engine.network_create("n")
    cidr = reserved(host, network_id)
    body = {**endpoint_body(network_id, EID, cidr), "Options": options}
    answer = host.engine.network.call("NetworkDriver.CreateEndpoint", body)
    assert answer["Interface"]["MacAddress"] != "02:42:de:ad:be:ef", (
        "the MAC of the options is base64 and not meant for us"
    )
    ids = {"NetworkID": network_id, "EndpointID": EID}
    assert host.engine.network.call(
        "NetworkDriver.Join", {**ids, "SandboxKey": "/x", "Options": options}
    )["InterfaceName"]["SrcName"]
    host.engine.network.call(
        "NetworkDriver.ProgramExternalConnectivity", {**ids, "Options": options}
    )
    for method in ("Leave", "DeleteEndpoint"):
        host.engine.network.call(f"NetworkDriver.{method}", ids)
    release(host, network_id, cidr)


def test_repeating_create_endpoint_gives_the_same_endpoint(host):
    network_id = host.engine.network_create("n")
    cidr = reserved(host, network_id)
    body = endpoint_body(network_id, EID, cidr)
    assert host.engine.network.call(
        "NetworkDriver.CreateEndpoint", body
    ) == host.engine.network.call("NetworkDriver.CreateEndpoint", body)
    assert len(host.links()) == 1
    host.engine.network.call("NetworkDriver.DeleteEndpoint", body)
    release(host, network_id, cidr)


@pytest.mark.parametrize("mac", ["", "02:42:0a:15:3b:4d"])
def test_the_same_create_endpoint_many_times_at_once_makes_one_link(host, mac):
    network_id = host.engine.network_create("n")
    cidr = reserved(host, network_id)
    body = endpoint_body(network_id, EID, cidr, mac)
    answers, _ = at_once(
        lambda _: host.engine.network.call("NetworkDriver.CreateEndpoint", body), range(8)
    )
    assert len({json.dumps(answer, sort_keys=True) for answer in answers}) == 1
    assert len(host.links()) == 1
    host.engine.network.call("NetworkDriver.DeleteEndpoint", body)
    release(host, network_id, cidr)


def test_a_create_endpoint_that_repeats_only_the_id_is_refused_with_the_difference(host):
    network_id, other_id = (
        host.engine.network_create("n"),
        host.engine.network_create("other", {**OPTIONS, "subnet": "Subnet 1"}),
    )
    cidr = reserved(host, network_id)
    body = endpoint_body(network_id, EID, cidr, "02:42:0a:15:3b:4d")
    host.engine.network.call("NetworkDriver.CreateEndpoint", body)
    for changed, words in (
        (endpoint_body(other_id, EID, cidr), (network_id[:12], other_id[:12])),
        (endpoint_body(network_id, EID, "10.21.59.250/24"), (cidr.split("/")[0], "10.21.59.250")),
        (
            endpoint_body(network_id, EID, cidr, "02:42:0a:15:3b:4e"),
            ("02:42:0a:15:3b:4d", "02:42:0a:15:3b:4e"),
        ),
    ):
        text = refusal(host.engine.network.call, "NetworkDriver.CreateEndpoint", changed)
        assert "exists already" in text and all(word in text for word in words), text
    assert len(host.links()) == 1
    host.engine.network.call("NetworkDriver.DeleteEndpoint", body)
    release(host, network_id, cidr)


# -- 9 -------------------------------------------------------------------------------------------


def test_an_automatic_pool_is_not_given_twice_in_a_burst(host):
    first = host.engine.ipam.call("IpamDriver.RequestPool", pool_body())
    assert first["Pool"] == "10.21.59.0/24"
    said = refusal(host.engine.ipam.call, "IpamDriver.RequestPool", pool_body())
    assert "--subnet=10.21.59.0/24" in said
    host.engine.ipam.call("IpamDriver.ReleasePool", {"PoolID": first["PoolID"]})


def test_the_engines_endless_loop_ends_by_itself(host):
    """libnetwork §3.3: the engine holds what it got and asks again while a pool overlaps a route of the host."""
    held = []
    with pytest.raises(PluginError):
        for _ in range(20):
            held.append(host.engine.ipam.call("IpamDriver.RequestPool", pool_body())["PoolID"])
    assert len(held) <= 1
    for pool_id in held:
        host.engine.ipam.call("IpamDriver.ReleasePool", {"PoolID": pool_id})


@pytest.mark.parametrize("options", [None, {}], ids=["null", "none"])
def test_a_pool_without_options_is_refused_by_naming_the_first_that_is_missing(host, options):
    body = {**pool_body(), "Options": options}
    assert "organization" in refusal(host.engine.ipam.call, "IpamDriver.RequestPool", body)


def test_a_pool_is_the_same_for_null_and_missing_fields(host):
    full = host.engine.ipam.call("IpamDriver.RequestPool", pool_body("10.21.59.0/24"))
    host.engine.ipam.call("IpamDriver.ReleasePool", {"PoolID": full["PoolID"]})
    for body in (
        {"AddressSpace": "nuage-local", "Pool": "10.21.59.0/24", "Options": OPTIONS},
        {
            "AddressSpace": "nuage-local",
            "Pool": "10.21.59.0/24",
            "SubPool": None,
            "Options": OPTIONS,
            "V6": None,
            "New": 1,
        },
    ):
        assert host.engine.ipam.call("IpamDriver.RequestPool", body) == full
        host.engine.ipam.call("IpamDriver.ReleasePool", {"PoolID": full["PoolID"]})


# -- 10 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        None,
        {},
        {"com.docker.network.endpoint.name": "web"},
        {"com.docker.network.endpoint.macaddress": "02:42:0a:5f:00:4d"},
        _SERIAL,
        {**_SERIAL, **OPTIONS},
        {"unknown": 5},
    ],
    ids=["null", "none", "a name", "a MAC", "serial", "serial and ours", "unknown"],
)
@pytest.mark.parametrize("address", ["", "10.21.59.99"], ids=["any address", "a fixed address"])
def test_an_address_is_answered_as_a_cidr_whatever_the_options(host, options, address):
    network_id = host.engine.network_create("n", subnet="10.21.59.0/24")
    body = {"PoolID": host.engine.pools[network_id][0], "Address": address, "Options": options}
    got = host.engine.ipam.call("IpamDriver.RequestAddress", body)["Address"]
    assert (
        got == f"{address}/24" if address else got.startswith("10.21.59.") and got.endswith("/24")
    )
    release(host, network_id, got)


@pytest.mark.parametrize("address", ["", "10.21.59.1"])
@pytest.mark.parametrize("more", [{}, {**_SERIAL, "io": "1"}], ids=["", "swarm"])
def test_the_gateway_is_the_vsds_and_costs_no_container(host, address, more):
    network_id = host.engine.network_create("n")
    body = {
        "PoolID": host.engine.pools[network_id][0],
        "Address": address,
        "Options": {**GATEWAY, **more},
    }
    assert host.engine.ipam.call("IpamDriver.RequestAddress", body)["Address"] == "10.21.59.1/24"
    assert host.containers() == []


@pytest.mark.parametrize(
    "address", ["10.21.58.9", "10.21.59.1", "192.0.2.9", "fd00::2", "nonsense"]
)
def test_an_address_that_cannot_be_had_is_refused_and_never_replaced(host, address):
    network_id = host.engine.network_create("n")
    body = {"PoolID": host.engine.pools[network_id][0], "Address": address, "Options": None}
    assert address in refusal(host.engine.ipam.call, "IpamDriver.RequestAddress", body)
    assert host.containers() == []


def test_an_address_in_use_is_refused(host):
    network_id = host.engine.network_create("n")
    endpoint = host.engine.run("c", network_id)
    taken = endpoint["address"].split("/")[0]
    assert taken in refusal(reserved, host, network_id, taken)
    assert host.addresses() == [taken]


# -- 11 ------------------------------------------------------------------------------------------


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
            f"n{number}", options=_BIG, subnet=f"10.40.{number + 1}.0/24"
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


# -- 12 ------------------------------------------------------------------------------------------

_EVERYTHING = {"method": "*", "path": ".", "count": 0}


# What a call may take with this deadline: one that ignored it would take the 20 s that are the default, or end with the fault.
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


# -- 13 ------------------------------------------------------------------------------------------


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
        own_host.engine.network.call(
            "NetworkDriver.CreateEndpoint", endpoint_body("e" * 64, EID, cidr)
        )  # a network that nobody announced
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


# -- 14 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["knows it", "is away", "hangs"])
def test_a_second_host_serves_a_foreign_pool_and_a_network_that_was_never_announced(hosts, api):
    first, second = hosts(scope="global"), hosts(scope="global")
    network_id = first.engine.network_create("n")
    pool_id, gateway = first.engine.pools[network_id]
    if api == "knows it":
        second.api.networks[network_id] = {
            **first.api.networks[network_id],
            "Scope": "global",
            "Containers": {},
        }
    elif api == "is away":
        second.api.stop()
    second.api.hang = api == "hangs"
    other = ScriptedEngine(second.appliance.plugins, second.api if api == "knows it" else None)
    other.pools[network_id] = (pool_id, gateway)
    endpoint = other.run("c", network_id)
    assert endpoint["address"].startswith("10.21.59.") and second.has_link(endpoint["entity_port"])
    here = first.engine.run("d", network_id)
    assert here["address"] != endpoint["address"]
    if api == "knows it":
        second.wait_attached(endpoint)
        other.stop(endpoint)
    else:
        other.teardown(endpoint)
    second.api.hang = False
    assert second.containers() == []
    first.engine.stop(here)
    first.engine.network_rm(network_id)
    first.wait_clean()


# -- 15 ------------------------------------------------------------------------------------------

_SWARM_NID = "8qyhkfaqn3rgwt6w5imdyuzs0"


class Manager:
    """The manager's column of libnetwork §5.4."""

    def __init__(self, host):
        self.plugin, self.ipam = host.engine.network, host.engine.ipam

    def create(self):
        options = {**OPTIONS, **_SERIAL}
        pool = self.ipam.call(
            "IpamDriver.RequestPool", {**pool_body(space="nuage-global"), "Options": options}
        )
        self.pool_id = pool["PoolID"]
        gateway = self.ipam.call(
            "IpamDriver.RequestAddress",
            {"PoolID": self.pool_id, "Address": "", "Options": {**GATEWAY, **options}},
        )["Address"]
        self.data = [{"AddressSpace": "", "Pool": pool["Pool"], "Gateway": gateway}]
        return self.allocate({"d": "e"})

    def allocate(self, options):
        body = {
            "NetworkID": _SWARM_NID,
            "Options": options,
            "IPv4Data": self.data,
            "IPv6Data": None,
        }
        return self.plugin.call("NetworkDriver.AllocateNetwork", body)["Options"]

    def task(self, address=""):
        body = {"PoolID": self.pool_id, "Address": address, "Options": {**OPTIONS, **_SERIAL}}
        return self.ipam.call("IpamDriver.RequestAddress", body)["Address"]

    def end(self, cidr):
        self.ipam.call(
            "IpamDriver.ReleaseAddress", {"PoolID": self.pool_id, "Address": cidr.split("/")[0]}
        )

    def remove(self):
        self.plugin.call("NetworkDriver.FreeNetwork", {"NetworkID": _SWARM_NID})
        self.end(self.data[0]["Gateway"])
        self.ipam.call("IpamDriver.ReleasePool", {"PoolID": self.pool_id})


class Worker:
    """A worker's column of libnetwork §5.4."""

    def __init__(self, host):
        self.host, self.plugin, self.ipam = host, host.engine.network, host.engine.ipam

    def create(self, generic):
        pool = self.ipam.call(
            "IpamDriver.RequestPool",
            {**pool_body("10.21.59.0/24"), "Options": {**OPTIONS, **_SERIAL}},
        )
        gateway = self.ipam.call(
            "IpamDriver.RequestAddress",
            {"PoolID": pool["PoolID"], "Address": "10.21.59.1", "Options": GATEWAY},
        )["Address"]
        self.plugin.call(
            "NetworkDriver.CreateNetwork",
            {
                "NetworkID": _SWARM_NID,
                "Options": {"com.docker.network.generic": generic},
                "IPv6Data": [],
                "IPv4Data": [
                    {"AddressSpace": "nuage-local", "Pool": pool["Pool"], "Gateway": gateway}
                ],
            },
        )
        self.host.engine.pools[_SWARM_NID] = (pool["PoolID"], gateway.split("/")[0])
        self.host.api.networks[_SWARM_NID] = {
            "Id": _SWARM_NID,
            "Name": "snet",
            "Driver": "nuage",
            "Scope": "swarm",
            "Internal": False,
            "Options": generic,
            "Containers": {},
            "IPAM": {
                "Driver": "nuage-ipam",
                "Options": OPTIONS,
                "Config": [{"Subnet": pool["Pool"], "Gateway": gateway.split("/")[0]}],
            },
        }

    def run(self, name, cidr):
        return self.host.engine.run(name, _SWARM_NID, ip=cidr.split("/")[0])

    def stop(self, endpoint):
        self.host.engine.stop(endpoint)

    def remove(self):
        self.host.engine.network_rm(_SWARM_NID)


@pytest.mark.parametrize("is_one", [True, False], ids=["manager = worker", "manager and worker"])
def test_a_swarm_task_runs_where_the_worker_is_on_the_address_that_the_manager_reserved(
    hosts, is_one
):
    first = hosts(scope="global")
    second = first if is_one else hosts(scope="global")
    manager, worker = Manager(first), Worker(second)
    assert manager.create() == {"d": "e"}
    virtual, task = manager.task(), manager.task()
    assert len({virtual, task}) == 2 and first.links() == []
    worker.create({"d": "e"})
    endpoint = worker.run("task", task)
    assert endpoint["address"] == task
    second.wait_attached(endpoint)
    worker.stop(endpoint)
    assert manager.task() != task, "the worker's release must not free what the manager reserved"


def test_a_new_swarm_leader_replays_everything_without_an_error(hosts):
    first, second = hosts(scope="global"), hosts(scope="global")
    manager = Manager(first)
    manager.create()
    task = manager.task()
    leader = Manager(second)
    assert leader.create() == {"d": "e"}
    assert leader.allocate({"d": "e"}) == {"d": "e"}
    assert leader.task(task.split("/")[0]) == task
    leader.end(task)
    leader.remove()


def test_a_restarted_swarm_manager_replays_everything_without_an_error(hosts):
    host = hosts(scope="global")
    manager = Manager(host)
    manager.create()
    task = manager.task()
    host.restart()
    manager.create()
    assert manager.task(task.split("/")[0]) == task
    manager.end(task)
    manager.remove()
    host.wait_clean()


def test_a_worker_deletes_a_swarm_network_with_its_last_task_and_makes_it_again(hosts):
    host = hosts(scope="global")
    worker = Worker(host)
    for _ in range(3):
        worker.create({"d": "e"})
        endpoint = worker.run("task", "")
        host.wait_attached(endpoint)
        worker.stop(endpoint)
        worker.remove()
    host.wait_clean()


# -- 16 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "position",
    range(5),
    ids=[
        "before all",
        "before Leave",
        "before DeleteEndpoint",
        "before ReleaseAddress",
        "after all",
    ],
)
def test_containers_that_live_through_a_restart_are_torn_down_without_revoke(mortal, position):
    network_id = mortal.engine.network_create("n")
    endpoint = mortal.engine.run("c", network_id)
    mortal.wait_attached(endpoint)
    endpoint["gateway"] = ""  # an engine 29 has forgotten it, and sends no Revoke
    with _Interrupted(mortal.engine, position, mortal.restart):
        ids = {"NetworkID": network_id, "EndpointID": endpoint["endpoint_id"]}
        assert mortal.engine.network.call("NetworkDriver.EndpointOperInfo", ids) == {"Value": {}}
        mortal.engine.stop(endpoint)
        mortal.engine.network_rm(network_id)
    mortal.wait_clean()


def test_a_restart_changes_nothing_of_running_containers(mortal):
    network_id = mortal.engine.network_create("n")
    endpoints = [mortal.engine.run(f"c{number}", network_id) for number in range(3)]
    mortal.wait_attached(*endpoints)
    before = mortal.state()
    mortal.restart()
    mortal.appliance.wait_until(lambda: mortal.state() == before, what="as it was")
    for endpoint in endpoints:
        mortal.engine.stop(endpoint)
    mortal.engine.network_rm(network_id)
    mortal.wait_clean()


# -- 17 ------------------------------------------------------------------------------------------


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
    # A call that was under way when the stream ended may still be in the old version; the stream itself never is.
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


# -- 18 ------------------------------------------------------------------------------------------


def test_a_stale_socket_is_replaced_at_the_start(own_host):
    own_host.appliance.kill()
    for path in own_host.appliance.sockets:
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(path)  # the file is there, nobody listens
    own_host.restart()
    own_host.engine.network.call("NetworkDriver.GetCapabilities")


def test_the_sockets_are_gone_after_sigterm(own_host):
    assert own_host.appliance.kill(signal.SIGTERM) == 0
    for path in own_host.appliance.sockets:
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(FileNotFoundError):
            probe.connect(path)


def test_a_call_that_is_running_at_sigterm_is_answered(own_host):
    network_id = own_host.engine.network_create("n")
    own_host.simulator.admin(
        "POST",
        "/faults",
        {"method": "POST", "path": "/containers", "count": 1, "action": "delay", "seconds": 1.5},
    )
    with ThreadPoolExecutor() as pool:
        running = pool.submit(reserved, own_host, network_id)
        own_host.appliance.wait_until(
            lambda: own_host.simulator.admin("GET", "/faults")["faults"][0]["hits"] == 1
        )
        assert own_host.appliance.kill(signal.SIGTERM) == 0
        assert running.result().startswith("10.21.59.")


def test_an_idle_engine_connection_does_not_hold_up_the_end(own_host):
    own_host.engine.network.call("NetworkDriver.GetCapabilities")
    started = time.monotonic()
    assert own_host.appliance.kill(signal.SIGTERM) == 0
    assert time.monotonic() - started < 8, "a call that is running would hold it up for ten seconds"


def test_a_socket_that_another_process_serves_is_not_taken(own_host):
    with pytest.raises(AssertionError, match="served by another process"):
        Appliance(
            own_host.simulator.url,
            own_host.ovsdb.socket,
            own_host.api.path,
            cafile=own_host.simulator.ca_file,
            plugindir=own_host.appliance.plugins,
        )
    own_host.engine.network.disconnect()
    own_host.engine.network.call("NetworkDriver.GetCapabilities")
