"""A VSD simulator, and docker hosts beside it: each a network namespace with a VRS, an engine's API and an appliance.

Real processes and real wires. A host has a namespace of its own, so that two of them do not see each other's devices.
"""

import ctypes
import itertools
import os
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import ovsdb as ovsdb_support
from tests.support.appliance import Appliance
from tests.support.engine import GATEWAY, OPTIONS, FakeApi, PluginError, ScriptedEngine
from tests.support.vsd import VsdSimulator

_CLONE_NEWNET = 0x40000000
_VSD_ADDRESS = "192.0.2.1"
_NUMBERS = itertools.count(1)

# A valid body for every method that takes one.
NID, EID = "a" * 64, "b" * 64
POOL = "nuage-pool-v2/nuage-local/10.21.59.0%2F24/10.21.59.0%2F24/10.21.59.1//Enterprise/Domain/Zone/Subnet%202/admin/00000000-0000-0000-0000-000000000000"
IDS = {"NetworkID": NID, "EndpointID": EID}
DATA = {"IPv4Data": [{"AddressSpace": "nuage-local", "Pool": "10.21.59.0/24", "Gateway": "10.21.59.1/24"}], "IPv6Data": []}
BODIES = {
    "NetworkDriver.GwAllocCheck": {"Options": {}},
    "NetworkDriver.CreateNetwork": {"NetworkID": NID, "Options": {"com.docker.network.generic": {}}, **DATA},
    "NetworkDriver.DeleteNetwork": {"NetworkID": NID},
    "NetworkDriver.CreateEndpoint": {**IDS, "Interface": {"Address": "10.21.59.77/24", "AddressIPv6": "", "MacAddress": ""}, "Options": {}},
    "NetworkDriver.Join": {**IDS, "SandboxKey": "/var/run/docker/netns/0123456789ab", "Options": {}},
    "NetworkDriver.ProgramExternalConnectivity": {**IDS, "Options": {}},
    "NetworkDriver.RevokeExternalConnectivity": IDS,
    "NetworkDriver.EndpointOperInfo": IDS,
    "NetworkDriver.Leave": IDS,
    "NetworkDriver.DeleteEndpoint": IDS,
    "NetworkDriver.DiscoverNew": {"DiscoveryType": 1, "DiscoveryData": {"Address": "192.0.2.10", "BindAddress": "192.0.2.10", "Self": True}},
    "NetworkDriver.DiscoverDelete": {"DiscoveryType": 1, "DiscoveryData": {"Address": "192.0.2.10", "BindAddress": "", "Self": False}},
    "NetworkDriver.AllocateNetwork": {"NetworkID": "c" * 25, "Options": {"d": "e"}, "IPv4Data": DATA["IPv4Data"], "IPv6Data": None},
    "NetworkDriver.FreeNetwork": {"NetworkID": "c" * 25},
    "IpamDriver.RequestPool": {"AddressSpace": "nuage-local", "Pool": "", "SubPool": "", "Options": OPTIONS, "V6": False},
    "IpamDriver.ReleasePool": {"PoolID": POOL},
    "IpamDriver.RequestAddress": {"PoolID": POOL, "Address": "", "Options": GATEWAY},
    "IpamDriver.ReleaseAddress": {"PoolID": POOL, "Address": "10.21.59.9"},
}


