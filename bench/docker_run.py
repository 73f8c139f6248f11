"""Real `docker run -d` on a Nuage network and on one of Docker's bridge driver, alternating, in a
lab of its own.

Both commands run in the same host, engine and image, with the same options; what is compared is the
time until the command returns. The lab has its own state directory and names, so that a lab that is
up is left alone.
"""

import contextlib
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from bench.figures import hand_over, over_rounds, say
from nuage_lab import image
from nuage_lab.lab import Lab

PART = "docker_run"
PREFIX = "nuage-bench"
NUAGE, BRIDGE = "bench-nuage", "bench-bridge"
OPTIONS = ("organization=Enterprise", "domain=Domain", "zone=Zone", "subnet=Subnet 2", "user=admin")
WARM_UP = 3


def networks(host):
    """Make both networks."""
    words = [word for option in OPTIONS for word in ("--ipam-opt", option)]
    host.docker("network", "create", "--driver=nuage", "--ipam-driver=nuage-ipam", *words, NUAGE)
    host.docker("network", "create", "--driver=bridge", "--subnet=172.31.0.0/24", BRIDGE)


def timed(host, *words):
    """Run a docker command in the host; returns seconds and its output."""
    argv, environment = host.command(["docker", *words]), host.environment()
    started_s = time.perf_counter()
    done = subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    took_s = time.perf_counter() - started_s
    if done.returncode:
        raise RuntimeError(f"docker {' '.join(words)}: {done.stderr.strip()}")
    return took_s, done.stdout.strip()


def run_once(host, network):
    """One container: seconds of `docker run -d`, seconds of `docker rm -f`."""
    run_s, container = timed(
        host,
        "run",
        "-d",
        "--stop-signal",
        "KILL",
        "--network",
        network,
        image.NAME,
        "sleep",
        "1000",
    )
    remove_s, _ = timed(host, "rm", "-f", container)
    return run_s, remove_s


def measure(pairs=20):
    """All figures of this part."""
    state = tempfile.mkdtemp(prefix="nuage-bench-")
    lab = Lab(state, PREFIX)
    took = {(network, what): [] for network in (NUAGE, BRIDGE) for what in ("run", "rm")}
    try:
        lab.up(1)
        host = lab.host("h1")
        networks(host)
        for _ in range(WARM_UP):
            for network in (NUAGE, BRIDGE):
                run_once(host, network)
        for number in range(pairs):
            for network in (NUAGE, BRIDGE) if number % 2 == 0 else (BRIDGE, NUAGE):
                run_s, remove_s = run_once(host, network)
                took[network, "run"].append(run_s * 1000)
                took[network, "rm"].append(remove_s * 1000)
        with contextlib.suppress(Exception):
            for network in (NUAGE, BRIDGE):
                host.docker("network", "rm", network)
    finally:
        lab.down()
        remove_tree(state)
    middle = {key: statistics.median(values) for key, values in took.items()}
    say(
        f"  docker run -d: Nuage {middle[NUAGE, 'run']:.0f} ms, bridge "
        f"{middle[BRIDGE, 'run']:.0f} ms"
    )
    ratios = [
        ours / theirs for ours, theirs in zip(took[NUAGE, "run"], took[BRIDGE, "run"], strict=True)
    ]
    figures = [
        over_rounds(
            PART,
            f"docker run -d, Nuage ÷ bridge, p50 of {pairs} pairs",
            "",
            [middle[NUAGE, "run"] / middle[BRIDGE, "run"]],
            1.0,
            note=(
                f"pairs {min(ratios):.2f} … {max(ratios):.2f}, median of their ratios "
                f"{statistics.median(ratios):.2f}"
            ),
        )
    ]
    for (network, what), values in took.items():
        command = "docker run -d" if what == "run" else "docker rm -f"
        figures.append(
            over_rounds(
                PART, f"{command}, {'Nuage' if network == NUAGE else 'bridge'}, p50", "ms", values
            )
        )
    return figures


def remove_tree(state):
    """Remove the state directory's logs too; the lab left nothing else in it."""
    for path in sorted(Path(state).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    Path(state).rmdir()


if __name__ == "__main__":
    hand_over(measure, pairs=20)
