"""What real Docker engines sent to a plugin, sent to ours: the order and the bodies are theirs.

A recording's plugin chose ids and addresses of its own. They are replaced by ours as the answers
come; the options of the VSD are added to every RequestPool; everything else, also null, missing and
unknown fields, stays as the engine wrote it. `recordings/*.jsonl` has one call a line; `got` is
what the recorded plugin answered where that matters for later calls.
"""

import hashlib
import ipaddress
import json
import time
from pathlib import Path

import pytest

from tests.support import ovsdb as ovsdb_support
from tests.support.appliance import PATIENCE_S
from tests.support.host import Host, start_simulator
from tests.support.scripted_engine import PluginError

_DIRECTORY = Path(__file__).with_name("recordings")
_SPACES = {"lablocal": "nuage-local", "labglobal": "nuage-global"}
_TEARDOWN = {
    "Leave",
    "DeleteEndpoint",
    "DeleteNetwork",
    "FreeNetwork",
    "ReleaseAddress",
    "ReleasePool",
    "EndpointOperInfo",
    "ProgramExternalConnectivity",
    "RevokeExternalConnectivity",
    "DiscoverNew",
    "DiscoverDelete",
}
_BODILESS = {"Activate", "GetCapabilities", "GetDefaultAddressSpaces"}
_FOREIGN = {"LocalDefault", "GlobalDefault"}
_GATEWAY = "com.docker.network.gateway"

# Recordings of the same hosts follow one another: what one leaves is there when the next begins.
_STORIES = {
    "engine 20.10, local scope: create, run, stop, start, rm, network rm": ["00"],
    "engine 20.10 with etcd, global scope over two hosts": ["10"],
    "engine 20.10 with Consul, global scope over two hosts": ["11"],
    "engine 20.10 with etcd: graceful restart, kill -9 and live-restore on the second host": ["12"],
    "engine 20.10 with etcd: nodes come and go": ["13"],
    "engine 20.10, swarm with v1 plugins of scope global": ["30"],
    "engine 20.10, swarm with v1 plugins of scope local": ["31"],
    "engine 20.10, swarm with managed plugins: services, crashes, scaling": ["32", "33"],
    "engine 20.10, swarm over node-local networks": ["34"],
    "engine 20.10, swarm with Docker's own IPAM, two networks on one subnet, and no subnet": ["35"],
    "engine 20.10: restarts, crashes, live-restore, a plugin that is down, late or stale": [
        "40",
        "41",
        "42",
        "43",
        "44",
        "45",
        "46",
    ],
    (
        "engine 20.10: fixed addresses and MACs, published ports, auxiliary addresses, an address "
        "range"
    ): ["47"],
    "engine 20.10: with and without a gateway": ["48"],
    "engine 20.10: a crash on a network of Docker's own IPAM": ["49"],
    (
        "engine 26.1: local scope, plugin down, global scope without swarm, and 20.10 without a "
        "store"
    ): [
        "50",
        "51",
        "52",
        "14",
    ],
    "engine 26.1: swarm": ["53"],
    "engine 28.5: local scope, plugin down, hung plugin": ["60", "63", "64"],
    "engine 28.5: gateway checks and IPv6": ["61"],
    "engine 28.5: with and without a gateway": ["62"],
    "engine 28.5: swarm": ["65"],
    "engine 28.5: a crash on a network of Docker's own IPAM": ["66"],
}


def load(number):
    """The lines of one recording, with their place for messages."""
    (path,) = _DIRECTORY.glob(f"{number}-*.jsonl")
    for place, text in enumerate(path.read_text().splitlines(), 1):
        yield {**json.loads(text), "place": f"{path.name}:{place}"}


@pytest.fixture(scope="module")
def vsd_of_recordings(own_network):
    """A VSD with a subnet for every recorded pool."""
    if not ovsdb_support.is_available():
        pytest.skip("ovsdb-server is not installed")
    with start_simulator("--seed", str(_DIRECTORY / "seed.yaml")) as running:
        yield running


