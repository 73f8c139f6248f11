"""The frozen program in a mount namespace of its own, so that what it unpacks and keeps is not the
machine's.
"""

import os
import subprocess
import time
from pathlib import Path

from tests.support.appliance import ROOT, Appliance

UNPACKED = "/var/lib/nuage-libnetwork/unpacked"
BINARY = ROOT / "dist" / "nuage-libnetwork"
PROGRAM = "/var/lib/program"  # in Mounts


class Mounts:
    """Mounts that are seen by what runs in it only: an empty /var/lib, and a /tmp that may forbid
    to run files.
    """

    def __init__(self, tmp_options="exec"):
        # /var/lib and not the directory below it, because that is not there on a new host.
        # The program is copied, because a checkout may be in /tmp.
        script = (
            'mount -t tmpfs -o mode=755 tmpfs /var/lib && cp "$2" "$3" && mount --bind /tmp '
            '/tmp && mount -o "remount,bind,$1" /tmp && '
            "echo ready && exec sleep 3600"
        )
        self._holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, "sh", tmp_options, BINARY, PROGRAM],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout.readline() == "ready\n", "no mount namespace could be made"

    def command(self, *words):
        """What runs a command in here. The process keeps its pid."""
        return ["nsenter", "-t", str(self._holder.pid), "-m", "--", *map(str, words)]

    def path(self, inside):
        """Where the machine sees a path of these mounts."""
        return Path(f"/proc/{self._holder.pid}/root") / str(inside).lstrip("/")

    def unpacked(self):
        """The directories that programs have unpacked themselves to."""
        try:
            return sorted(self.path(UNPACKED).iterdir())
        except FileNotFoundError:
            return []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()


class FrozenAppliance(Appliance):
    """The appliance as users have it. `process` is the loader, PyInstaller's, and its only child
    the program.

    Its configuration and sockets are outside of its own mounts, below `directory`.
    """

    def __init__(self, mounts, *arguments, **settings):
        self.mounts = mounts
        super().__init__(*arguments, **settings)

    def command(self, *words):
        """The frozen program's command line, in its mounts."""
        return self.mounts.command(PROGRAM, "-config", self.config_path, *words)

    def program(self):
        """The program's pid; None while there is none."""
        children = (
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        )
        return int(children[0]) if children else None

    def pids(self):
        """Both pids, the loader's first."""
        return [self.process.pid, self.program()]


def is_alive(pid):
    """True while a process, or one of its threads, runs; until then its sockets are open."""
    try:
        return any(
            path.read_text().rpartition(")")[2].split()[0] not in "ZX"
            for path in Path(f"/proc/{pid}/task").glob("*/stat")
        )
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_gone(pid, seconds=60.0):
    """Wait until a process that need not be a child has ended."""
    deadline = time.monotonic() + seconds
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs after {seconds} s"
        time.sleep(0.02)


def age(directory, seconds):
    """Let a directory look as if nothing had changed in it for so long."""
    then = time.time() - seconds
    os.utime(directory, (then, then))
