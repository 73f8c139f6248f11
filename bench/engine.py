"""A cheap scripted engine: its API on a unix socket, and the plugin calls and events of the
libnetwork §4.

Everything lives in one process with gevent, so that the machine's cores are left to what is
measured.
"""

import contextlib
import json
import os
import secrets
import socket
import time
from dataclasses import dataclass

from gevent.lock import RLock
from gevent.server import StreamServer

from bench.wire import Caller

GATEWAY = {"RequestAddressType": "com.docker.network.gateway"}
_ENDPOINT_OPTIONS = {
    "com.docker.network.endpoint.exposedports": [],
    "com.docker.network.portmap": [],
}


class Api:
    """The part of the engine's API that the driver asks for."""

    def __init__(self, path):
        self.networks, self.containers = {}, {}
        # each container as the list shows it, so that a list of 10,000 does not hold up this
        # process
        self._listed = {}
        self._streams, self._lock = [], RLock()
        self.inspected = 0
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(512)
        self._server = StreamServer(listener, self._serve)
        self._server.start()

    def _serve(self, connection, _):
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                try:
                    piece = connection.recv(8192)
                except OSError:
                    return
                if not piece:
                    return
                data += piece
            head, _, data = data.partition(b"\r\n\r\n")
            path, _, query = head.split(b" ", 2)[1].decode().partition("?")
            if path.startswith("/v"):
                path = "/" + path.split("/", 2)[2]
            if path == "/events":
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: "
                    b"chunked\r\n\r\n"
                )
                if "until=" in query:  # of the past, which this engine does not remember
                    connection.sendall(b"0\r\n\r\n")
                    continue
                self._streams.append(connection)
                with contextlib.suppress(OSError):
                    connection.recv(1)  # until the driver goes
                self._streams.remove(connection)
                return
            status, body = self._answer(path)
            connection.sendall(
                (
                    b"HTTP/1.1 %d X\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%s"
                )
                % (status, len(body), body)
            )

    def _answer(self, path):
        parts = path.split("/")
        value = None
        if path == "/_ping":
            return 200, b"OK"
        if path == "/containers/json":
            return 200, b"[%s]" % b",".join(self._listed.values())
        if path == "/networks":
            # None in lists since API 1.28.
            value = [{**network, "Containers": {}} for network in self.networks.values()]
        elif parts[1] == "networks":
            value = self.networks.get(parts[2])
        elif parts[1] == "containers":
            value = self.containers.get(parts[2])
            self.inspected += 1
        return (
            (404, b'{"message":"no such object"}')
            if value is None
            else (200, json.dumps(value).encode())
        )

    def show(self, container):
        """Have a container, new or changed, in the answers."""
        self.containers[container["Id"]] = container
        self._listed[container["Id"]] = json.dumps(
            {
                "Id": container["Id"],
                "Names": [container["Name"]],
                "Image": "bench",
                "ImageID": f"sha256:{'5' * 64}",
                "Command": "sleep 1000",
                "Created": 1790000000,
                "Ports": [],
                "Labels": {},
                "State": container["State"]["Status"],
                "Status": "Up 2 hours",
                "HostConfig": {"NetworkMode": next(iter(container["NetworkSettings"]["Networks"]))},
                "NetworkSettings": container["NetworkSettings"],
                "Mounts": [],
            }
        ).encode()

    def forget(self, container_id):
        """Have a container in no answer any more."""
        del self.containers[container_id], self._listed[container_id]

    def emit(self, kind, action, subject, attributes):
        """An event on every open stream."""
        now = time.time_ns()
        data = (
            json.dumps(
                {
                    "Type": kind,
                    "Action": action,
                    "Actor": {"ID": subject, "Attributes": attributes},
                    "scope": "local",
                    "time": now // 10**9,
                    "timeNano": now,
                }
            ).encode()
            + b"\n"
        )
        with self._lock:
            for stream in list(self._streams):
                with contextlib.suppress(OSError):  # of a driver that was just killed
                    stream.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    @property
    def is_followed(self):
        """True while the driver reads the events."""
        return bool(self._streams)


@dataclass
class Net:
    """A network of the engine and the pool behind it."""

    network_id: str
    name: str
    pool_id: str
    gateway: str


@dataclass
class Run:
    """One `docker run`: what was answered, and when each step ended (time.perf_counter)."""

    net: Net
    container_id: str
    name: str
    endpoint_id: str = ""
    address: str = ""
    mac: str = ""
    port: str = ""
    started_s: float = 0.0
    joined_s: float = 0.0
    plugged_s: float = 0.0
    leaving_s: float = 0.0
    released_s: float = 0.0


