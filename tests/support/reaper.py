"""Takes away what a test process leaves on the machine when it dies in the middle: `python -m
tests.support.reaper PID`.

Owns nothing itself. pytest ends its workers at Ctrl-C before their fixtures could take labs down,
and a CI that runs out of time kills everything. So each test process has one of these beside it,
which waits for its end at a pipe. It finds its labs by their names, which hold its pid, and its
other programs by a variable of their environment. After an orderly end it finds nothing.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from nuage_lab.hosts import cgroups, underlay
from nuage_lab.hosts.host import kill
from nuage_lab.hosts.run import LabError

MARK = "NUAGE_TESTS"
_SWEEP_S = 60.0


def watch():
    """Start the reaper of this process; it ends by itself, after this process."""
    os.environ[MARK] = str(os.getpid())
    environment = {key: value for key, value in os.environ.items() if key != MARK}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.reaper", str(os.getpid())],
        stdin=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
        env=environment,
    )


def _marked(owner):
    """The pids of the programs that a test process started, and of what they started."""
    mark = f"{MARK}={owner}".encode()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                yield int(entry)
        except OSError:
            continue


def sweep(owner):
    """Kill and remove what is left of a test process that ended; True when nothing is left."""
    is_clean = True
    for pid in _marked(owner):
        kill(pid)
        is_clean = False
    ours = re.compile(rf"nlt{owner}[xs]\d+(-|$)")
    try:
        names = cgroups.groups_named(ours)
    except LabError:  # no cgroups, no labs
        return is_clean
    for name in names:
        group = cgroups.ControlGroup(name)
        for pid in group.pids():
            kill(pid)
        is_clean &= group.remove()
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else ():
        if ours.match(name):
            underlay.delete_namespace(name)
    return is_clean


def main():
    """Wait for the end of standard input, then sweep for a minute at most."""
    sys.stdin.buffer.read()
    end = time.monotonic() + _SWEEP_S
    while not sweep(sys.argv[1]) and time.monotonic() < end:
        time.sleep(0.1)


if __name__ == "__main__":
    main()
