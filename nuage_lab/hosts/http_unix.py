"""HTTP with JSON over a unix socket, each call with a limit."""

import http.client
import json
import socket


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a unix socket; timeout is in seconds."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        """Connect; called by the base class."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def call(path, method, target, body=None, timeout=5.0, connection=None):
    """Send one request and return (status, decoded answer).

    Raises OSError when the server does not answer in time.
    """
    own = connection is None
    connection = connection or UnixConnection(path, timeout)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(
            method, target, data, {"Content-Type": "application/json"} if data else {}
        )
        response = connection.getresponse()
        text = response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"{method} {target}: {error!r}") from error
    finally:
        if own:
            connection.close()
    try:
        return response.status, json.loads(text) if text else {}
    except ValueError:
        return response.status, text.decode(errors="replace")
