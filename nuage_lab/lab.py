"""The lab: an infra host with the VSD simulator, and N hosts with Open vSwitch, the appliance and an engine.

The Python API of scripts and tests. What is up is read from the kernel (names of namespaces, members of cgroups), so a lab
that was killed half-way can be found and taken down; the state directory only remembers what was asked for.
"""

import base64
import contextlib
import fcntl
import json
import os
import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

import yaml

from nuage_lab import image
from nuage_lab.hosts import cgroups, underlay
from nuage_lab.hosts.daemon import Daemon
from nuage_lab.hosts.engine import engine
from nuage_lab.hosts.host import Host, HostSpec, Place
from nuage_lab.hosts.http_unix import call
from nuage_lab.hosts.run import LabError
from nuage_lab.vrs import switch
from nuage_lab.vrs.control_client import ask

DEFAULT_STATE = "/var/lib/nuage-lab"
DEFAULT_PREFIX = "nuage-lab"
VSD_URL = f"https://{underlay.INFRA_ADDRESS}:8443"
CONFIG_FILE = "/etc/default/nuage-libnetwork.yaml"
PLUGIN_SOCKETS = ("/run/docker/plugins/nuage.sock", "/run/docker/plugins/nuage-ipam.sock")
CONTROL_SOCKET = "/run/nuage-lab/controller.sock"
LOCK_TIMEOUT_S = 120.0
MAX_SOCKET_PATH = 107


class LabHost(Host):
    """A host and its programs: database, switch, controller, appliance, engine (each a Daemon)."""

    def __init__(self, place, name, spec, admin_socket):
        super().__init__(place, name, spec)
        self.database = switch.database_server(self)
        self.switch = switch.switch_daemon(self)
        self.controller = Daemon(self, "controller", [
            sys.executable, "-m", "nuage_lab.vrs.controller", "--database", switch.DATABASE_SOCKET,
            "--bridge", switch.BRIDGE, "--tunnel-port", switch.TUNNEL_PORT, "--tunnel-bridge", switch.TUNNEL_BRIDGE,
            "--admin-socket", admin_socket, "--control-socket", CONTROL_SOCKET,
            "--hypervisor-ip", self.address, "--vrs-id", switch.system_id(self)],
            lambda: self.ask_controller({})["connected"])
        self.appliance = Daemon(self, "appliance", [*(spec.appliance or appliance_command()), "-config", CONFIG_FILE],
                                self._has_plugin_sockets)
        self.engine = engine(self)

    def daemons(self):
        return [self.database, self.switch, self.controller, self.appliance, self.engine]

    def ask_controller(self, request):
        """Send one request to the controller, as {"faults": {"delay_s": 1, "never": [uuid], "wrong_address": true}}."""
        return ask(self.path(CONTROL_SOCKET), request)

    def _has_plugin_sockets(self):
        return all(switch.is_listening(self.path(path)) for path in PLUGIN_SOCKETS)

    def write_config(self, cafile, **changes):
        """Write the appliance's configuration; changes override single keys, None removes one."""
        words = {"vrssocketfile": switch.DATABASE_SOCKET, "dockersocketfile": "unix:///var/run/docker.sock",
                 "vrsbridge": switch.BRIDGE, "loglevel": "Info", "scope": "local", "username": encode("csproot"),
                 "password": encode("csproot"), "organization": encode("csp"), "url": VSD_URL, "cafile": str(cafile)}
        words = {key: value for key, value in {**words, **changes}.items() if value is not None}
        path = self.path(CONFIG_FILE)
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(words, sort_keys=False))
        path.chmod(0o600)


