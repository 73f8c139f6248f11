"""A scripted Docker engine: its API behind a unix socket, and the plugin calls it would make.

The calls and their order are those of libnetwork §4; nothing of the product is
imported.
"""

import contextlib
import http.client
import json
import os
import re
import secrets
import select
import socket
import socketserver
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler

from tests.support import engine_29

OPTIONS = {
    "organization": "Enterprise",
    "domain": "Domain",
    "zone": "Zone",
    "subnet": "Subnet 2",
    "user": "admin",
}
GATEWAY = {"RequestAddressType": "com.docker.network.gateway"}


class PluginError(Exception):
    """The driver answered with an error; `text` is what the user would read."""

    def __init__(self, status, answer):
        super().__init__(f"{status}: {answer}")
        self.status, self.answer = status, answer
        self.text = answer.get("Err", "") if isinstance(answer, dict) else str(answer)


class Plugin:
    """One plugin socket, called as the engine calls it: POST, no Content-Type, one JSON object."""

    def __init__(self, path, timeout_s=40):
        self.path, self._timeout_s = path, timeout_s
        self._local = threading.local()

    def _connection(self):
        connection = getattr(self._local, "connection", None)
        if connection is not None and select.select([connection.sock], [], [], 0)[0]:
            # the driver ended it while it was idle; the engine's client notices the same way
            connection.close()
            connection = self._local.connection = None
        self._local.used = connection is not None
        if connection is None:
            connection = http.client.HTTPConnection("plugin", timeout=self._timeout_s)
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(self._timeout_s)
            connection.sock.connect(self.path)
            self._local.connection = connection
        return connection

    def disconnect(self):
        """Drop this thread's idle connection, as the engine does when it finds it closed."""
        if getattr(self._local, "connection", None) is not None:
            self._local.connection.close()
            self._local.connection = None

    @staticmethod
    def _send(connection, method, body):
        connection.putrequest("POST", f"/{method}", skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", "")
        connection.putheader("User-Agent", "Go-http-client/1.1")
        connection.putheader("Accept", "application/vnd.docker.plugins.v1.2+json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)

    def raw(self, method, body=b""):
        """Send raw bytes; returns (status, decoded body or bytes)."""
        connection = self._connection()
        is_reused = self._local.used
        try:
            try:
                self._send(connection, method, body)
            except BrokenPipeError:
                if not is_reused:
                    raise
                # it was ended while it was idle: the engine's client takes another
                self.disconnect()
                connection = self._connection()
                self._send(connection, method, body)
            response = connection.getresponse()
            text = response.read()
        except BaseException:
            connection.close()
            self._local.connection = None
            raise
        if response.will_close:
            connection.close()
            self._local.connection = None
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text

    def call(self, method, body=None):
        """Call a method; returns its answer or raises PluginError as the engine would see it."""
        status, answer = self.raw(
            method, b"" if body is None else json.dumps(body).encode() + b"\n"
        )
        if (
            status != 200
            or not isinstance(answer, dict)
            or answer.get("Err")
            or answer.get("Error")
        ):
            raise PluginError(status, answer)
        return answer


class FakeApi:
    """The engine's API: what it holds is set by the script; `hang` makes it accept and never
    answer.

    Networks that a client creates or removes are made and unmade by `engine`, the ScriptedEngine
    beside it, which calls the plugin. `delay_s` holds every answer back. `broken` maps the
    beginning of a path (without the version) to what becomes of its answer: `500`, or `half`,
    `bare`, `chunked half`: only half of the body, or none of it, before the connection ends.
    """

    def __init__(self, path, api_version="1.41"):
        self.path = path
        self.networks, self.containers = {}, {}
        self.hang = False
        self.delay_s = 0.0
        self.broken = {}
        self.requests = []
        self.engine = None
        self.install(api_version)
        self._subscribers = []
        self._history = []
        self._lock, self._creating = threading.Lock(), threading.Lock()
        self._server = None
        self.start()

    def install(self, api_version):
        """Be the release whose newest API version this is; None or empty: one that does not say."""
        self.api_version, self.oldest_api, self.release = api_version, "1.12", "20.10.24+dfsg1"
        if engine_29.is_29(api_version):
            self.release, self.oldest_api = engine_29.release(api_version)

    def start(self):
        """Listen."""
        if os.path.exists(self.path):
            os.unlink(self.path)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                outer._serve(self)

            do_POST = do_DELETE = do_GET

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True
            request_queue_size = 256

            def get_request(self):
                request, _ = super().get_request()
                return request, ("local", 0)

            def handle_error(self, *_):
                pass

        self._server = Server(self.path, Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def is_listening(self):
        """False between stop() and start()."""
        return self._server is not None

    def stop(self):
        """Stop listening and end every stream."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        with self._lock:
            for stream in self._subscribers:
                with contextlib.suppress(OSError):
                    stream.connection.shutdown(socket.SHUT_RDWR)
            self._subscribers = []
        if os.path.exists(self.path):
            os.unlink(self.path)

    def _serve(self, handler):
        parts = urllib.parse.urlsplit(handler.path)
        path, query = parts.path, urllib.parse.parse_qs(parts.query)
        self.requests.append(
            handler.path if handler.command == "GET" else f"{handler.command} {handler.path}"
        )
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        while self.hang:
            time.sleep(0.05)
        time.sleep(self.delay_s)
        asked = re.match(r"/v(\d+\.\d+)(/.*)", path)
        newest = self.api_version or "1.24"
        version, path = asked.groups() if asked else (newest, path)
        refusal = engine_29.refusal(version, self.oldest_api, newest)
        if refusal:
            return self._json(handler, {"message": refusal}, 400)
        if path == "/_ping":
            said = {"Api-Version": self.api_version} if self.api_version else {}
            return self._answer(
                handler, 200, b"OK", {**said, "Docker-Experimental": "false", "Ostype": "linux"}
            )
        handler.broken = next(
            (what for start, what in list(self.broken.items()) if path.startswith(start)), ""
        )
        if handler.broken == "500":
            return self._answer(
                handler,
                500,
                b'{"message":"something went wrong"}',
                {"Content-Type": "application/json"},
            )
        if path == "/events":
            return self._events(handler, query)
        if path == "/version":
            return self._json(handler, self._version())
        if path == "/info":
            return self._json(handler, self._info())
        if path == "/networks":
            return self._json(handler, self._listed_networks())
        if path == "/containers/json":
            return self._json(handler, self._listed_containers(query))
        if path == "/networks/create":
            return self._create_network(handler, json.loads(body))
        if path.startswith("/networks/"):
            return self._one_network(handler, path.split("/")[2], version)
        if path.startswith("/containers/"):
            return self._one_container(handler, path.split("/")[2], version)
        return self._json(handler, {"message": "page not found"}, 404)

    def _version(self):
        return {
            "Version": self.release,
            "ApiVersion": self.api_version,
            "MinAPIVersion": self.oldest_api,
            "Os": "linux",
            "Arch": "amd64",
        }

    def _info(self):
        return {
            "ID": "TEST",
            "Name": "test",
            "ServerVersion": self.release,
            "Swarm": {"LocalNodeState": "inactive"},
            "Containers": len(self.containers),
            "Plugins": {"Network": [self.engine.driver] if self.engine else []},
        }

    def _listed_networks(self):
        listed = [{**item, "Containers": {}} for item in list(self.networks.values())]
        if engine_29.is_29(self.api_version):
            return [engine_29.network(item, None) for item in listed]
        return listed

    def _listed_containers(self, query):
        is_all = query.get("all", ["0"])[0] in ("1", "true")
        wanted = [
            item
            for item in list(self.containers.values())
            if is_all or item["State"]["Status"] == "running"
        ]
        shown = engine_29.summary if engine_29.is_29(self.api_version) else self._summary
        return [shown(item) for item in wanted]

    def _one_network(self, handler, word, version):
        found = self.find_network(urllib.parse.unquote(word))
        if found is None:
            return self._json(handler, {"message": f"network {word} not found"}, 404)
        if handler.command == "DELETE":
            return self._remove_network(handler, found)
        if engine_29.is_29(self.api_version):
            found = engine_29.network(found, version)
        return self._json(handler, found)

    def _one_container(self, handler, container_id, version):
        found = self.containers.get(container_id)
        if not found:
            return self._json(handler, {"message": "No such container"}, 404)
        if engine_29.is_29(self.api_version):
            found = engine_29.container(found, version)
        return self._json(handler, found)

    def find_network(self, text):
        """The network of this id, else of this name, else of this unique beginning of an id; None
        when there is none.
        """
        networks = list(self.networks.values())
        for matches in (
            lambda one: one["Id"] == text,
            lambda one: one["Name"] == text,
            lambda one: one["Id"].startswith(text),
        ):
            found = [one for one in networks if matches(one)]
            if found:
                return found[0]
        return None

    def _create_network(self, handler, body):
        """`POST /networks/create`: the driver is called while the client waits."""
        name = body["Name"]
        if not name.strip():
            return self._json(handler, {"message": "invalid name: name is empty"}, 400)
        with self._creating:
            # Since engine 25 a name is unique, whatever the client says about it.
            is_unique = body.get("CheckDuplicate") or engine_29.is_29(self.api_version)
            if is_unique and any(one["Name"] == name for one in list(self.networks.values())):
                return self._json(
                    handler, {"message": f"network with name {name} already exists"}, 409
                )
            ipam = body.get("IPAM") or {}
            config = next(iter(ipam.get("Config") or []), {})
            if "/" in config.get("Gateway", ""):
                return self._json(
                    handler, {"message": f"invalid gateway address {config['Gateway']}"}, 400
                )
            try:
                network_id = self.engine.network_create(
                    name,
                    ipam.get("Options") or {},
                    config.get("Subnet", ""),
                    config.get("Gateway", ""),
                    config.get("IPRange", ""),
                    body.get("Internal", False),
                    tuple((config.get("AuxiliaryAddresses") or {}).values()),
                    labels=body.get("Labels") or {},
                    driver_options=body.get("Options") or {},
                    is_attachable=body.get("Attachable", False),
                )
            except PluginError as error:
                return self._json(handler, {"message": f"legacy plugin: {error.text}"}, 500)
            except OSError as error:
                return self._json(
                    handler,
                    {"message": f"error looking up network plugin {body.get('Driver')}: {error}"},
                    500,
                )
        return self._json(handler, {"Id": network_id, "Warning": ""}, 201)

    def _remove_network(self, handler, network):
        """`DELETE /networks/{id}`: refused while a running container is on it; one that is stopped
        does not count.
        """
        if network["Containers"]:
            return self._json(
                handler,
                {
                    "message": (
                        f"error while removing network: network {network['Name']} id "
                        f"{network['Id']} has active endpoints"
                    )
                },
                403,
            )
        try:
            self.engine.network_rm(network["Id"])
        except KeyError:
            return self._json(handler, {"message": f"network {network['Id']} not found"}, 404)
        except (PluginError, OSError) as error:
            return self._json(handler, {"message": f"error while removing network: {error}"}, 500)
        return self._answer(handler, 204, b"", {})

    @staticmethod
    def _summary(item):
        return {
            "Id": item["Id"],
            "Names": [item["Name"]],
            "Labels": item["Config"]["Labels"],
            "State": item["State"]["Status"],
            "NetworkSettings": item["NetworkSettings"],
        }

    def _json(self, handler, value, status=200):
        self._answer(
            handler, status, json.dumps(value).encode(), {"Content-Type": "application/json"}
        )

    def _answer(self, handler, status, body, headers):
        broken = getattr(handler, "broken", "")
        headers = {**headers, "Server": f"Docker/{self.release} (linux)"}
        length = (
            {"Transfer-Encoding": "chunked"}
            if broken.startswith("chunked")
            else {"Content-Length": str(len(body))}
        )
        handler.send_response_only(status)
        for key, value in {**headers, **({} if status == 204 else length)}.items():
            handler.send_header(key, value)
        handler.end_headers()
        if broken == "chunked half":
            body = b"%x\r\n%s" % (len(body), body[: len(body) // 2])
        elif broken in ("half", "bare"):
            body = body[: len(body) // 2] if broken == "half" else b""
        handler.close_connection = broken in ("half", "bare", "chunked half")
        handler.wfile.write(body)

    def _events(self, handler, query):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.flush()
        since, until = float(query.get("since", ["inf"])[0]), float(query.get("until", ["inf"])[0])
        filters = json.loads(query.get("filters", ["{}"])[0])
        handler.wants = lambda event: all(
            event[member] in filters[key]
            for key, member in (("type", "Type"), ("event", "Action"))
            if filters.get(key)
        )
        with self._lock:
            # Stopped meanwhile: nobody would end this stream any more.
            if handler.server is not self._server:
                handler.close_connection = True
                return
            for event in self._history:
                if since < event["timeNano"] / 1e9 <= until and handler.wants(event):
                    self._chunk(handler, event)
            if until <= time.time():  # the past only
                handler.wfile.write(b"0\r\n\r\n")
                return
            self._subscribers.append(handler)
        while handler in self._subscribers:
            time.sleep(0.1)
        handler.close_connection = True

    @staticmethod
    def _chunk(handler, event):
        data = json.dumps(event).encode() + b"\n"
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        handler.wfile.flush()

    def emit(self, kind, action, subject, attributes, deliver=True):
        """An event for every stream that is open; with `deliver` False it is lost, as a full ring
        would lose it.
        """
        event = {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": subject, "Attributes": attributes},
            "scope": "local",
            "time": int(time.time()),
            "timeNano": time.time_ns(),
        }
        if not deliver:
            return
        with self._lock:
            self._history = [*self._history, event][-256:]
            for stream in [one for one in self._subscribers if one.wants(event)]:
                try:
                    self._chunk(stream, event)
                except OSError:
                    self._subscribers.remove(stream)

    def wipe(self):
        """Lose the engine's files: networks, containers, and what it remembers of events."""
        self.networks.clear()
        self.containers.clear()
        with self._lock:
            self._history = []


class ScriptedEngine:
    """An engine that makes the calls of libnetwork §4 over real plugin sockets and keeps its API
    true to them.
    """

    def __init__(self, plugin_directory, api=None, driver="nuage", ipam_driver="nuage-ipam"):
        self.network = Plugin(os.path.join(plugin_directory, f"{driver}.sock"))
        self.ipam = Plugin(os.path.join(plugin_directory, f"{ipam_driver}.sock"))
        self.api, self.driver, self.ipam_driver = api, driver, ipam_driver
        if api:
            api.engine = self
        self.pools = {}
        self.space = "Local"  # or Global, as with a cluster store
        # The rollbacks of engine 29 have a Leave more (libnetwork §2.6), and its RequestAddress
        # names the endpoint (libnetwork §3.4).
        self.is_29 = bool(api) and engine_29.is_29(api.api_version)
        self._lock = threading.Lock()

    def network_create(
        self,
        name,
        options=None,
        subnet="",
        gateway="",
        ip_range="",
        internal=False,
        aux=(),
        labels=None,
        driver_options=None,
        is_attachable=False,
    ):
        """libnetwork §4.1; returns the NetworkID. On an error the rollback of the engine is made,
        then PluginError raised.
        """
        options = OPTIONS if options is None else options
        space = self.ipam.call("IpamDriver.GetDefaultAddressSpaces")[
            f"{self.space}DefaultAddressSpace"
        ]
        pool = self.ipam.call(
            "IpamDriver.RequestPool",
            {
                "AddressSpace": space,
                "Pool": subnet,
                "SubPool": ip_range,
                "Options": options,
                "V6": False,
            },
        )
        network_id, taken = secrets.token_hex(32), []
        try:
            address = self.ipam.call(
                "IpamDriver.RequestAddress",
                {"PoolID": pool["PoolID"], "Address": gateway, "Options": GATEWAY},
            )["Address"]
            taken.append(address)
            for item in aux:
                taken.append(
                    self.ipam.call(
                        "IpamDriver.RequestAddress",
                        {"PoolID": pool["PoolID"], "Address": item, "Options": None},
                    )["Address"]
                )
            self.network.call(
                "NetworkDriver.CreateNetwork",
                {
                    "NetworkID": network_id,
                    "IPv6Data": [],
                    "Options": {
                        "com.docker.network.enable_ipv6": False,
                        "com.docker.network.generic": driver_options or {},
                        **({"com.docker.network.internal": True} if internal else {}),
                    },
                    "IPv4Data": [{"AddressSpace": space, "Pool": pool["Pool"], "Gateway": address}],
                },
            )
        except PluginError:
            for address in taken:
                self.ipam.call(
                    "IpamDriver.ReleaseAddress",
                    {"PoolID": pool["PoolID"], "Address": address.split("/")[0]},
                )
            self.ipam.call("IpamDriver.ReleasePool", {"PoolID": pool["PoolID"]})
            raise
        self.pools[network_id] = (pool["PoolID"], address.split("/")[0])
        if self.api:
            # 0.0.0.0/N asks for any subnet of that size, as engine 29 lets a user do.
            is_any = subnet.startswith("0.0.0.0/")
            shown = pool["Pool"] if is_any else subnet
            asked = {"Subnet": shown, "IPRange": ip_range, "Gateway": gateway}
            config = (
                {key: text for key, text in asked.items() if text}
                if subnet
                else {"Subnet": pool["Pool"], "Gateway": address.split("/")[0]}
            )
            self.api.networks[network_id] = {
                "Id": network_id,
                "Name": name,
                "Driver": self.driver,
                "Scope": "local",
                "Internal": internal,
                "Attachable": is_attachable,
                "Options": driver_options or {},
                "Labels": labels or {},
                "ConfigOnly": False,
                "IPAM": {"Driver": self.ipam_driver, "Options": options, "Config": [config]},
                "Containers": {},
            }
            self.api.emit("network", "create", network_id, {"name": name, "type": self.driver})
        return network_id

    def network_rm(self, network_id):
        """libnetwork §4.2."""
        pool_id, gateway = self.pools.pop(network_id)
        network = self.api.networks.pop(network_id, None) if self.api else None
        self.ipam.call("IpamDriver.ReleaseAddress", {"PoolID": pool_id, "Address": gateway})
        self.ipam.call("IpamDriver.ReleasePool", {"PoolID": pool_id})
        self.network.call("NetworkDriver.DeleteNetwork", {"NetworkID": network_id})
        if network is not None:
            self.api.emit(
                "network", "destroy", network_id, {"name": network["Name"], "type": self.driver}
            )

    def setup(self, network_id, ip="", mac="", name="peaceful_bell"):
        """libnetwork §4.3 steps 1 to 6: RequestAddress to EndpointOperInfo; returns a dictionary of
        what was answered.

        On an error the engine's rollback is made (libnetwork §2.5, §2.6), then PluginError raised.
        """
        pool_id = self.pools[network_id][0]
        address = self.ipam.call(
            "IpamDriver.RequestAddress",
            {
                "PoolID": pool_id,
                "Address": ip,
                "Options": {engine_29.ENDPOINT_NAME: name} if self.is_29 else None,
            },
        )["Address"]
        endpoint_id = secrets.token_hex(32)
        ids = {"NetworkID": network_id, "EndpointID": endpoint_id}
        rollback = []
        try:
            made = self.network.call(
                "NetworkDriver.CreateEndpoint",
                {
                    **ids,
                    "Interface": {"Address": address, "AddressIPv6": "", "MacAddress": mac},
                    "Options": {
                        "com.docker.network.endpoint.exposedports": [],
                        "com.docker.network.portmap": [],
                    },
                },
            )
            rollback = ["Leave", "DeleteEndpoint"] if self.is_29 else ["DeleteEndpoint"]
            joined = self.network.call(
                "NetworkDriver.Join",
                {**ids, "SandboxKey": f"/var/run/docker/netns/{endpoint_id[:12]}", "Options": {}},
            )
            rollback = (
                ["Leave", "Leave", "DeleteEndpoint"] if self.is_29 else ["Leave", "DeleteEndpoint"]
            )
            if joined["Gateway"]:
                self.network.call(
                    "NetworkDriver.ProgramExternalConnectivity", {**ids, "Options": {}}
                )
            self.network.call("NetworkDriver.EndpointOperInfo", ids)
        except PluginError:
            for method in rollback:
                self.network.call(f"NetworkDriver.{method}", ids)
            self.ipam.call(
                "IpamDriver.ReleaseAddress", {"PoolID": pool_id, "Address": address.split("/")[0]}
            )
            raise
        return {
            "address": address,
            "mac": mac or made["Interface"]["MacAddress"],
            "endpoint_id": endpoint_id,
            "network_id": network_id,
            "gateway": joined["Gateway"],
            "entity_port": joined["InterfaceName"]["SrcName"],
        }

    def run(
        self, name, network_id, ip="", mac="", env=(), labels=None, deliver=True, container_id=None
    ):
        """`docker run`: set up an endpoint, then the container in the API and its
        `connect` event.
        """
        endpoint = self.setup(network_id, ip, mac, name)
        container_id = container_id or secrets.token_hex(32)
        endpoint["container_id"], endpoint["name"] = container_id, name
        self.publish(endpoint, env, labels, deliver)
        return endpoint

    def publish(self, endpoint, env=(), labels=None, deliver=True):
        """Show a container with this endpoint in the API and emit `connect`."""
        if not self.api:
            return
        network = self.api.networks[endpoint["network_id"]]
        entry = {
            "NetworkID": endpoint["network_id"],
            "EndpointID": endpoint["endpoint_id"],
            "MacAddress": endpoint["mac"],
            "IPAddress": endpoint["address"].split("/")[0],
        }
        with self._lock:
            container = self.api.containers.setdefault(
                endpoint["container_id"],
                {
                    "Id": endpoint["container_id"],
                    "Name": f"/{endpoint['name']}",
                    "State": {"Status": "running"},
                    "Config": {"Env": list(env), "Labels": labels or {}},
                    "NetworkSettings": {"Networks": {}},
                },
            )
            container["NetworkSettings"]["Networks"][network["Name"]] = entry
            network["Containers"][endpoint["container_id"]] = {
                "Name": endpoint["name"],
                "EndpointID": endpoint["endpoint_id"],
                "MacAddress": endpoint["mac"],
                "IPv4Address": endpoint["address"],
                "IPv6Address": "",
            }
        self.api.emit(
            "network",
            "connect",
            endpoint["network_id"],
            {"container": endpoint["container_id"], "name": network["Name"], "type": self.driver},
            deliver,
        )

    def stop(self, endpoint):
        """`docker rm -f`: libnetwork §4.4, and the container leaves the API."""
        if self.api:
            with self._lock:
                container = self.api.containers.get(endpoint["container_id"])
                network = self.api.networks[endpoint["network_id"]]
                network["Containers"].pop(endpoint["container_id"], None)
                if container:
                    container["NetworkSettings"]["Networks"].pop(network["Name"], None)
                    if not container["NetworkSettings"]["Networks"]:
                        del self.api.containers[endpoint["container_id"]]
        self.teardown(endpoint)
        if self.api:
            self._emit_disconnect(endpoint)
            self.api.emit(
                "container", "destroy", endpoint["container_id"], {"name": endpoint["name"]}
            )

    def halt(self, endpoint):
        """`docker stop`: libnetwork §4.4; the container keeps its place on the network, without an
        endpoint.
        """
        with self._lock:
            container = self.api.containers[endpoint["container_id"]]
            container["State"]["Status"] = "exited"
            network = self.api.networks[endpoint["network_id"]]
            network["Containers"].pop(endpoint["container_id"], None)
            container["NetworkSettings"]["Networks"][network["Name"]].update(
                EndpointID="", IPAddress="", MacAddress=""
            )
        self.teardown(endpoint)
        self._emit_disconnect(endpoint)

    def forget(self, endpoint):
        """`docker rm` of a container that was halted."""
        del self.api.containers[endpoint["container_id"]]
        self.api.emit("container", "destroy", endpoint["container_id"], {"name": endpoint["name"]})

    def _emit_disconnect(self, endpoint):
        network = self.api.networks.get(endpoint["network_id"])
        self.api.emit(
            "network",
            "disconnect",
            endpoint["network_id"],
            {
                "container": endpoint["container_id"],
                "name": network["Name"] if network else "",
                "type": self.driver,
            },
        )

    def teardown(self, endpoint):
        """The plugin calls of libnetwork §4.4."""
        ids = {"NetworkID": endpoint["network_id"], "EndpointID": endpoint["endpoint_id"]}
        if endpoint["gateway"]:
            self.network.call("NetworkDriver.RevokeExternalConnectivity", ids)
        self.network.call("NetworkDriver.Leave", ids)
        self.network.call("NetworkDriver.DeleteEndpoint", ids)
        self.ipam.call(
            "IpamDriver.ReleaseAddress",
            {
                "PoolID": self.pools[endpoint["network_id"]][0],
                "Address": endpoint["address"].split("/")[0],
            },
        )
