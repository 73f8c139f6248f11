"""A small Debian with systemd as its pid 1, in namespaces and cgroups of its own: for what only a
real service manager shows.

Up, it is an installed system that was not booted yet, as a chroot is; boot() lets systemd take
over. It may stand alone, with nothing but a loopback device, or inside of a lab host: then it has
that host's network and Open vSwitch, and an engine of its own.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from nuage_lab import packages
from nuage_lab.hosts.cgroups import ControlGroup, namespace_pids, read_pids
from nuage_lab.hosts.host import ENVIRONMENT, HERE, kill, start_first_process
from nuage_lab.hosts.run import LabError, run, wait_until

SUITE = "bookworm"
OTHER_SUITES = (
    "bullseye",
    "trixie",
)  # systemd 247 and 257; for what must hold with older and newer ones too
INSTALLED = ("systemd", "systemd-sysv", "iproute2", "docker.io", "openvswitch-switch")
# What would wait for hardware, for the network or for a user, or is the machine's own; and Open
# vSwitch, which is the lab's.
MASKED = (
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-fs-fuse-connections.mount",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "console-getty.service",
    "getty.target",
    "systemd-logind.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-sysctl.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "openvswitch-switch.service",
    "ovs-vswitchd.service",
    "ovsdb-server.service",
)
BOOT_TIMEOUT_S = 90.0
DOWN_TIMEOUT_S = 60.0


def tree(suite=SUITE):
    """Return the tree that roots are overlays of; made at the first time, in minutes.

    LabError when it cannot be made.
    """
    return packages.made(_name(suite), lambda place: _build(suite, place))


def is_there(suite=SUITE):
    """Tell whether tree would have nothing to make."""
    return (packages.CACHE / _name(suite)).is_dir()


def _name(suite):
    return f"systemd-{suite}"


def _build(suite, place):
    packages.debian_tree(place, suite, *INSTALLED)
    (place / "usr/sbin/policy-rc.d").unlink()  # here services are to be started
    for name in MASKED:
        path = place / "etc/systemd/system" / name
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/null")
    for name in (
        "docker.service",
        "docker.socket",
        "containerd.service",
    ):  # a root's owner enables them
        for directory in (place / "etc/systemd/system").glob("*.wants"):
            (directory / name).unlink(missing_ok=True)
    (place / "etc/machine-id").write_text("")
    (place / "etc/default/docker").write_text(
        'DOCKER_OPTS="--bridge=none --iptables=false --ip6tables=false --ip-masq=false"\n'
    )


class SystemdRoot:
    """One root; name is that of its cgroups. host is a lab host that is up, or None.

    Its files are in memory and vanish with it.
    """

    def __init__(self, directory, name, host=None, suite=SUITE):
        self.directory = Path(directory)
        self.host = host
        self.name = name if host is None else host.name
        self._suite = suite
        self._group = ControlGroup(name if host is None else f"{host.full_name}/{name}")
        self._pid = None
        self._boot_pipe = None

    # -- up, boot, down

    def up(self):
        """Make the root and its first process, which waits for boot."""
        lower = tree(self._suite)
        self.directory.mkdir(parents=True, exist_ok=True)
        reader, self._boot_pipe = os.pipe()
        around = (
            ["unshare", "-n"]
            if self.host is None
            else ["nsenter", "-t", self.host.first_process(), "-m", "-n", "-p", "--"]
        )
        argv = [
            "setsid",
            "-f",
            "sh",
            HERE / "join.sh",
            *self._group.create(),
            "--",
            *around,
            "unshare",
            "-m",
            "-u",
            "-i",
            "-p",
            "-C",
            "-f",
            "--kill-child",
            "--propagation",
            "private",
            sys.executable,
            "-m",
            "nuage_lab.hosts.systemd_init",
            "--tree",
            lower,
            "--hostname",
            self.name,
            "--boot-fd",
            reader,
        ]
        for controllers, mount in self._group.mounts():
            argv += ["--cgroup", f"{controllers}@{mount}"]
        unified = next((h for h in self._group.hierarchies if h.version == 2), None)
        if unified is not None and not self._group.is_pure_v2:
            argv += ["--unified", unified.mount_point.name]
        if self.host is not None:
            argv += ["--show", "/run/openvswitch"]
        try:
            start_first_process(
                argv, self.directory / "init.log", f"the root {self.name}", [reader]
            )
        finally:
            os.close(reader)
        self._pid = self._find_first_process()

    def _find_first_process(self):
        """The outermost process of the cgroups that is a pid 1."""
        numbers = {pid: namespace_pids(pid) for pid in self._group.pids()}
        found = [
            pid
            for pid, inside in numbers.items()
            if inside[-1:] == ["1"] and len(inside) == 2 + (self.host is not None)
        ]
        if len(found) != 1:
            raise LabError(
                f"the root {self.name} has {len(found)} first processes; "
                f"{self.directory / 'init.log'} may tell why"
            )
        return found[0]

    def boot(self, timeout=BOOT_TIMEOUT_S):
        """Let systemd start what is enabled, and wait until it has.

        Services that failed are in the result of `systemctl --failed`.
        """
        os.write(self._boot_pipe, b"boot\n")
        os.close(self._boot_pipe)
        self._boot_pipe = None
        wait_until(
            lambda: self._state() in ("running", "degraded"),
            timeout,
            f"systemd of {self.name} has started everything",
            pause=0.1,
        )

    def _state(self):
        """What systemd says of itself; empty while it does not listen yet."""
        return self.run("systemctl", "is-system-running", check=False).stdout.strip()

    def down(self):
        """Kill everything in the root and remove its cgroups. Idempotent."""
        if self._boot_pipe is not None:
            os.close(self._boot_pipe)
            self._boot_pipe = None
        if self._pid is not None:
            kill(self._pid)
            self._pid = None

        def is_gone():
            for pid in self._group.pids():
                kill(pid)
            return self._group.remove()

        wait_until(is_gone, DOWN_TIMEOUT_S, f"processes and cgroups of the root {self.name} vanish")

    # -- in it

    def path(self, inside):
        """Return where this machine sees a path of the root."""
        return Path(f"/proc/{self._pid}/root") / str(inside).lstrip("/")

    def command(self, argv):
        """Return the argument list that runs argv inside."""
        if self._pid is None:
            raise LabError(f"the root {self.name} is down")
        return [
            "nsenter",
            "-t",
            str(self._pid),
            "-m",
            "-n",
            "-u",
            "-i",
            "-p",
            "-C",
            "--",
            *map(str, argv),
        ]

    def environment(self):
        """Return the environment of the root's commands."""
        return {
            "PATH": ENVIRONMENT["PATH"],
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            "SYSTEMD_PAGER": "",
            "SYSTEMD_COLORS": "0",
        }

    def exec(self, argv, input=None, timeout=60.0, check=True):
        """Run argv to its end; LabError at the limit and, with check, at a failure."""
        return run(
            self.command(argv), input=input, timeout=timeout, check=check, env=self.environment()
        )

    def run(self, *argv, **options):
        """Run a command in the root, as exec does, given as words."""
        return self.exec(argv, **options)

    def popen(self, argv, **options):
        """Start argv and return the Popen, in a session of its own; end it with kill_session."""
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
            "start_new_session": True,
            "env": self.environment(),
            **options,
        }
        return subprocess.Popen(self.command(argv), **options)

    def docker(self, *words, input=None, timeout=60.0, check=True):
        """Run the root's own docker client."""
        return self.exec(["docker", *words], input=input, timeout=timeout, check=check)

    def put(self, source, inside, mode=0o644):
        """Copy a file of this machine into the root."""
        target = self.path(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(mode)

    def write(self, inside, text, mode=0o644):
        """Write a file of the root."""
        target = self.path(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    # -- units

    def show(self, unit, *names):
        """Return a unit's properties, as texts; one name gives one text."""
        text = self.run("systemctl", "show", unit, *(f"--property={name}" for name in names)).stdout
        found = dict(line.partition("=")[::2] for line in text.splitlines())
        return found[names[0]] if len(names) == 1 else found

    def pids(self, unit):
        """Return the pids, as the root counts them, of a unit's processes, the oldest first."""
        path = self.show(unit, "ControlGroup")
        top = next(
            h for h in self._group.hierarchies if h.version == 2 or "name=systemd" in h.controllers
        )
        return (
            sorted(
                int(namespace_pids(pid)[-1])
                for pid in read_pids(top.mount_point / self._group.name / path.lstrip("/"))
            )
            if path
            else []
        )

    def journal(self, unit=None):
        """Return the journal, or what a unit wrote and what systemd says of it.

        All that was written before this call is in it.
        """
        self.run("journalctl", "--sync", check=False)
        return self.run(
            "journalctl",
            "--no-pager",
            "-o",
            "short-monotonic",
            *(("-u", unit) if unit else ()),
            check=False,
        ).stdout
