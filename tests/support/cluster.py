"""Several hosts with one Consul: each has a wire of its own to it, and its engine's networks can be
asked for by name.
"""

import contextlib
import itertools

import yaml

from tests.support.appliance import PATIENCE_S
from tests.support.consul import Consul
from tests.support.host import VSD_ADDRESS, Host, delete_containers, start_simulator
from tests.support.scripted_engine import OPTIONS
from tests.support.waiting import wait_for
from tests.support.wire import Wire

ROOT = "nuage-libnetwork"
INTERVAL_S = 5
SUBNETS = 150
_NUMBERS = itertools.count(1)


def wait(condition, what, *hosts, seconds=PATIENCE_S):
    """Wait for a state; fails with the ends of the hosts' logs. Returns what the condition
    returned.
    """

    def explain():
        logs = "\n".join(f"--- {host.name}\n{host.appliance.errors()[-2500:]}" for host in hosts)
        return f"{what} did not happen in {seconds:g} s\n{logs}"

    return wait_for(condition, seconds, explain)


def start_simulator_with_subnets(directory):
    """A VSD with a subnet for each of many networks: an engine may have only one network of a
    subnet.
    """
    subnets = [
        {
            "name": f"Net {number}",
            "address": f"10.{50 + number // 256}.{number % 256}.0",
            "netmask": "255.255.255.0",
        }
        for number in range(SUBNETS)
    ]
    user = {"userName": "admin", "password": "admin", "groups": ["Administrators", "CMS Group"]}
    root = {"userName": "csproot", "password": "csproot", "groups": ["Root Group"]}
    tree = {
        "enterprises": [
            {"name": "CSP", "groups": [{"name": "Root Group", "role": "CSPROOT"}], "users": [root]},
            {
                "name": "Enterprise",
                "users": [user],
                "domains": [{"name": "Domain", "zones": [{"name": "Zone", "subnets": subnets}]}],
            },
        ]
    }
    seed = directory / "seed.yaml"
    seed.write_text(yaml.safe_dump(tree))
    return start_simulator("--seed", str(seed))


def where_of(site, host, name, where, state):
    """What the status of a host says of a network on another host, when it is in this
    state there.
    """
    shown = site.component(host)["networks"].get(name, {}).get("hosts", {}).get(where.name)
    return shown if shown and shown["state"] == state else None


def problem_of(site, host, word):
    """The problem in the status as soon as it is about this; that of Consul may still stand for
    some seconds.
    """
    problem = site.component(host)["problem"]
    return problem if word in problem else ""


class Site:
    """Some hosts and one Consul, each host with a wire of its own to it."""

    def __init__(self, simulator, count=2, consul=None, **settings):
        self.simulator, self.consul, self.number = simulator, consul or Consul(), next(_NUMBERS)
        self.root = f"{ROOT}/site-{self.number}/"
        scheme = self.consul.url.partition(":")[0]
        self.wires = [
            Wire(VSD_ADDRESS, (self.consul.address, self.consul.port), scheme=scheme)
            for _ in range(count)
        ]
        self.hosts, self.subnets = [], {}
        try:
            for index, wire in enumerate(self.wires):
                self.hosts.append(
                    Host(
                        simulator,
                        f"s{self.number}-{index + 1}",
                        scope="global",
                        consul=wire.url,
                        clustername=f"site-{self.number}",
                        **{"auditinterval": INTERVAL_S, **settings, **self.host_settings()},
                    )
                )
        except BaseException:
            self.close()
            raise

    def host_settings(self):
        """What only the next host has."""
        return {}

    def close(self):
        """End everything, with no bug of ours in any log."""
        try:
            for host in self.hosts:
                host.check_log()
        finally:
            for host in self.hosts:
                host.close()
            for wire in self.wires:
                wire.close()
            self.consul.close()
            delete_containers(self.simulator, [host.name for host in self.hosts])

    def restore(self):
        """After a test: everything runs, and no network is left anywhere."""
        if self.consul.process.poll() is not None:
            self.consul.start()
        for wire in self.wires:
            if wire.mode != "pass":
                wire.mode = "pass"
        for host in self.hosts:
            host.api.broken.clear()
            if not host.api.is_listening:
                host.api.start()
            if host.appliance.process.poll() is not None:
                host.restart()
            host.tear_down()
        self.consul.delete(f"{self.root}networks/")
        try:
            wait(
                lambda: all(not host.api.networks for host in self.hosts),
                "the end of all networks",
                *self.hosts,
            )
        finally:
            for host in self.hosts:
                host.tear_down()
        self.consul.delete(f"{self.root}networks/")
        self.subnets.clear()

    # -- what there is

    def options(self, name, variant=0):
        """The options of a network: one and the same for a name, with another variant others."""
        return {
            **OPTIONS,
            "subnet": f"Net {self.subnets.setdefault((name, variant), len(self.subnets))}",
        }

    def create(self, host, name, variant=0, **named):
        """`docker network create`."""
        return host.engine.network_create(name, self.options(name, variant), **named)

    def network(self, host, name):
        """The engine's network of this name, or None."""
        found = [one for one in list(host.api.networks.values()) if one["Name"] == name]
        assert len(found) < 2, found
        return found[0] if found else None

    def networks(self, name):
        """The same of every host."""
        return [self.network(host, name) for host in self.hosts]

    def wait_everywhere(self, name, seconds=PATIENCE_S):
        """Wait until every host has it; returns what they have."""
        wait(
            lambda: all(self.networks(name)),
            f"{name!r} on every host",
            *self.hosts,
            seconds=seconds,
        )
        return self.networks(name)

    def wait_nowhere(self, name, seconds=PATIENCE_S):
        """Wait until no host has it."""
        wait(
            lambda: not any(self.networks(name)),
            f"the end of {name!r}",
            *self.hosts,
            seconds=seconds,
        )

    def record(self, name):
        """Consul's record of a name, or None."""
        return self.consul.get(f"{self.root}networks/{name}")

    def wait_settled(self, name, state="present"):
        """Wait until every host has noted this about a name."""
        wait(
            lambda: self.noted(name) == [state] * len(self.hosts),
            f"{name!r} {state} everywhere",
            *self.hosts,
        )

    def noted(self, name):
        """The state of a name in the notes of each host; None where there is none."""
        found = []
        for host in self.hosts:
            with contextlib.suppress(ValueError):
                found.append(
                    (self.consul.get(f"{self.root}replicas/{host.name}") or {})
                    .get(name, {})
                    .get("state")
                )
        return found

    @staticmethod
    def component(host):
        """The component `cluster` of a host's status."""
        return host.appliance.status()["components"]["cluster"]

    def remove(self, host, name):
        """`docker network rm`."""
        host.engine.network_rm(self.network(host, name)["Id"])

    def cut(self, *hosts):
        """Nothing goes between these hosts and Consul any more."""
        for host in hosts:
            self.wires[self.hosts.index(host)].mode = "refused"

    def heal(self):
        """All wires are well."""
        for wire in self.wires:
            wire.mode = "pass"
