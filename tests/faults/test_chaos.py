"""The four programs around a container die at any moment and in any order, while containers come
and go.

Nothing is lost and nothing is left: a real engine, a real Open vSwitch and the VSD simulator, which
keeps its objects. A sample runs by itself; `--faults=all` means ten minutes. NUAGE_CHAOS_S and
NUAGE_CHAOS_SEED set the time and the order.
"""

import collections
import concurrent.futures
import heapq
import os
import random
import re
import threading
import time

import pytest

from nuage_lab.hosts.run import LabError, wait_until
from tests.support.convergence import status, tags, wait_whole_agreement
from tests.support.invariants import (
    IMAGE,
    clean,
    engine_endpoints,
    links,
    ovs_endpoints,
    vsd_endpoints,
    wait_ping,
)
from tests.support.lab import running_lab

SAMPLE_S, ALL_S = 20.0, 600.0
SEED = 20
CONTAINERS, WORKERS = 20, 4
GATEWAY = "10.21.59.1"
PLACE = (
    "--ipam-opt",
    "organization=Enterprise",
    "--ipam-opt",
    "domain=Domain",
    "--ipam-opt",
    "zone=Zone",
)
# A command waits for an engine that starts, and that one for a driver that is away: 15 s for each
# call that finds no socket.
COMMAND_S = 60.0


@pytest.fixture(scope="module")
def seconds(request):
    """How long programs are killed."""
    default = ALL_S if request.config.getoption("--faults", default=None) == "all" else SAMPLE_S
    return float(os.environ.get("NUAGE_CHAOS_S", default))


@pytest.fixture()
def chaos_lab(tmp_path):
    with running_lab(tmp_path, vsd_options=("--keep-objects",)) as lab:
        yield lab


class Killer:
    """Kills with SIGKILL, in rounds of random order, and starts what it killed again
    after a pause.
    """

    def __init__(self, lab, host, rng):
        self._rng = rng
        self._daemons = {
            "appliance": host.appliance,
            "dockerd": host.engine,
            "ovsdb-server": host.database,
            "vsd": lab.vsd,
        }
        self._starts = []  # (when, name)
        self._order = []
        self._spares_starting_engine = False
        self.kills = collections.Counter()
        self.deaths = []  # of what nobody killed

    def run(self, seconds):
        """Kill for so long, or until each was killed once where all takes longer; what is dead then
        stays so.
        """
        end = time.monotonic() + seconds
        next_kill = time.monotonic() + 1.0
        while (now := time.monotonic()) < end or (
            len(self.kills) < len(self._daemons) and now < end + COMMAND_S
        ):
            while self._starts and self._starts[0][0] <= now:
                self._start(heapq.heappop(self._starts)[1])
            self._look_for_deaths()
            if now >= next_kill:
                next_kill = now + self._kill()
            time.sleep(0.05)

    def _kill(self):
        """Kill the next one of this round, or wait for it to live; returns how long to wait."""
        if not self._order:
            self._order = self._rng.sample(sorted(self._daemons), len(self._daemons))
            # An engine starts for seconds, and runs nothing meanwhile: killed each time, it would
            # never do any work.
            self._spares_starting_engine = self._rng.random() < 0.75
        name = self._order[-1]
        if name in self._waiting():
            return 0.5
        if name == "dockerd" and self._spares_starting_engine:
            if not self._serves(name):
                return 0.5
            self._spares_starting_engine = False
            return self._rng.uniform(1.0, 5.0)  # it works for so long
        self._order.pop()
        self._daemons[name].kill()
        self.kills[name] += 1
        pause = self._rng.uniform(0.0, 8.0)
        # systemd's RestartSec.
        heapq.heappush(
            self._starts, (time.monotonic() + (1.0 if name == "appliance" else pause), name)
        )
        return self._rng.uniform(0.5, 4.0)

    def _serves(self, name):
        try:
            return self._daemons[name].is_ready()
        except (OSError, LabError):
            return False

    def _waiting(self):
        return {name for _, name in self._starts}

    def _look_for_deaths(self):
        for name, daemon in self._daemons.items():
            if name not in self._waiting() and not daemon.is_running():
                self.deaths.append(name)
                heapq.heappush(self._starts, (time.monotonic() + 1.0, name))

    def _start(self, name, wait=False):
        # An engine's containers survive it or not, as its administrator has it.
        extra = self._rng.choice([(), ("--live-restore",)]) if name == "dockerd" else ()
        daemon = self._daemons[name]
        daemon.start(extra=extra, wait=wait)
        wait_until(lambda: daemon.host.path(daemon.pid_file).exists(), 60.0, f"{name} starts")

    def start_all(self):
        """Start what is dead and wait until everything serves."""
        for name in ("vsd", "ovsdb-server", "appliance", "dockerd"):
            self._start(name, wait=True)
            self._daemons[name].wait_ready()
        self._starts.clear()


