"""A running lab for tests, apart from any other on the machine: own state directory, own names."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from nuage_lab import engines, packages, stores
from nuage_lab.hosts.run import LabError, wait_until
from nuage_lab.lab import VSD_URL, Lab
from nuage_lab.vrs import switch

PROGRAMS = (
    "dockerd",
    "docker",
    "ovs-vswitchd",
    "ovsdb-server",
    "ip",
    "nsenter",
    "unshare",
    "busybox",
    "openssl",
    "curl",
    "ebtables-nft",
)
_numbers = itertools.count(1)


def why_not():
    """Return why no lab can run here, or None."""
    if os.geteuid():
        return "the lab needs root"
    missing = [
        name
        for name in PROGRAMS
        if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None
    ]
    return f"the lab needs {', '.join(missing)}: run scripts/setup" if missing else None


def new_lab(directory, **options):
    """Return a Lab that is not up yet, with names of its own; skip the test when none
    can run here.
    """
    reason = why_not()
    if reason:
        pytest.skip(reason)
    return Lab(directory, prefix=f"nlt{os.getpid()}x{next(_numbers)}", **options)


def need_fetched(consul=False, engine=None, store=None):
    """Skip the test when something that the lab takes from elsewhere is not on this machine; tests
    cannot fetch it, they have no network.
    """
    services = {*(("consul",) if consul else ()), *((store,) if store else ())}
    missing = [
        name for name in sorted(services) if not packages.place(*stores.PACKAGES[name]).is_dir()
    ]
    if not engines.is_there(engine, store):
        missing.append(f"the engine {engine or 'for the store ' + store}")
    if missing:
        pytest.skip(f"{', '.join(missing)} not fetched: run scripts/lab fetch {engine or ''}")


def is_ready(host):
    """True when the appliance of a lab host has read its VSD and its VRS; a new link can take its
    time on a busy machine.
    """
    answer = host.exec(
        [
            "curl",
            "-s",
            "--max-time",
            "5",
            "--unix-socket",
            "/run/nuage-libnetwork/status.sock",
            "http://status/",
        ],
        check=False,
    ).stdout
    try:
        components = json.loads(answer)["components"]
    except ValueError:
        return False
    return not components["vsd"]["problem"] and not components["vrs"]["problem"]


def wait_ready(host, seconds=60.0):
    """Wait until a host's appliance has reached its VSD and its VRS."""
    wait_until(
        lambda: is_ready(host), seconds, f"the appliance of {host.name} reaches its backends"
    )


@contextlib.contextmanager
def running_lab(
    directory,
    hosts=1,
    appliance=True,
    consul=False,
    engine=None,
    store=None,
    config=None,
    **options,
):
    """A lab that is up, and is taken down afterwards in any case. config are keys of the
    appliances' configuration.
    """
    lab = new_lab(directory, **options)
    need_fetched(consul, engine, store)
    try:
        lab.up(hosts, appliance=appliance, consul=consul, engine=engine, store=store, config=config)
        if appliance:
            for host in lab.hosts():
                wait_ready(host)
        yield lab
    finally:
        lab.down()


def check_clean(lab):
    """Nothing of a lab is on the machine. A killed process may still be on its way through the
    kernel: it gets half a minute.
    """
    end = time.monotonic() + 30.0
    while found := leftovers(lab):
        assert time.monotonic() < end, found
        time.sleep(0.1)


def leftovers(lab):
    """Return what the machine still has of a lab: namespaces, cgroups, mounts, processes."""
    prefix, state = lab.place.prefix, str(lab.state)
    found = [f"/run/netns/{name}" for name in _list("/run/netns") if name.startswith(f"{prefix}-")]
    for top in (
        "/sys/fs/cgroup",
        *(str(path) for path in Path("/sys/fs/cgroup").iterdir() if path.is_dir()),
    ):
        found += [f"{top}/{name}" for name in _list(top) if name.startswith(f"{prefix}-")]
    found += [
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if state in line or f"{prefix}-" in line
    ]
    for pid in filter(str.isdigit, _list("/proc")):
        with contextlib.suppress(OSError):
            words = (
                Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/cgroup").read_text()
            )
            is_dead = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
            if (
                int(pid) != os.getpid()
                and not is_dead
                and (state in words or f"{prefix}-" in words)
            ):
                found.append(f"process {pid}: {words!r}")
    return found


