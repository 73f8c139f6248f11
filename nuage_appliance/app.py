"""Builds every room by hand, in order, and joins them; start, reload, stop.

The only module that knows both wings. The plugin sockets are served as soon as what the host itself says was read; the
VSD, the VRS and the engine may all be away then.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import socket
import time
from typing import Any

import gevent
import gevent.event

from nuage_appliance import __version__
from nuage_appliance.base import log, supervisor
from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Fault, Refused
from nuage_appliance.config import Config, ConfigError, load
from nuage_appliance.core.addresses import Addresses
from nuage_appliance.core.audit import Audit
from nuage_appliance.core.directory import Directory
from nuage_appliance.core.endpoint_table import EndpointTable
from nuage_appliance.core.endpoints import Endpoints
from nuage_appliance.core.host import HostIdentity
from nuage_appliance.doors import ipam_driver, network_driver, plugin_server
from nuage_appliance.doors.docker_events import DockerEvents
from nuage_appliance.doors.status import StatusServer
from nuage_appliance.peers.docker_engine import DockerEngine
from nuage_appliance.peers.links import Links
from nuage_appliance.peers.vrs import Vrs
from nuage_appliance.peers.vsd import Vsd
from nuage_appliance.peers.vsd_session import VsdSession

_log = logging.getLogger(__name__)

_DRAIN_S = 10.0
_LIST_S = 120.0
_LOCAL_S = 5.0
_PAUSE_S = 1e-6
_LIVE_KEYS = ("loglevel", "logfilesize", "numofretries", "timeinterval", "username", "password", "organization", "url",
              "cafile", "tlsfingerprint", "tlsverify", "requesttimeout", "mtu", "auditinterval")


def _tame_garbage_collector() -> None:
    """What the start made stays for ever: take it out of the full collections, which would hold the hub for 30 ms each."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 1_000)


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
        self.directory = Directory(self.vsd, self.vrs, self.engine)
        self.table = EndpointTable()
        self.addresses = Addresses(self.vsd, self.directory, self.table, hostname=hostname)
        self.endpoints = Endpoints(self.vsd, self.vrs, self.links, self.directory, self.table, self.addresses, mtu=config.mtu)
        self.host = HostIdentity(config.hostid, hostname, config.statedir)
        self.audit = Audit(self.vsd, self.vrs, self.links, self.engine, self.directory, self.table, self.addresses, self.endpoints)
        self.events = DockerEvents(self.engine, self.directory, self.endpoints, self.audit, config.auditinterval)
        self.supervisor = supervisor.Supervisor()
        ipam = ipam_driver.IpamDriver(self.directory, self.addresses, self.endpoints)
        network = network_driver.NetworkDriver(self.directory, self.endpoints, config.scope)
        bodiless = ipam_driver.BODILESS | network_driver.BODILESS
        both = {**network.methods, **ipam.methods}
        # nuage.sock serves both types: so the engine's crash cleanup reaches Leave and DeleteEndpoint too (contract §4.7).
        layout = [("nuage", ["NetworkDriver", "IpamDriver"], both)]
        if config.pluginversion == "v1":
            layout.append(("nuage-ipam", ["IpamDriver"], ipam.methods))
        self.servers = [plugin_server.PluginServer(os.path.join(config.plugindir, f"{name}.sock"), implements, methods, bodiless,
                                                   lambda: self._config.requesttimeout)
                        for name, implements, methods in layout]
        self.status = StatusServer(config.statussocket, self.state)
        self._vsd_list_wanted = gevent.event.Event()
        self._vrs_is_new = gevent.event.Event()
        self._started_s = time.monotonic()

    # -- start and stop ---------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until a signal or the first failure; returns the exit status. Raises Refused when it cannot start."""
        for warning in self._config.warnings:
            _log.warning("%s", warning)
        self.vrs.on_port = self.endpoints.resolved
        self.vrs.on_lost = self.endpoints.lost
        self.vrs.on_ready = self._vrs_is_new.set
        self.session.on_up = self._vsd_list_wanted.set
        self.addresses.external_id = self.host.remembered()
        for device in self.table.absorb_links(self.links.list(), self._config.vrsbridge):
            self.links.delete_later(device)
        for name, work in (("vrs", self.vrs.serve), ("vrs-recovery", self._serve_vrs_recovery), ("vsd-session", self.session.serve),
                           ("vsd-list", self._serve_vsd_list), ("links", self.links.serve_deletions),
                           ("releases", self.addresses.serve_releases), ("restores", self.endpoints.serve_restores),
                           ("engine-events", self.events.serve), ("engine-resync", self.events.serve_resync)):
            self.supervisor.spawn(name, work)
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
        supervisor.notify("READY=1")
        _log.warning("nuage-libnetwork %s serves %s", __version__, ", ".join(server.path for server in self.servers))
        status = self.supervisor.wait()
        supervisor.notify("STOPPING=1")
        if not plugin_server.drain(self.servers, _DRAIN_S):
            _log.warning("some calls were still running after %.0f s and are given up", _DRAIN_S)
        for server in self.servers:
            server.close()
        self.status.close()
        self.supervisor.kill_all()
        _log.warning("nuage-libnetwork stopped")
        return status

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
            changed = [key for key in Config.__dataclass_fields__ if key != "warnings" and getattr(fresh, key) != getattr(self._config, key)]
            if any(key in ("username", "password", "organization", "url", "cafile", "tlsfingerprint", "tlsverify", "numofretries", "timeinterval") for key in changed):
                self.session.configure(fresh)
        except (ConfigError, Refused) as error:
            _log.error("the configuration was not changed: %s", error)
            supervisor.notify("READY=1")
            return
        self._config = fresh
        self.endpoints.mtu = fresh.mtu
        self.events.interval_s = fresh.auditinterval
        waiting = [key for key in changed if key not in _LIVE_KEYS]
        _log.warning("the configuration was read again; changed: %s%s", ", ".join(changed) or "nothing",
                     f"; a restart is needed for {', '.join(waiting)}" if waiting else "")
        supervisor.notify("READY=1")

    # -- recovery ---------------------------------------------------------------------------------------------------

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
        ports = self.vrs.ports()
        gevent.sleep(_PAUSE_S)
        self.table.absorb_ports(ports)
        gevent.sleep(_PAUSE_S)
        self.endpoints.compare_with_vrs(ports)

    def _serve_vrs_recovery(self) -> None:
        """After every new mirror: take over what it says, write what could not be written before."""
        while True:
            self._vrs_is_new.wait()
            self._vrs_is_new.clear()
            try:
                self._recover_from_vrs()
                self.directory.write_tags(Deadline(_LOCAL_S))
                self.endpoints.finish_detaching(Deadline(_LOCAL_S))
                self.events.resync_soon()
            except Fault as fault:
                _log.debug("%s", fault.message)

    def _serve_vsd_list(self) -> None:
        """Read this host's containers from the VSD at the start and after every time it was away."""
        backoff = Backoff(0.2, 2.0, 10.0, rng=random.Random())
        while True:
            self._vsd_list_wanted.wait()
            self._vsd_list_wanted.clear()
            external_id = self.addresses.external_id
            if not external_id:
                self.table.incomplete_because(f"this host's id is not known yet: {self.vrs.problem or 'the VRS has no system-id'}")
                continue
            try:
                self.table.absorb_containers(self.vsd.list_containers(external_id, Deadline(_LIST_S)))
                if self.vrs.is_ready:
                    self.table.absorb_ports(self.vrs.ports())
                self.endpoints.finish_late_releases(Deadline(_LIST_S))
                self.events.resync_soon()
                backoff.reset()
            except Fault as fault:
                self.table.incomplete_because(fault.message)
                gevent.sleep(backoff.next_s())
                self._vsd_list_wanted.set()

    # -- state ------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What the status socket shows."""
        endpoints = self.table.all
        stages: dict[str, int] = {}
        for endpoint in endpoints:
            stages[endpoint.stage.value] = stages.get(endpoint.stage.value, 0) + 1
        problems = {endpoint.port_name: endpoint.problem for endpoint in endpoints if endpoint.problem}
        return {
            "version": __version__, "uptime_s": round(time.monotonic() - self._started_s), "host_id": self.addresses.external_id,
            "rooms": {
                "vsd": {"problem": self.session.problem, "certificate": self.session.trusted_by},
                "vrs": {"problem": self.vrs.problem, "controller": self.vrs.controller_is_connected()},
                "engine": {"problem": self.engine.problem},
                "endpoints": {"problem": next(iter(problems.values()), ""), "stages": stages, "unplugged": problems,
                              "to_release": len(self.table.condemned)},
                "audit": {"problem": "", "last": self.audit.sentence},
            },
            "networks": {network_id: network.pool_id for network_id, network in self.directory.networks.items()},
        }
