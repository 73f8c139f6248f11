"""One cgroup of the machine for each lab host, on version 1, hybrid and pure version 2 machines.

A host's cgroup is also how the lab finds its processes again: what is in it is the host's, so no
pid has to be remembered and a lab that crashed half-way can be taken down.
"""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from nuage_lab.hosts.run import LabError

ROOT = Path("/sys/fs/cgroup")
LEAF = "init"  # version 2 allows processes only in leaves once controllers are enabled below
NOT_CONTROLLERS = {
    "rw",
    "ro",
    "xattr",
    "clone_children",
    "nsdelegate",
    "memory_recursiveprot",
    "memory_localevents",
    "favordynmods",
    "cpuset_v2_mode",
    "noprefix",
    "all",
}


@dataclass(frozen=True)
class Hierarchy:
    """A mounted cgroup hierarchy. controllers is "" for version 2, else the mount option, as
    "cpu,cpuacct".
    """

    mount_point: Path
    version: int
    controllers: str = ""


def parse_hierarchies(mountinfo):
    """Return the hierarchies below /sys/fs/cgroup in the text of a /proc/PID/mountinfo."""
    found = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        mount_point = Path(left.split()[4])
        kind, _, options = right.split(" ", 2)
        if kind not in ("cgroup", "cgroup2") or (
            mount_point != ROOT and ROOT not in mount_point.parents
        ):
            continue
        if kind == "cgroup2":
            found.setdefault("", Hierarchy(mount_point, 2))
            continue
        words = [
            w
            for w in options.split(",")
            if w not in NOT_CONTROLLERS and not w.startswith("release_agent=")
        ]
        controllers = ",".join(["none", *words] if words[0].startswith("name=") else words)
        found.setdefault(controllers, Hierarchy(mount_point, 1, controllers))
    return list(found.values())


def used_hierarchies(mode="auto"):
    """Return the hierarchies a host gets: all, or with mode "v2" the version 2 one alone."""
    found = parse_hierarchies(Path("/proc/self/mountinfo").read_text())
    if mode == "v2":
        found = [h for h in found if h.version == 2]
    if not found:
        raise LabError(f"no cgroup hierarchy is mounted below {ROOT} (mode {mode})")
    return found


def groups_named(pattern):
    """Return the names of cgroups at the top of any hierarchy that match the compiled pattern."""
    found = set()
    for hierarchy in used_hierarchies():
        for entry in os.scandir(hierarchy.mount_point):
            if entry.is_dir(follow_symlinks=False) and pattern.match(entry.name):
                found.add(entry.name)
    return found


class ControlGroup:
    """The cgroup of one host in each hierarchy."""

    def __init__(self, name, mode="auto"):
        self.name = name
        self.hierarchies = used_hierarchies(mode)
        self.is_pure_v2 = all(h.version == 2 for h in self.hierarchies)

    def _directories(self):
        return [h.mount_point / self.name for h in self.hierarchies]

    def mounts(self):
        """Return (controllers, directory name) of each version 1 hierarchy.

        Empty for pure version 2.
        """
        return (
            []
            if self.is_pure_v2
            else [(h.controllers, h.mount_point.name) for h in self.hierarchies if h.version == 1]
        )

    def entrances(self):
        """Return the directories whose cgroup.procs a process of the host must be written to."""
        return [d / LEAF for d in self._directories()] if self.is_pure_v2 else self._directories()

    def create(self):
        """Make the cgroups and return the directories in which the host's first process is to
        start.
        """
        for hierarchy, directory in zip(self.hierarchies, self._directories(), strict=True):
            if self.is_pure_v2:
                enable_controllers(hierarchy.mount_point)
            directory.mkdir(exist_ok=True)
            if "cpuset" in hierarchy.controllers.split(","):
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (directory / name).write_text((hierarchy.mount_point / name).read_text())
        return self._directories()

    def settle(self):
        """Version 2: move the first processes into a leaf, so that controllers can be enabled for
        the engine.
        """
        if not self.is_pure_v2:
            return
        for directory in self._directories():
            (directory / LEAF).mkdir(exist_ok=True)
            for pid in read_pids(directory):
                (directory / LEAF / "cgroup.procs").write_text(str(pid))
            enable_controllers(directory)

    def pids(self):
        """Return the pids of all processes in the cgroups and below, as the machine counts them."""
        return {
            pid
            for top in self._directories()
            for directory, _, _ in os.walk(top)
            for pid in read_pids(directory)
        }

    def machine_pid(self, pid):
        """Return the machine's pid of the process that has this pid in the host, or None."""
        for candidate in {
            p for directory in self._directories() + self.entrances() for p in read_pids(directory)
        }:
            if namespace_pids(candidate)[1:] == [str(pid)]:
                return candidate
        return None

    def exists(self):
        """Tell whether the cgroup is there in any hierarchy."""
        return any(directory.exists() for directory in self._directories())

    def remove(self):
        """Remove the cgroups and those below, deepest first, as far as they are empty.

        Tell whether all are gone.
        """
        for top in self._directories():
            for directory, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):  # busy for a moment after a kill, or gone by now
                    os.rmdir(directory)
        return not self.exists()


def enable_controllers(directory):
    """Enable for the children of a version 2 cgroup what controllers the machine allows, one by
    one.
    """
    try:
        controllers = (directory / "cgroup.controllers").read_text().split()
    except FileNotFoundError:
        return
    for controller in controllers:
        # Without it the engine runs without limits of that kind, as its warnings say.
        with contextlib.suppress(OSError):
            (directory / "cgroup.subtree_control").write_text(f"+{controller}")


def read_pids(directory):
    """Return the pids of the processes in a cgroup, as this machine counts them.

    Empty when it is gone.
    """
    try:
        return [int(word) for word in Path(directory, "cgroup.procs").read_text().split()]
    except (FileNotFoundError, OSError):
        return []


def namespace_pids(pid):
    """Return a process's pids as texts, from this machine's to that of its innermost pid namespace.

    Empty when it is gone.
    """
    try:
        return re.search(r"^NSpid:(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M)[1].split()
    except (OSError, TypeError):
        return []
