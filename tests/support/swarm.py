"""A swarm of lab hosts, each with the appliance as its engine's managed plugin; what tests do with
it, and what must be left at the end.
"""

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nuage_lab import managed_plugin
from nuage_lab.hosts.host import REPOSITORY
from nuage_lab.hosts.run import LabError, wait_until
from tests.support.convergence import tags
from tests.support.invariants import (
    IMAGE,
    disagreement,
    engine_endpoints,
    links,
    networks_of_ours,
    ovs_endpoints,
    rows,
    vsd_endpoints,
)
from tests.support.lab import Vsd, new_lab, wait_ready
from tests.support.multihost import SERVE

# For a state that a swarm reaches in a few seconds on a machine with nothing else to do
WAIT_S = 90.0
AUDIT_S = 180.0  # what is to be taken away is so after three sightings over a minute
AUDIT_INTERVAL_S = 10
HEARTBEAT = "2s"
PLACE = {"organization": "Enterprise", "domain": "Domain", "zone": "Zone", "user": "admin"}
IPAM_DRIVER = DRIVER = managed_plugin.NAME


def ipam_options(subnet):
    """The options that name a subnet of the VSD."""
    return [
        word
        for key, value in {**PLACE, "subnet": subnet}.items()
        for word in ("--ipam-opt", f"{key}={value}")
    ]