class Worker(threading.Thread):
    """Runs and removes its containers, or makes and removes a network, until told to stop; notes
    what every command did.
    """

    def __init__(self, host, names, rng, stop):
        super().__init__(daemon=True)
        self._host, self._names, self._rng, self._stop_wanted = host, names, rng, stop
        self._present = set()
        self.commands = []  # (verb, seconds, status, what the user reads)

    def run(self):
        while not self._stop_wanted.is_set():
            name = self._rng.choice(self._names)
            if name in self._present:
                if self._docker(*self.removal(name)) == 0:
                    self._present.discard(name)
            else:
                self._present.add(name)  # also what failed may be there
                self._docker(*self.creation(name))

    def _docker(self, *words):
        start = time.monotonic()
        try:
            done = self._host.docker(*words, timeout=2 * COMMAND_S, check=False)
            status, said = done.returncode, done.stderr.strip()
        except LabError as error:
            status, said = None, str(error)
        self.commands.append((words[0], time.monotonic() - start, status, said))
        if status != 0:
            self._stop_wanted.wait(0.3)
            if "No such" in said:
                return 0
        return status

    @staticmethod
    def creation(name):
        restart = ("--restart=always",) if int(name.partition("-")[2]) % 2 else ()
        return (
            "run",
            "-d",
            "--name",
            name,
            "--net",
            "MyNet",
            "--stop-signal",
            "KILL",
            *restart,
            IMAGE,
            "sleep",
            "86400",
        )

    @staticmethod
    def removal(name):
        return "rm", "-f", name


class NetworkWorker(Worker):
    """Makes and removes networks instead."""

    @staticmethod
    def creation(name):
        return (
            "network",
            "create",
            "--driver=nuage",
            "--ipam-driver=nuage-ipam",
            *PLACE,
            "--ipam-opt",
            f"subnet={name}",
            name.replace(" ", "-"),
        )

    @staticmethod
    def removal(name):
        return "network", "rm", name.replace(" ", "-")

    def _docker(self, *words):
        status = super()._docker(*words)
        self._stop_wanted.wait(2.0)
        return status


def check_network(host, running):
    """Every running container reaches the gateway and another one."""
    running = sorted(running)
    following = running[1:] + running[:1]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        jobs = [
            threads.submit(wait_ping, host, name, target)
            for (_, name, *_), (*_, address, _) in zip(running, following, strict=True)
            for target in (GATEWAY, address)
        ]
        for job in jobs:
            job.result()


def report(title, killer, workers, converged_s):
    """Say what happened, for whoever reads the test's output."""
    commands = [entry for worker in workers for entry in worker.commands]
    print(title)
    print(
        "kills:",
        dict(killer.kills),
        "of themselves died:",
        killer.deaths,
        f"agreed after {converged_s:.0f} s",
    )
    for verb in sorted({verb for verb, *_ in commands}):
        times = sorted(seconds for other, seconds, *_ in commands if other == verb)
        good = sum(status == 0 for other, _, status, _ in commands if other == verb)
        print(f"docker {verb}: {len(times)}, {good} of them well, longest {times[-1]:.1f} s")
    families = collections.Counter(
        re.sub(r"[0-9a-f]{12,}|\d+", "N", said.replace("\n", " "))[:300]
        for *_, status, said in commands
        if status != 0
    )
    for family, count in families.most_common():
        print(f"  {count} × {family}")