class Engine:
    """One worker of the engine: it makes one call at a time, over connections of its own."""

    def __init__(self, plugin_directory, api):
        self._network = Caller(os.path.join(plugin_directory, "nuage.sock"))
        self._ipam = Caller(os.path.join(plugin_directory, "nuage-ipam.sock"))
        self._api = api

    def time_calls(self, samples):
        """Note every call's start and milliseconds in a list from now on."""
        self._network.samples = self._ipam.samples = samples

    def close(self):
        """Close the connections."""
        self._network.close()
        self._ipam.close()

    def create_network(self, name, options):
        """libnetwork §4.1."""
        space = self._ipam.call("IpamDriver.GetDefaultAddressSpaces")["LocalDefaultAddressSpace"]
        pool = self._ipam.call(
            "IpamDriver.RequestPool",
            {"AddressSpace": space, "Pool": "", "SubPool": "", "Options": options, "V6": False},
        )
        gateway = self._ipam.call(
            "IpamDriver.RequestAddress",
            {"PoolID": pool["PoolID"], "Address": "", "Options": GATEWAY},
        )["Address"]
        network_id = secrets.token_hex(32)
        self._network.call(
            "NetworkDriver.CreateNetwork",
            {
                "NetworkID": network_id,
                "Options": {
                    "com.docker.network.enable_ipv6": False,
                    "com.docker.network.generic": {},
                },
                "IPv6Data": [],
                "IPv4Data": [{"AddressSpace": space, "Pool": pool["Pool"], "Gateway": gateway}],
            },
        )
        address = gateway.partition("/")[0]
        self._api.networks[network_id] = {
            "Id": network_id,
            "Name": name,
            "Driver": "nuage",
            "Scope": "local",
            "Internal": False,
            "Options": {},
            "Labels": {},
            "Containers": {},
            "IPAM": {
                "Driver": "nuage-ipam",
                "Options": options,
                "Config": [{"Subnet": pool["Pool"], "Gateway": address}],
            },
        }
        self._api.emit("network", "create", network_id, {"name": name, "type": "nuage"})
        return Net(network_id, name, pool["PoolID"], address)

    def create_container(self, net, name):
        """`docker create`: the container is in the API and its event goes out."""
        container_id = secrets.token_hex(32)
        self._api.show(
            {
                "Id": container_id,
                "Name": f"/{name}",
                "State": {"Status": "created"},
                "Config": {"Env": ["PATH=/bin"], "Labels": {}, "Image": "bench"},
                "NetworkSettings": {
                    "Networks": {net.name: {"NetworkID": "", "EndpointID": "", "IPAddress": ""}}
                },
            }
        )
        self._api.emit("container", "create", container_id, {"name": name, "image": "bench"})
        return Run(net, container_id, name)

    def start(self, run):
        """`docker start`: libnetwork §4.3, then the container with its endpoint in the API and the
        `connect` event.
        """
        net = run.net
        run.endpoint_id = secrets.token_hex(32)
        ids = {"NetworkID": net.network_id, "EndpointID": run.endpoint_id}
        run.started_s = time.perf_counter()
        cidr = self._ipam.call(
            "IpamDriver.RequestAddress", {"PoolID": net.pool_id, "Address": "", "Options": None}
        )["Address"]
        made = self._network.call(
            "NetworkDriver.CreateEndpoint",
            {
                **ids,
                "Interface": {"Address": cidr, "AddressIPv6": "", "MacAddress": ""},
                "Options": _ENDPOINT_OPTIONS,
            },
        )
        joined = self._network.call(
            "NetworkDriver.Join",
            {**ids, "SandboxKey": f"/var/run/docker/netns/{run.endpoint_id[:12]}", "Options": {}},
        )
        run.joined_s = time.perf_counter()
        self._network.call("NetworkDriver.ProgramExternalConnectivity", {**ids, "Options": {}})
        self._network.call("NetworkDriver.EndpointOperInfo", ids)
        run.address, run.mac = cidr.partition("/")[0], made["Interface"]["MacAddress"]
        run.port = joined["InterfaceName"]["SrcName"][:-1] + "1"
        container = self._api.containers[run.container_id]
        container["State"]["Status"] = "running"
        container["NetworkSettings"]["Networks"][net.name] = {
            "IPAMConfig": None,
            "Links": None,
            "Aliases": None,
            "NetworkID": net.network_id,
            "EndpointID": run.endpoint_id,
            "Gateway": net.gateway,
            "IPAddress": run.address,
            "IPPrefixLen": int(cidr.partition("/")[2]),
            "IPv6Gateway": "",
            "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0,
            "MacAddress": run.mac,
            "DriverOpts": None,
        }
        self._api.show(container)
        self._api.networks[net.network_id]["Containers"][run.container_id] = {
            "Name": run.name,
            "EndpointID": run.endpoint_id,
            "MacAddress": run.mac,
            "IPv4Address": cidr,
            "IPv6Address": "",
        }
        self._api.emit(
            "network",
            "connect",
            net.network_id,
            {"container": run.container_id, "name": net.name, "type": "nuage"},
        )

    def remove(self, run):
        """`docker rm -f`: libnetwork §4.4."""
        net = run.net
        ids = {"NetworkID": net.network_id, "EndpointID": run.endpoint_id}
        self._api.networks[net.network_id]["Containers"].pop(run.container_id, None)
        self._api.forget(run.container_id)
        run.leaving_s = time.perf_counter()
        self._network.call("NetworkDriver.RevokeExternalConnectivity", ids)
        self._network.call("NetworkDriver.Leave", ids)
        self._network.call("NetworkDriver.DeleteEndpoint", ids)
        self._ipam.call(
            "IpamDriver.ReleaseAddress", {"PoolID": net.pool_id, "Address": run.address}
        )
        run.released_s = time.perf_counter()
        self._api.emit("container", "destroy", run.container_id, {"name": run.name})
