"""The plugin socket's server without a process around it: what becomes of a connection that must
make place for another.
"""

import json
import socket

import gevent
import gevent.socket
import pytest

from nuage_appliance.api import connections, plugin_server
from nuage_appliance.base import unix_socket

_CALL = b"POST /NetworkDriver.Leave HTTP/1.1\r\nHost:\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def server(tmp_path, monkeypatch):
    for module in (unix_socket, connections):
        # As in the appliance, where gevent has replaced the whole library.
        monkeypatch.setattr(module, "socket", gevent.socket)
    made = plugin_server.PluginServer(
        str(tmp_path / "nuage.sock"),
        ["NetworkDriver"],
        {"NetworkDriver.Leave": lambda _request: {"Left": True}},
        frozenset(),
        lambda: 5.0,
    )
    made.start()
    yield made
    made.close()


@pytest.fixture
def client(server):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.connect(server.path)
        made.setblocking(False)
        made.sendall(_CALL)
        assert b"200 OK" in _told(made)
        yield made


def _told(client):
    """What the server sent within a moment; empty when it ended the connection. The client is no
    greenlet: it does not wait itself.
    """
    for _ in range(500):
        gevent.sleep(0.01)
        try:
            return client.recv(65536)
        except BlockingIOError:
            pass
    raise AssertionError("nothing came within 5 s")


def _only_connection(server):
    (found,) = server._server.idle
    return found


def test_a_connection_that_makes_place_is_ended(server, client):
    _only_connection(server).make_place()
    assert _told(client) == b""
    assert server._server.connections == 0 and not server._server.idle


def test_a_call_that_was_sent_before_its_connection_had_to_make_place_is_answered(server, client):
    client.sendall(_CALL)
    _only_connection(server).make_place()
    head, _, body = _told(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK") and b"Connection: close" in head
    assert json.loads(body) == {"Left": True}
    assert _told(client) == b""
    assert server._server.connections == 0 and not server._server.idle