def _list(directory):
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


class Vsd:
    """The simulator's REST interface, reached from inside a lab host as the appliance
    reaches it.
    """

    def __init__(self, lab, host):
        self.lab = lab
        self.host = host
        self._key = "csproot"
        self._key = self.get("me")[0]["APIKey"]

    def call(self, method, path, body=None):
        """Return (status, decoded answer)."""
        secret = base64.b64encode(f"csproot:{self._key}".encode()).decode()
        argv = [
            "curl",
            "-sS",
            "--max-time",
            "25",
            "--cacert",
            self.lab.ca_file,
            "-X",
            method,
            "-w",
            "\n%{http_code}",
            "-H",
            f"Authorization: XREST {secret}",
            "-H",
            "X-Nuage-Organization: csp",
            "-H",
            "Content-Type: application/json",
        ]
        if body is not None:
            argv += ["--data-binary", "@-"]
        text = self.host.exec(
            [*argv, f"{VSD_URL}/nuage/api/v6/{path}"], input=body and json.dumps(body)
        ).stdout
        content, _, status = text.rpartition("\n")
        return int(status), json.loads(content) if content.strip() else []

    def get(self, path):
        return self._good("GET", path)

    def _good(self, method, path, body=None):
        status, answer = self.call(method, path, body)
        if status >= 300:
            raise LabError(f"{method} {path}: {status} {answer}")
        return answer

    def create_container(
        self, uuid, mac, subnet, domain="Domain", enterprise="Enterprise", port_name="by-hand"
    ):
        """Create a container as the appliance does; returns VSD's object."""
        subnets = self.lab.admin("GET", "/vsc/networks")["subnets"]
        found = next(
            s
            for s in subnets
            if (s["name"], s["domain"], s["enterprise"]) == (subnet, domain, enterprise)
        )
        return self._good(
            "POST",
            "containers",
            {
                "UUID": uuid,
                "name": uuid,
                "externalID": "by-hand",
                "interfaces": [
                    {"name": port_name, "MAC": mac, "attachedNetworkID": found["subnet_id"]}
                ],
            },
        )[0]

    def delete_container(self, container):
        self._good("DELETE", f"containers/{container['ID']}?responseChoice=1")


