"""Calls of the plugin protocol as the contract tests make them: a valid body for each method, and
short ways to send them.
"""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.scripted_engine import GATEWAY, OPTIONS, PluginError

BIG_SUBNET = {**OPTIONS, "subnet": "Big"}
SWARM_SERIAL = {"com.docker.network.ipam.serial": "true"}

# A valid body for every method that takes one.
NID, EID = "a" * 64, "b" * 64

POOL = (
    "nuage-pool-v2/nuage-local/10.21.59.0%2F24/10.21.59.0%2F24/10.21.59.1//"
    "Enterprise/Domain/Zone/Subnet%202/admin/00000000-0000-0000-0000-000000000000"
)

IDS = {"NetworkID": NID, "EndpointID": EID}

DATA = {
    "IPv4Data": [
        {"AddressSpace": "nuage-local", "Pool": "10.21.59.0/24", "Gateway": "10.21.59.1/24"}
    ],
    "IPv6Data": [],
}

BODIES = {
    "NetworkDriver.GwAllocCheck": {"Options": {}},
    "NetworkDriver.CreateNetwork": {
        "NetworkID": NID,
        "Options": {"com.docker.network.generic": {}},
        **DATA,
    },
    "NetworkDriver.DeleteNetwork": {"NetworkID": NID},
    "NetworkDriver.CreateEndpoint": {
        **IDS,
        "Interface": {"Address": "10.21.59.77/24", "AddressIPv6": "", "MacAddress": ""},
        "Options": {},
    },
    "NetworkDriver.Join": {
        **IDS,
        "SandboxKey": "/var/run/docker/netns/0123456789ab",
        "Options": {},
    },
    "NetworkDriver.ProgramExternalConnectivity": {**IDS, "Options": {}},
    "NetworkDriver.RevokeExternalConnectivity": IDS,
    "NetworkDriver.EndpointOperInfo": IDS,
    "NetworkDriver.Leave": IDS,
    "NetworkDriver.DeleteEndpoint": IDS,
    "NetworkDriver.DiscoverNew": {
        "DiscoveryType": 1,
        "DiscoveryData": {"Address": "192.0.2.10", "BindAddress": "192.0.2.10", "Self": True},
    },
    "NetworkDriver.DiscoverDelete": {
        "DiscoveryType": 1,
        "DiscoveryData": {"Address": "192.0.2.10", "BindAddress": "", "Self": False},
    },
    "NetworkDriver.AllocateNetwork": {
        "NetworkID": "c" * 25,
        "Options": {"d": "e"},
        "IPv4Data": DATA["IPv4Data"],
        "IPv6Data": None,
    },
    "NetworkDriver.FreeNetwork": {"NetworkID": "c" * 25},
    "IpamDriver.RequestPool": {
        "AddressSpace": "nuage-local",
        "Pool": "",
        "SubPool": "",
        "Options": OPTIONS,
        "V6": False,
    },
    "IpamDriver.ReleasePool": {"PoolID": POOL},
    "IpamDriver.RequestAddress": {"PoolID": POOL, "Address": "", "Options": GATEWAY},
    "IpamDriver.ReleaseAddress": {"PoolID": POOL, "Address": "10.21.59.9"},
}


def refusal(work, *arguments, **named):
    """What the user reads when a call is refused; fails when it is not."""
    with pytest.raises(PluginError) as caught:
        work(*arguments, **named)
    answer = caught.value.answer
    assert caught.value.status == 500 and answer["Err"] and answer["Err"] == answer["Error"], (
        caught.value
    )
    assert "internal error" not in answer["Err"], answer
    return answer["Err"]


def at_once(work, items):
    """Run in one thread an item; returns the results and the seconds it took."""
    started = time.monotonic()
    with ThreadPoolExecutor(len(items)) as pool:
        results = list(pool.map(work, items))
    return results, time.monotonic() - started


def plugin_of(host, method):
    return host.engine.ipam if method.startswith("IpamDriver") else host.engine.network


def reserved(host, network_id, ip=""):
    """RequestAddress for a container; returns the CIDR."""
    return host.engine.ipam.call(
        "IpamDriver.RequestAddress",
        {"PoolID": host.engine.pools[network_id][0], "Address": ip, "Options": None},
    )["Address"]


def release(host, network_id, cidr):
    host.engine.ipam.call(
        "IpamDriver.ReleaseAddress",
        {"PoolID": host.engine.pools[network_id][0], "Address": cidr.split("/")[0]},
    )


def endpoint_body(network_id, endpoint_id, cidr, mac="", options=None):
    return {
        "NetworkID": network_id,
        "EndpointID": endpoint_id,
        "Options": {} if options is None else options,
        "Interface": {"Address": cidr, "AddressIPv6": "", "MacAddress": mac},
    }


def pool_body(pool="", options=None, space="nuage-local", sub_pool=""):
    return {
        "AddressSpace": space,
        "Pool": pool,
        "SubPool": sub_pool,
        "Options": OPTIONS if options is None else options,
        "V6": False,
    }


def raw_http(path, text):
    """Send bytes to a socket and return everything that comes back until it is closed or the answer
    is complete.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(path)
        connection.sendall(text)
        got = b""
        while b"\r\n\r\n" not in got or len(got.split(b"\r\n\r\n", 1)[1]) < _length(got):
            piece = connection.recv(65536)
            if not piece:
                break
            got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def _length(got):
    head = got.split(b"\r\n\r\n", 1)[0].lower()
    return int(
        next(
            line.split(b":")[1] for line in head.splitlines() if line.startswith(b"content-length")
        )
    )