class Lab:
    """A lab in a state directory. specs maps host names to HostSpec where one is to differ from the others.

    vsd_options are further options of the simulator; they are not remembered.
    """

    def __init__(self, state=None, prefix=None, cgroup_mode=None, specs=None, vsd_options=()):
        self.state = Path(os.path.realpath(state or os.environ.get("NUAGE_LAB_STATE") or DEFAULT_STATE))
        remembered = self._remembered()
        self.place = Place(self.state, prefix or remembered.get("prefix") or DEFAULT_PREFIX,
                           cgroup_mode or remembered.get("cgroup_mode") or "auto")
        self.specs = {name: HostSpec(**words) for name, words in remembered.get("specs", {}).items()} | (specs or {})
        self.vsd_state = self.state / "vsd"
        self.admin_socket = self.state / "vsd.sock"
        self.infra = Host(self.place, "infra")
        self.vsd = Daemon(self.infra, "vsd", [
            sys.executable, "-m", "nuage_lab.vsd", "--listen", f"{underlay.INFRA_ADDRESS}:8443",
            "--state-dir", self.vsd_state, "--san", underlay.INFRA_ADDRESS, "--admin-socket", self.admin_socket, *vsd_options],
            lambda: call(self.admin_socket, "GET", "/health", timeout=1.0)[0] == 200)
        self._hosts = {}

    # -- what there is

    def host(self, name):
        """Return the host h1, h2, …, whether it is up or not."""
        if not re.fullmatch(r"h[1-9]\d*", name):
            raise LabError(f"hosts are named h1, h2, …; not {name}")
        if name not in self._hosts:
            self._hosts[name] = LabHost(self.place, name, self.specs.get(name, HostSpec()), self.admin_socket)
        return self._hosts[name]

    def hosts(self):
        """Return the hosts that were asked for by the last up."""
        return [self.host(f"h{index}") for index in range(1, self._remembered().get("hosts", 0) + 1)]

    @property
    def ca_file(self):
        return self.vsd_state / "ca.pem"

    def admin(self, method, target, body=None, timeout=10.0):
        """Call the simulator's admin interface and return the decoded answer."""
        status, answer = call(self.admin_socket, method, quote(target, safe="/?=&%"), body, timeout)
        if status >= 400:
            raise LabError(f"{method} {target}: {status} {answer}")
        return answer

    def status(self):
        """Return what runs, by host."""
        found = {"infra": {"up": self.infra.is_up(), "address": self.infra.address, "daemons": {"vsd": self.vsd.pid()}}}
        for host in self.hosts():
            found[host.name] = {"up": host.is_up(), "address": host.address,
                                "daemons": {daemon.name: daemon.pid() for daemon in host.daemons()}}
        return {"state": str(self.state), "prefix": self.place.prefix, "hosts": found}

    # -- up

    def up(self, hosts=1, appliance=True, say=lambda text: None):
        """Bring the lab up with at least so many hosts, and start what of it does not run. Idempotent."""
        if not 1 <= hosts <= underlay.MAX_HOSTS:
            raise LabError(f"a lab has 1 to {underlay.MAX_HOSTS} hosts, not {hosts}")
        if len(str(self.admin_socket)) > MAX_SOCKET_PATH:
            raise LabError(f"the state directory's path is too long for unix sockets: {self.state}")
        self.state.mkdir(parents=True, exist_ok=True)
        with self._lock():
            self._check_prefix()
            before = self._remembered()
            if not before.get("is_complete") or not all(h.is_up() for h in [self.infra, *self.hosts()]):
                self._down(keep=False)
                shutil.rmtree(self.state / "log", ignore_errors=True)
            else:
                hosts = max(hosts, before["hosts"])
            self._remember(hosts, is_complete=False)
            self._up(hosts, appliance, say)
            self._remember(hosts, is_complete=True)

    def _up(self, count, appliance, say):
        start = time.monotonic()

        def note(text):
            say(f"{time.monotonic() - start:6.2f} s  {text}")

        if not self.infra.is_up():
            self.infra.up()
        self.vsd_state.mkdir(exist_ok=True)
        self.vsd.start()
        note(f"VSD simulator on {VSD_URL}")
        image.write_tree(self.state / "busybox.tar")
        hosts = [self.host(f"h{index}") for index in range(1, count + 1)]
        with ThreadPoolExecutor(max_workers=8) as pool:
            for host in pool.map(lambda host: self._furnish(host, count > 1, appliance), hosts):
                note(f"{host.name} {host.address}: Open vSwitch, controller{', appliance' if appliance else ''}, engine, image")

    def _furnish(self, host, has_tunnels, appliance):
        if not host.is_up():
            host.up()
        switch.start(host)
        if has_tunnels:
            switch.add_tunnel_port(host)
        host.controller.start()
        if appliance:
            if not host.path(CONFIG_FILE).exists():
                host.write_config(self.ca_file)
            host.appliance.start()
        host.engine.start()
        image.load(host, self.state / "busybox.tar")
        return host

    # -- down

    def down(self, keep=False):
        """Kill and remove everything of this lab but its logs; with keep, leave the hosts' files too. Idempotent."""
        if not self.state.is_dir() and not self._leftovers():
            return
        self.state.mkdir(parents=True, exist_ok=True)
        with self._lock():
            self._check_prefix()
            self._down(keep)

    def _leftovers(self):
        pattern = re.compile(rf"^{re.escape(self.place.prefix)}-(infra|h\d+)$")
        names = cgroups.groups_named(pattern)
        with contextlib.suppress(FileNotFoundError):
            names |= {name for name in os.listdir("/run/netns") if pattern.match(name)}
        return {name[len(self.place.prefix) + 1:] for name in names}

    def _down(self, keep):
        place = Place(self.state, self.place.prefix)  # all hierarchies, whatever this lab used
        names = self._leftovers()
        for name in sorted(names, key=lambda name: name == "infra"):
            Host(place, name).down()
        self._owner_file.unlink(missing_ok=True)
        self._hosts.clear()
        if keep:
            return
        mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        if any(point.startswith(f"{self.state}/") for point in mounted):
            raise LabError(f"something is mounted below {self.state}; its files are left alone")
        for entry in self.state.iterdir():
            if re.fullmatch(r"infra|h\d+", entry.name):
                Host(place, entry.name).wipe()
        shutil.rmtree(self.vsd_state, ignore_errors=True)
        for name in ("vsd.sock", "lab.json", "busybox.tar"):
            (self.state / name).unlink(missing_ok=True)

    # -- what was asked for, and the lock

    def _remembered(self):
        try:
            return json.loads((self.state / "lab.json").read_text())
        except FileNotFoundError:
            return {}

    def _remember(self, hosts, is_complete):
        words = {"prefix": self.place.prefix, "cgroup_mode": self.place.cgroup_mode, "hosts": hosts,
                 "is_complete": is_complete, "specs": {name: asdict(spec) for name, spec in self.specs.items()}}
        new = self.state / "lab.json.new"
        new.write_text(json.dumps(words, indent=1))
        new.replace(self.state / "lab.json")
        self._owner_file.write_text(str(self.state))

    @property
    def _owner_file(self):
        return Path(f"/run/{self.place.prefix}.owner")

    def _check_prefix(self):
        try:
            owner = self._owner_file.read_text()
        except FileNotFoundError:
            return
        if owner != str(self.state) and self._leftovers():
            raise LabError(f"the names {self.place.prefix}-* belong to the lab in {owner}; take another --prefix")

    @contextlib.contextmanager
    def _lock(self):
        with open(self.state / "lock", "w", encoding="ascii") as file:
            end = time.monotonic() + LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise LabError(f"another command has worked on the lab in {self.state} for {LOCK_TIMEOUT_S:g} s")
                    time.sleep(0.1)
            yield


def appliance_command():
    """Return the product's command: the console script beside this Python, or its module."""
    script = Path(sys.prefix) / "bin" / "nuage-libnetwork"
    return [str(script)] if script.exists() else [sys.executable, "-m", "nuage_appliance"]


def encode(text):
    """Encode a credential as the appliance's configuration has it."""
    return base64.b64encode(text.encode()).decode()