class Swarm:
    """The hosts of a lab as a swarm, of which the first so many are managers."""

    def __init__(self, lab, managers=1):
        self.lab, self._managers = lab, managers

    @property
    def hosts(self):
        return self.lab.hosts()

    def form(self, **config):
        """Install the plugin on every host, and join them."""
        self._config = config
        managed_plugin.make(self.lab)
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            list(
                pool.map(lambda host: managed_plugin.install(self.lab, host, **config), self.hosts)
            )
        first, *others = self.hosts
        first.docker(
            "swarm", "init", "--advertise-addr", first.address, "--dispatcher-heartbeat", HEARTBEAT
        )
        for number, host in enumerate(others, 1):
            role = "manager" if number < self._managers else "worker"
            token = first.docker("swarm", "join-token", "-q", role).stdout.strip()
            host.docker(
                "swarm",
                "join",
                "--token",
                token,
                "--advertise-addr",
                host.address,
                f"{first.address}:2377",
            )
        for host in self.hosts:
            wait_ready(host)

    @contextlib.contextmanager
    def configured(self, **changes):
        """The plugin of every host with another configuration, for as long as the block lasts."""
        try:
            self._configure({**self._config, **changes})
            yield
        finally:
            self._configure(self._config)

    def _configure(self, config):
        for host in self.hosts:
            managed_plugin.disable(host)
            managed_plugin.configure(self.lab, host, **config)
            managed_plugin.enable(host)
            wait_ready(host)

    # -- nodes

    def leader(self):
        """The manager that leads, as any manager that answers says; None when none does."""
        if self._managers == 1:
            return self.hosts[0]
        for host in self.hosts[: self._managers]:
            if is_alive(host):
                done = host.docker(
                    "node",
                    "ls",
                    "--format",
                    "{{.Hostname}} {{.ManagerStatus}}",
                    check=False,
                    timeout=30,
                )
                for line in done.stdout.splitlines():
                    name, _, status = line.partition(" ")
                    if status == "Leader" and is_alive(self.lab.host(name)):
                        return self.lab.host(name)
        return None

    def wait_leader(self):
        """The manager that leads, once there is one."""
        return wait_until(self.leader, WAIT_S, "the swarm has a leader", pause=0.5)

    def docker(self, *words, check=True, timeout=60.0):
        """Run the docker client on the manager that leads."""
        return self.wait_leader().docker(*words, check=check, timeout=timeout)

    def wait_nodes_ready(self):
        """Wait until every node is ready and takes tasks."""

        def are_ready():
            lines = self.docker(
                "node", "ls", "--format", "{{.Status}} {{.Availability}}", check=False
            ).stdout.splitlines()
            return lines == ["Ready Active"] * len(self.hosts)

        wait_until(are_ready, WAIT_S, "every node is ready", pause=0.5)

    # -- networks and services

    def create_network(self, name, subnet, *words):
        """`docker network create` on the leader; an attachable network of the swarm."""
        return self.docker(
            "network",
            "create",
            "--attachable",
            "--driver",
            DRIVER,
            "--ipam-driver",
            IPAM_DRIVER,
            *ipam_options(subnet),
            *words,
            name,
        ).stdout.strip()

    def create_service(self, name, network, *words, replicas=2, mode="dnsrr", command=SERVE):
        """`docker service create`; its containers end at once when they are told to."""
        self.docker(
            "service",
            "create",
            "--detach",
            "--no-resolve-image",
            "--name",
            name,
            "--network",
            network,
            "--replicas",
            replicas,
            "--endpoint-mode",
            mode,
            "--stop-signal",
            "KILL",
            "--restart-delay",
            "1s",
            *words,
            IMAGE,
            *command,
        )

    def tasks(self, name):
        """(host name, container id) of each task of a service that is meant to run and does."""
        names = self._node_names()
        running = [
            task
            for task in self._tasks(name)
            if task["DesiredState"] == "running" and task["Status"]["State"] == "running"
        ]
        return {
            (names.get(task["NodeID"], ""), task["Status"]["ContainerStatus"]["ContainerID"])
            for task in running
        }

    def _tasks(self, name):
        ids = self.docker("service", "ps", "-q", "--no-trunc", name, check=False).stdout.split()
        if not ids:
            return []
        return json.loads(
            self.docker("inspect", "--type", "task", *ids, check=False).stdout or "[]"
        )

    def _node_names(self):
        lines = self.docker(
            "node", "ls", "--format", "{{.ID}} {{.Hostname}}", check=False
        ).stdout.splitlines()
        return dict(line.split() for line in lines)

    def wait_tasks(self, name, count, on=None, seconds=WAIT_S):
        """Wait until so many tasks run, on these hosts when named, and their containers are the
        engines'; returns (host, container id) of each.
        """

        def running():
            tasks = self.tasks(name)
            if len(tasks) != count or (on is not None and {host for host, _ in tasks} != set(on)):
                return None
            there = {
                container
                for host in {host for host, _ in tasks}
                for container in self.lab.host(host)
                .docker("ps", "-q", "--no-trunc", check=False)
                .stdout.split()
            }
            return tasks if {container for _, container in tasks} <= there else None

        try:
            return [
                (self.lab.host(host), container)
                for host, container in sorted(
                    wait_until(running, seconds, f"{count} tasks of {name}", pause=0.5)
                )
            ]
        except LabError as error:
            raise AssertionError(
                f"{error}: {self.docker('service', 'ps', '--no-trunc', name, check=False).stdout}"
            ) from None

    # -- what must hold

    def wait_agreement(self, hosts=None, seconds=WAIT_S):
        """Wait until engine, VSD, VRS and links agree on every host, and no address is anywhere
        twice.
        """
        hosts = self.hosts if hosts is None else hosts

        def problem():
            found = next(
                (f"{host.name}: {why}" for host in hosts if (why := disagreement(self.lab, host))),
                None,
            )
            if found:
                return found
            addresses = sorted(
                address for host in hosts for _, _, address, _ in engine_endpoints(host)
            )
            return (
                f"an address twice: {addresses}" if len(set(addresses)) < len(addresses) else None
            )

        _wait_none(problem, seconds)

    def reservations(self):
        """(address, state) of every vmipreservation of the VSD, sorted."""
        vsd = Vsd(self.lab, self.hosts[0])
        found = []
        for subnet in self.lab.admin("GET", "/vsc/networks")["subnets"]:
            status, items = vsd.call("GET", f"subnets/{subnet['subnet_id']}/vmipreservations")
            if status == 200:
                found += [(item["IPV4Address"], item["state"]) for item in items]
        return sorted(found)

    def addresses(self, name):
        """The addresses of a service's containers, by container id."""
        tasks = self.tasks(name)
        return {
            container: address
            for host in self.hosts
            if is_alive(host)
            for container, _, address, _ in engine_endpoints(host)
            if (host.name, container) in tasks
        }

    def virtual_address(self, name):
        """The service's VIP, without its prefix, or None."""
        found = (
            json.loads(self.docker("service", "inspect", name).stdout)[0]["Endpoint"].get(
                "VirtualIPs"
            )
            or []
        )
        return found[0]["Addr"].split("/")[0] if found else None

    # -- the end

    def bring_back(self):
        """Start what a test has killed and not started again."""
        for host in self.hosts:
            if not host.is_up():
                self.lab.revive(host.name, appliance=False)
            host.engine.start()
        self.wait_nodes_ready()

    def remove_all(self):
        """Remove every service, container and network of ours, in this order and each when the ones
        before are gone.
        """
        services = self.docker("service", "ls", "-q").stdout.split()
        if services:
            self.docker("service", "rm", *services)
        for host in self.hosts:  # tasks end by themselves; what `docker run` made does not
            listed = host.docker(
                "ps", "-a", "--format", '{{.ID}} {{.Label "com.docker.swarm.task.id"}}'
            ).stdout.splitlines()
            made = [line.split()[0] for line in listed if len(line.split()) == 1]
            if made:
                host.docker("rm", "--force", *made, timeout=120, check=False)

        # The leader returns the addresses one by one; a network that is removed before that is a
        # test of its own.
        wait_until(
            lambda: not self.reservations(), WAIT_S, "no address is reserved any more", pause=0.5
        )

        def networks_are_gone():
            leader = self.wait_leader()
            for network in networks_of_ours(leader):
                leader.docker("network", "rm", network, check=False)
            for host in self.hosts:  # a node-local network, or a configuration
                listed = host.docker(
                    "network", "ls", "--format", "{{.ID}} {{.Driver}} {{.Scope}}"
                ).stdout.splitlines()
                for words in map(str.split, listed):
                    if (words[1].startswith("nuage") and words[2] == "local") or (
                        words[1] == "null" and words[2] == "local" and len(words) == 3
                    ):
                        host.docker("network", "rm", words[0], check=False)
            return not any(networks_of_ours(host) for host in self.hosts)

        wait_until(networks_are_gone, WAIT_S, "the networks of ours are gone", pause=0.5)

    def wait_nothing_left(self, seconds=WAIT_S):
        """Wait until VSD, VRS and links have nothing of ours, and no appliance anything that is
        still to be done.
        """

        def left():
            found = {
                f"{host.name}'s {what}": value
                for host in self.hosts
                for what, value in (
                    ("VSD containers", vsd_endpoints(self.lab, host)),
                    ("VRS entities", ovs_endpoints(host)),
                    ("links", links(host)),
                    ("tags", tags(host)),
                    (
                        "ports",
                        {name for (name,) in rows(host, "Port", "name") if name.startswith("nln")},
                    ),
                    ("work", self._work(host)),
                )
                if value
            }
            if reserved := self.reservations():
                found["reservations"] = reserved
            if count := self.lab.admin("GET", "/health")["containers"]:
                found["VSD containers of anybody"] = count
            return found or None

        _wait_none(left, seconds)

    def _work(self, host):
        """What the host's appliance has or still has to do."""
        text = host.exec(
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
            state = json.loads(text)
        except ValueError:
            return {"status": "not answered"}
        endpoints = state["components"]["endpoints"]
        return {
            key: value
            for key, value in {
                **endpoints["states"],
                "pending_release": endpoints["pending_release"],
                "networks": state["networks"],
            }.items()
            if value
        }

    def check_logs(self):
        """A bug of ours would have been logged with its stack."""
        for host in self.hosts:
            for path in (host.log / "nuage-libnetwork").glob("*.log*"):
                text = path.read_text(errors="replace")
                place = max(text.find("Traceback"), text.find("internal error"))
                assert place < 0, (
                    f"{host.name}'s appliance says:\n{text[max(0, place - 1000) : place + 3000]}"
                )


def _wait_none(problem, seconds):
    end = time.monotonic() + seconds
    while (found := problem()) is not None:
        assert time.monotonic() < end, f"after {seconds:g} s: {found}"
        time.sleep(0.3)


def is_alive(host):
    """True when the host is up and its engine runs."""
    return host.is_up() and host.engine.is_running()


@contextlib.contextmanager
def running_swarm(directory, hosts=2, managers=1, engine=None, **config):
    """A swarm that is up, and is taken down afterwards in any case."""
    if not (REPOSITORY / "dist" / "nuage-libnetwork").exists():
        pytest.skip(
            "the managed plugin needs a binary, and the tests have no network to build the "
            "first one: run scripts/build-binary"
        )
    lab = new_lab(directory)
    try:
        lab.up(hosts, appliance=False, engine=engine)
        swarm = Swarm(lab, managers)
        swarm.form(auditinterval=AUDIT_INTERVAL_S, loglevel="Debug", **config)
        yield swarm
    finally:
        lab.down()


def attach(host, name, network, *words, command=SERVE, check=True):
    """`docker run` on an attachable network of the swarm."""
    return host.docker(
        "run",
        "-d",
        "--name",
        name,
        "--net",
        network,
        "--stop-signal",
        "KILL",
        *words,
        IMAGE,
        *command,
        check=check,
    )
