"""A long-running program in a lab host: start, wait until it serves, signal, stop."""

import subprocess
from pathlib import Path
from signal import SIGKILL, SIGTERM

from nuage_lab.hosts.host import HERE
from nuage_lab.hosts.run import LabError, wait_until


class Daemon:
    """A program of a host.

    Its pid is in a file of the host's /run, so that any process can find it.

    is_ready is called until it is true after a start; it may raise OSError or LabError for "not
    yet".
    """

    def __init__(self, host, name, argv, is_ready, timeout=60.0):
        self.host = host
        self.name = name
        self.argv = [str(word) for word in argv]
        self.is_ready = is_ready
        self.timeout = timeout
        self.pid_file = f"/run/nuage-lab/{name}.pid"
        self.log = host.log / f"{name}.log"

    def pid(self):
        """Return the pid in the host, or None when it does not run."""
        try:
            pid = int(self.host.path(self.pid_file).read_text())
            state = self.host.path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError, LabError):
            return None
        return None if state in "ZX" else pid

    def is_running(self):
        """Tell whether the program runs."""
        return self.pid() is not None

    def start(self, extra=(), wait=True):
        """Start the program, unless it runs, and wait until it serves."""
        if self.is_running():
            return
        argv = [
            "setsid",
            "-f",
            "sh",
            str(HERE / "daemon.sh"),
            self.pid_file,
            *self.argv,
            *map(str, extra),
        ]
        self._forget()
        with open(self.log, "ab") as log:
            starter = subprocess.Popen(
                self.host.command(argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self.host.environment(),
            )
        if starter.wait(timeout=60):
            raise LabError(
                f"{self.name} on {self.host.name} did not start; "
                f"{self.log} ends with: {self.tail()}"
            )
        if wait:
            self.wait_ready()

    def wait_ready(self):
        """Wait until the program serves; LabError when it ends or takes too long."""
        wait_until(
            lambda: self.host.path(self.pid_file).exists(),
            30.0,
            f"{self.name} on {self.host.name} starts",
        )
        wait_until(
            self._is_ready_or_dead,
            self.timeout,
            f"{self.name} on {self.host.name} serves (log: {self.log})",
        )

    def _is_ready_or_dead(self):
        if not self.is_running():
            raise LabError(
                f"{self.name} on {self.host.name} ended; {self.log} ends with: {self.tail()}"
            )
        try:
            return self.is_ready()
        except (OSError, LabError):
            return False

    def signal(self, number):
        """Send a signal; nothing happens when the program does not run."""
        pid = self.pid()
        if pid is not None:
            self.host.signal(pid, number)

    def stop(self, number=SIGTERM, timeout=60.0):
        """Send a signal and wait for the end, also that its pid is free: an engine takes a dead one
        that nobody has buried yet for a running engine.
        """
        pid = self.pid()
        self.signal(number)
        wait_until(lambda: not self.is_running(), timeout, f"{self.name} on {self.host.name} ends")
        if pid is not None:
            wait_until(
                lambda: not self.host.path(f"/proc/{pid}").exists(),
                timeout,
                f"the pid of {self.name} on {self.host.name} is free",
            )
        self._forget()

    def kill(self):
        """Kill the program and wait for its end."""
        self.stop(SIGKILL)

    def _forget(self):
        self.host.path(self.pid_file).unlink(missing_ok=True)

    def tail(self, lines=12, length=2000):
        """Return the last whole lines of the log, at most length characters."""
        if not Path(self.log).exists():
            return ""
        text = Path(self.log).read_text(errors="replace")
        whole = text[-length:]
        if len(whole) < len(text):
            whole = whole.partition("\n")[2] or whole
        return "\n".join(whole.splitlines()[-lines:])
