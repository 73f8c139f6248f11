"""Owns the WSGI boundary and the HTTPS server: decoding, faults, delays, logging, cut connections.

Never knows a resource. The only place that catches any exception; it answers with a 500.
"""

import errno
import json
import socket
import ssl
import struct
import sys
import time
import traceback
from datetime import datetime, timezone

import bottle
import gevent
from gevent import pywsgi

from .errors import ApiError, Confirmation, conflict, malformed
from .rest import JSON, Reply, Request, empty, html_reply, json_reply, unauthorized

_CONNECTION = "nuage_lab.connection"
_HANG_S = 3600


class Handler(pywsgi.WSGIHandler):
    """Gives the application the connection, so that a fault can cut it.

    Sends small replies without delay.
    """

    def __init__(self, sock, address, server, *arguments, **options):
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(sock, address, server, *arguments, **options)

    def read_request(self, raw_requestline):
        """Read a request; reads a HEAD with a body like a GET.

        Field SDKs send their counting HEAD with the body `null`.
        """
        verb, space, rest = raw_requestline.partition(" ")
        is_read = super().read_request("GET" + space + rest if verb == "HEAD" else raw_requestline)
        if verb == "HEAD":
            self.command = verb
        return is_read

    def log_error(self, msg, *args):
        """Write nothing: a request that is not HTTP is the client's mistake; it gets its 400."""

    def handle_error(self, kind, error, trace):
        """Treat a connection that its client closed before the answer as normal."""
        if issubclass(kind, (ssl.SSLError, ConnectionError)):
            self.close_connection = True
        else:
            super().handle_error(kind, error, trace)

    def get_environ(self):
        """Return the WSGI environment of a request."""
        environ = super().get_environ()
        environ[_CONNECTION] = self.socket
        return environ

    def _write_with_headers(self, data):
        """Send headers and body at once.

        Two TLS records cost nearly twice as much as one, here and at the client.
        """
        pieces = []
        self._sendall = pieces.append
        try:
            super()._write_with_headers(data)
        finally:
            del self._sendall
        self._sendall(b"".join(pieces))


class Server(pywsgi.WSGIServer):
    """A server that treats a failed TLS handshake as normal."""

    def wrap_socket_and_handle(self, client_socket, address):
        """Serve one TLS connection."""
        try:
            return super().wrap_socket_and_handle(client_socket, address)
        except (ssl.SSLError, ConnectionError):
            return None


