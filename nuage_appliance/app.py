"""Builds every component by hand, in order, and joins them; start, reload, stop.

The only module that knows both api and clients. The plugin sockets are served as soon as what the
host itself knows was read; the VSD, the VRS and the engine may all be away then.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import gevent

from nuage_appliance import LATER_SIGNALS, __version__
from nuage_appliance.api import ipam_driver, network_driver, plugin_server
from nuage_appliance.api.docker_events import DockerEvents
from nuage_appliance.api.status import StatusServer
from nuage_appliance.base import log, process, supervisor
from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Fault, Refused
from nuage_appliance.base.hub_watch import HubWatch
from nuage_appliance.base.state_file import StateFile
from nuage_appliance.base.yielding import pause
from nuage_appliance.clients.cluster_store import ClusterStore
from nuage_appliance.clients.consul import Consul
from nuage_appliance.clients.docker_engine import DockerEngine
from nuage_appliance.clients.links import Links
from nuage_appliance.clients.vrs import Vrs
from nuage_appliance.clients.vsd import Vsd
from nuage_appliance.clients.vsd_session import VsdSession
from nuage_appliance.config import Config, ConfigError, Reload, load
from nuage_appliance.core.addresses import Addresses
from nuage_appliance.core.audit import Audit
from nuage_appliance.core.cluster.hosts import Hosts
from nuage_appliance.core.cluster.replicas import Replicas
from nuage_appliance.core.endpoint_table import EndpointTable
from nuage_appliance.core.endpoints import Endpoints
from nuage_appliance.core.host import HostIdentity
from nuage_appliance.core.networks import Networks
from nuage_appliance.core.recovery import Recovery
from nuage_appliance.model import Stage

_log = logging.getLogger(__name__)

STATUS_SCHEMA = 2  # goes up when a word of the status document changes its name or its meaning
_DRAIN_S = 10.0
_VRS_START_S = 0.5
_AUDIT_START_S = 15.0
_LAST_WORK_S = 1.0
# What the status calls an endpoint, by its stage; docs/OPERATIONS.md explains the words.
_STATES = {
    Stage.RESERVED: "reserved",
    Stage.CREATED: "linked",
    Stage.JOINED: "linked",
    Stage.ATTACHED: "plugged",
    Stage.LEFT: "linked",
}


def count_greenlets() -> dict[str, int]:
    """How many greenlets there are. Looks at every object of the process: for diagnosis only."""
    return {"greenlets": process.count_objects(gevent.Greenlet)}


class App:
    """The appliance."""

    def __init__(self, config: Config, config_path: str) -> None:
        """Raises Refused when the configuration names something unusable. Asks no backend yet."""
        self._config = config
        self._config_path = config_path
        hostname = socket.gethostname()
        self.session = VsdSession(config)
        self.vsd = Vsd(self.session)
        self.vrs = Vrs(config.vrssocketfile, config.vrsbridge)
        self.engine = DockerEngine(config.dockersocketfile)
        self.links = Links()
        self.networks = Networks(self.vsd, self.vrs, self.engine)
        self.watch = HubWatch()
        self.table = EndpointTable(self.watch.awake_s)
        self.host = HostIdentity(config.hostid, hostname, config.statedir)
        self.addresses = Addresses(
            self.vsd,
            self.networks,
            self.table,
            self.host,
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
            self.host,
            mtu=config.mtu,
        )
        self.audit = Audit(
            self.vsd,
            self.vrs,
            self.links,
            self.engine,
            self.networks,
            self.table,
            self.addresses,
            self.endpoints,
            self.host,
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
        self._cluster_name = config.clustername  # that of this start: another one needs a restart
        if self.consul is not None:
            self._join_cluster(self.consul)
        self.supervisor = supervisor.Supervisor()
        ipam = ipam_driver.IpamDriver(self.networks, self.addresses, self.endpoints)
        network = network_driver.NetworkDriver(
            self.networks, self.endpoints, self.addresses.swarm, config.engine_scope
        )
        bodiless = ipam_driver.BODILESS | network_driver.BODILESS
        both = {**network.methods, **ipam.methods}
        # nuage.sock serves both types: so the engine's clean-up after a crash reaches Leave and
        # DeleteEndpoint, too (libnetwork §4.7).
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
        self.recovery = Recovery(
            self.vsd,
            self.vrs,
            self.networks,
            self.table,
            self.addresses,
            self.endpoints,
            self.host,
            self.events.resync_soon,
            pause,
        )
        self._started_s = time.monotonic()

    def _join_cluster(self, consul: Consul) -> None:
        config = self._config
        store = ClusterStore(consul, config.clustername)
        self.hosts = Hosts(
            consul,
            store,
            self.vsd,
            self.addresses,
            lambda: self.host.external_id,
            self._host_notes,
            config.hostgcafter,
            self.watch.awake_s,
        )
        if config.has_replicas:
            self.replicas = Replicas(
                store,
                self.engine,
                lambda: self.host.external_id,
                lambda: self.events.interval_s,
                StateFile(os.path.join(config.statedir, "held-removals.json")),
            )
            self.events.on_network_change = self.replicas.wake
            self.events.on_network_gone = self.replicas.note_destroyed
            self.events.on_container_gone = self.replicas.wake_if_hanging

    def _host_notes(self) -> dict[str, str]:
        """What the other hosts of the cluster see of this one; an empty text means no problem."""
        return {
            "version": __version__,
            "engine": self.engine.release,
            "vsd": self.session.problem,
            "vrs": self.vrs.problem,
        }

    # -- start and stop ---------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until a signal or the first failure; returns the exit status.

        Raises Refused when it cannot start. Switches greenlets.
        """
        for warning in self._config.warnings:
            _log.warning("%s", warning)
        process.allow_open_files()
        for server in self.servers:
            # Before anything is touched: if another appliance serves these sockets, the links and
            # the status socket are its own, too. start() names what cannot be removed.
            with contextlib.suppress(OSError):
                server.remove_stale()
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
        self._await_vrs()
        self.status.start()
        try:
            for server in self.servers:
                server.start()
        except Refused:
            for server in self.servers:
                server.close()
            self.status.close()
            self.supervisor.kill_all()
            raise
        self._start_watchdog()
        self._handle_signals()
        process.tame_garbage_collector()
        _log.warning(
            "nuage-libnetwork %s serves %s",
            __version__,
            ", ".join(server.path for server in self.servers),
        )
        # After the line: whoever waits for `systemctl start` finds it in the log.
        supervisor.notify("READY=1")
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
        """Read the host's links and start what follows the backends, apart from the engine."""
        self.vrs.on_port = self.endpoints.plugging.resolved
        self.vrs.on_lost = self.endpoints.plugging.lost
        self.vrs.on_ready = self.recovery.note_new_mirror
        self.session.on_up = self.recovery.note_vsd_is_up
        self.host.recall()
        self.supervisor.spawn("hub-watch", self.watch.serve)
        half_deleted = self.table.absorb_links(self.links.list_devices(), self._config.vrsbridge)
        for name, work in (
            ("vrs", self.vrs.serve),
            ("vrs-recovery", self.recovery.serve_vrs),
            ("vsd-session", self.session.serve),
            ("vsd-list", self.recovery.serve_vsd),
            ("links", self.links.serve_deletions),
            ("releases", self.addresses.deletions.serve),
            ("swarm-releases", self.addresses.swarm.late_releases.serve),
            ("restores", self.endpoints.plugging.serve_restores),
        ):
            self.supervisor.spawn(name, work)
        for device in half_deleted:
            self.links.delete_later(device)

    @contextlib.contextmanager
    def auditing(self) -> Iterator[str]:
        """Everything that an audit needs, without serving a plugin call; for `-audit`.

        Yields the reason why not everything could be read within 15 s, or an empty text. Switches
        greenlets.
        """
        self._begin()
        try:
            deadline = Deadline(_AUDIT_START_S)
            while not (self.vrs.is_ready and self.table.is_complete) and not deadline.is_over:
                gevent.sleep(0.05)
            if not self.table.problem:
                with contextlib.suppress(Fault):  # the audit names what cannot be read
                    self.events.resync()
                yield ""
            else:
                yield self.session.problem or self.vrs.problem or self.table.problem
        finally:
            gevent.sleep(_LAST_WORK_S)  # for what is deleted in the background
            self.supervisor.kill_all()

    def audit_now(self) -> dict[str, Any]:
        """One cycle of the audit, as the status socket answers it. Switches greenlets."""
        return dataclasses.asdict(self.audit.run())

    def _await_vrs(self) -> None:
        """Give the local VRS a moment to answer before the first call is served."""
        deadline = Deadline(_VRS_START_S)
        while not self.vrs.is_ready and not deadline.is_over:
            gevent.sleep(0.01)
        if self.vrs.is_ready:
            self.recovery.read_vrs()

    def _handle_signals(self) -> None:
        gevent.signal_handler(signal.SIGTERM, self.supervisor.stop)
        gevent.signal_handler(signal.SIGINT, self.supervisor.stop)
        gevent.signal_handler(signal.SIGHUP, self.reload)
        gevent.signal_handler(signal.SIGUSR1, self.reload)
        gevent.signal_handler(signal.SIGUSR2, self.events.audit_now)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LATER_SIGNALS)

    def _start_watchdog(self) -> None:
        interval_s = supervisor.watchdog_s()
        if interval_s is None:
            return

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
            problem = log.start(fresh.logfile, fresh.loglevel, fresh.logfilesize)
            if problem:
                _log.warning("%s", problem)
            changed = self._config.changed_keys(fresh)
            if any(key.reload is Reload.VSD for key in changed):
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
        waiting = [key.name for key in changed if key.reload is Reload.RESTART]
        _log.warning(
            "the configuration was read again; changed: %s%s",
            ", ".join(key.name for key in changed) or "nothing",
            f"; a restart is needed for {', '.join(waiting)}" if waiting else "",
        )
        supervisor.notify("READY=1")

    # -- state ------------------------------------------------------------------------------------

    def _cluster_state(self) -> dict[str, Any]:
        assert self.hosts is not None and self.consul is not None
        hosts = self.hosts.state()
        networks = (
            self.replicas.state() if self.replicas is not None else {"problem": "", "networks": {}}
        )
        return {
            "name": self._cluster_name,
            "consul": self.consul.url,
            **hosts,
            **networks,
            "problem": hosts["problem"] or networks["problem"],
        }

    def state(self) -> dict[str, Any]:
        """The document that the status socket answers with; asks nobody."""
        endpoints = self.table.all
        states = collections.Counter(_STATES[endpoint.stage] for endpoint in endpoints)
        unplugged = {
            endpoint.port_name: endpoint.problem for endpoint in endpoints if endpoint.problem
        }
        components: dict[str, dict[str, Any]] = {
            "vsd": {"problem": self.session.problem, "certificate": self.session.trusted_by},
            "vrs": {
                "problem": self.vrs.problem,
                "controller_connected": self.vrs.controller_is_connected(),
            },
            "engine": {"problem": self.engine.problem},
            "endpoints": {
                "problem": self.table.problem or next(iter(unplugged.values()), ""),
                "states": dict(states),
                "unplugged": unplugged,
                "pending_release": len(self.table.pending_delete) + self.addresses.swarm.waiting,
            },
            "audit": {"problem": "", "last": self.audit.last.sentence},
        }
        if self.consul is not None:
            components["cluster"] = self._cluster_state()
        return {
            "schema": STATUS_SCHEMA,
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started_s),
            "host_id": self.host.external_id,
            "components": components,
            "event_loop": {"longest_pause_ms": round(self.watch.longest_pause_s * 1000)},
            "networks": {
                network_id: network.pool_id for network_id, network in self.networks.all.items()
            },
        }
