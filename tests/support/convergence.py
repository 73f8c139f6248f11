"""What the invariants take for granted, for tests in which backends die or lose what they knew;
and what is nobody's but others'.
"""

import json
import os
import re
import signal
import time
from pathlib import Path

from nuage_lab.hosts.run import kill_session
from tests.support.invariants import disagreement, rows, vsd_endpoints, wait_ping

BRIDGE = "alubr0"
TAG = "nuage-network-"
# What is to be taken away is so after three sightings over a minute; the calls before may take
# their 20 s.
CONVERGE_S = 150.0
AUDIT_EVERY_S = 5.0


def tags(host):
    """The ids of the networks whose tags the bridge has."""
    found = [
        dict(external_ids[1])
        for name, external_ids in rows(host, "Bridge", "name", "external_ids")
        if name == BRIDGE
    ]
    return {key.removeprefix(TAG) for ids in found for key in ids if key.startswith(TAG)}


def whole_disagreement(lab, host):
    """As the invariants', and about tags, ports of the switch, the links' other sides and VSD
    containers of no host.
    """
    problem = disagreement(lab, host)
    if problem is not None:
        return problem
    networks = set(
        host.docker(
            "network", "ls", "--filter", "driver=nuage", "--format", "{{.ID}}", "--no-trunc"
        ).stdout.split()
    )
    if tags(host) != networks:
        return (
            f"the bridge has tags of {sorted(tags(host))}, the engine the networks "
            f"{sorted(networks)}"
        )
    ours = {name for (name,) in rows(host, "Nuage_Port_Table", "name") if name.startswith("nln")}
    for table in ("Port", "Interface"):
        plugged = {name for (name,) in rows(host, table, "name") if name.startswith("nln")}
        if plugged != ours:
            return f"{table} has {sorted(plugged)}, Nuage_Port_Table {sorted(ours)}"
    other_sides = re.findall(
        r"^\d+: (nln\w+-2)", host.exec(["ip", "-o", "link"]).stdout, re.MULTILINE
    )
    if other_sides:
        return f"links that no container has: {other_sides}"
    known = sum(len(vsd_endpoints(lab, one)) for one in lab.hosts())
    if (count := lab.admin("GET", "/health")["containers"]) != known:
        return f"the VSD has {count} containers, {known} of them of the lab's hosts"
    return None


def wait_whole_agreement(lab, host, seconds=CONVERGE_S, audits=True):
    """Wait until everything agrees, asking for audits; fails with what does not. Returns how long
    it took.
    """
    started, asked = time.monotonic(), 0.0
    while (problem := whole_disagreement(lab, host)) is not None:
        assert time.monotonic() - started < seconds, f"after {seconds:g} s: {problem}"
        if audits and time.monotonic() - asked > AUDIT_EVERY_S:
            host.appliance.signal(signal.SIGUSR2)
            asked = time.monotonic()
        time.sleep(0.2)
    return time.monotonic() - started


def foreign(host):
    """All that the database has of others, apart from what the controller resolves and the switch
    finds out.
    """

    def pairs(value):
        return sorted((key, item) for key, item in value[1] if not key.startswith(TAG))

    return {
        "Open_vSwitch": [pairs(ids) for (ids,) in rows(host, "Open_vSwitch", "external_ids")],
        "Bridge": sorted(
            (name, kind, pairs(ids))
            for name, kind, ids in rows(host, "Bridge", "name", "datapath_type", "external_ids")
        ),
        "Port": sorted(
            (name, pairs(ids))
            for name, ids in rows(host, "Port", "name", "external_ids")
            if not name.startswith("nln")
        ),
        "Interface": sorted(
            (name, kind, pairs(ids))
            for name, kind, ids in rows(host, "Interface", "name", "type", "external_ids")
            if not name.startswith("nln")
        ),
        "Nuage_Port_Table": sorted(
            (name, mac, pairs(data))
            for name, mac, data in rows(host, "Nuage_Port_Table", "name", "mac", "metadata")
            if not name.startswith("nln")
        ),
        "Nuage_VM_Table": sorted(
            (uuid, name, str(ports), pairs(data))
            for uuid, name, ports, data in rows(
                host, "Nuage_VM_Table", "vm_uuid", "vm_name", "ports", "metadata"
            )
            if not str(ports).startswith("nln")
        ),
    }


def status(host):
    """What the appliance's status socket says."""
    return json.loads(
        host.exec(
            [
                "curl",
                "-s",
                "--max-time",
                "20",
                "--unix-socket",
                "/run/nuage-libnetwork/status.sock",
                "http://status/",
            ]
        ).stdout
    )


def _leaf(pid):
    """The program that a chain of launchers has started, as this namespace numbers it."""
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    return pid


class Ping:
    """Echo requests from a container's namespace, for as long as the block lasts; the engine has no
    part in it.
    """

    def __init__(self, host, container, target, interval_s=0.1):
        pid = host.docker("inspect", "-f", "{{.State.Pid}}", container).stdout.strip()
        self._container, self._target = container, target
        self._argv = [
            "nsenter",
            "-t",
            pid,
            "-n",
            "busybox",
            "ping",
            "-i",
            f"{interval_s:g}",
            "-W",
            "2",
            target,
        ]
        self._host = host

    def __enter__(self):
        self._process = self._host.popen(self._argv)
        time.sleep(0.5)
        return self

    def __exit__(self, *_):
        kill_session(self._process)

    def end(self):
        """End it; returns how many requests were sent, and the numbers of those without an answer.

        The last one does not count: its answer may have been under way. Late answers do: the lab's
        switch keeps the packets, but forwards none while it is not connected to its database (a
        userspace datapath runs in the thread that waits for it). It keeps about twenty of a port
        and tries to connect after 1, 3 and 7 seconds: who takes the database away sends slowly.
        """
        wait_ping(self._host, self._container, self._target)
        time.sleep(0.5)
        os.kill(_leaf(self._process.pid), signal.SIGINT)
        out, _ = self._process.communicate(timeout=60)
        self.said = out  # for whoever reads why it failed
        sent = int(re.search(r"(\d+) packets transmitted", out).group(1)) - 1
        answered = {int(number) for number in re.findall(r"seq=(\d+) ", out)}
        return sent, sorted(set(range(sent)) - answered)