class Gate:
    """Serves the REST interface of one simulator as a bottle application."""

    def __init__(self, rest, settings, faults, log):
        self._rest = rest
        self._settings = settings
        self._faults = faults
        self._log = log
        self.app = bottle.Bottle(catchall=False)
        self.app.route("/<path:path>", method="ANY", callback=self.serve)

    def serve(self, path):
        """Answer one HTTP request; switches greenlets."""
        environ = bottle.request.environ
        started, at = time.monotonic(), datetime.now(timezone.utc)
        version, inner = _split(path)
        request = Request(
            environ["REQUEST_METHOD"],
            version,
            inner,
            _header_reader(environ),
            {name: values[-1] for name, values in bottle.request.query.dict.items()},
            bottle.request.query.dict,
            certificate_name=_certificate_name(environ[_CONNECTION]),
        )
        try:
            # Not bottle's body: the server has joined the chunks already.
            request.body = environ["wsgi.input"].read()
        except OSError as problem:  # malformed chunks, or the client closed the connection
            reply = json_reply(400, malformed(f"The body cannot be read: {problem}.").body())
            self._note(request, environ, reply.status, started, at)
            return bottle.HTTPResponse(
                reply.body, reply.status, {**reply.headers, "Connection": "close"}
            )
        fault = self._faults.pick(request.method, (inner, "/" + path))
        status = None
        try:
            reply = self._perform(request, fault)
            status = reply.status if reply is not None else None
        finally:
            self._note(request, environ, status, started, at)
        if reply is None:
            _cut(environ[_CONNECTION])
        return bottle.HTTPResponse(reply.body, reply.status, reply.headers)

    def _perform(self, request, fault):
        """Return the reply, or None if the connection is to be cut."""
        if self._settings.latency_ms:
            gevent.sleep(self._settings.latency_ms / 1000)
        action = fault.action if fault else None
        if action == "delay":
            gevent.sleep(1 if fault.seconds is None else fault.seconds)
        if action == "hang":
            # Ends when the rule is removed, lest the log shows this request in a later test.
            fault.is_cleared.wait(_HANG_S if fault.seconds is None else fault.seconds)
        if action in ("hang", "reset"):
            return None
        if action in _INSTEAD:
            return _INSTEAD[action](fault)
        try:
            reply = self._rest.handle(request)
        except Exception:  # the WSGI boundary: our own bug must not end the connection silently
            traceback.print_exc(file=sys.stderr)
            text = "The simulator has failed; see its standard error."
            return json_reply(500, ApiError(500, "Internal error", text).body())
        if action == "reset_after":
            return None
        if action == "malformed":
            return Reply(_with_body(reply), '[{"ID": "broken', {"Content-Type": JSON})
        if action in ("lose", "repeat"):
            return _damaged_page(reply, action)
        return empty(reply.status) if action == "empty" else reply

    def _note(self, request, environ, status, started, at):
        parts = [part for part in request.path.split("/") if part]
        pattern = "/".join(["", *(part if place != 1 else "*" for place, part in enumerate(parts))])
        self._log.note(
            {
                "time": at.isoformat(timespec="milliseconds"),
                "method": request.method,
                "path": request.path,
                "query": environ.get("QUERY_STRING", ""),
                "version": request.version,
                "filter": request.header("X-Nuage-Filter"),
                "status": status,
                "ms": round((time.monotonic() - started) * 1000, 2),
                "user": request.caller.user_name if request.caller else None,
                "client": (request.header("X-Nuage-ClientType") or "")[:40] or None,
            },
            f"{request.method} {pattern}",
        )


# The replies that an ordered fault sends instead of the simulator's, by action.
_INSTEAD = {
    "401": lambda fault: unauthorized(),
    "409": lambda fault: json_reply(
        409, conflict("Ordered conflict", "A test asked for this.", code=fault.code).body()
    ),
    "500": lambda fault: json_reply(
        500, ApiError(500, "Server error", "A test asked for this.", code=fault.code).body()
    ),
    "503": lambda fault: json_reply(
        503, {"errors": "Service is unavailable", "description": "A test asked for this."}
    ),
    "503html": lambda fault: html_reply(503, "Service Unavailable"),
    "300": lambda fault: json_reply(300, Confirmation("A test asks: continue?").body()),
}


def _damaged_page(reply, action):
    """Return a page without its last object, or with its first one in the place of the last.

    Its headers stay as they were.
    """
    objects = json.loads(reply.body) if reply.body else None
    if isinstance(objects, list) and objects:
        reply.body = json.dumps(
            objects[:-1] + (objects[:1] if action == "repeat" and len(objects) > 1 else [])
        )
    return reply


def _with_body(reply):
    return 200 if reply.status == 204 else reply.status


def _split(path):
    words = path.split("/", 3)
    if words[:2] == ["nuage", "api"] and len(words) > 2:
        return words[2], "/" + (words[3] if len(words) > 3 else "")
    return "", "/" + path


def _certificate_name(connection):
    certificate = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    for (name, value), *_ in (certificate or {}).get("subject", ()):
        if name == "commonName":
            return value
    return None


def _header_reader(environ):
    def header(name):
        value = environ.get("HTTP_" + name.upper().replace("-", "_"))
        if value is None or value.isascii():
            return value
        try:
            return value.encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            return value

    return header


def _cut(connection):
    """End a TCP connection by RST and leave the request unanswered."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise OSError(errno.ECONNRESET, "cut by an ordered fault")


def make_server(listener, app, ssl_context=None):
    """Build a server for a listening socket or an address; TLS if a context is given."""
    options = {"ssl_context": ssl_context} if ssl_context is not None else {}
    return Server(listener, app, log=None, handler_class=Handler, **options)
