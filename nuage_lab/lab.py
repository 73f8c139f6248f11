"""The lab: an infra host with the VSD simulator, and N hosts with Open vSwitch, the appliance and
an engine.

The Python API of scripts and tests. What is up is read from the kernel (names of namespaces,
members of cgroups), so a lab that was killed half-way can be found and taken down; the state
directory only remembers what was asked for.
"""

import base64
import contextlib
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

from nuage_lab import engines, image, packages, stores
from nuage_lab.hosts import cgroups, cuts, progress, underlay
from nuage_lab.hosts.daemon import Daemon
from nuage_lab.hosts.engine import engine
from nuage_lab.hosts.host import Host, HostSpec, Place
from nuage_lab.hosts.http_unix import call
from nuage_lab.hosts.run import LabError, locked
from nuage_lab.vrs import switch
from nuage_lab.vrs.control_client import ask

DEFAULT_STATE = "/var/lib/nuage-lab"
DEFAULT_PREFIX = "nuage-lab"
VSD_URL = f"https://{underlay.INFRA_ADDRESS}:8443"
CONFIG_FILE = "/etc/default/nuage-libnetwork.yaml"
PLUGIN_SOCKETS = ("/run/docker/plugins/nuage.sock", "/run/docker/plugins/nuage-ipam.sock")
SERVICES = {
    "vsd": 8443,
    "consul": stores.CONSUL_PORT,
    "etcd": stores.ETCD_PORT,
}  # of the infra host
CONTROL_SOCKET = "/run/nuage-lab/controller.sock"
LOCK_TIMEOUT_S = 120.0
MAX_SOCKET_PATH = 107


class LabHost(Host):
    """A host and its programs: database, switch, controller, appliance, engine (each a Daemon)."""

    def __init__(self, place, name, spec, admin_socket):
        super().__init__(place, name, spec)
        self.database = switch.database_server(self)
        self.switch = switch.switch_daemon(self)
        self.controller = Daemon(
            self,
            "controller",
            [
                sys.executable,
                "-m",
                "nuage_lab.vrs.controller",
                "--database",
                switch.DATABASE_SOCKET,
                "--bridge",
                switch.BRIDGE,
                "--tunnel-port",
                switch.TUNNEL_PORT,
                "--tunnel-bridge",
                switch.TUNNEL_BRIDGE,
                "--admin-socket",
                admin_socket,
                "--control-socket",
                CONTROL_SOCKET,
                "--hypervisor-ip",
                self.address,
                "--vrs-id",
                switch.system_id(self),
            ],
            lambda: self.ask_controller({})["connected"],
        )
        self.appliance = Daemon(
            self,
            "appliance",
            [*(spec.appliance or appliance_command()), "-config", CONFIG_FILE],
            self._has_plugin_sockets,
        )
        self.engine = engine(self)

    def daemons(self):
        """Return the host's programs in the order of their start."""
        return [self.database, self.switch, self.controller, self.appliance, self.engine]

    def ask_controller(self, request):
        """Send one request to the controller, as {"faults": {"delay_s": 1, "never": [uuid],
        "wrong_address": true}}.
        """
        return ask(self.path(CONTROL_SOCKET), request)

    def _has_plugin_sockets(self):
        return all(switch.is_listening(self.path(path)) for path in PLUGIN_SOCKETS)

    def write_config(self, cafile, /, **changes):
        """Write the appliance's configuration; changes override single keys, None removes one."""
        self._write_config(CONFIG_FILE, cafile, changes)

    def reconfigure(self, cafile, changes):
        """Start the appliance anew with another configuration.

        Return the warnings that it has about it.

        The appliance's own -check reads the configuration first. What that refuses is a LabError,
        and nothing changes.
        """
        candidate = f"{CONFIG_FILE}.new"
        path = self._write_config(candidate, cafile, changes)
        try:
            command = self.spec.appliance or appliance_command()
            done = self.exec([*command, "-config", candidate, "-check"], check=False)
            printed = done.stderr.replace(candidate, CONFIG_FILE).strip()
            if done.returncode:
                raise LabError(
                    f"{self.name} keeps its configuration: {printed or done.stdout.strip()}"
                )
            path.replace(self.path(CONFIG_FILE))
        finally:
            path.unlink(missing_ok=True)
        with progress.doing(f"{self.name}: the appliance stops"):
            self.appliance.stop()
        with progress.doing(f"{self.name}: the appliance starts"):
            self.appliance.start()
        return printed.splitlines()

    def _write_config(self, inside, cafile, changes):
        words = {
            "vrssocketfile": switch.DATABASE_SOCKET,
            "dockersocketfile": "unix:///var/run/docker.sock",
            "vrsbridge": switch.BRIDGE,
            "loglevel": "Info",
            "scope": "local",
            "username": encode("csproot"),
            "password": encode("csproot"),
            "organization": encode("csp"),
            "url": VSD_URL,
            "cafile": str(cafile),
        }
        words = {key: value for key, value in {**words, **changes}.items() if value is not None}
        path = self.path(inside)
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(words, sort_keys=False))
        path.chmod(0o600)
        return path


