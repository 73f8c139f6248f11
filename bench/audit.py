"""A host with 10,000 endpoints: the audit's duration, what plugin calls feel of it, and a restart
that reads all of it back.

All backends are full: containers on the VSD, rows in OVSDB, veth pairs in the kernel, containers
in the engine's lists. Plugin calls are made by two sides meanwhile: a process that asks for the
capabilities every millisecond, and containers that come and go one after the other. A caller that
waits long asks less often, so each answer of the first that took N ms is counted as N callers that
came a millisecond apart and waited N, N-1, … 1 ms.
"""

from gevent import monkey

monkey.patch_all()

import os
import time

import gevent

from bench.engine import Engine
from bench.figures import Figure, hand_over, over_rounds, percentile, say
from bench.scale import Probe
from bench.world import World, links, own_network, rss_mb

PART = "audit"
NETWORKS = 24  # also in flight while the host is filled
PREFIX_LEN = 16
NEVER_S = 3600  # no audit but those that are measured
SETTLE_S = 2.0
PLUG_S, RECOVERY_S = 90, 120
RETRY_S = 0.1
AFTER_RECOVERY_S = 5.0


class Guests:
    """Containers that come and go one after the other on one network, with every plugin
    call timed.
    """

    def __init__(self, world, net):
        self._world, self._net = world, net
        self._engine = Engine(world.appliance.plugins, world.api)
        self.samples = []
        self._engine.time_calls(self.samples)
        self._is_over = False
        self.first_plugged_s = None
        self.failed = 0
        self._greenlet = gevent.spawn(self._live)

    def _live(self):
        number = 0
        while not self._is_over:
            run = self._engine.create_container(self._net, f"guest{number}")
            number += 1
            try:
                self._engine.start(run)
            except RuntimeError as error:  # the user would read this from `docker run`
                say(f"  a container could not start: {error}")
                self.failed += 1
                self._world.api.forget(run.container_id)
                gevent.sleep(RETRY_S)
                continue
            self._world.database.committed(run.port, PLUG_S)
            self.first_plugged_s = self.first_plugged_s or time.monotonic()
            self._engine.remove(run)

    @property
    def has_ended(self):
        """True when it gave up waiting for a port."""
        return self._greenlet.ready()

    def end(self):
        """Let the last one go; returns the milliseconds of the calls made."""
        self._is_over = True
        self._greenlet.get(timeout=PLUG_S + 30)
        self._engine.close()
        return [took_ms for _, took_ms in self.samples]


def arrivals(samples, since_s):
    """What callers that come every millisecond wait, in ms, from the answers of one that asks again
    only when answered.
    """
    waited = []
    for started_s, took_ms in samples:
        if started_s + took_ms / 1000 >= since_s:
            waited += [took_ms - earlier for earlier in range(int(took_ms) + 1)]
    return waited


def one_audit(world, with_guests=True):
    """One audit; returns its seconds, what the callers of both sides waited, and whether it could
    read everything.
    """
    guests = Guests(world, world.networks[0]) if with_guests else None
    probe = Probe(os.path.join(world.appliance.plugins, "nuage.sock"))
    gevent.sleep(0.3)
    started_s = time.monotonic()
    outcome = world.ask("POST", "/audit")
    took_s = time.monotonic() - started_s
    waited = arrivals(probe.end(), started_s)
    calls_ms = guests.end() if guests else []
    say(
        (
            f"  audit in {took_s:.1f} s; capabilities p99 {percentile(waited, 99):.0f} ms, worst "
            f"{max(waited):.0f} ms; "
        )
        + (
            f"{len(calls_ms)} calls of containers p99 {percentile(calls_ms, 99):.0f} ms; "
            if calls_ms
            else ""
        )
        + outcome["sentence"]
    )
    return took_s, waited, calls_ms, outcome["is_complete"]


def recovery(world, count):
    """Kill the appliance and start it; returns seconds to the service, to a whole table, and to a
    plugged container, and waits.
    """
    world.kill()
    probe = Probe(os.path.join(world.appliance.plugins, "nuage.sock"), wait=False)
    started_s, serving_s = world.start()
    probe.wait_ready()
    guests = Guests(world, world.networks[0])
    whole_s = None
    deadline = time.monotonic() + RECOVERY_S
    while whole_s is None or (guests.first_plugged_s is None and not guests.has_ended):
        gevent.sleep(0.1)
        endpoints = world.appliance.status()["components"]["endpoints"]
        if whole_s is None and endpoints["states"].get("plugged", 0) >= count:
            whole_s = time.monotonic()
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"after {RECOVERY_S} s the appliance has {endpoints['states']} of {count} endpoints"
            )
    gevent.sleep(AFTER_RECOVERY_S)  # the comparison with the engine's lists comes last
    unwell = len(world.appliance.status()["components"]["endpoints"]["unplugged"])
    waited = arrivals(probe.end(), serving_s)
    calls_ms = guests.end()
    found = {
        "unwell": unwell,
        "failed": guests.failed,
        "serving": serving_s - started_s,
        "whole": whole_s - started_s,
        "plugged": guests.first_plugged_s - started_s,
    }
    say(
        f"  restart: serving after {found['serving']:.2f} s, whole after {found['whole']:.2f} "
        f"s, first container plugged after {found['plugged']:.2f} s, "
        f"{unwell} said to have a problem, {guests.failed} starts failed; capabilities p99 "
        f"{percentile(waited, 99):.0f} ms, "
        f"worst {max(waited):.0f} ms"
    )
    return found, waited, calls_ms