class Namespace:
    """A network namespace from which the simulator can be reached and nothing else."""

    def __init__(self):
        self._number = next(_NUMBERS)
        self._library = ctypes.CDLL(None, use_errno=True)
        self._fd = self._in_thread(self._make)
        here, path = f"vsd{self._number}", f"/proc/{os.getpid()}/fd/{self._fd}"
        net = f"169.254.{self._number // 64}.{self._number % 64 * 4}"
        first, second = (f"{net.rpartition('.')[0]}.{int(net.rpartition('.')[2]) + offset}" for offset in (1, 2))
        macs = [f"02:00:5e:00:{side:02x}:{self._number % 256:02x}" for side in (1, 2)]
        # Fixed MACs and neighbours: nothing of this depends on ARP's timing.
        for command in (f"link add {here} address {macs[0]} type veth peer name vsd address {macs[1]} netns {path}", f"addr add {first}/30 dev {here}",
                        f"link set {here} up", f"neigh replace {second} lladdr {macs[1]} dev {here} nud permanent"):
            subprocess.run(["ip", *command.split()], check=True)
        for command in ("link set lo up", f"addr add {second}/30 dev vsd", "link set vsd up", f"route add {_VSD_ADDRESS} via {first}",
                        f"neigh replace {first} lladdr {macs[0]} dev vsd nud permanent"):
            self.run(subprocess.run, ["ip", *command.split()], check=True)

    def _make(self):
        assert self._library.unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    def _enter(self, work, arguments, named):
        assert self._library.setns(self._fd, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        return work(*arguments, **named)

    @staticmethod
    def _in_thread(work, *arguments):
        """A namespace belongs to a thread, and a child process inherits its parent thread's."""
        result = []

        def body():
            try:
                result.append((work(*arguments), None))
            except BaseException as error:
                result.append((None, error))

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        value, error = result[0]
        if error is not None:
            raise error
        return value

    def run(self, work, *arguments, **named):
        """Call `work` inside of the namespace."""
        return self._in_thread(self._enter, work, arguments, named)

    def close(self):
        """Let the kernel remove the namespace; the simulator's side of its link goes with it."""
        subprocess.run(["ip", "link", "del", f"vsd{self._number}"], capture_output=True)
        os.close(self._fd)


class Host:
    """One docker host. `engine` makes the calls, `api` is what the appliance sees of the engine."""

    def __init__(self, simulator, name="host-1", *, api_version="1.41", wait=True, **settings):
        self.simulator, self.name, self._client = simulator, name, None
        self.namespace = Namespace()
        self.ovsdb = ovsdb_support.Ovsdb()
        self.api = FakeApi(str(self.ovsdb.directory / "docker.sock"), api_version)
        namespace = self.namespace

        class Inside(Appliance):
            def start(self, wait=True):
                namespace.run(super().start, wait)

        self.appliance = Inside(simulator.url, self.ovsdb.socket, self.api.path, cafile=simulator.ca_file,
                                **{"hostid": name, "auditinterval": 3600, **settings})
        self.engine = ScriptedEngine(self.appliance.plugins, self.api)
        if wait:
            self.appliance.wait_ready()

    def restart(self, wait=True):
        """`kill -9` and start again, as systemd would."""
        if self.appliance.process.poll() is None:
            self.appliance.kill()
        self.appliance.start()
        self.engine.network.disconnect()
        self.engine.ipam.disconnect()
        if wait:
            self.appliance.wait_ready()

    def links(self):
        """The bridge sides of the veth pairs of this host."""
        done = self.namespace.run(subprocess.run, ["ip", "-o", "link", "show", "type", "veth"], capture_output=True, text=True, check=True)
        names = (line.split(":")[1].strip().split("@")[0] for line in done.stdout.splitlines())
        return sorted(name for name in names if name.startswith("nln") and name.endswith("-1"))

    def has_link(self, name):
        """True when a device is in this host's namespace."""
        return self.namespace.run(subprocess.run, ["ip", "link", "show", name], capture_output=True).returncode == 0

    def ip(self, *words):
        """Run `ip` in this host's namespace."""
        self.namespace.run(subprocess.run, ["ip", *words], check=True)

    def containers(self):
        """The VSD containers that bear this host's id."""
        for attempt in range(2):
            if self._client is None:
                self._client = self.simulator.client()
                self._client.me()
            status, _, body = self._client.get("/containers", filter=f'externalID == "{self.name}"', page=0, page_size=500)
            if status == 200:
                return body or []
            self._client.close()
            self._client = None  # the simulator was reset: the API key is no longer known
        raise AssertionError(f"GET /containers: {status} {body}")

    def addresses(self):
        """The addresses of these containers, sorted."""
        return sorted(one["interfaces"][0]["IPAddress"] for one in self.containers())

    def state(self):
        """Everything that a call may change, as the neighbours have it."""
        status = self.appliance.status()
        selects = [{"op": "select", "table": table, "where": [], "columns": [column]} for table, column in (
            ("Nuage_Port_Table", "name"), ("Nuage_VM_Table", "vm_uuid"), ("Bridge", "external_ids"))]
        ports, machines, tags = (sorted(value for row in result["rows"] for value in row.values()) for result in self.ovsdb.transact(*selects))
        return {
            "containers": sorted((one["ID"], one["UUID"], one["name"]) for one in self.containers()),
            "ports": ports, "machines": machines, "tags": tags, "links": self.links(), "networks": status["networks"],
            "stages": status["rooms"]["endpoints"]["stages"], "to_release": status["rooms"]["endpoints"]["to_release"]}

    def leftovers(self):
        """What is there that should not be when the engine has no network and no container of ours; empty when clean."""
        return {key: value for key, value in self.state().items() if value and value != [["map", []]]}

    def wait_clean(self, seconds=5.0):
        """Wait until nothing is left anywhere."""
        deadline = time.monotonic() + seconds
        while left := self.leftovers():
            assert time.monotonic() < deadline, f"left behind: {left}; the log ends:\n{self.appliance.errors()[-3000:]}"
            time.sleep(0.02)

    def wait_attached(self, *endpoints, seconds=5.0):
        """Wait until these endpoints of the engine have their port in the VRS, bound to their container."""
        wanted = {endpoint["entity_port"].replace("-2", "-1") for endpoint in endpoints}
        self.appliance.wait_until(lambda: wanted <= set(self.ovsdb.names("Nuage_Port_Table")), seconds, f"the ports {wanted}")
        self.appliance.wait_until(lambda: self.appliance.status()["rooms"]["endpoints"]["stages"].get("attached", 0) >= len(wanted),
                                  what="that the appliance has noted them")

    def wait_detached(self, *endpoints, seconds=5.0):
        """Wait until these endpoints' ports are gone from the VRS."""
        gone = {endpoint["entity_port"].replace("-2", "-1") for endpoint in endpoints}
        self.appliance.wait_until(lambda: not gone & set(self.ovsdb.names("Nuage_Port_Table")), seconds, f"the end of the ports {gone}")

    def check_log(self):
        """A bug of ours would have been logged with its stack."""
        text = self.appliance.log() + self.appliance.errors()
        assert "Traceback" not in text and "internal error" not in text, text[-4000:]

    def scrub(self):
        """By force: make everything clean, whatever a failed test left."""
        if self.appliance.process.poll() is None:
            self.appliance.kill()
        self.api.networks.clear()
        self.api.containers.clear()
        self.engine.pools.clear()
        _delete_containers(self.simulator, [self.name])
        for name in self.links():
            self.ip("link", "del", name)
        bridge_port = next(row["_uuid"] for row in self.ovsdb.rows("Port", "_uuid", "name") if row["name"] == "alubr0")
        self.ovsdb.transact(
            {"op": "delete", "table": "Nuage_Port_Table", "where": []}, {"op": "delete", "table": "Nuage_VM_Table", "where": []},
            {"op": "update", "table": "Bridge", "where": [], "row": {"external_ids": ["map", []], "ports": bridge_port}})
        self.restart()

    def begin(self):
        """A clean beginning for a test, even after one that failed."""
        self.api.hang = False
        self.simulator.admin("DELETE", "/faults")
        try:
            self.wait_clean(2)
        except (AssertionError, OSError):
            self.scrub()

    def tear_down(self):
        """Let the engine take away whatever a test left, so that the next one begins with nothing."""
        engine = self.engine
        self.api.hang = False
        for network_id, network in list(self.api.networks.items()):
            for container_id in list(network["Containers"]):
                entry = network["Containers"].pop(container_id)
                self.api.containers.pop(container_id, None)
                engine.teardown({"network_id": network_id, "endpoint_id": entry["EndpointID"], "gateway": "", "address": entry["IPv4Address"]})
        for network_id in list(engine.pools):
            engine.network_rm(network_id)
        self.api.containers.clear()

    def close(self):
        """End everything."""
        self.appliance.close()
        self.api.stop()
        self.ovsdb.close()
        self.namespace.close()


def start_simulator(*flags):
    """A simulator that every host's namespace can reach."""
    subprocess.run(["ip", "addr", "replace", f"{_VSD_ADDRESS}/32", "dev", "lo"], check=True)
    return VsdSimulator("--listen", f"{_VSD_ADDRESS}:0", *flags)


@pytest.fixture(scope="module")
def simulator(own_network):
    """The VSD of a module."""
    if not ovsdb_support.is_available():
        pytest.skip("ovsdb-server is not installed")
    with start_simulator() as running:
        yield running


@pytest.fixture(scope="module")
def shared_host(simulator):
    """One host for a module's tests that kill nothing."""
    host = Host(simulator, "shared")
    yield host
    host.close()


@pytest.fixture
def host(shared_host):
    """The module's host, clean before and after; a bug of ours in its log fails the test."""
    shared_host.begin()
    yield shared_host
    shared_host.simulator.admin("DELETE", "/faults")
    try:
        shared_host.tear_down()
        shared_host.wait_clean(10)
    finally:
        shared_host.check_log()


@pytest.fixture
def hosts(simulator):
    """Makes hosts that a test may kill; all of them end with it, without a bug of ours in any log."""
    made = []

    def make(name=None, **settings):
        made.append(Host(simulator, name or f"own-{next(_NUMBERS)}", **settings))
        return made[-1]

    yield make
    simulator.admin("DELETE", "/faults")
    try:
        for one in made:
            one.check_log()
    finally:
        for one in made:
            one.close()
        _delete_containers(simulator, [one.name for one in made])


@pytest.fixture
def own_host(hosts):
    """One host that a test may kill."""
    return hosts()


def _delete_containers(simulator, external_ids):
    client = simulator.client()
    client.me()
    for external_id in external_ids:
        for one in client.get("/containers", filter=f'externalID == "{external_id}"', page=0, page_size=500)[2] or []:
            client.delete(f"/containers/{one['ID']}?responseChoice=1")
    client.close()


def refusal(work, *arguments, **named):
    """What the user reads when a call is refused; fails when it is not."""
    with pytest.raises(PluginError) as caught:
        work(*arguments, **named)
    answer = caught.value.answer
    assert caught.value.status == 500 and answer["Err"] and answer["Err"] == answer["Error"], caught.value
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
    return host.engine.ipam.call("IpamDriver.RequestAddress", {"PoolID": host.engine.pools[network_id][0], "Address": ip, "Options": None})["Address"]


def release(host, network_id, cidr):
    host.engine.ipam.call("IpamDriver.ReleaseAddress", {"PoolID": host.engine.pools[network_id][0], "Address": cidr.split("/")[0]})


def endpoint_body(network_id, endpoint_id, cidr, mac="", options=None):
    return {"NetworkID": network_id, "EndpointID": endpoint_id, "Options": {} if options is None else options,
            "Interface": {"Address": cidr, "AddressIPv6": "", "MacAddress": mac}}


def pool_body(pool="", options=None, space="nuage-local", sub_pool=""):
    return {"AddressSpace": space, "Pool": pool, "SubPool": sub_pool, "Options": OPTIONS if options is None else options, "V6": False}


def raw_http(path, text):
    """Send bytes to a socket and return everything that comes back until it is closed or the answer is complete."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
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
    return int(next(line.split(b":")[1] for line in head.splitlines() if line.startswith(b"content-length")))