def cut_off_by_the_engine(host):
    """The running containers whose inspection names no endpoint: an engine that dies while it stops
    one can keep it so.
    """
    ids = host.docker("ps", "-q", "--no-trunc").stdout.split()
    with_endpoint = {container_id for container_id, *_ in engine_endpoints(host)}
    return sorted(
        host.docker("inspect", "-f", "{{.Name}}", one).stdout.strip().removeprefix("/")
        for one in set(ids) - with_endpoint
    )


def check_commands(commands):
    """What failed did so in words, and in time."""
    for verb, seconds, code, said in commands:
        assert code is not None and seconds < COMMAND_S, (
            f"docker {verb} took {seconds:.0f} s: {said}"
        )
        assert code == 0 or said, f"docker {verb} ended with {code} and no word"
        assert not re.search(r"internal error|Traceback|panic", said), (
            f"docker {verb} showed the user a bug: {said}"
        )


def check_log(host):
    """The appliance met no bug of its own, and nothing held its event loop."""
    log = host.appliance.log.read_text(errors="replace") + host.path(
        "/var/log/nuage-libnetwork/nuage-libnetwork.log"
    ).read_text(errors="replace")
    for words in ("Traceback", "internal error", "the event loop was held for"):
        place = log.find(words)
        assert place < 0, f"the appliance's log says:\n{log[max(0, place - 1000) : place + 3000]}"


def test_nothing_is_lost_and_nothing_left_when_the_programs_around_twenty_containers_die_at_random(
    chaos_lab, seconds
):
    lab, host = chaos_lab, chaos_lab.host("h1")
    seed = int(os.environ.get("NUAGE_CHAOS_SEED", SEED))
    print(f"NUAGE_CHAOS_SEED={seed} NUAGE_CHAOS_S={seconds:g}")
    rng = random.Random(seed)
    killer = Killer(lab, host, rng)
    host.docker(
        "network",
        "create",
        "--driver=nuage",
        "--ipam-driver=nuage-ipam",
        *PLACE,
        "--ipam-opt",
        "subnet=Subnet 2",
        "MyNet",
    )
    names = [f"box-{number}" for number in range(CONTAINERS)]
    stop = threading.Event()
    workers = [
        Worker(host, names[number::WORKERS], random.Random(rng.random()), stop)
        for number in range(WORKERS)
    ]
    workers.append(NetworkWorker(host, ["Subnet 1", "Tiny"], random.Random(rng.random()), stop))
    for worker in workers:
        worker.start()
    try:
        killer.run(seconds)
    finally:
        stop.set()
    killer.start_all()
    for worker in workers:
        worker.join(3 * COMMAND_S)
    assert not any(worker.is_alive() for worker in workers), "a docker command hangs"
    new = [f"new-{number}" for number in range(3)]
    for name in new:  # whatever happened: now everything works
        host.docker(*Worker.creation(name))
    converged_s = wait_whole_agreement(lab, host)
    report(f"seed {seed}, {seconds:g} s", killer, workers, converged_s)
    print("the appliance's hub, since its last start:", status(host)["event_loop"])
    cut_off = cut_off_by_the_engine(host)
    print("running, but without an endpoint by the engine's own word:", cut_off)
    assert not set(cut_off) & set(new)
    for name in cut_off:  # what its user would do
        host.docker("restart", "-t", "1", name, timeout=COMMAND_S)
    wait_whole_agreement(lab, host)
    running = engine_endpoints(host)
    assert {name for _, name, *_ in running} >= set(new) and cut_off_by_the_engine(host) == []
    check_network(host, running)
    clean(host)
    wait_whole_agreement(lab, host)
    assert (
        links(host) == set()
        and ovs_endpoints(host) == set()
        and vsd_endpoints(lab, host) == set()
        and tags(host) == set()
    )
    check_commands([entry for worker in workers for entry in worker.commands])
    check_log(host)
    assert killer.deaths == [], "a program ended although nobody killed it"
    assert min(killer.kills[name] for name in ("appliance", "dockerd", "ovsdb-server", "vsd")) >= 1
