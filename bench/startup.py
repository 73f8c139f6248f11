"""The frozen program: how soon its sockets answer, how much memory its processes take, how large
the file is.

A start is from exec to the first connection that both sockets accept, without a VSD and without an
engine: they must not matter. The file is in the page cache, as it is at every start but the first
after a boot; what is unpacked goes to a tmpfs.
"""

import os
import signal
import subprocess
import tempfile
import time

from bench.figures import Figure, hand_over, over_rounds
from bench.world import own_network, rss_mb
from tests.support.appliance import ROOT
from tests.support.frozen import FrozenAppliance, Mounts
from tests.support.ovsdb import Ovsdb

PART = "startup"
START_S, RSS_MB, SIZE_MB = 0.7, 64, 20
POLL_S = 0.002


def start(appliance):
    """Start it; returns the seconds until both sockets answered."""
    started_s = time.perf_counter()
    appliance.start(wait=False)
    while not all(appliance.listens(path) for path in appliance.sockets):
        if appliance.process.poll() is not None:
            raise RuntimeError(f"the appliance ended: {appliance.errors()[-500:]}")
        time.sleep(POLL_S)
    return time.perf_counter() - started_s


def measure(count=10):
    """All figures of this part."""
    own_network()
    done = subprocess.run(
        [ROOT / "scripts" / "build-binary"], stdout=subprocess.PIPE, text=True, check=True
    )
    size = os.path.getsize(done.stdout.strip())
    took, memory = [], []
    with (
        Mounts() as mounts,
        Ovsdb() as ovsdb,
        tempfile.TemporaryDirectory() as directory,
        FrozenAppliance(
            mounts, "https://127.0.0.1:1", ovsdb.socket, f"{directory}/docker.sock"
        ) as appliance,
    ):
        for _ in range(count):
            appliance.kill(signal.SIGTERM)
            took.append(start(appliance))
            time.sleep(1.0)
            memory.append(sum(map(rss_mb, appliance.pids())))
    return [
        over_rounds(PART, f"exec until both sockets answer, {count} starts", "s", took, START_S),
        over_rounds(PART, "memory of both processes (RSS), 1 s later", "MB", memory, RSS_MB),
        Figure(PART, "size of the file", "MB", size / 1e6, SIZE_MB),
    ]


if __name__ == "__main__":
    hand_over(measure, count=10)
