"""The Consul client and the environment of its process: the configuration alone counts."""

import http.server
import os
import threading

import pytest

from nuage_appliance.clients.consul import Consul


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers each request as Consul answers for a key that is not there, and notes it."""

    def do_GET(self):
        """Note the request."""
        self.server.seen.append((self.path, self.headers.get("X-Consul-Token")))
        self.send_response(404)
        self.send_header("X-Consul-Index", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server():
    """A server on the loopback that notes what it is asked."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as made:
        made.seen = []
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


_ENVIRONMENT = {
    "CONSUL_HTTP_ADDR": "no:address:at:all",
    "CONSUL_HTTP_SSL": "true",
    "CONSUL_HTTP_SSL_VERIFY": "false",
    "CONSUL_HTTP_TOKEN": "of-the-environment",
}


def test_the_environment_neither_counts_nor_changes(server, monkeypatch):
    for name, value in _ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    client = Consul(f"http://127.0.0.1:{server.server_port}", "of-the-configuration", "")
    assert client.read("nuage-libnetwork/key") is None
    (path, token), *more = server.seen
    assert not more
    assert path.startswith("/v1/kv/nuage-libnetwork/key")
    assert "of-the" not in path
    assert token == "of-the-configuration"
    assert {name: os.environ.get(name) for name in _ENVIRONMENT} == _ENVIRONMENT
