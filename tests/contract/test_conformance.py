"""Conformance tests 1-3, 5 and 7-10 of libnetwork §10: single calls, their bodies,
and what the engine takes back.

The engine is scripted, everything else is real. The other ten are in test_conformance_restarts.py,
_backends.py and _swarm.py.
"""

import json

import pytest

from tests.support.plugin_calls import (
    BODIES,
    EID,
    POOL,
    SWARM_SERIAL,
    at_once,
    endpoint_body,
    plugin_of,
    pool_body,
    raw_http,
    refusal,
    release,
    reserved,
)
from tests.support.scripted_engine import GATEWAY, OPTIONS, PluginError

_BODILESS = (
    "NetworkDriver.GetCapabilities",
    "IpamDriver.GetCapabilities",
    "IpamDriver.GetDefaultAddressSpaces",
)
# What can be refused for a network or endpoint that nobody knows; everything else succeeds.
_NEEDS_AN_ENDPOINT = {"NetworkDriver.CreateEndpoint", "NetworkDriver.Join"}


# -- 1 --------------------------------------------------------------------------------------------


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


# -- 2 --------------------------------------------------------------------------------------------


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


# -- 3 --------------------------------------------------------------------------------------------


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


# -- 5 --------------------------------------------------------------------------------------------


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


# -- 7 --------------------------------------------------------------------------------------------


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


# -- 8 --------------------------------------------------------------------------------------------


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


def test_an_address_that_is_asked_for_again_has_the_same_mac(host):
    """Its peers would send to the old MAC until their ARP entries end: half a minute."""
    network_id = host.engine.network_create("n", subnet="10.21.59.0/24")
    macs = []
    for _ in range(2):
        endpoint = host.engine.run("c", network_id, "10.21.59.100")
        host.wait_attached(endpoint)
        macs.append(endpoint["mac"])
        host.engine.stop(endpoint)
    assert macs[0] == macs[1]
    other = host.engine.run("d", network_id, "10.21.59.101")
    assert other["mac"] != macs[0]


# -- 9 --------------------------------------------------------------------------------------------


def test_an_automatic_pool_is_not_given_twice_in_a_burst(host):
    first = host.engine.ipam.call("IpamDriver.RequestPool", pool_body())
    assert first["Pool"] == "10.21.59.0/24"
    said = refusal(host.engine.ipam.call, "IpamDriver.RequestPool", pool_body())
    assert "--subnet=10.21.59.0/24" in said
    host.engine.ipam.call("IpamDriver.ReleasePool", {"PoolID": first["PoolID"]})


def test_the_engines_endless_loop_ends_by_itself(host):
    """libnetwork §3.3: the engine holds what it got and asks again while a pool overlaps a route of
    the host.
    """
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


# -- 10 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        None,
        {},
        {"com.docker.network.endpoint.name": "web"},
        {"com.docker.network.endpoint.macaddress": "02:42:0a:5f:00:4d"},
        SWARM_SERIAL,
        {**SWARM_SERIAL, **OPTIONS},
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
@pytest.mark.parametrize("more", [{}, {**SWARM_SERIAL, "io": "1"}], ids=["", "swarm"])
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
