"""What is measured and what it talks to: simulator, ovsdb-server, appliance, in a network namespace
of this process.
"""

import ctypes
import http.client
import ipaddress
import json
import os
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import gevent

from bench.engine import Api, Engine
from bench.wire import Database
from tests.support.appliance import Appliance
from tests.support.ovsdb import Ovsdb
from tests.support.vsd import VsdSimulator

_CLONE_NEWNET = 0x40000000
_TICKS = os.sysconf("SC_CLK_TCK")


def own_network():
    """Leave the machine's network, so that devices and ports are this process's and its children's
    own.
    """
    if os.geteuid() != 0:
        raise SystemExit("bench needs root: it makes a network namespace and veth pairs")
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        raise SystemExit(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def cpu_s(pid):
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_mb(pid):
    """Resident memory of a process, in MB of 2^20 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


def open_files(pid):
    """How many file descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid):
    """How many native threads a process has."""
    return len(os.listdir(f"/proc/{pid}/task"))


def links():
    """The bridge ports of the driver that are in this network namespace."""
    return [
        name for _, name in socket.if_nameindex() if name.startswith("nln") and name.endswith("-1")
    ]


class World:
    """Everything up, with `networks` Docker networks, each on a VSD subnet of its own with a prefix
    of `prefix_len` bits.

    `settings` are further keys of the appliance's configuration.
    """

    def __init__(self, networks=64, latency_ms=0.0, prefix_len=24, **settings):
        self.vsd = VsdSimulator()
        self.ovsdb = Ovsdb()
        self._directory = tempfile.TemporaryDirectory(prefix="bench-")
        socket_path = os.path.join(self._directory.name, "docker.sock")
        self.api = Api(socket_path)
        self.appliance = Appliance(
            self.vsd.url,
            self.ovsdb.socket,
            socket_path,
            cafile=self.vsd.ca_file,
            loglevel="Info",
            **settings,
        )
        self.appliance.wait_ready()
        self.database = Database(self.ovsdb.socket)
        self._client = self.vsd.client()
        self._client.me()
        subnets = self._make_subnets(networks, prefix_len)
        self.engines = [Engine(self.appliance.plugins, self.api) for _ in range(networks)]
        while not self.api.is_followed:
            gevent.sleep(0.01)
        self.networks = [
            self.engines[0].create_network(
                f"net{index}",
                {
                    "organization": "Enterprise",
                    "domain": "Domain",
                    "zone": "Zone",
                    "subnet": subnet,
                    "user": "admin",
                },
            )
            for index, subnet in enumerate(subnets)
        ]
        self.latency(latency_ms)

    def _make_subnets(self, count, prefix_len):
        path = ""
        for kind, name in (("enterprises", "Enterprise"), ("domains", "Domain"), ("zones", "Zone")):
            _, _, found = self._client.get(f"{path}/{kind}", filter=f'name == "{name}"')
            path = f"/{kind}/{found[0]['ID']}"
        names = []
        for index, cidr in zip(
            range(count),
            ipaddress.ip_network("10.64.0.0/10").subnets(new_prefix=prefix_len),
            strict=False,
        ):
            name = f"Bench {index}"
            status, _, answer = self._client.post(
                f"{path}/subnets",
                {
                    "name": name,
                    "address": str(cidr.network_address),
                    "netmask": str(cidr.netmask),
                    "gateway": str(cidr.network_address + 1),
                },
            )
            if status != 201:
                raise RuntimeError(f"the subnet {name} was not made: {status} {answer}")
            names.append(name)
        return names

    def latency(self, milliseconds):
        """Every answer of the simulator takes so long from now on."""
        self.vsd.admin("POST", "/config", {"latency_ms": milliseconds})

    def containers_on_vsd(self):
        """How many containers the VSD has."""
        _, headers, _ = self._client.get("/containers", page_size=1)
        return int(headers["X-Nuage-Count"])

    def cpu(self):
        """Processor seconds used so far, by process."""
        return {
            "appliance": cpu_s(self.appliance.process.pid),
            "simulator": cpu_s(self.vsd.process.pid),
            "ovsdb-server": cpu_s(self.ovsdb.process.pid),
            "harness": time.process_time(),
        }

    def attach(self, count, in_flight, *, create_ahead=False, prefix="c", arrivals_s=0.0):
        """Run `count` containers, at most `in_flight` at once, one at a time a network; returns the
        runs in order of start.

        With `create_ahead` their `create` events were handled before the first start; else they are
        part of the run. With `arrivals_s` a new one comes every so many seconds.
        """
        names = iter(range(count))
        runs = []
        ahead = {}
        if create_ahead:
            before = self.api.inspected
            for index in range(count):
                ahead[index] = self.engines[0].create_container(
                    self.networks[index % len(self.networks)], f"{prefix}{index}"
                )
                if index % 32 == 31:
                    gevent.sleep(0.05)
            deadline = time.monotonic() + 10
            while self.api.inspected < before + count and time.monotonic() < deadline:
                gevent.sleep(0.01)
            gevent.sleep(0.1)
        first_s = time.perf_counter()

        def work(engine, net):
            for index in names:
                if arrivals_s:
                    gevent.sleep(max(0.0, first_s + index * arrivals_s - time.perf_counter()))
                run = ahead.get(index) or engine.create_container(net, f"{prefix}{index}")
                engine.start(run)
                runs.append(run)
                run.plugged_s = self.database.committed(run.port)

        together(
            [
                (work, engine, net)
                for engine, net in list(zip(self.engines, self.networks, strict=True))[:in_flight]
            ]
        )
        return runs

    def detach(self, runs, in_flight):
        """Remove the containers of these runs, at most `in_flight` at once."""
        left = iter(runs)

        def work(engine):
            for run in left:
                engine.remove(run)

        together([(work, engine) for engine in self.engines[:in_flight]])

    def expect(self, count):
        """The VSD, the VRS and the engine agree that there are `count` containers; RuntimeError if
        not.
        """
        deadline = time.monotonic() + 10
        while True:
            seen = (self.containers_on_vsd(), len(self.database.present), len(self.api.containers))
            if seen == (count, count, count):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"VSD, VRS and engine have {seen} containers, not {count}; the log ends:\n"
                    f"{self.appliance.errors()[-2000:]}"
                )
            gevent.sleep(0.1)

    def kill(self):
        """Kill the appliance."""
        self.appliance.kill()
        for engine in self.engines:
            engine.close()

    def start(self):
        """Start the appliance again; returns the moments (monotonic) of the start and of its
        sockets' service.
        """
        started_s = time.monotonic()
        self.appliance.start()
        serving_s = time.monotonic()
        self.engines = [Engine(self.appliance.plugins, self.api) for _ in self.engines]
        return started_s, serving_s

    def ask(self, verb, path, timeout_s=150):
        """Ask the status socket; returns what it answers."""
        connection = http.client.HTTPConnection("status", timeout=timeout_s)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(timeout_s)
        connection.sock.connect(self.appliance.settings["statussocket"])
        try:
            connection.request(verb, path)
            reply = connection.getresponse()
            text = reply.read().decode()
        finally:
            connection.close()
        if reply.status not in (200, 503):
            raise RuntimeError(f"{verb} {path} was answered with {reply.status}: {text}")
        return json.loads(text)

    def wait_quiet(self, seconds=60):
        """Wait until nothing of any container is left anywhere, the kernel's links and the
        appliance's table among it.
        """
        self.expect(0)
        deadline = time.monotonic() + seconds
        while True:
            endpoints = self.appliance.status()["components"]["endpoints"]
            left = (len(links()), sum(endpoints["states"].values()), endpoints["pending_release"])
            if left == (0, 0, 0):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{left[0]} links, {left[1]} endpoints and {left[2]} addresses to be "
                    f"given back are left after {seconds} s"
                )
            gevent.sleep(0.1)

    def close(self):
        """End and remove everything."""
        self.appliance.close()
        self.database.close()
        self.ovsdb.close()
        self.vsd.stop()
        self._directory.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def together(jobs):
    """Run jobs as greenlets; the first failure ends the others and is raised."""
    greenlets = [gevent.spawn(*job) for job in jobs]
    try:
        gevent.joinall(greenlets, raise_error=True)
    finally:
        gevent.killall(greenlets)


def median_ms(durations_s):
    """The median, in milliseconds."""
    return statistics.median(durations_s) * 1000