class Lab:
    """A lab in a state directory. specs maps host names to HostSpec where one is to differ from the
    others.

    vsd_options and consul_options are further options of the simulator and of Consul; they are not
    remembered.
    """

    def __init__(
        self,
        state=None,
        prefix=None,
        cgroup_mode=None,
        specs=None,
        vsd_options=(),
        consul_options=(),
    ):
        self.state = Path(
            os.path.realpath(state or os.environ.get("NUAGE_LAB_STATE") or DEFAULT_STATE)
        )
        remembered = self._remembered()
        self.place = Place(
            self.state,
            prefix or remembered.get("prefix") or DEFAULT_PREFIX,
            cgroup_mode or remembered.get("cgroup_mode") or "auto",
        )
        self._common_spec = HostSpec(**remembered.get("common_spec", {}))
        self.specs = {
            name: HostSpec(**words) for name, words in remembered.get("specs", {}).items()
        } | (specs or {})
        self.vsd_state = self.state / "vsd"
        self.admin_socket = self.state / "vsd.sock"
        self.infra = Host(self.place, "infra")
        self.vsd = Daemon(
            self.infra,
            "vsd",
            [
                sys.executable,
                "-m",
                "nuage_lab.vsd",
                "--listen",
                f"{underlay.INFRA_ADDRESS}:8443",
                "--state-dir",
                self.vsd_state,
                "--san",
                underlay.INFRA_ADDRESS,
                "--admin-socket",
                self.admin_socket,
                *vsd_options,
            ],
            lambda: call(self.admin_socket, "GET", "/health", timeout=1.0)[0] == 200,
        )
        self.consul = stores.consul(self.infra, self.state / "consul", consul_options)
        self.consul_url = stores.CONSUL_URL
        self.etcd = stores.etcd(self.infra, self.state / "etcd")
        self._hosts = {}

    # -- what there is

    def host(self, name):
        """Return the host h1, h2, …, whether it is up or not."""
        if not re.fullmatch(r"h[1-9]\d*", name):
            raise LabError(f"hosts are named h1, h2, …; not {name}")
        if name not in self._hosts:
            self._hosts[name] = LabHost(
                self.place, name, self.specs.get(name, self._common_spec), self.admin_socket
            )
        return self._hosts[name]

    def hosts(self):
        """Return the hosts that were asked for by the last up."""
        return [
            self.host(f"h{index}") for index in range(1, self._remembered().get("hosts", 0) + 1)
        ]

    def is_up(self):
        """Tell whether there is a lab: its infra host is up."""
        return self.infra.is_up()

    def need_up(self):
        """Refuse what only a lab that is up can do."""
        if not self.is_up():
            raise LabError("the lab is down; `scripts/lab up` starts it")

    def known_host(self, name):
        """Return the host of that name, infra too.

        LabError when the lab is down or has none of that name.
        """
        self.need_up()
        names = ["infra", *(host.name for host in self.hosts())]
        if name not in names:
            raise LabError(f"this lab has no host {name}; it has {', '.join(names)}")
        return self.infra if name == "infra" else self.host(name)

    @property
    def ca_file(self):
        """The file of the CA that signed the VSD's certificate."""
        return self.vsd_state / "ca.pem"

    def admin(self, method, target, body=None, timeout=10.0):
        """Call the simulator's admin interface and return the decoded answer."""
        status, answer = call(self.admin_socket, method, quote(target, safe="/?=&%"), body, timeout)
        if status >= 400:
            raise LabError(f"{method} {target}: {status} {answer}")
        return answer

    def ask_consul(self, method, target, body=None, headers=()):
        """Call Consul's HTTP interface, as ("GET", "/v1/kv/?recurse"), and return the decoded
        answer. LabError for a status of 400 or more.
        """
        return stores.fetch(
            self.infra,
            f"{self.consul_url}{target}",
            method,
            body if body is None else json.dumps(body),
            headers,
        )

    def consul_wipe(self):
        """Let Consul forget everything.

        It must not run; started again, it is a new and empty one.
        """
        if self.consul.is_running():
            raise LabError("Consul runs; stop it first")
        shutil.rmtree(self.state / "consul", ignore_errors=True)

    def status(self):
        """Return what runs, by host."""
        infra = [self.vsd, *self._stores(self._remembered())]
        found = {
            "infra": {
                "up": self.infra.is_up(),
                "address": self.infra.address,
                "daemons": {daemon.name: daemon.pid() for daemon in infra},
            }
        }
        for host in self.hosts():
            found[host.name] = {
                "up": host.is_up(),
                "address": host.address,
                "daemons": {daemon.name: daemon.pid() for daemon in host.daemons()},
            }
        rules = cuts.present(self.infra.full_name) if self.infra.is_up() else []
        return {
            "state": str(self.state),
            "prefix": self.place.prefix,
            "hosts": found,
            "cuts": [" ".join(rule) for rule in rules],
        }

    # -- up

    def up(
        self,
        hosts=1,
        appliance=True,
        say=lambda text: None,
        consul=False,
        engine=None,
        store=None,
        config=None,
    ):
        """Bring the lab up with at least so many hosts, and start what of it does not run.

        Idempotent.

        A host that was killed comes back with the files it had. consul adds a Consul to the infra
        host. engine is one of engines.SUITES, for the hosts that have no specs of their own; store,
        "consul" or "etcd", makes their engines a cluster with that store. A running lab keeps what
        it was brought up with. What must be fetched or built is, at the first time. config are keys
        for the appliances of hosts that have no configuration yet.
        """
        if not 1 <= hosts <= underlay.MAX_HOSTS:
            raise LabError(f"a lab has 1 to {underlay.MAX_HOSTS} hosts, not {hosts}")
        if len(str(self.admin_socket)) > MAX_SOCKET_PATH:
            raise LabError(f"the state directory's path is too long for unix sockets: {self.state}")
        engines.check(engine, store)
        asked = {
            "hosts": hosts,
            "consul": consul or store == "consul",
            "engine": engine,
            "store": store,
        }
        running = self._remembered()
        if running.get("is_complete") and self.is_up():
            self._wanted(running, asked)  # refuses another engine before that is made, in minutes
        packages.CACHE.mkdir(parents=True, exist_ok=True)  # every host sees it
        spec = engines.spec(engine, store)
        self.state.mkdir(parents=True, exist_ok=True)
        with self._lock():
            self._check_prefix()
            before = self._remembered()
            if not before.get("is_complete") or not self.infra.is_up():
                self._down(keep=False)
                shutil.rmtree(self.state / "log", ignore_errors=True)
                before = {}
            wanted = self._wanted(before, asked)
            if not before:
                self._common_spec = spec
            for store in self._stores(wanted):
                packages.unpacked(*stores.PACKAGES[store.name])
            self._remember(wanted, is_complete=False)
            self._up(wanted, appliance, config or {}, say)
            self._remember(wanted, is_complete=True)

    def _wanted(self, before, asked):
        """Return what is to be up: what is asked for, on top of what is up."""
        for key in ("engine", "store"):
            if before and asked[key] not in (None, before.get(key)):
                there = f"the {key} {before[key]}" if before.get(key) else f"the default {key}"
                raise LabError(f"this lab is up with {there}, not {asked[key]}; take it down first")
        return {
            "hosts": max(asked["hosts"], before.get("hosts", 1)),
            "consul": asked["consul"] or before.get("consul", False),
            "engine": asked["engine"] or before.get("engine"),
            "store": asked["store"] or before.get("store"),
        }

    def _stores(self, wanted):
        return [
            store
            for store, is_wanted in (
                (self.consul, wanted.get("consul")),
                (self.etcd, wanted.get("store") == "etcd"),
            )
            if is_wanted
        ]

    def _up(self, wanted, appliance, config, say):
        start = time.monotonic()

        def note(text):
            say(f"{time.monotonic() - start:6.2f} s  {text}")

        if not self.infra.is_up():
            self.infra.up()
        self.vsd_state.mkdir(exist_ok=True)
        with progress.doing("infra: the VSD simulator starts"):
            self.vsd.start()
        note(f"VSD simulator on {VSD_URL}")
        for store in self._stores(wanted):
            with progress.doing(f"infra: {store.name} starts"):
                store.start()
            note(f"{store.name} on {underlay.INFRA_ADDRESS}:{SERVICES[store.name]}")
        image.write_tree(self.state / "busybox.tar")
        hosts = [self.host(f"h{index}") for index in range(1, wanted["hosts"] + 1)]
        with ThreadPoolExecutor(max_workers=8) as pool:
            for host in pool.map(
                lambda host: self._furnish(host, len(hosts) > 1, appliance, config), hosts
            ):
                note(
                    f"{host.name} {host.address}: Open vSwitch, controller"
                    f"{', appliance' if appliance else ''}, engine, image"
                )

    def _furnish(self, host, has_tunnels, appliance, config):
        with progress.doing(f"{host.name}: Open vSwitch"):
            if not host.is_up():
                host.down()  # a host that was killed may have left its network namespace
                host.up()
            switch.start(host)
            if has_tunnels:
                switch.add_tunnel_port(host)
            host.controller.start()
        if appliance:
            if not host.path(CONFIG_FILE).exists():
                host.write_config(self.ca_file, **config)
            with progress.doing(f"{host.name}: appliance"):
                host.appliance.start()
        with progress.doing(f"{host.name}: engine"):
            host.engine.start()
            image.load(host, self.state / "busybox.tar")
        return host

    # -- accidents

    def partition(self, first, second, only=None):
        """Cut two hosts apart, control network and tunnels, until heal.

        Either may be infra: then VSD and stores are away. Idempotent.

        only="control" or "tunnel" cuts one of the two networks between hosts; "vsd", "consul" or
        "etcd" one service of infra. The VRS controllers still reach the VSD: they do not use this
        network.
        """
        cuts.add(
            self.infra.full_name,
            cuts.rules(self._number(first), self._number(second), only, SERVICES),
        )

    def heal(self, first=None, second=None):
        """Undo every cut between two hosts, or all. Idempotent."""
        self.need_up()
        if first is None:
            cuts.remove(self.infra.full_name)
            return
        numbers = self._number(first), self._number(second)
        kinds = (None, *(SERVICES if 0 in numbers else ()))
        cuts.remove(
            self.infra.full_name,
            [rule for only in kinds for rule in cuts.rules(*numbers, only, SERVICES)],
        )

    def _number(self, name):
        return self.known_host(name).index

    def kill(self, name):
        """Kill a host as a power cut does: everything in it at once, only its files stay.

        It is down until revive, or the next up.
        """
        number = self._number(name)
        if not number:
            raise LabError("the infra host holds the networks; kill its programs instead")
        with self._lock():
            underlay.unplug_host(
                self.infra.full_name, number
            )  # first, so that nobody hears of its programs' end
            self.host(name).down()

    def revive(self, name, appliance=True):
        """Start a killed host again, on the files it had."""
        with self._lock():
            self._number(name)
            self._furnish(self.host(name), self._remembered()["hosts"] > 1, appliance, {})

    # -- down

    def down(self, keep=False):
        """Kill and remove everything of this lab but its logs.

        With keep, leave the hosts' files too. Idempotent.
        """
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
        return {name[len(self.place.prefix) + 1 :] for name in names}

    def _down(self, keep):
        place = Place(self.state, self.place.prefix)  # all hierarchies, whatever this lab used
        names = self._leftovers()
        for name in sorted(names, key=lambda name: name == "infra"):
            with progress.doing(f"{name} goes down"):
                Host(place, name).down()
        self._owner_file.unlink(missing_ok=True)
        self._hosts.clear()
        if keep:
            return
        mounted = [
            line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()
        ]
        if any(point.startswith(f"{self.state}/") for point in mounted):
            raise LabError(f"something is mounted below {self.state}; its files are left alone")
        for entry in self.state.iterdir():
            if re.fullmatch(r"infra|h\d+", entry.name):
                Host(place, entry.name).wipe()
        for directory in (self.vsd_state, self.state / "consul", self.state / "etcd"):
            shutil.rmtree(directory, ignore_errors=True)
        for name in ("vsd.sock", "lab.json", "busybox.tar"):
            (self.state / name).unlink(missing_ok=True)

    # -- what was asked for, and the lock

    def _remembered(self):
        try:
            return json.loads((self.state / "lab.json").read_text())
        except FileNotFoundError:
            return {}

    def _remember(self, wanted, is_complete):
        words = {
            "prefix": self.place.prefix,
            "cgroup_mode": self.place.cgroup_mode,
            **wanted,
            "is_complete": is_complete,
            "specs": {name: asdict(spec) for name, spec in self.specs.items()},
            "common_spec": asdict(self._common_spec),
        }
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
            raise LabError(
                f"the names {self.place.prefix}-* belong to the lab in {owner}; "
                "take another --prefix"
            )

    def _lock(self):
        return locked(self.state / "lock", LOCK_TIMEOUT_S)


def appliance_command():
    """Return the product's command: the console script beside this Python, or its module."""
    script = Path(sys.prefix) / "bin" / "nuage-libnetwork"
    return [str(script)] if script.exists() else [sys.executable, "-m", "nuage_appliance"]


def encode(text):
    """Encode a credential as the appliance's configuration has it."""
    return base64.b64encode(text.encode()).decode()