def measure(count=10_000, rounds=2):
    """All figures of this part."""
    own_network()
    with World(NETWORKS, prefix_len=PREFIX_LEN, auditinterval=NEVER_S) as world:
        started_s = time.perf_counter()
        runs = world.attach(count, NETWORKS)
        rate = count / (time.perf_counter() - started_s)
        world.expect(count)
        if len(links()) != count:
            raise RuntimeError(f"the kernel has {len(links())} links, not {count}")
        tenth = sorted(runs, key=lambda run: run.plugged_s)[-count // 10 :]
        late_rate = len(tenth) / (tenth[-1].plugged_s - tenth[0].plugged_s)
        gevent.sleep(SETTLE_S)
        full_mb = rss_mb(world.appliance.process.pid)
        say(
            f"  {count} endpoints attached, {rate:.0f} a second, the last tenth "
            f"{late_rate:.0f}; {full_mb:.0f} MB"
        )
        quiet = one_audit(world, with_guests=False)
        audits = [one_audit(world) for _ in range(rounds)]
        audited_mb = rss_mb(world.appliance.process.pid)
        found, restart_waited, restart_calls = recovery(world, count)
        restarted_mb = rss_mb(world.appliance.process.pid)
        after = one_audit(world)
        world.expect(count)

    def row(name, unit, values, target=None, note=""):
        return over_rounds(PART, name, unit, values, target, note=note)

    audits.append(after)
    what = f"audit of {count} endpoints"
    return [
        row(f"quiet {what}: duration", "s", [quiet[0]], 10, "no container comes or goes"),
        row(f"quiet {what}: GetCapabilities p99", "ms", [percentile(quiet[1], 99)], 100),
        row(
            f"quiet {what}: hub pause, worst",
            "ms",
            [max(quiet[1])],
            note="the first audit of its life",
        ),
        row(
            f"{what}: duration",
            "s",
            [took_s for took_s, *_ in audits],
            10,
            f"{rounds} before the restart, one after",
        ),
        row(
            f"{what}: could not read everything",
            "audits",
            [sum(not is_complete for *_, is_complete in audits)],
            0,
        ),
        row(
            f"{what}: GetCapabilities p99",
            "ms",
            [percentile(waited, 99) for _, waited, *_ in audits],
            100,
        ),
        row(
            f"{what}: calls of real containers p99",
            "ms",
            [percentile(calls, 99) for _, _, calls, _ in audits],
            100,
            "RequestAddress … ReleaseAddress",
        ),
        row(f"{what}: hub pause, worst", "ms", [max(waited) for _, waited, *_ in audits]),
        row(
            f"{what}: GetCapabilities p50",
            "ms",
            [percentile(waited, 50) for _, waited, *_ in audits],
        ),
        row(f"start with {count} endpoints: until the sockets serve", "s", [found["serving"]]),
        row(
            f"start with {count} endpoints: until all are plugged in its table",
            "s",
            [found["whole"]],
        ),
        row(
            f"start with {count} endpoints: until a new container is plugged",
            "s",
            [found["plugged"]],
            note="its RequestAddress waits for the VSD's list",
        ),
        row(
            f"start with {count} endpoints: new containers that could not start",
            "",
            [found["failed"]],
            0,
        ),
        row(
            f"start with {count} endpoints: said to have a problem {AFTER_RECOVERY_S:g} s later",
            "",
            [found["unwell"]],
            0,
        ),
        row(
            f"start with {count} endpoints: GetCapabilities p99",
            "ms",
            [percentile(restart_waited, 99)],
        ),
        row(
            f"start with {count} endpoints: calls of real containers p99",
            "ms",
            [percentile(restart_calls, 99)],
        ),
        row(f"start with {count} endpoints: hub pause, worst", "ms", [max(restart_waited)]),
        Figure(PART, f"memory with {count} endpoints attached", "MB", full_mb),
        Figure(PART, f"memory after {rounds} audits", "MB", audited_mb),
        Figure(PART, "memory after the restart", "MB", restarted_mb),
        Figure(PART, f"attaches a second while there come to be {count}", "/s", rate, best="high"),
        Figure(PART, "attaches a second, the last tenth of them", "/s", late_rate, best="high"),
    ]


if __name__ == "__main__":
    hand_over(measure, count=10_000, rounds=2)
