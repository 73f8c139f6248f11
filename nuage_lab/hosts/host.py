"""One lab host: its namespaces, its pid 1, and how a command gets inside.

Knows nothing of what runs in it.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from nuage_lab.hosts import underlay
from nuage_lab.hosts.cgroups import ControlGroup
from nuage_lab.hosts.run import LabError, run, wait_until

CACHE = Path(
    os.environ.get("NUAGE_LAB_CACHE") or "/var/cache/nuage-lab"
)  # programs that the machine does not install
HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
# The packaged engine's client comes before one that was installed by hand.
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PYTHONPATH": str(REPOSITORY),
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}
ENGINE_ROOT = "/run/nuage-lab/engine"
ENGINE_CLIENT = (
    "/run/nuage-lab/bin"  # has the `docker` of the engine's tree; first in the host's PATH
)
START_TIMEOUT_S = 15.0
DOWN_TIMEOUT_S = 120.0  # a host with a thousand ports takes the kernel more than ten seconds


@dataclass(frozen=True)
class Place:
    """Where a lab keeps things: its state directory and the prefix of its namespaces' and cgroups'
    names.
    """

    state: Path
    prefix: str = "nuage-lab"
    cgroup_mode: str = "auto"


@dataclass(frozen=True)
class HostSpec:
    """What may differ from host to host. engine_tree is another Debian's tree: it is at ENGINE_ROOT
    in the host, for the engine alone.
    """

    engine_tree: str = ""
    dockerd: tuple = ("dockerd",)
    dockerd_args: tuple = (
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-masq=false",
        "--exec-opt=native.cgroupdriver=cgroupfs",
    )
    appliance: tuple = ()
    environment: dict = field(default_factory=dict)


class Host:
    """A host named h1, h2, …, or infra, which has the underlay bridges and the VSD simulator
    instead of an engine.
    """

    def __init__(self, place, name, spec=HostSpec()):
        self.place = place
        self.name = name
        self.spec = spec
        self.index = 0 if name == "infra" else int(name[1:])
        self.full_name = f"{place.prefix}-{name}"
        self.directory = place.state / name
        self.log = place.state / "log" / name
        self._group = ControlGroup(self.full_name, place.cgroup_mode)
        self._first_process = None

    @property
    def address(self):
        """The address of eth0."""
        return underlay.host_address(self.index) if self.index else underlay.INFRA_ADDRESS

    def first_process(self):
        """Return the machine's pid of this host's pid 1, or None when the host is down."""
        if self._first_process is None or not os.path.exists(f"/proc/{self._first_process}/root"):
            self._first_process = self._group.machine_pid(1)
        return self._first_process

    def signal(self, pid, number):
        """Send a signal to the process that has this pid in the host.

        Nothing happens when it is gone.
        """
        found = self._group.machine_pid(pid)
        if found is not None:
            kill(found, number)

    def path(self, inside):
        """Return where the machine sees a path of the host. Sockets and files alike."""
        pid = self.first_process()
        if pid is None:
            raise LabError(f"host {self.name} is down; `scripts/lab up` starts it")
        return Path(f"/proc/{pid}/root") / str(inside).lstrip("/")

    # -- up and down

    def up(self):
        """Bring the host up: network namespace, wires, cgroups, pid 1."""
        for directory in (self.directory, self.log):
            directory.mkdir(parents=True, exist_ok=True)
        underlay.add_namespace(self.full_name)
        if self.index:
            underlay.plug_host(f"{self.place.prefix}-infra", self.full_name, self.index)
            underlay.allow_forwarding(self.full_name)
        else:
            underlay.add_bridges(self.full_name)
        self._start_first_process(self._group.create())
        self._group.settle()

    def _start_first_process(self, cgroup_directories):
        argv = [
            "setsid",
            "-f",
            "sh",
            str(HERE / "join.sh"),
            *map(str, cgroup_directories),
            "--",
            "nsenter",
            f"--net=/run/netns/{self.full_name}",
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
            "-I",
            "-S",
            str(HERE / "init.py"),
            "--directory",
            str(self.directory),
            "--log",
            str(self.log),
            "--hostname",
            self.name,
        ]
        if self.spec.engine_tree:
            argv += [
                "--engine",
                self.spec.engine_tree,
                ENGINE_ROOT,
                ENGINE_CLIENT,
                str(self.place.state),
            ]
        for controllers, name in self._group.mounts():
            argv += ["--cgroup", f"{controllers}@{name}"]
        for path in visible_paths(self.place.state):
            argv += ["--show", path]
        start_first_process(argv, self.log / "init.log", f"host {self.name}")

    def is_up(self):
        """Tell whether the host has its network namespace and its pid 1."""
        return underlay.namespace_exists(self.full_name) and self.first_process() is not None

    def down(self):
        """Kill the host's pid 1, and with it everything in the host; remove what the host had.

        Idempotent.
        """
        first = self._group.machine_pid(1)
        if first is not None:
            kill(first)

        def is_gone():
            # What is left is unshare itself, or the start of a host that came to no pid 1: all in
            # our cgroup.
            for pid in self._group.pids():
                kill(pid)
            return self._group.remove()

        wait_until(is_gone, DOWN_TIMEOUT_S, f"processes and cgroups of host {self.name} vanish")
        underlay.delete_namespace(self.full_name)
        self._first_process = None

    def wipe(self):
        """Delete the host's files except its logs. The host must be down."""
        if self.is_up():
            raise LabError(f"host {self.name} is up")
        shutil.rmtree(self.directory, ignore_errors=False, onerror=_unless_missing)

    # -- commands

    def command(self, argv):
        """Return the argument list that runs argv inside the host."""
        pid = self.first_process()
        if pid is None:
            raise LabError(f"host {self.name} is down; `scripts/lab up` starts it")
        return [
            "sh",
            str(HERE / "join.sh"),
            *map(str, self._group.entrances()),
            "--",
            "nsenter",
            "-t",
            str(pid),
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
        """Return the environment of the host's commands."""
        client = {"PATH": f"{ENGINE_CLIENT}:{ENVIRONMENT['PATH']}"} if self.spec.engine_tree else {}
        return {**ENVIRONMENT, **client, **self.spec.environment}

    def exec(self, argv, input=None, timeout=30.0, check=True):
        """Run argv in the host to its end; LabError at the limit and, with check, at a failure."""
        return run(
            self.command(argv),
            input=input,
            timeout=timeout,
            check=check,
            env=self.environment(),
            name=f"on {self.name}: {' '.join(map(str, argv))}",
        )

    def popen(self, argv, **options):
        """Start argv in the host and return the Popen, in a session of its own.

        End it with kill_session.
        """
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "start_new_session": True,
            "env": self.environment(),
            **options,
        }
        return subprocess.Popen(self.command(argv), **options)

    def docker(self, *words, input=None, timeout=60.0, check=True):
        """Run the docker client that is packaged with the host's engine."""
        return self.exec(["docker", *words], input=input, timeout=timeout, check=check)


