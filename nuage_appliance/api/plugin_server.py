"""The plugin sockets: HTTP in, one JSON object out, one form of error.

Owns the sockets and the bound on running requests. Decodes by the bytes alone, because the engine
sends no Content-Type. Gives every request an id and a deadline, and turns every fault into the
envelope that the engine shows to the user. Must never answer an empty body with success, and never
let a failure of the appliance look like anything else.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import bottle
import gevent

from nuage_appliance.api.connections import CONTENT_TYPE, PIECE_BYTES, Server, envelope
from nuage_appliance.base import log
from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Fault, Refused, Unavailable
from nuage_appliance.base.unix_socket import UnixSocket

_log = logging.getLogger(__name__)

_LARGEST_BODY_BYTES = 4 << 20
_DRAINED_BYTES = 64 << 20
_MOST_REQUESTS = 1024
_MOST_CONNECTIONS = 2048
_BACKLOG = 1024
_VERBS = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"]


class Request:
    """The decoded body of one call, read field by field.

    null and missing are the same; a field of a wrong type raises Refused.
    """

    def __init__(self, method: str, body: Mapping[str, Any], deadline: Deadline) -> None:
        self.method = method
        self._body = body
        self.deadline = deadline

    def _field(self, name: str, kind: type, empty: Any, words: str) -> Any:
        value = self._body.get(name)
        if value is None:
            return empty
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise Refused(f"the field {name} is {type(value).__name__}, it must be {words}")
        return value

    def text(self, name: str) -> str:
        """A string, or an empty one."""
        return self._clean(name, self._field(name, str, "", "a string"))

    def _clean(self, name: str, value: str) -> str:
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise Refused(
                    f"the field {name} holds half a character; send valid UTF-8"
                ) from None
        return value

    def need(self, name: str, longest: int = 64) -> str:
        """A string that must be there, such as an id."""
        value = self.text(name)
        if not value:
            raise Refused(f"the field {name} is missing; nothing was changed")
        if len(value) > longest or not value.isprintable():
            raise Refused(
                f"the field {name} is not an identifier of at most {longest} printable characters; "
                "nothing was changed"
            )
        return value

    def flag(self, name: str) -> bool:
        """A boolean, or False."""
        return bool(self._field(name, bool, False, "true or false"))

    def mapping(self, name: str) -> dict[str, Any]:
        """An object, or an empty one."""
        found: dict[str, Any] = self._field(name, dict, {}, "an object")
        return found

    def texts(self, name: str) -> dict[str, str]:
        """An object of strings, such as the --ipam-opt options."""
        found = self.mapping(name)
        for key, value in found.items():
            if not isinstance(value, str):
                raise Refused(f"{name}.{key[:80]!r} is {type(value).__name__}, it must be a string")
            self._clean(name, value)
        return found

    def objects(self, name: str) -> list[dict[str, Any]]:
        """An array of objects, or an empty one."""
        found: list[Any] = self._field(name, list, [], "an array")
        if not all(isinstance(item, dict) for item in found):
            raise Refused(f"the field {name} must be an array of objects")
        return found

    def part(self, name: str) -> Request:
        """An object inside the body, read the same way."""
        return Request(self.method, self.mapping(name), self.deadline)


Handler = Callable[[Request], dict[str, Any]]


class PluginServer:
    """One plugin socket, serving the methods of one or both driver types."""

    def __init__(
        self,
        path: str,
        implements: list[str],
        methods: Mapping[str, Handler],
        bodiless: frozenset[str],
        seconds: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`methods` maps `Type.Method` to its handler; the engine calls `bodiless` without a body.

        `seconds` gives the time for one call.
        """
        self.path = path
        self._methods = methods
        self._bodiless = bodiless
        self._seconds = seconds
        self._clock = clock
        self._running = 0
        self._numbers = itertools.count(1)
        self._label = os.path.basename(path).removesuffix(".sock")
        self._server: Server | None = None
        self._socket = UnixSocket("plugin socket", path)
        app = bottle.Bottle()
        app.config["catchall"] = app.config["json.enable"] = False
        app.default_error_handler = self._misdirected
        app.route(
            "/Plugin.Activate",
            "POST",
            lambda: self._answer(200, {"Implements": implements}),
            skip=True,
        )
        app.route("/Plugin.Deactivate", "POST", lambda: self._answer(200, {}), skip=True)
        # A fixed path costs a look-up, a pattern a regular expression for each call.
        for known in methods:
            app.route(f"/{known}", "POST", functools.partial(self._call, known), skip=True)
        app.route("/<method:path>", _VERBS, self._call, skip=True)
        app.route("/", _VERBS, functools.partial(self._call, ""), skip=True)
        self._app = app

    # -- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bind and serve.

        A stale socket is replaced. Raises Refused for a live one, for a file that is not a socket,
        and when the socket cannot be made. Switches greenlets.
        """
        listener = self._socket.bind(_BACKLOG)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._server = Server(
            listener,
            self._wsgi,
            _MOST_CONNECTIONS if files < 0 else min(_MOST_CONNECTIONS, files // 4),
        )
        self._server.start()

    def remove_stale(self) -> None:
        """Remove a socket that nobody serves.

        Raises Refused for a live one and for a file that is not a socket; OSError. Switches
        greenlets.
        """
        self._socket.remove_stale()

    def stop_accepting(self) -> None:
        """Take no new connection; running requests go on."""
        if self._server is not None:
            self._server.stop_accepting()

    @property
    def running(self) -> int:
        """How many requests are being served."""
        return self._running

    def close(self) -> None:
        """Close and remove the socket, unless it is somebody else's by now."""
        if self._server is not None:
            self._server.stop(timeout=0.1)
            self._server = None
        self._socket.remove()

    # -- requests ---------------------------------------------------------------------------------

    def _wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        except Exception:
            number = next(self._numbers)
            _log.exception("internal error %s-%d before the method was known", self._label, number)
            body = envelope(f"internal error {self._label}-{number}; see the appliance's log")
            start_response(
                "500 Internal Server Error",
                [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(body)))],
            )
            return [body]

    @staticmethod
    def _misdirected(error: bottle.HTTPError) -> bytes:
        bottle.response.content_type = CONTENT_TYPE
        return envelope(f"this is not a plugin request: {error.body}")

    def _answer(self, status: int, value: dict[str, Any]) -> bottle.HTTPResponse:
        return self._encoded(status, json.dumps(value).encode())

    @staticmethod
    def _encoded(status: int, body: bytes) -> bottle.HTTPResponse:
        return bottle.HTTPResponse(body, status=status, headers={"Content-Type": CONTENT_TYPE})

    def _call(self, method: str) -> bottle.HTTPResponse:
        request_id = f"{self._label}-{next(self._numbers)}"
        with log.request(request_id):
            if self._running >= _MOST_REQUESTS:
                return self._encoded(
                    503, envelope(f"{_MOST_REQUESTS} calls are running already; try again")
                )
            self._running += 1
            started_s = self._clock()
            try:
                return self._served(method, request_id)
            finally:
                self._running -= 1
                _log.debug("%s took %.1f ms", method[:80], (self._clock() - started_s) * 1000)

    def _served(self, method: str, request_id: str) -> bottle.HTTPResponse:
        try:
            deadline = Deadline(self._seconds(), self._clock)
            handler = self._methods.get(method)
            if bottle.request.method != "POST":
                self._drain()
                return self._encoded(
                    405,
                    envelope(f"the plugin protocol knows POST only, not {bottle.request.method}"),
                )
            if handler is None:
                self._drain()
                return self._encoded(404, envelope(f"this driver has no method {method[:80]!r}"))
            return self._answer(200, handler(Request(method, self._body(method), deadline)))
        except Fault as fault:
            level = logging.WARNING if isinstance(fault, Unavailable) else logging.INFO
            _log.log(level, "%s: %s", method[:80], fault.message)
            return self._encoded(500, envelope(fault.message))
        except Exception:
            _log.exception("internal error %s in %s", request_id, method[:80])
            return self._encoded(
                500, envelope(f"internal error {request_id}; see the appliance's log")
            )

    def _drain(self) -> None:
        """Read what the client still sends, so that it gets an answer instead of a broken pipe."""
        left = _DRAINED_BYTES
        while left > 0 and (piece := self._piece("")):
            left -= len(piece)

    @staticmethod
    def _piece(method: str) -> bytes:
        try:
            piece: bytes = bottle.request.environ["wsgi.input"].read(PIECE_BYTES)
            return piece
        except OSError:
            # Gevent raises it when the client went away and for a chunk that is not one.
            raise Refused(
                "the request ended before its body was complete; nothing was changed"
            ) from None

    def _body(self, method: str) -> dict[str, Any]:
        pieces: list[bytes] = []
        size = 0
        while piece := self._piece(method):
            size += len(piece)
            if size > _LARGEST_BODY_BYTES:
                self._drain()
                raise Refused(
                    f"the body is larger than {_LARGEST_BODY_BYTES >> 20} MiB; nothing was changed"
                )
            pieces.append(piece)
        raw = b"".join(pieces).strip()
        if not raw:
            if method in self._bodiless:
                return {}
            # The engine repeats a call that broke, and the repetition can lose its body
            # (libnetwork §1.5). An answer of success would stand for a call that was not read.
            raise Refused(
                "the call has no body, as when the driver was restarted during it; "
                "nothing was changed, try again"
            )
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            raise Refused("the body is not JSON; nothing was changed") from None
        if value is None and method in self._bodiless:
            return {}
        if not isinstance(value, dict):
            raise Refused(
                f"the body is {type(value).__name__}, it must be a JSON object; nothing was changed"
            )
        return value


def drain(servers: list[PluginServer], seconds: float) -> bool:
    """Stop accepting on all servers and wait for their requests, at most `seconds`.

    False when some are still running. Switches greenlets.
    """
    for server in servers:
        server.stop_accepting()
    deadline = Deadline(seconds)
    while any(server.running for server in servers) and not deadline.is_over:
        gevent.sleep(0.02)
    return not any(server.running for server in servers)
