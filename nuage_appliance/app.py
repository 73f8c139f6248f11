"""Builds every room by hand, in order, and joins them; start, reload, stop.

The only module that knows both wings. The plugin sockets are served as soon as what the host itself says was read; the
VSD, the VRS and the engine may all be away then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import os
import random
import resource
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event

from nuage_appliance import LATER_SIGNALS, __version__
from nuage_appliance.api import ipam_driver, network_driver, plugin_server
from nuage_appliance.api.docker_events import DockerEvents
from nuage_appliance.api.status import StatusServer
from nuage_appliance.base import log, supervisor
from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Fault, Refused
from nuage_appliance.base.hub_watch import HubWatch
from nuage_appliance.base.state_file import StateFile
from nuage_appliance.clients.consul import Consul
from nuage_appliance.clients.docker_engine import DockerEngine
from nuage_appliance.clients.links import Links
from nuage_appliance.clients.vrs import Vrs
from nuage_appliance.clients.vsd import Vsd
from nuage_appliance.clients.vsd_session import VsdSession
from nuage_appliance.config import Config, ConfigError, load
from nuage_appliance.core.addresses import Addresses
from nuage_appliance.core.audit import Audit
from nuage_appliance.core.cluster.hosts import Hosts
from nuage_appliance.core.cluster.replicas import Replicas
from nuage_appliance.core.endpoint_table import EndpointTable
from nuage_appliance.core.endpoints import Endpoints
from nuage_appliance.core.host import HostIdentity
from nuage_appliance.core.networks import Networks

_log = logging.getLogger(__name__)

_DRAIN_S = 10.0
_LIST_S = 120.0
_LOCAL_S = 5.0
_PAUSE_S = 1e-6
_MOST_FILES = 65_536
_ALONE_S = 15.0
_ROUND_S, _LAST_WORK_S, _MOST_ROUNDS = 20.5, 1.0, 8
_LIVE_KEYS = (
    "loglevel",
    "logfilesize",
    "numofretries",
    "timeinterval",
    "username",
    "password",
    "organization",
    "url",
    "cafile",
    "tlsfingerprint",
    "tlsverify",
    "requesttimeout",
    "mtu",
    "auditinterval",
)


def _tame_garbage_collector() -> None:
    """What the start made stays for ever: take it out of the full collections, which would hold the hub for 30 ms each."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(
        2_000, 10, 1_000
    )  # the middle generation holds 20,000 objects then, which is looked through in some 10 ms


