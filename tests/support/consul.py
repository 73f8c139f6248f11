"""A real Consul for contract tests: one server on an address that the tests' own network and every
Host reach.

The binary is the one that the lab has fetched; a test that needs it skips with a reason where it is
not there.
"""

import base64
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
import uuid
from pathlib import Path

import pytest
import requests

from nuage_lab import stores
from nuage_lab.vsd import certificates
from tests.support.host import VSD_ADDRESS

START_S = 60.0
RULES = """key_prefix "nuage-libnetwork/" { policy = "write" }
service "nuage-libnetwork" { policy = "write" }
session_prefix "" { policy = "write" }
node_prefix "" { policy = "read" }
"""  # what docs/MULTIHOST.md asks for


def why_not():
    """Return why no Consul can run here, or None."""
    return (
        None
        if stores.CONSUL.exists()
        else (
            f"there is no Consul in {stores.CONSUL.parents[2].name} of the lab's cache: run "
            "scripts/lab fetch"
        )
    )


class Consul:
    """`consul agent -server`. Its ports and its data directory stay the same over every stop and
    start.
    """

    def __init__(self, address=VSD_ADDRESS, acl=False, tls=False):
        """With `acl` nothing is allowed without a token, with `tls` it speaks https only; skips the
        test when none can run here.
        """
        if why_not():
            pytest.skip(why_not())
        self.directory = Path(tempfile.mkdtemp(prefix="consul-"))
        self.data = self.directory / "data"
        subprocess.run(["ip", "addr", "replace", f"{address}/32", "dev", "lo"], check=True)
        http, https, serf_lan, serf_wan, server = _free_ports(address, 5)
        self.address, self.port = address, https if tls else http
        self.url = f"{'https' if tls else 'http'}://{address}:{self.port}"
        self.token = str(uuid.uuid4()) if acl else ""
        self.ca_file = ""
        settings = {
            "server": True,
            "bootstrap_expect": 1,
            "bind_addr": address,
            "client_addr": address,
            "node_name": "consul",
            "disable_host_node_id": True,
            "data_dir": str(self.data),
            "disable_update_check": True,
            "performance": {"raft_multiplier": 1},
            "log_level": "info",
            "ports": {
                "http": -1 if tls else http,
                "https": https if tls else -1,
                "serf_lan": serf_lan,
                "serf_wan": serf_wan,
                "server": server,
                "dns": -1,
                "grpc": -1,
            },
        }
        if acl:
            settings["acl"] = {
                "enabled": True,
                "default_policy": "deny",
                "tokens": {"master": self.token, "agent": self.token},
            }
        if tls:
            made = certificates.provide(self.directory, [address])
            self.ca_file = str(made.ca_file)
            settings |= {"cert_file": str(made.certificate), "key_file": str(made.key)}
        self._settings = self.directory / "settings.json"
        self._settings.write_text(json.dumps(settings))
        self.process = None
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = self.ca_file or True
        self.start()

    # -- the process

    def start(self):
        """Start on the data that is there; returns when it can be written to."""
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [stores.CONSUL, "agent", "-config-file", self._settings], stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            assert self.process.poll() is None and time.monotonic() < deadline, (
                f"Consul does not come up:\n{self.log()[-3000:]}"
            )
            time.sleep(0.05)

    def _is_ready(self):
        try:
            return self.ask("PUT", "/v1/kv/tests-ready", b"", timeout_s=5) is True
        except (requests.RequestException, AssertionError):
            return False

    def stop(self):
        """A clean end; the data stays."""
        self._end(signal.SIGTERM)

    def kill(self):
        """`kill -9`; the data stays."""
        self._end(signal.SIGKILL)

    def _end(self, number):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def restart_with_data(self):
        """`kill -9` and start again."""
        self.kill()
        self.start()

    def restart_empty(self):
        """`kill -9`, and start again on an empty disk."""
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)
        self.start()

    @contextlib.contextmanager
    def hanging(self):
        """It takes connections and answers nothing for as long as the block lasts."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def log(self):
        """What it wrote."""
        return (self.directory / "log").read_text(encoding="utf-8", errors="replace")

    def close(self):
        """End it and remove everything."""
        self._end(signal.SIGKILL)
        self._session.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- what it holds

    def ask(self, verb, path, body=None, timeout_s=10):
        """One request; returns the decoded answer, None for 404 and for an empty one. Asserts
        success.
        """
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        answer = self._session.request(
            verb,
            self.url + path,
            data=data,
            timeout=timeout_s,
            headers={"X-Consul-Token": self.token} if self.token else {},
        )
        if answer.status_code == 404:
            return None
        assert answer.status_code == 200, f"{verb} {path}: {answer.status_code} {answer.text[:300]}"
        return answer.json() if answer.content.strip() else None

    def keys(self, prefix=""):
        """Every key below a prefix with its value as bytes."""
        entries = self.ask("GET", f"/v1/kv/{urllib.parse.quote(prefix)}?recurse=1") or []
        return {entry["Key"]: _decoded(entry["Value"]) for entry in entries}

    def get(self, key):
        """A key's decoded JSON value, or None."""
        value = self.keys(key).get(key)
        return None if value is None else json.loads(value)

    def put(self, key, value):
        """Write a key: bytes as they are, anything else as JSON."""
        assert (
            self.ask(
                "PUT",
                f"/v1/kv/{urllib.parse.quote(key)}",
                value if isinstance(value, bytes) else json.dumps(value).encode(),
            )
            is True
        )

    def delete(self, prefix):
        """Remove every key below a prefix."""
        assert self.ask("DELETE", f"/v1/kv/{urllib.parse.quote(prefix)}?recurse=1") is True

    def checks(self):
        """The state and the note of each registered service's check, by the service's id."""
        found = {}
        for item in self.ask("GET", "/v1/health/service/nuage-libnetwork") or []:
            check = next(check for check in item["Checks"] if check.get("ServiceID"))
            found[item["Service"]["ID"]] = (check["Status"], check["Output"])
        return found

    def make_token(self, rules):
        """A new token with a policy of these rules."""
        name = f"policy-{uuid.uuid4()}"
        self.ask("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        return self.ask("PUT", "/v1/acl/token", {"Policies": [{"Name": name}]})["SecretID"]


def _decoded(text):
    return base64.b64decode(text) if text else b""


def _free_ports(address, count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((address, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
