"""A host with 1,000 endpoints: the appliance's memory, and the longest pause of its hub while OVSDB
changes at large.

The pause is seen from outside, as the round trip of NetworkDriver.GetCapabilities, asked by a
process of its own every millisecond. `quiet` is the same without a change; what it shows is the
machine's own.
"""

from gevent import monkey

monkey.patch_all()

import json
import os
import statistics
import subprocess
import sys
import time

import gevent

from bench.figures import hand_over, over_rounds, percentile, say
from bench.wire import Database
from bench.world import World, own_network, rss_mb

PART = "scale"
IN_FLIGHT = 64
SETTLE_S = 2.0
QUIET_S = 1.5


class Probe:
    """The asking process; without `wait` it may still be about to connect."""

    def __init__(self, path, wait=True):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.probe", path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if wait:
            self.wait_ready()

    def wait_ready(self):
        """Wait until it asks."""
        self._process.stdout.readline()

    def end(self):
        """End it and return the samples; it must be ready."""
        output, _ = self._process.communicate(b"\n")
        return json.loads(output)


def pauses(world, change, after_s=QUIET_S):
    """The round trips in milliseconds while `change()` runs and `after_s` after it."""
    probe = Probe(os.path.join(world.appliance.plugins, "nuage.sock"))
    gevent.sleep(0.2)
    started_s = time.monotonic()
    change()
    gevent.sleep(after_s)
    return [took_ms for at_s, took_ms in probe.end() if at_s + took_ms / 1000 >= started_s]


def insertion(count):
    """One transaction with `count` ports of somebody else's on the bridge, rows and all."""
    operations, ports = [], []
    for index in range(count):
        name = f"vm{index:06d}"
        ids = [["vm_uuid", f"{index:064x}"], ["vm_name", name], ["NUAGE-NETWORK", "Bench"]]
        operations += [
            {
                "op": "insert",
                "table": "Interface",
                "uuid-name": f"i{index}",
                "row": {"name": name, "external_ids": ["map", ids]},
            },
            {
                "op": "insert",
                "table": "Port",
                "uuid-name": f"p{index}",
                "row": {"name": name, "interfaces": ["named-uuid", f"i{index}"]},
            },
            {
                "op": "insert",
                "table": "Nuage_Port_Table",
                "row": {
                    "name": name,
                    "mac": "02:00:00:00:00:01",
                    "bridge": "alubr0",
                    "vm_domain": 4,
                },
            },
            {
                "op": "insert",
                "table": "Nuage_VM_Table",
                "row": {
                    "type": 4,
                    "domain": 4,
                    "vm_uuid": f"{index:064x}",
                    "vm_name": name,
                    "ports": ["set", [name]],
                },
            },
        ]
        ports.append(["named-uuid", f"p{index}"])
    return [
        *operations,
        {
            "op": "mutate",
            "table": "Bridge",
            "where": [["name", "==", "alubr0"]],
            "mutations": [["ports", "insert", ["set", ports]]],
        },
    ]


def resolution(runs, on):
    """One transaction in which the controller resolves, or forgets, every port of ours."""
    return [
        {
            "op": "update",
            "table": "Nuage_Port_Table",
            "where": [["name", "==", run.port]],
            "row": {"ip_addr": run.address if on else "0.0.0.0"},
        }
        for run in runs
    ]


def removal(world, count):
    """One transaction that takes the foreign ports away."""
    rows = world.database.transact(
        {"op": "select", "table": "Port", "where": [], "columns": ["_uuid", "name"]}
    )[0]["rows"]
    gone = [row["_uuid"] for row in rows if row["name"].startswith("vm")]
    names = [f"vm{index:06d}" for index in range(count)]
    return [
        {
            "op": "mutate",
            "table": "Bridge",
            "where": [],
            "mutations": [["ports", "delete", ["set", gone]]],
        },
        *(
            {"op": "delete", "table": "Nuage_Port_Table", "where": [["name", "==", name]]}
            for name in names
        ),
        *(
            {"op": "delete", "table": "Nuage_VM_Table", "where": [["vm_name", "==", name]]}
            for name in names
        ),
    ]


def reconnect(world):
    """ovsdb-server goes and comes back with all its rows."""
    world.database.close()
    world.ovsdb.stop()
    world.ovsdb.start()
    world.appliance.wait_until(
        lambda: not world.appliance.status()["components"]["vrs"]["problem"], what="reconnect"
    )
    world.database = Database(world.ovsdb.socket)


def measure(count=1000, rounds=3):
    """All figures of this part."""
    own_network()
    worst, usual = {}, {}

    def note(name, samples):
        worst.setdefault(name, []).append(max(samples))
        usual.setdefault(name, []).append(statistics.median(samples))
        worst.setdefault(f"{name} p99", []).append(percentile(samples, 99))

    with World(IN_FLIGHT) as world:
        pid = world.appliance.process.pid
        gevent.sleep(SETTLE_S)
        empty_mb = rss_mb(pid)
        runs = world.attach(count, IN_FLIGHT)
        world.expect(count)
        gevent.sleep(SETTLE_S)
        full_mb = rss_mb(pid)
        say(f"  {count} endpoints attached: {empty_mb:.1f} → {full_mb:.1f} MB")
        for _ in range(rounds):
            note("quiet", pauses(world, lambda: None))
            inserted = insertion(count)
            note(
                "inserted",
                pauses(world, lambda inserted=inserted: world.database.transact(*inserted)),
            )
            removed = removal(world, count)
            note(
                "deleted", pauses(world, lambda removed=removed: world.database.transact(*removed))
            )
            resolved = resolution(runs, True)
            note(
                "resolved",
                pauses(world, lambda resolved=resolved: world.database.transact(*resolved)),
            )
            world.database.transact(*resolution(runs, False))
            gevent.sleep(0.5)
            note("reconnect", pauses(world, lambda: reconnect(world), after_s=4.0))
            say(
                "  worst hub pause, ms: "
                + ", ".join(
                    f"{name} {values[-1]:.0f}"
                    for name, values in worst.items()
                    if "p99" not in name
                )
            )
        world.expect(count)
        after_changes_mb = rss_mb(pid)
        world.detach(runs, IN_FLIGHT)
        world.expect(0)
        gevent.sleep(SETTLE_S)
        released_mb = rss_mb(pid)

    words = (
        ("inserted", f"{count} ports inserted in one transaction"),
        ("deleted", f"{count} ports deleted in one transaction"),
        ("resolved", f"{count} ports of ours resolved in one transaction"),
        ("reconnect", f"reconnect with {count} ports"),
    )
    return [
        over_rounds(PART, f"memory with {count} endpoints attached", "MB", [full_mb], 60),
        over_rounds(PART, "memory before the first", "MB", [empty_mb]),
        over_rounds(
            PART, f"memory after {rounds} rounds of changes below", "MB", [after_changes_mb], 60
        ),
        over_rounds(PART, "memory after all were released", "MB", [released_mb]),
        *(
            over_rounds(PART, f"hub pause, worst: {text}", "ms", worst[name], 50)
            for name, text in words
        ),
        *(
            over_rounds(PART, f"hub pause, p99: {text}", "ms", worst[f"{name} p99"])
            for name, text in words
        ),
        *(over_rounds(PART, f"hub pause, p50: {text}", "ms", usual[name]) for name, text in words),
        over_rounds(PART, "hub pause, worst: quiet", "ms", worst["quiet"]),
        over_rounds(PART, "hub pause, p50: quiet", "ms", usual["quiet"]),
    ]


if __name__ == "__main__":
    hand_over(measure, count=1000, rounds=3)
