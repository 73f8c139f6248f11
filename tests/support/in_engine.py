"""The appliance inside of the engine that it serves, as a container or as a managed plugin: a lab
host for it, and what tests do there.
"""

import contextlib
import json
import os
import signal

from nuage_lab import managed_plugin
from nuage_lab.hosts.host import ENVIRONMENT
from nuage_lab.hosts.run import run, wait_until
from tests.support.appliance import ROOT
from tests.support.convergence import Ping
from tests.support.invariants import (
    IMAGE,
    address_of,
    engine_endpoints,
    networks_of_ours,
    vsd_endpoints,
    wait_agreement,
    wait_ping,
)
from tests.support.lab import running_lab, wait_ready
from tests.support.swarm import Swarm, attach, ipam_options

SCRIPT_S = 300.0
ENGINE_S = 300.0  # an engine that waits for an absent driver does so for 15 s, several times
WAIT_S = 90.0
CONFIG = "/etc/default/nuage-libnetwork.yaml"
LOG = "/var/log/nuage-libnetwork/nuage-libnetwork.log"


def run_script(name, *words, host=None, directory=ROOT, **environment):
    """Run a script as a user does who stands in a directory, with a lab host's engine as his;
    returns what came of it.
    """
    variables = {**os.environ, **environment}
    if host is not None:
        variables |= {
            "DOCKER_HOST": f"unix://{host.path('/run/docker.sock')}",
            "PATH": ENVIRONMENT["PATH"],
        }
    return run(
        ["env", f"--chdir={directory}", ROOT / name, *words],
        env=variables,
        timeout=SCRIPT_S,
        check=False,
    )


class Site:
    """A lab host, h1, without an appliance of its own; `driver` and `ipam_driver` are what the one
    in its engine is called there.
    """

    def __init__(self, lab, driver, ipam_driver):
        self.lab, self.host = lab, lab.host("h1")
        self.driver, self.ipam_driver = driver, ipam_driver
        self._swarm = Swarm(lab)
        self.host.engine.timeout = ENGINE_S

    def configure(self, **changes):
        """Write the configuration, and make the directories that are to be mounted."""
        managed_plugin.configure(
            self.lab,
            self.host,
            **{"scope": "local", "loglevel": "Debug", "auditinterval": 10, **changes},
        )

    def create_network(self, name="net", subnet="Subnet 2"):
        """`docker network create`."""
        self.host.docker(
            "network",
            "create",
            "--driver",
            self.driver,
            "--ipam-driver",
            self.ipam_driver,
            *ipam_options(subnet),
            name,
        )

    def attach(self, name, *words, network="net"):
        """`docker run -d`."""
        return attach(self.host, name, network, *words).stdout.strip()

    def serve(self):
        """A network and two containers that reach each other and that the VSD knows; returns the
        second's address.
        """
        self.create_network()
        ids = {name: self.attach(name) for name in ("web", "db")}
        self.wait_agreement()
        assert {(uuid, name) for uuid, name, *_ in vsd_endpoints(self.lab, self.host)} == {
            (value, name) for name, value in ids.items()
        }
        address = address_of(self.host, "db", "net")
        wait_ping(self.host, "web", address)
        return address

    def wait_agreement(self, seconds=WAIT_S):
        """Wait until the engine, the VSD, the VRS and the links agree."""
        wait_agreement(self.lab, self.host, seconds)

    def wait_ready(self):
        """Wait until the appliance has reached its backends."""
        wait_ready(self.host, WAIT_S)

    def log(self):
        """The appliance's log, as it is on the host."""
        return self.host.path(LOG).read_text(errors="replace")

    def processes(self):
        """The pids in the host of the appliance, the loader's first; not those of one that was
        started to ask it something.
        """
        listed = self.host.exec(
            ["pgrep", "-f", "^/nuage-libnetwork( -config [^ ]*)?$"], check=False
        ).stdout
        return [int(word) for word in listed.split()]

    def wait_gone(self):
        """Wait until no process of the appliance is there."""
        wait_until(lambda: not self.processes(), WAIT_S, "the appliance's processes are gone")

    def set_live_restore(self, is_on):
        """Whether containers outlive their engine; it is told at once."""
        self.host.path("/etc/docker/daemon.json").write_text(json.dumps({"live-restore": is_on}))
        self.host.engine.signal(signal.SIGHUP)
        wait_until(
            lambda: (
                self.host.docker("info", "-f", "{{.LiveRestoreEnabled}}").stdout.strip()
                == str(is_on).lower()
            ),
            WAIT_S,
            f"live-restore is {is_on}",
        )

    def end_engine(self, how):
        """Let the engine end, "stopped" or "killed"; returns the place in its log from which the
        next start writes.
        """
        if how == "killed":
            self.host.engine.kill()
        else:
            self.host.engine.stop(timeout=ENGINE_S)
        return self.host.engine.log.stat().st_size

    def outlive_engine(self, how):
        """End the engine and start it again: no packet is lost, nothing is another than before,
        nobody was waited for, and it serves on.
        """
        address = self.serve()
        before, processes = engine_endpoints(self.host), self.processes()
        with Ping(self.host, "web", address) as ping:
            begin = self.end_engine(how)
            self.host.engine.start()
            self.wait_ready()
            sent, lost = ping.end()
        assert sent > 5 and lost == [], ping.said
        assert engine_endpoints(self.host) == before and self.processes() == processes
        assert "Unable to locate plugin" not in self.engine_log(begin)
        self.attach("next")
        self.wait_agreement()

    def engine_log(self, begin=0):
        """What the engine has written from a place in its log on."""
        return self.host.engine.log.read_bytes()[begin:].decode(errors="replace")

    def clear(self):
        """Remove the containers of the tests and all networks of ours; nothing of them may be left
        anywhere.
        """
        ids = self.host.docker("ps", "-aq", "--filter", f"ancestor={IMAGE}").stdout.split()
        if ids:
            self.host.docker("rm", "-f", *ids, timeout=ENGINE_S)
        for network in networks_of_ours(self.host):
            self.host.docker("network", "rm", network)
        self._swarm.wait_nothing_left()
        self._swarm.check_logs()


@contextlib.contextmanager
def running_site(directory, engine, driver, ipam_driver):
    """A site that is up, and is taken down in any case."""
    with running_lab(directory, appliance=False, engine=engine) as lab:
        site = Site(lab, driver, ipam_driver)
        site.configure()
        yield site


def check_refused(done, script, *parts):
    """A wrong use ended with status 2, and one line that begins with the script's name and holds
    these parts.
    """
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"{script}: ") and done.stdout == "", done.stderr
    for part in parts:
        assert part in lines[0]
