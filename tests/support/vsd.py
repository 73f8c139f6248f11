"""Owns a VSD simulator that a test starts as a process of its own, and small clients for both of
its interfaces.

Never imports the simulator or the driver, and never patches the standard library.
"""

import base64
import http.client
import json
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

_ROOT = Path(__file__).resolve().parents[2]


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a unix socket."""

    def __init__(self, path, timeout_s):
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class VsdSimulator:
    """A running simulator; `url` is its base without the API root."""

    def __init__(self, *flags, start_timeout_s=60):
        """Start the simulator with further command line flags and wait until it serves."""
        self.state_dir = Path(tempfile.mkdtemp(prefix="vsd-"))
        self._errors = open(self.state_dir / "stderr.log", "wb")  # noqa: SIM115 open as long as the process
        command = [
            sys.executable,
            "-m",
            "nuage_lab.vsd",
            "--listen",
            "127.0.0.1:0",
            "--state-dir",
            str(self.state_dir),
            *flags,
        ]
        self.process = subprocess.Popen(
            command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=self._errors
        )
        words = dict(
            word.partition("=")[::2] for word in self._ready_line(start_timeout_s).split()[1:]
        )
        self.url = words["url"]
        self.ca_file = words["ca_file"]
        self.mtls_url = words.get("mtls_url")
        self.admin_socket = Path(words["admin_socket"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """End the process and return its exit status; the state directory is removed."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self._errors.close()
        shutil.rmtree(self.state_dir, ignore_errors=True)
        return self.process.returncode

    def errors(self):
        """Return what the simulator wrote to its standard error."""
        return (self.state_dir / "stderr.log").read_text(encoding="utf-8", errors="replace")

    def admin(self, method, path, body=None, timeout_s=60):
        """Call the admin interface and return the parsed body; raises RuntimeError for an error
        status.
        """
        connection = _UnixConnection(str(self.admin_socket), timeout_s)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            answer = reply.read().decode("utf-8")
        finally:
            connection.close()
        if reply.status >= 300:
            raise RuntimeError(f"{method} {path}: {reply.status} {answer}")
        return json.loads(answer)

    def client(self, user="csproot", password="csproot", organization="csp", version="v6"):
        """Return a client of the REST interface."""
        return VsdClient(self.url, self.ca_file, user, password, organization, version)

    def _ready_line(self, timeout_s):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if select.select([self.process.stdout], [], [], 0.1)[0]:
                line = self.process.stdout.readline().decode("utf-8")
                if line.startswith("ready "):
                    return line
            if self.process.poll() is not None:
                break
        errors = self.errors()
        self.stop()
        raise RuntimeError(f"the VSD simulator did not start:\n{errors}")


def refuses_to_start(*flags):
    """Start a simulator that must not start; returns the one line that it says, without the
    program's name.
    """
    done = subprocess.run(
        [sys.executable, "-m", "nuage_lab.vsd", "--listen", "127.0.0.1:0", *flags],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = done.stderr.splitlines()
    assert done.returncode in (1, 2) and done.stdout == "" and len(lines) == 1, done
    return lines[0].removeprefix("python -m nuage_lab.vsd: ")


class VsdClient:
    """A thin client for tests; every call returns (status, headers, parsed body, or None if there
    is none).

    A body that is not JSON is returned as text.
    """

    def __init__(self, url, ca_file, user, password, organization, version="v6"):
        self.base = f"{url}/nuage/api/{version}"
        self.user = user
        self.secret = password
        self.scheme = "XREST"
        self.organization = organization
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = ca_file

    def close(self):
        """Close the connections."""
        self.session.close()

    def me(self):
        """Log in; later calls use the API key. Returns the user's object."""
        status, _, body = self.get("/me")
        if status != 200:
            raise RuntimeError(f"GET /me: {status}")
        self.secret = body[0]["APIKey"]
        return body[0]

    def get(self, path, filter=None, page=None, page_size=None, order=None, **headers):
        """GET a path below the API root; keyword headers have _ for -."""
        wanted = {
            "X-Nuage-Filter": filter,
            "X-Nuage-Page": page,
            "X-Nuage-PageSize": page_size,
            "X-Nuage-OrderBy": order,
        }
        headers.update({name: str(value) for name, value in wanted.items() if value is not None})
        return self.call("GET", path, None, headers)

    def post(self, path, body=None, **headers):
        """POST a body as JSON."""
        return self.call("POST", path, {} if body is None else body, headers)

    def put(self, path, body, **headers):
        """PUT a body as JSON."""
        return self.call("PUT", path, body, headers)

    def patch(self, path, body, how):
        """PATCH a membership list; `how` is add or remove."""
        return self.call("PATCH", path, body, {"X-Nuage-PatchType": how})

    def delete(self, path, **headers):
        """DELETE an object."""
        return self.call("DELETE", path, None, headers)

    def call(self, method, path, body, headers):
        """Send any request."""
        coded = base64.b64encode(f"{self.user}:{self.secret}".encode()).decode("ascii")
        full = {"Content-Type": "application/json", "Authorization": f"{self.scheme} {coded}"}
        if self.organization is not None:
            full["X-Nuage-Organization"] = self.organization
        full.update({name.replace("_", "-"): value for name, value in headers.items()})
        text = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        reply = self.session.request(
            method, self.base + path, data=text, headers=full, timeout=60, allow_redirects=False
        )
        if not reply.content:
            return reply.status_code, reply.headers, None
        if "json" in reply.headers.get("Content-Type", ""):
            return reply.status_code, reply.headers, reply.json()
        return reply.status_code, reply.headers, reply.text