class Replay:
    """Sends recordings to one appliance a recorded host, and keeps what an engine would
    still have.
    """

    def __init__(self, simulator, lines):
        self.lines, self.problems, self.did = lines, [], ""
        is_global = any(
            (line.get("req") or {}).get("AddressSpace") == "labglobal" for line in lines
        )
        self.scope = "global" if is_global else "local"
        self.is_swarm = any(line.get("call") == "NetworkDriver.AllocateNetwork" for line in lines)
        self.simulator = simulator
        self.hosts = {
            name: Host(simulator, name, scope=self.scope)
            for name in sorted({line["host"] for line in lines if "call" in line})
        }
        self.called = set()
        self.pools = {}  # the recorded PoolID -> ours
        self.subnets = {}  # the recorded PoolID -> its CIDR
        self.refused_networks = set()
        self.networks = {}  # (host, NetworkID) -> our PoolID
        self.shared = set()  # the NetworkIDs that every engine shows
        self.reserved = {}  # (CIDR, recorded address) -> our addresses, oldest first
        self.allocated = {}  # the NetworkIDs of a swarm's manager -> the CIDR
        # Our addresses that the manager forgot with the last network of their subnet.
        self.freed = set()
        self.endpoints = {}  # EndpointID -> what the engine knows of it
        self.ended = []  # endpoints after DeleteEndpoint

    def close(self):
        for host in self.hosts.values():
            host.close()

    def complain(self, line, text):
        self.problems.append(
            f"{line['place']} ({line['host']}, after {self.did!r}): {line['call']} "
            f"{json.dumps(line.get('req'))[:300]}: {text}"
        )

    def run(self):
        for line in self.lines:
            if "did" in line:
                self.did = line["did"]
            elif "start" in line:
                if line["host"] in self.called:
                    self.settle_links()
                    self.hosts[line["host"]].restart(wait=False)
            else:
                self.called.add(line["host"])
                self.call(line)

    # -- one call ---------------------------------------------------------------------------------

    def call(self, line):
        name, host = line["call"].split(".")[-1], self.hosts[line["host"]]
        body = json.loads(json.dumps(line.get("req")))
        if line.get("replay"):
            # our IPAM driver answers RequiresRequestReplay: false, so an engine does not replay
            return
        why = self.translate(name, body, line)
        plugin = host.engine.ipam if line["call"].startswith("IpamDriver") else host.engine.network
        try:
            answer = plugin.call(line["call"], body)
        except PluginError as error:
            if why is None or name in _TEARDOWN:
                self.complain(line, f"answered {error.text!r}")
            elif why not in error.text or error.answer.get("Err") != error.answer.get("Error"):
                self.complain(line, f"refused, but not with {why!r}: {error}")
            if name == "CreateNetwork":
                self.refused_networks.add(body["NetworkID"])
            return
        if why is not None and name not in _TEARDOWN:
            self.complain(line, f"must be refused with {why!r}, but answered {answer}")
        try:
            self.check(name, body, answer, host)
        except AssertionError as error:
            self.complain(line, f"answered {answer}: {error}")
        self.note(name, body, answer, line, host)

    def translate(self, name, body, line):
        """Replace the recorded plugin's values by ours; returns a part of the refusal when the call
        must be refused.
        """
        if body is None:
            return None
        if name == "RequestPool":
            body["AddressSpace"] = _SPACES[body["AddressSpace"]]
            if body["V6"]:
                return "IPv4 only"
            subnet = line["got"]["Pool"]
            body["Options"] = {
                **(body["Options"] or {}),
                "organization": "Enterprise",
                "domain": "Domain",
                "zone": "Zone",
                "subnet": subnet,
            }
            return None
        network_id = body.get("NetworkID")
        for data in body.get("IPv4Data") or []:
            data["AddressSpace"] = _SPACES.get(data["AddressSpace"], data["AddressSpace"])
        if name == "CreateNetwork":
            if any(data["AddressSpace"] in _FOREIGN for data in body["IPv4Data"]):
                return "--ipam-driver=nuage-ipam"
            return "IPv4 only" if body["IPv6Data"] else None
        if network_id in self.refused_networks:
            return "" if name in ("CreateEndpoint", "Join") else None
        if "PoolID" in body:
            recorded = body["PoolID"]
            body["PoolID"] = self.pools.get(recorded, recorded)
            if body["Address" if name.endswith("Address") else "PoolID"] and name.endswith(
                "Address"
            ):
                body["Address"] = self.ours(recorded, body["Address"], name)
            if name == "RequestAddress" and recorded not in self.pools:
                return "was not made by nuage-ipam"
            if (
                name == "RequestAddress"
                and body["Options"] is None
                and body["Address"] == "10.95.0.5"
            ):
                # The VSD assigns the addresses, so none can be kept free here
                return "--aux-address"
        if name == "CreateEndpoint":
            recorded = ipaddress.ip_interface(body["Interface"]["Address"])
            mine = self.reserved.get((str(recorded.network), str(recorded.ip)))
            body["Interface"]["Address"] = (
                f"{mine[-1] if mine else recorded.ip}/{recorded.network.prefixlen}"
            )
        return None

    def ours(self, recorded_pool, address, name):
        """Our address for a recorded one; a release is about the endpoint that was deleted last, or
        else the oldest.
        """
        mine = self.reserved.get((self.subnets.get(recorded_pool), address))
        if not mine:
            return address
        if name == "RequestAddress":
            return mine[-1]
        deleted = [endpoint["ip"] for endpoint in self.ended if endpoint["ip"] in mine]
        return deleted[-1] if deleted else mine[0]

    # -- answers ----------------------------------------------------------------------------------

    def check(self, name, body, answer, host):
        """The shape of libnetwork §2 and §3."""
        assert not answer.get("Err") and not answer.get("Error")
        if name == "Activate":
            assert (
                set(answer["Implements"]) <= {"NetworkDriver", "IpamDriver"}
                and answer["Implements"]
            )
        elif name == "GetCapabilities":
            assert answer.get("Scope", self.scope) == self.scope
            assert "Scope" in answer or answer == {
                "RequiresMACAddress": False,
                "RequiresRequestReplay": False,
            }
        elif name == "GetDefaultAddressSpaces":
            assert answer["LocalDefaultAddressSpace"] and answer["GlobalDefaultAddressSpace"]
            assert answer["LocalDefaultAddressSpace"] != answer["GlobalDefaultAddressSpace"]
        elif name == "GwAllocCheck":
            assert {type(answer[key]) for key in ("SkipIPv4", "SkipIPv6")} == {bool}
        elif name == "RequestPool":
            assert answer["PoolID"] and isinstance(answer["PoolID"], str)
            assert answer["Pool"] == (body["Pool"] or body["Options"]["subnet"]), (
                "another pool than was asked for"
            )
        elif name == "RequestAddress":
            got = ipaddress.ip_interface(answer["Address"])
            assert got.network.prefixlen == 24
            if body["Address"]:
                assert str(got.ip) == body["Address"], "another address than was asked for"
            is_gateway = (body["Options"] or {}).get("RequestAddressType") == _GATEWAY
            assert is_gateway == (got.ip == got.network[1]), (
                "the gateway, and only it, is the subnet's first address"
            )
        elif name == "CreateEndpoint":
            interface = answer.get("Interface") or {}
            assert set(interface) <= {"MacAddress"}, "only what was empty may be answered"
            assert not (body["Interface"]["MacAddress"] and interface), (
                "a MAC that was asked for must not be echoed"
            )
            if interface:
                assert len(bytes.fromhex(interface["MacAddress"].replace(":", ""))) == 6
        elif name == "Join":
            device = answer["InterfaceName"]["SrcName"]
            assert 0 < len(device) <= 15 and answer["InterfaceName"]["DstPrefix"] == "eth"
            assert host.has_link(device), f"{device} does not exist"
            assert (
                ipaddress.ip_address(answer["Gateway"])
                in ipaddress.ip_interface(self.endpoints[body["EndpointID"]]["address"]).network
            )
        elif name == "EndpointOperInfo":
            assert answer["Value"] == {}
        elif name == "AllocateNetwork":
            assert answer["Options"] == body["Options"], "workers get nothing but this"

    def request_address(self, body, answer, line):
        """Keep which of our addresses stands for a recorded one; the gateway's is nobody's."""
        if (body["Options"] or {}).get("RequestAddressType") == _GATEWAY:
            return
        pool = self.subnets[line["req"]["PoolID"]]
        recorded, mine = line["got"].split("/")[0], answer["Address"].split("/")[0]
        known = self.reserved.setdefault((pool, recorded), [])
        if mine not in known:
            known.append(mine)
        self.freed.discard(mine)

    def free_network(self, body):
        """The manager lets a network go: what its tasks still have it does not release (libnetwork
        §5.4).
        """
        cidr = self.allocated.pop(body["NetworkID"], None)
        if cidr in self.allocated.values():
            return
        self.freed |= {
            address
            for (pool, _), addresses in self.reserved.items()
            if pool == cidr
            for address in addresses
        }

    def create_endpoint(self, body, answer, line):
        """Keep an endpoint as the engine has it."""
        address = body["Interface"]["Address"]
        self.endpoints[body["EndpointID"]] = {
            "network_id": body["NetworkID"],
            "endpoint_id": body["EndpointID"],
            "address": address,
            "ip": address.split("/")[0],
            "mac": body["Interface"]["MacAddress"] or answer["Interface"]["MacAddress"],
            "host": line["host"],
            "gateway": "",
            "name": f"c-{body['EndpointID'][:8]}",
            "container_id": hashlib.sha256(body["EndpointID"].encode()).hexdigest(),
        }

    def note(self, name, body, answer, line, host):
        """Keep what the engine now has, and show it in its API."""
        if name == "RequestPool":
            recorded = line["got"]["PoolID"]
            self.pools[recorded], self.subnets[recorded] = answer["PoolID"], answer["Pool"]
        elif name == "RequestAddress":
            self.request_address(body, answer, line)
        elif name == "ReleaseAddress":
            self.released(line, body, host)
        elif name in ("CreateNetwork", "AllocateNetwork"):
            self.show_network(name, body, host)
            if name == "AllocateNetwork":
                self.allocated[body["NetworkID"]] = body["IPv4Data"][0]["Pool"]
        elif name == "FreeNetwork":
            self.free_network(body)
        elif name == "DeleteNetwork":
            for other in self.hosts.values() if body["NetworkID"] in self.shared else [host]:
                other.api.networks.pop(body["NetworkID"], None)
                other.engine.pools.pop(body["NetworkID"], None)
        elif name == "CreateEndpoint":
            self.create_endpoint(body, answer, line)
        elif name == "Join":
            endpoint = self.endpoints[body["EndpointID"]]
            endpoint["entity_port"] = answer["InterfaceName"]["SrcName"]
            if body["NetworkID"] in host.api.networks:
                host.engine.publish(endpoint)
        elif name in ("Leave", "DeleteEndpoint") and body["EndpointID"] in self.endpoints:
            self.hide(body["EndpointID"], host)
            if name == "DeleteEndpoint":
                self.ended.append(self.endpoints.pop(body["EndpointID"]))

    def released(self, line, body, host):
        known = self.reserved.get(
            (self.subnets.get(line["req"]["PoolID"]), line["req"]["Address"]), []
        )
        if body["Address"] in known and not self.is_mirror(line):
            known.remove(body["Address"])
        self.ended = [endpoint for endpoint in self.ended if endpoint["ip"] != body["Address"]]
        if self.is_swarm and line["req"]["PoolID"].startswith("labglobal/"):
            # the manager's reservation; an endpoint that a worker's crash left is not meant
            # (libnetwork §5.4)
            return
        for endpoint_id, endpoint in list(self.endpoints.items()):
            if endpoint["ip"] == body["Address"] and endpoint["host"] == line["host"]:
                self.hide(endpoint_id, host)  # the only call that a crash leaves (libnetwork §4.7)
                del self.endpoints[endpoint_id]

    def is_mirror(self, line):
        """A swarm worker's release does not free what its manager reserved (libnetwork §5.4)."""
        recorded = line["req"]["PoolID"]
        return (
            recorded.startswith("lablocal/")
            and recorded.replace("lablocal", "labglobal") in self.pools
        )

    def show_network(self, name, body, host):
        cidr, space = body["IPv4Data"][0]["Pool"], body["IPv4Data"][0]["AddressSpace"]
        # A story may have recordings of both scopes.
        is_shared = len(body["NetworkID"]) == 64 and space == _SPACES["labglobal"]
        if is_shared:
            self.shared.add(body["NetworkID"])
        shown = {
            "Id": body["NetworkID"],
            "Name": f"n-{body['NetworkID'][:8]}",
            "Driver": "nuage",
            "Internal": False,
            "Options": {},
            "Labels": {},
            "Scope": "swarm"
            if len(body["NetworkID"]) == 25
            else "global"
            if is_shared
            else "local",
            "IPAM": {
                "Driver": "nuage-ipam",
                "Config": [
                    {
                        "Subnet": cidr,
                        "Gateway": body["IPv4Data"][0].get("Gateway", "").split("/")[0],
                    }
                ],
                "Options": {
                    "organization": "Enterprise",
                    "domain": "Domain",
                    "zone": "Zone",
                    "subnet": cidr,
                },
            },
        }
        for other in self.hosts.values() if is_shared else [host]:
            other.api.networks.setdefault(body["NetworkID"], {**shown, "Containers": {}})

    def hide(self, endpoint_id, host):
        endpoint = self.endpoints[endpoint_id]
        host.api.containers.pop(endpoint["container_id"], None)
        network = host.api.networks.get(endpoint["network_id"])
        if network:
            network["Containers"].pop(endpoint["container_id"], None)

    # -- the end ----------------------------------------------------------------------------------

    def held(self):
        """The addresses that the engines still have."""
        return {
            address for addresses in self.reserved.values() for address in addresses
        } - self.freed

    def of(self, name):
        """The endpoints that a host's engine still has, and those that it forgot in a crash without
        a word (libnetwork §5.4).
        """
        held = self.held()
        mine = [endpoint for endpoint in self.endpoints.values() if endpoint["host"] == name]
        return [one for one in mine if one["ip"] in held], [
            one for one in mine if one["ip"] not in held
        ]

    def settle_links(self):
        """The recorded plugin was ended by hand, long after its last call: a link that is deleted
        later is gone by then.
        """
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if all(
                len(host.links()) <= sum(map(len, self.of(name)))
                for name, host in self.hosts.items()
            ):
                return
            time.sleep(0.02)

    def swarm_reservations(self):
        """The addresses that managers reserved on the VSD without a container."""
        client = self.simulator.client()
        try:
            client.me()
            subnets = client.get("/subnets", page=0, page_size=500)[2] or []
            return {
                entry["IPV4Address"]
                for subnet in subnets
                for entry in client.get(f"/subnets/{subnet['ID']}/vmipreservations")[2] or []
                if entry["IPV4Address"]
            }
        finally:
            client.close()

    def differences(self):
        """How the backends differ from what the engines still have."""
        found = []
        addresses = [address for host in self.hosts.values() for address in host.addresses()]
        forgotten = {one["ip"] for name in self.hosts for one in self.of(name)[1]}
        taken = set(addresses) | (self.swarm_reservations() if self.is_swarm else set())
        if (
            len(set(addresses)) != len(addresses)
            or not self.held() <= taken <= self.held() | forgotten
        ):
            found.append(
                f"the engines have the addresses {sorted(self.held())}, the VSD "
                f"{sorted(taken)} (forgotten: {sorted(forgotten)})"
            )
        for name, host in self.hosts.items():
            known, forgotten = self.of(name)
            links, ports = host.links(), host.ovsdb.names("Nuage_Port_Table")
            wanted = {
                one["entity_port"].replace("-2", "-1")
                for one in known
                if one["container_id"] in host.api.containers
            }
            maybe = {
                one["entity_port"].replace("-2", "-1") for one in forgotten if "entity_port" in one
            }
            if not len(known) <= len(links) <= len(known) + len(forgotten):
                found.append(
                    f"the engine {name} has {len(known)} endpoints, and the host the links {links}"
                )
            if not wanted <= set(ports) <= wanted | maybe:
                found.append(
                    f"the engine {name} has endpoints on {sorted(wanted)}, and the VRS the "
                    f"ports {ports}"
                )
        return found

    def check_end(self):
        """Nothing is left but what the engines still have."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.differences()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.problems += [f"at the end {text}" for text in found]
        for name, host in self.hosts.items():
            try:
                host.check_log()
            except AssertionError as error:
                self.problems.append(f"{name}'s log: {error}")


@pytest.mark.parametrize("numbers", _STORIES.values(), ids=_STORIES)
def test_what_a_real_engine_sent_is_answered_as_it_expects_and_leaves_nothing_behind(
    vsd_of_recordings, numbers
):
    vsd_of_recordings.admin("POST", "/reset")
    replay = Replay(vsd_of_recordings, [line for number in numbers for line in load(number)])
    try:
        replay.run()
        replay.check_end()
    finally:
        replay.close()
    assert not replay.problems, "\n".join(replay.problems)


def test_every_recording_is_replayed():
    recorded = {path.name.split("-")[0] for path in _DIRECTORY.glob("*.jsonl")}
    assert recorded == {number for numbers in _STORIES.values() for number in numbers}
