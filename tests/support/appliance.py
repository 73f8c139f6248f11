"""The appliance as a process of its own, with a configuration in a directory of its own."""

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
# A wait costs nothing when all is well; on a busy machine anything may take long. What must be fast
# is measured where it is asserted.
PATIENCE_S = 60.0


def encode(text):
    """Base64, as the configuration wants credentials."""
    return base64.b64encode(text.encode()).decode()


class Appliance:
    """Starts `python -m nuage_appliance -config FILE`, as a user would."""

    def __init__(
        self,
        url,
        ovsdb_socket,
        docker_socket,
        *,
        cafile="",
        wait=True,
        module="nuage_appliance",
        environment=None,
        **settings,
    ):
        """`module` is what Python runs, with `environment` in addition to this process's."""
        self._module, self.environment_added = module, environment or {}
        self.directory = Path(tempfile.mkdtemp(prefix="nuage-"))
        self.plugins = str(self.directory / "plugins")
        self.config_path = self.directory / "nuage-libnetwork.yaml"
        self.log_path = self.directory / "log" / "nuage-libnetwork.log"
        self.settings = {
            "url": url,
            "username": encode("csproot"),
            "password": encode("csproot"),
            "organization": encode("csp"),
            "scope": "local",
            "loglevel": "Debug",
            "vrssocketfile": ovsdb_socket,
            "dockersocketfile": f"unix://{docker_socket}",
            "plugindir": self.plugins,
            "statedir": str(self.directory / "state"),
            "logfile": str(self.log_path),
            "statussocket": str(self.directory / "status.sock"),
            **({"cafile": cafile} if cafile else {}),
            **settings,
        }
        self.process = None
        self.write()
        try:
            self.start(wait)
        except BaseException:
            self.close()
            raise

    def write(self, **settings):
        """Write the configuration file, with some settings changed."""
        self.settings.update(settings)
        self.config_path.write_text(yaml.safe_dump(self.settings))

    @property
    def sockets(self):
        """The plugin sockets that must be there."""
        return [os.path.join(self.plugins, name) for name in ("nuage.sock", "nuage-ipam.sock")]

    def start(self, wait=True):
        """Start the process; returns when both sockets answer."""
        self._errors = open(self.directory / "stderr.log", "ab")  # noqa: SIM115 open as long as the process
        self.process = subprocess.Popen(
            self.command(), cwd=ROOT, env=self.environment, stdout=self._errors, stderr=self._errors
        )
        if wait:
            self.wait_until(lambda: all(map(self.listens, self.sockets)), what="the sockets")

    @staticmethod
    def listens(path):
        """True when somebody accepts connections at a socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except OSError:
                return False
        return True

    def kill(self, number=signal.SIGKILL):
        """Send a signal and wait for the end; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def restart(self, number=signal.SIGKILL):
        """End with a signal and start again."""
        self.kill(number)
        self.start()

    def status(self):
        """What the status socket answers."""
        return self.ask("GET", "/")

    def audit(self):
        """Have it audit now; returns what came of it."""
        return self.ask("POST", "/audit")

    @property
    def environment(self):
        """The environment of its process."""
        return {**os.environ, **self.environment_added}

    def command(self, *words):
        """The product's command line with this appliance's configuration."""
        return [sys.executable, "-m", self._module, "-config", str(self.config_path), *words]

    def ask(self, verb, path, timeout_s=PATIENCE_S):
        """What the status socket answers to one request."""
        connection = http.client.HTTPConnection("status", timeout=timeout_s)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(timeout_s)
        connection.sock.connect(str(self.directory / "status.sock"))
        connection.request(verb, path)
        return json.loads(connection.getresponse().read())

    def wait_until(self, condition, seconds=PATIENCE_S, what="it"):
        """Wait until `condition()` is true; fails with the end of the log."""

        def has_come():
            if condition():
                return True
            assert self.process.poll() is None, (
                f"the appliance ended with {self.process.returncode}: {self.errors()[-3000:]}"
            )
            return False

        wait_for(
            has_come,
            seconds,
            lambda: f"{what} did not happen in {seconds} s; the log ends:\n{self.errors()[-4000:]}",
        )

    def wait_ready(self):
        """Wait until VSD and VRS were read, also the list of this host's containers, which comes
        after the log-in.
        """

        def is_ready():
            components = self.status()["components"]
            is_listed = components["endpoints"]["problem"] in (
                "",
                *components["endpoints"]["unplugged"].values(),
            )
            return (
                is_listed and not components["vsd"]["problem"] and not components["vrs"]["problem"]
            )

        self.wait_until(is_ready, what="ready")

    def log(self):
        """The log file's text, rotated parts first."""
        paths = sorted(self.log_path.parent.glob(self.log_path.name + "*"), reverse=True)
        return "".join(path.read_text(encoding="utf-8") for path in paths)

    def errors(self):
        """What went to standard error."""
        return (self.directory / "stderr.log").read_text(encoding="utf-8", errors="replace")

    def close(self):
        """End the process, by force if it must be, and remove its directory."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)  # its running calls have ten seconds
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._errors.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