class Port:
    """A port plugged by hand, as the appliance would do it: a network namespace in a lab host, a
    veth pair, OVSDB rows.

    Its name is not one the appliance takes for its own.
    """

    def __init__(self, host, mac, uuid):
        number = next(_numbers)
        self.host = host
        self.mac = mac
        self.uuid = uuid
        self.name = f"lt{number}-1"
        self.namespace = f"lt{number}"

    def make_device(self, address, gateway, prefix_length=24):
        inner = self.name[:-1] + "2"
        self._batch(
            f"netns add {self.namespace}",
            f"link add {self.name} type veth peer name {inner}",
            f"link set {inner} netns {self.namespace} name eth0 address {self.mac}",
            f"link set {self.name} addrgenmode none up",
        )
        self.host.exec(
            ["ip", "netns", "exec", self.namespace, "ethtool", "-K", "eth0", "tx", "off"]
        )
        self._batch(
            "link set lo up",
            "link set eth0 addrgenmode none up",
            f"addr add {address}/{prefix_length} dev eth0",
            f"route add default via {gateway}",
            namespace=self.namespace,
        )

    def _batch(self, *lines, namespace=None):
        words = ["-n", namespace] if namespace else []
        for line in lines:
            self.host.exec(["ip", *words, *line.split()])

    def attach(self):
        """One transaction, as vrs §6 has it, without the guards."""
        self._transact(
            {"op": "insert", "table": "Interface", "uuid-name": "intf", "row": {"name": self.name}},
            {
                "op": "insert",
                "table": "Port",
                "uuid-name": "port",
                "row": {"name": self.name, "interfaces": ["named-uuid", "intf"]},
            },
            self._mutate_bridge("insert", ["named-uuid", "port"]),
            {
                "op": "insert",
                "table": "Nuage_Port_Table",
                "row": {
                    "name": self.name,
                    "mac": self.mac,
                    "bridge": switch.BRIDGE,
                    "vm_domain": 4,
                },
            },
            {
                "op": "insert",
                "table": "Nuage_VM_Table",
                "row": {
                    "type": 4,
                    "domain": 4,
                    "event": 2,
                    "event_type": 0,
                    "state": 1,
                    "reason": 1,
                    "vm_uuid": self.uuid,
                    "vm_name": self.uuid,
                    "ports": ["set", [self.name]],
                    "metadata": ["map", [["nuage-extension", "true"], ["enterprise", ""]]],
                },
            },
        )

    def detach(self):
        """Take the rows and the port away, as vrs §7 has it; the device stays."""
        port = self.host.exec(["ovs-vsctl", "get", "Port", self.name, "_uuid"]).stdout.strip()
        self._transact(
            {"op": "delete", "table": "Nuage_VM_Table", "where": [["vm_uuid", "==", self.uuid]]},
            {"op": "delete", "table": "Nuage_Port_Table", "where": [["name", "==", self.name]]},
            self._mutate_bridge("delete", ["uuid", port]),
        )

    def remove(self):
        """Undo everything, whatever there is of it."""
        with contextlib.suppress(LabError):
            self.detach()
        self.host.exec(["ip", "netns", "delete", self.namespace], check=False)
        self.host.exec(["ip", "link", "delete", self.name], check=False)

    def _mutate_bridge(self, verb, port):
        return {
            "op": "mutate",
            "table": "Bridge",
            "where": [["name", "==", switch.BRIDGE]],
            "mutations": [["ports", verb, ["set", [port]]]],
        }

    def _transact(self, *operations):
        answer = self.host.exec(
            [
                "ovsdb-client",
                "transact",
                f"unix:{switch.DATABASE_SOCKET}",
                json.dumps(
                    [
                        "Open_vSwitch",
                        *operations,
                        {
                            "op": "mutate",
                            "table": "Open_vSwitch",
                            "where": [],
                            "mutations": [["next_cfg", "+=", 1]],
                        },
                    ]
                ),
            ]
        ).stdout
        problems = [result for result in json.loads(answer) if result and "error" in result]
        assert not problems, problems

    def row(self):
        """Return the port's row of Nuage_Port_Table with its resolution, or None."""
        columns = [
            "ip_addr",
            "subnet_mask",
            "gateway",
            "nuage_domain",
            "nuage_zone",
            "nuage_network",
            "evpn_id",
            "vrf_id",
        ]
        answer = self.host.exec(
            [
                "ovsdb-client",
                "transact",
                f"unix:{switch.DATABASE_SOCKET}",
                json.dumps(
                    [
                        "Open_vSwitch",
                        {
                            "op": "select",
                            "table": "Nuage_Port_Table",
                            "where": [["name", "==", self.name]],
                            "columns": columns,
                        },
                    ]
                ),
            ]
        ).stdout
        return next(iter(json.loads(answer)[0]["rows"]), None)

    def wait_resolved(self, timeout=60.0):
        wait_until(lambda: self.row()["ip_addr"], timeout, f"{self.name} is resolved")
        return self.row()

    def reaches(self, address, seconds=60.0):
        """Tell whether an answer comes in time: flows and neighbours may still be on their way, or
        packets wait for a processor.
        """
        end = time.monotonic() + seconds
        while not self.pings(address, count=1):
            if time.monotonic() > end:
                return False
        return True

    def pings(self, address, count=3):
        """Tell whether an answer comes to one of some echo requests."""
        return (
            self.run("busybox", "ping", "-c", count, "-i", "0.3", "-W", "1", address).returncode
            == 0
        )

    def run(self, *argv, input=None):
        return self.host.exec(
            ["ip", "netns", "exec", self.namespace, *argv], input=input, check=False
        )
