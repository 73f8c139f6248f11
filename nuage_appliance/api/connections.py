"""HTTP/1.1 on a plugin socket: the connections, their bound, and input that is not a request.

Owns the connections. Whatever goes wrong before there is a request is answered in the one form of
error. Must never end a connection that carries an unanswered call.

An engine keeps connections open between its calls, and several of them where it calls in parallel.
So a connection has one of two states: it is idle (in `Server.idle`, the longest idle one first), or
a call is being served on it. Above the bound a new connection takes the place of the longest idle
one. A call may be on its way on just that connection, sent before the engine could see it end. The
connection is therefore closed for reading only: what was sent before is still answered, with
`Connection: close`, and a client that sends later sees the end before it has sent anything that
could have taken effect.
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
    """Gevent's server with a bound on connections, `most`.

    A new connection takes the place of the one that is idle for longest. The engine keeps idle
    connections and no timer ends them (libnetwork §8 row 3), so only their number can be bounded.
    """

    def __init__(self, listener: socket.socket, application: Callable[..., Any], most: int) -> None:
        super().__init__(
            listener,
            application,
            log=None,
            error_log=LoggingLogAdapter(_log, logging.DEBUG),
            handler_class=_Handler,
        )
        self.most = most
        self.connections = 0
        # Connections without a call, in the order in which they became idle; a set with an order.
        self.idle: dict[_Handler, None] = {}

    def handle(self, sock: Any, address: Any) -> None:
        """Serve one connection until it ends, or refuse it when too many are busy."""
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
            # The client may be gone before it reads that it sent no request.
            with contextlib.suppress(OSError):
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
            # A client that is still sending would get a reset instead of the answer.
            while sock.recv(PIECE_BYTES):
                pass


class _Handler(WSGIHandler):
    """Gevent's handler, but what is wrong in HTTP is answered with the error envelope."""

    server: Server
    path: str
    _is_last = False

    def make_place(self) -> None:
        """End the connection, but answer a call that was sent before and not read yet."""
        self._is_last = True
        # A duplicate, because shutting down gevent's own socket makes its waiting read fail.
        with contextlib.suppress(OSError), self.socket.dup() as twin:
            twin.shutdown(socket.SHUT_RD)

    def handle_one_request(self) -> Any:
        """As gevent's, but input that is not a request is answered with the error envelope."""
        result = super().handle_one_request()
        if isinstance(result, tuple):
            status = "414 URI Too Long" if result[0] == "414" else "400 Bad Request"
            return status, _last_answer(
                status, "this is not a plugin request: its head is not one of HTTP/1.1 (RFC 9112)"
            )
        return result

    def handle_one_response(self) -> None:
        """As gevent's, but not idle meanwhile, and with a limit for a client that stops sending."""
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
        """As gevent's, but the last answer of a connection has `Connection: close`."""
        if self._is_last:
            headers = [*headers, ("Connection", "close")]
        write: Callable[[bytes], None] = super().start_response(status, headers, exc_info)
        return write

    def read_request(self, raw_requestline: str) -> Any:
        """As gevent's, but a head with too many lines is the client's mistake."""
        try:
            is_request = super().read_request(raw_requestline)
            # A server must take a request whose target is in absolute form, see RFC 9112.
            if self.path[:7].lower() == "http://":
                self.path = "/" + self.path[7:].partition("/")[2]
            return is_request
        except (http.client.HTTPException, OSError) as error:
            # An OSError when make_place() closed this side meanwhile.
            raise ValueError(str(error)) from None

    def log_request(self) -> None:
        """The application logs what matters."""

    def log_error(self, msg: str, *args: Any) -> None:
        """Called by gevent for what it could not read."""
        _log.debug("a request was not HTTP: " + msg, *args)


def envelope(message: str) -> bytes:
    """The body of an error, which every engine shows in plain words.

    An engine reads `Err` from one driver type and `Error` from the other (libnetwork §1.4).
    """
    return json.dumps({"Err": message, "Error": message}).encode()


def _last_answer(status: str, message: str) -> bytes:
    """A whole answer that ends the connection, for what is refused before there is a request."""
    body = envelope(message)
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