def _allow_files() -> None:
    """As many open files as the system lets this process have; the soft limit is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(_MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _pause() -> None:
    gevent.sleep(_PAUSE_S)


def count_greenlets() -> dict[str, int]:
    """How many greenlets there are; looks at every object of the process, so it is for diagnosis only."""
    return {"greenlets": sum(isinstance(item, gevent.Greenlet) for item in gc.get_objects())}


def audit_rounds(run: Callable[[], dict[str, Any]], say: Callable[[str], None] = print) -> int:
    """Run the audit until it finds nothing, or nothing more can be done; 0 when all agrees in the end, else 1.

    What is to be taken away needs three sightings and a minute, so this may take 65 seconds.
    """
    for _ in range(_MOST_ROUNDS):
        outcome = run()
        say(outcome["sentence"])
        if not outcome["is_complete"]:
            return 1
        if not outcome["found"]:
            return 0
        if not outcome["waiting"] and not outcome["repaired"]:
            return 1
        gevent.sleep(_ROUND_S if outcome["waiting"] else _LAST_WORK_S)
    return 1


class App:
    """The appliance."""

    def __init__(self, config: Config, config_path: str) -> None:
        """Raises Refused when the configuration names something unusable. No I/O to a neighbour yet."""
        self._config, self._config_path = config, config_path
        hostname = socket.gethostname()
        self.session = VsdSession(config)
        self.vsd = Vsd(self.session)
        self.vrs = Vrs(config.vrssocketfile, config.vrsbridge)
        self.engine = DockerEngine(config.dockersocketfile)
        self.links = Links()
        self.networks = Networks(self.vsd, self.vrs, self.engine)
        self.watch = HubWatch()
        self.table = EndpointTable(self.watch.awake_s)
        self.addresses = Addresses(
            self.vsd,
            self.networks,
            self.table,
            hostname=hostname,
            late_releases=StateFile(os.path.join(config.statedir, "swarm-releases.json")),
        )
        self.endpoints = Endpoints(
            self.vsd,
            self.vrs,
            self.links,
            self.networks,
            self.table,
            self.addresses,
            mtu=config.mtu,
        )
        self.host = HostIdentity(config.hostid, hostname, config.statedir)
        self.audit = Audit(
            self.vsd,
            self.vrs,
            self.links,
            self.engine,
            self.networks,
            self.table,
            self.addresses,
            self.endpoints,
            self.watch.awake_s,
        )
        self.events = DockerEvents(
            self.engine, self.networks, self.endpoints, self.audit, config.auditinterval
        )
        self.consul = (
            Consul(config.consul, config.consultoken, config.consulcafile)
            if config.consul
            else None
        )
        self.replicas: Replicas | None = None
        self.hosts: Hosts | None = None
        if self.consul is not None:
            self._join_cluster(self.consul)
        self.supervisor = supervisor.Supervisor()
        ipam = ipam_driver.IpamDriver(self.networks, self.addresses, self.endpoints)
        network = network_driver.NetworkDriver(
            self.networks, self.endpoints, self.addresses.swarm, config.engine_scope
        )
        bodiless = ipam_driver.BODILESS | network_driver.BODILESS
        both = {**network.methods, **ipam.methods}
        # nuage.sock serves both types: so the engine's crash cleanup reaches Leave and DeleteEndpoint too (libnetwork §4.7).
        layout = [("nuage", ["NetworkDriver", "IpamDriver"], both)]
        if config.pluginversion == "v1":
            layout.append(("nuage-ipam", ["IpamDriver"], ipam.methods))
        self.servers = [
            plugin_server.PluginServer(
                os.path.join(config.plugindir, f"{name}.sock"),
                implements,
                methods,
                bodiless,
                lambda: self._config.requesttimeout,
            )
            for name, implements, methods in layout
        ]
        self.status = StatusServer(
            config.statussocket,
            self.state,
            {("POST", "/audit"): self.audit_now, ("GET", "/greenlets"): count_greenlets},
        )
        self._vsd_list_wanted = gevent.event.Event()
        self._vrs_is_new = gevent.event.Event()
        self._started_s = time.monotonic()

    def _join_cluster(self, consul: Consul) -> None:
        config = self._config
        self.hosts = Hosts(
            consul,
            self.vsd,
            self.addresses,
            config.clustername,
            lambda: self.addresses.external_id,
            self._neighbours,
            config.hostgcafter,
            self.watch.awake_s,
        )
        if config.has_replicas:
            self.replicas = Replicas(
                consul,
                self.engine,
                config.clustername,
                lambda: self.addresses.external_id,
                lambda: self.events.interval_s,
                StateFile(os.path.join(config.statedir, "held-removals.json")),
            )
            self.events.on_network_change = self.replicas.wake
            self.events.on_network_gone = self.replicas.note_destroyed
            self.events.on_container_gone = self.replicas.wake_if_hanging

    def _neighbours(self) -> dict[str, str]:
        """What this host tells the others of its neighbours; an empty text is well."""
        return {
            "version": __version__,
            "engine": self.engine.release,
            "vsd": self.session.problem,
            "vrs": self.vrs.problem,
        }

    # -- start and stop ---------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until a signal or the first failure; returns the exit status. Raises Refused when it cannot start."""
        for warning in self._config.warnings:
            _log.warning("%s", warning)
        _allow_files()
        for server in self.servers:
            with contextlib.suppress(OSError):  # which start() says
                server.remove_stale()  # before anything is touched: links and status socket may be those of another one that runs
        self._begin()
        for name, work in (
            ("engine-events", self.events.serve),
            ("engine-resync", self.events.serve_resync),
            ("engine-endings", self.events.serve_endings),
            ("audit", self.events.serve_audits),
        ):
            self.supervisor.spawn(name, work)
        if self.hosts is not None:
            self.supervisor.spawn("consul-host", self.hosts.serve)
            self.supervisor.spawn("consul-hosts", self.hosts.serve_collection)
        if self.replicas is not None:
            self.supervisor.spawn("consul-watch", self.replicas.serve_watch)
            self.supervisor.spawn("consul-networks", self.replicas.serve)
        # A ready VRS first, when it is there: its ports are what the first calls may be about.
        self.vrs_ready_soon()
        self.status.start()
        try:
            for server in self.servers:
                server.start()
        except Refused:
            for server in [*self.servers, self.status]:
                server.close()
            self.supervisor.kill_all()
            raise
        self._watch()
        self._handle_signals()
        _tame_garbage_collector()
        _log.warning(
            "nuage-libnetwork %s serves %s",
            __version__,
            ", ".join(server.path for server in self.servers),
        )
        supervisor.notify(
            "READY=1"
        )  # after the line: who waits for `systemctl start` finds it in the log
        status = self.supervisor.wait()
        supervisor.notify("STOPPING=1")
        if not plugin_server.drain(self.servers, _DRAIN_S):
            _log.warning("some calls were still running after %.0f s and are given up", _DRAIN_S)
        for server in self.servers:
            server.close()
        self.status.close()
        self.supervisor.kill_all()
        if self.hosts is not None and status == 0:
            self.hosts.leave()
        _log.warning("nuage-libnetwork stopped")
        return status

    def _begin(self) -> None:
        """Read the host and start what follows the neighbours, apart from the engine."""
        self.vrs.on_port = self.endpoints.plugging.resolved
        self.vrs.on_lost = self.endpoints.plugging.lost
        self.vrs.on_ready = self._vrs_is_new.set
        self.session.on_up = self._vsd_is_up
        self.addresses.external_id = self.host.remembered()
        self.supervisor.spawn("hub-watch", self.watch.serve)
        half_deleted = self.table.absorb_links(self.links.list(), self._config.vrsbridge)
        for name, work in (
            ("vrs", self.vrs.serve),
            ("vrs-recovery", self._serve_vrs_recovery),
            ("vsd-session", self.session.serve),
            ("vsd-list", self._serve_vsd_list),
            ("links", self.links.serve_deletions),
            ("releases", self.addresses.serve_releases),
            ("swarm-releases", self.addresses.swarm.serve_late_releases),
            ("restores", self.endpoints.plugging.serve_restores),
        ):
            self.supervisor.spawn(name, work)
        for device in half_deleted:
            self.links.delete_later(device)

    def audit_alone(self) -> int:
        """Audit without serving anything, until nothing waits for its grace; returns the exit status. For `-audit`."""
        self._begin()
        try:
            deadline = Deadline(_ALONE_S)
            while not (self.vrs.is_ready and self.table.is_complete) and not deadline.is_over:
                gevent.sleep(0.05)
            if self.table.problem:
                why = self.session.problem or self.vrs.problem or self.table.problem
                print(f"audit: nothing is taken away, because not everything could be read: {why}")
                return 1
            with contextlib.suppress(Fault):  # the audit says what cannot be read
                self.events.resync()
            return audit_rounds(self.audit_now)
        finally:
            gevent.sleep(_LAST_WORK_S)  # what is deleted in the background
            self.supervisor.kill_all()

    def audit_now(self) -> dict[str, Any]:
        """One cycle of the audit, as the status socket answers it. Switches greenlets."""
        return dataclasses.asdict(self.audit.run())

    def vrs_ready_soon(self) -> None:
        """Give the local VRS a moment to answer before the first call is served."""
        deadline = Deadline(0.5)
        while not self.vrs.is_ready and not deadline.is_over:
            gevent.sleep(0.01)
        if self.vrs.is_ready:
            self._recover_from_vrs()

    def _handle_signals(self) -> None:
        gevent.signal_handler(signal.SIGTERM, self.supervisor.stop)
        gevent.signal_handler(signal.SIGINT, self.supervisor.stop)
        gevent.signal_handler(signal.SIGHUP, self.reload)
        gevent.signal_handler(signal.SIGUSR1, self.reload)
        gevent.signal_handler(signal.SIGUSR2, self.events.audit_now)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LATER_SIGNALS)

    def _watch(self) -> None:
        interval_s = supervisor.watchdog_s()
        if interval_s is not None:

            def beat() -> None:
                while True:
                    supervisor.notify("WATCHDOG=1")
                    gevent.sleep(interval_s / 3)

            self.supervisor.spawn("watchdog", beat)

    def reload(self) -> None:
        """Read the configuration again; a bad one is refused and the old one stays."""
        supervisor.notify("RELOADING=1")
        try:
            fresh = load(self._config_path)
            log.start(fresh.logfile, fresh.loglevel, fresh.logfilesize)
            changed = [
                key
                for key in Config.__dataclass_fields__
                if key != "warnings" and getattr(fresh, key) != getattr(self._config, key)
            ]
            if any(
                key
                in (
                    "username",
                    "password",
                    "organization",
                    "url",
                    "cafile",
                    "tlsfingerprint",
                    "tlsverify",
                    "numofretries",
                    "timeinterval",
                )
                for key in changed
            ):
                self.session.configure(fresh)
        except (ConfigError, Refused) as error:
            _log.error("the configuration was not changed: %s", error)
            supervisor.notify("READY=1")
            return
        self._config = fresh
        self.endpoints.mtu = fresh.mtu
        if self.events.interval_s != fresh.auditinterval:
            self.events.interval_s = fresh.auditinterval
            self.events.audit_now()  # ends the wait for the old interval
        waiting = [key for key in changed if key not in _LIVE_KEYS]
        _log.warning(
            "the configuration was read again; changed: %s%s",
            ", ".join(changed) or "nothing",
            f"; a restart is needed for {', '.join(waiting)}" if waiting else "",
        )
        supervisor.notify("READY=1")

    # -- recovery ---------------------------------------------------------------------------------

    def _recover_from_vrs(self) -> None:
        try:
            system_id, predecessor_token = self.vrs.system_id()
            external_id = self.host.learn(system_id, predecessor_token)
            if external_id != self.addresses.external_id:
                self.addresses.external_id = external_id
                self._vsd_list_wanted.set()
        except Refused as fault:
            if not self.addresses.external_id:
                _log.error("%s", fault.message)
        ports = self.vrs.ports(_pause)
        self.table.absorb_ports(ports)
        _pause()
        self.endpoints.plugging.compare_with_vrs(ports)

    def _serve_vrs_recovery(self) -> None:
        """After every new mirror: take over what it says, write what could not be written before."""
        while True:
            self._vrs_is_new.wait()
            self._vrs_is_new.clear()
            try:
                self._recover_from_vrs()
                self.networks.write_tags(Deadline(_LOCAL_S))
                self.endpoints.plugging.finish_detaching(Deadline(_LOCAL_S))
                self.endpoints.plugging.restore_now()
                self.events.resync_soon()
            except Fault as fault:
                _log.debug("%s", fault.message)

    def _vsd_is_up(self) -> None:
        self._vsd_list_wanted.set()
        self.addresses.release_now()

    def _serve_vsd_list(self) -> None:
        """Read this host's containers from the VSD at the start and after every time it was away."""
        backoff = Backoff(0.2, 2.0, 10.0, rng=random.Random())
        while True:
            self._vsd_list_wanted.wait()
            self._vsd_list_wanted.clear()
            external_id = self.addresses.external_id
            if not external_id:
                self.table.incomplete_because(
                    f"this host's id is not known yet: {self.vrs.problem or 'the VRS has no system-id'}"
                )
                continue
            try:
                begun_s, was_complete = self.table.now_s(), self.table.is_complete
                self.table.absorb_containers(
                    self.vsd.list_containers(external_id, Deadline(_LIST_S)), begun_s, _pause
                )
                if self.vrs.is_ready:
                    self.table.absorb_ports(self.vrs.ports(_pause))
                if not was_complete:
                    gc.freeze()  # what was read at the start stays, too
                self.endpoints.finish_late_releases(Deadline(_LIST_S))
                self.events.resync_soon()
                backoff.reset()
            except Fault as fault:
                self.table.incomplete_because(fault.message)
                self._vsd_list_wanted.wait(timeout=backoff.next_s())  # ends when the VSD is back
                self._vsd_list_wanted.set()

    # -- state ------------------------------------------------------------------------------------

    def _cluster_state(self) -> dict[str, Any]:
        assert self.hosts is not None and self.consul is not None
        hosts = self.hosts.state()
        networks = (
            self.replicas.state() if self.replicas is not None else {"problem": "", "networks": {}}
        )
        return {
            "name": self._config.clustername,
            "consul": self.consul.url,
            **hosts,
            **networks,
            "problem": hosts["problem"] or networks["problem"],
        }

    def state(self) -> dict[str, Any]:
        """What the status socket shows."""
        endpoints = self.table.all
        stages: dict[str, int] = {}
        for endpoint in endpoints:
            stages[endpoint.stage.value] = stages.get(endpoint.stage.value, 0) + 1
        problems = {
            endpoint.port_name: endpoint.problem for endpoint in endpoints if endpoint.problem
        }
        return {
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started_s),
            "host_id": self.addresses.external_id,
            "components": {
                "vsd": {"problem": self.session.problem, "certificate": self.session.trusted_by},
                "vrs": {
                    "problem": self.vrs.problem,
                    "controller": self.vrs.controller_is_connected(),
                },
                "engine": {"problem": self.engine.problem},
                "endpoints": {
                    "problem": self.table.problem or next(iter(problems.values()), ""),
                    "stages": stages,
                    "unplugged": problems,
                    "to_release": len(self.table.pending_delete) + self.addresses.swarm.waiting,
                },
                "audit": {"problem": "", "last": self.audit.last.sentence},
                **({"cluster": self._cluster_state()} if self.consul is not None else {}),
            },
            "hub": {"longest_pause_ms": round(self.watch.longest_pause_s * 1000)},
            "networks": {
                network_id: network.pool_id for network_id, network in self.networks.all.items()
            },
        }