def visible_paths(state):
    """Return the paths that every host sees at the same place as the machine: state, repository,
    Python, fetched programs.
    """
    paths = [str(state), str(REPOSITORY), sys.prefix, sys.base_prefix, str(CACHE)]
    return list(dict.fromkeys(os.path.realpath(path) for path in paths))


def start_first_process(argv, log, what, descriptors=()):
    """Run argv with `--ready-fd NUMBER`, and wait until "ready" is written to that.

    LabError with the end of its log when it is not.
    """
    reader, writer = os.pipe()
    try:
        with open(log, "ab") as output:
            subprocess.run(
                [*map(str, argv), "--ready-fd", str(writer)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[writer, *descriptors],
                env=ENVIRONMENT,
                check=True,
                timeout=START_TIMEOUT_S,
            )
        os.close(writer)
        writer = None
        readable, _, _ = select.select([reader], [], [], START_TIMEOUT_S)
        if not readable or os.read(reader, 16) != b"ready\n":
            raise LabError(f"{what} did not start; {log} ends with: {log.read_text()[-2000:]}")
    finally:
        os.close(reader)
        if writer is not None:
            os.close(writer)


def kill(pid, number=signal.SIGKILL):
    """Send a signal to one of the machine's processes; nothing happens when it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _unless_missing(function, path, failure):
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]
