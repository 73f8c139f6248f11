"""HTTP/1.1 on a plugin socket: connections, their bound, and what is no request.

Owns the connections. Whatever goes wrong before there is a request is told in the one form of error. Must never end a
connection with a call in it that was not answered.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent.pywsgi import LoggingLogAdapter, WSGIHandler, WSGIServer

_log = logging.getLogger(__name__)

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
PIECE_BYTES = 1 << 16
_CLIENT_S = 30.0
_REFUSAL_S = 1.0


class Server(WSGIServer):
    """Gevent's server with a bound on connections: a new one takes the place of the one that is idle for longest.

    The engine keeps idle connections and no timer ends them (libnetwork §8 row 3), so only their number can be bounded.
    """

    def __init__(self, listener: socket.socket, application: Callable[..., Any], most: int) -> None:
        super().__init__(
            listener,
            application,
            log=None,
            error_log=LoggingLogAdapter(_log, logging.DEBUG),
            handler_class=_Handler,
        )
        self.most, self.connections = most, 0
        self.idle: dict[_Handler, None] = {}

    def handle(self, sock: Any, address: Any) -> None:
        """Serve one connection until it ends, or refuse it when as many are busy as there may be."""
        if self.connections >= self.most:
            victim = next(iter(self.idle), None)
            if victim is None:
                self._refuse(sock)
                return
            self.idle.pop(victim)
            victim.make_place()
        self.connections += 1
        handler = _Handler(sock, address, self)
        self.idle[handler] = None
        try:
            with contextlib.suppress(
                OSError
            ):  # the client is gone when it is to be told that its request was none
                handler.handle()
        finally:
            self.connections -= 1
            self.idle.pop(handler, None)

    def _refuse(self, sock: Any) -> None:
        with contextlib.suppress(OSError, gevent.Timeout), gevent.Timeout(_REFUSAL_S):
            sock.sendall(
                _last_answer(
                    "503 Service Unavailable",
                    f"{self.most} connections are busy already; try again",
                )
            )
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(PIECE_BYTES):  # a client that is still sending would not see the answer
                pass


class _Handler(WSGIHandler):
    """Gevent's handler without its error page: whatever goes wrong in HTTP itself is answered with the envelope."""

    _is_last = False

    def make_place(self) -> None:
        """End the connection, but answer a call that was sent before now and not read yet: its client would not know what became of it."""
        self._is_last = True
        with (
            contextlib.suppress(OSError),
            self.socket.dup() as twin,
        ):  # its own shutdown would make the waiting read fail instead
            twin.shutdown(socket.SHUT_RD)

    def handle_one_request(self) -> Any:
        """As gevent's, but what is no request is told so in the envelope."""
        result = super().handle_one_request()
        if isinstance(result, tuple):
            status = "414 URI Too Long" if result[0] == "414" else "400 Bad Request"
            return status, _last_answer(
                status, "this is not a plugin request: its head is not one of HTTP/1.1 (RFC 9112)"
            )
        return result

    def handle_one_response(self) -> None:
        """As gevent's, but busy meanwhile, and with a limit for a client that stops in the midst of its body."""
        self.server.idle.pop(self, None)
        self.socket.settimeout(_CLIENT_S)
        try:
            super().handle_one_response()
        finally:
            if self.socket is not None and not self.rfile.closed:
                self.socket.settimeout(None)
                self.server.idle[self] = None

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """As gevent's, but the client is told when this answer is the connection's last."""
        return super().start_response(
            status, [*headers, ("Connection", "close")] if self._is_last else headers, exc_info
        )

    def read_request(self, raw_requestline: str) -> bool:
        """As gevent's, but a head with too many lines is the client's mistake and no failure of ours."""
        try:
            is_request = super().read_request(raw_requestline)
            if (
                self.path[:7].lower() == "http://"
            ):  # RFC 9112 §3.2.2: a server must take the absolute form
                self.path = "/" + self.path[7:].partition("/")[2]
            return is_request
        except (
            http.client.HTTPException,
            OSError,
        ) as error:  # an OSError: this side closed the connection
            raise ValueError(str(error)) from None

    def log_request(self) -> None:
        """The application logs what matters."""

    def log_error(self, msg: str, *args: Any) -> None:
        _log.debug("a request was not HTTP: " + msg, *args)


def envelope(message: str) -> bytes:
    """The error that every engine shows in plain words: `Err` for the network driver, both where it looks at one only."""
    return json.dumps({"Err": message, "Error": message}).encode()


def _last_answer(status: str, message: str) -> bytes:
    """A whole answer, after which the connection ends, for what is refused before there is a request."""
    body = envelope(message)
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        + body
    )
