"""The state of every component with its reason, as JSON over a unix socket; an audit on request.

Owns the socket. Must never show a credential.
"""

from __future__ import annotations

import errno
import http.client
import json
import logging
import os
import socket
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gevent.pywsgi import WSGIServer

from nuage_appliance.base.faults import Unavailable
from nuage_appliance.base.unix_http import UnixConnection

_log = logging.getLogger(__name__)

_PROBE_S, _ANSWER_S = 2.0, 180.0


class StatusServer:
    """`GET /` answers the state: with status 200 when every component is well, else 503."""

    def __init__(
        self,
        path: str,
        state: Callable[[], dict[str, Any]],
        more: Mapping[tuple[str, str], Callable[[], dict[str, Any]]],
    ) -> None:
        """`more` maps further (verb, path) to what is done and answered; it may take long."""
        self._path = path
        self._state = state
        self._more = more
        self._server: WSGIServer | None = None
        self._inode: int | None = None

    def start(self) -> None:
        """Serve. A socket that cannot be made is logged; the appliance serves without it."""
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o755, exist_ok=True)
            if os.path.lexists(self._path):
                if not stat.S_ISSOCK(os.lstat(self._path).st_mode):
                    raise OSError(errno.EEXIST, "it exists and is not a socket; remove it")
                if is_served(self._path):
                    raise OSError(errno.EADDRINUSE, "it is served by another process")
                os.unlink(self._path)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            mask = os.umask(0o177)
            try:
                listener.bind(self._path)
            finally:
                os.umask(mask)
            listener.listen(16)
            self._inode = os.stat(self._path).st_ino
        except OSError as error:
            _log.warning(
                "the status socket %s cannot be made: %s", self._path, error.strerror or error
            )
            return
        self._server = WSGIServer(listener, self._wsgi, log=None, error_log=None, spawn=16)
        self._server.start()

    def _wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        asked = (environ["REQUEST_METHOD"], environ["PATH_INFO"])
        work = self._more.get(asked)
        if work is not None:
            answer, status = work(), "200 OK"
        elif asked == ("GET", "/"):
            answer = self._state()
            well = all(
                not component.get("problem") for component in answer.get("components", {}).values()
            )
            status = "200 OK" if well else "503 Service Unavailable"
        else:
            known = ", ".join(" ".join(pair) for pair in (("GET", "/"), *self._more))
            answer, status = {"problem": f"this socket knows {known}"}, "404 Not Found"
        body = (json.dumps(answer, indent=2) + "\n").encode()
        start_response(
            status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        )
        return [body]

    def close(self) -> None:
        """Stop serving and remove the socket, unless it is somebody else's by now."""
        if self._server is not None:
            self._server.stop(timeout=0.1)
            self._server = None
            if os.path.exists(self._path) and os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)


def is_served(path: str) -> bool:
    """True when a process accepts connections on a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def ask(path: str, verb: str, target: str, key: str, seconds: float = _ANSWER_S) -> dict[str, Any]:
    """Ask the appliance that serves a status socket for an object that has `key`.

    Raises Unavailable, also when `seconds` are over. Switches greenlets.
    """
    connection = UnixConnection(path, seconds)
    try:
        connection.request(verb, target)
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Unavailable(f"the appliance that serves {path} does not answer: {reason}") from None
    finally:
        connection.close()
    if not isinstance(answer, dict) or key not in answer:
        raise Unavailable(
            f"the appliance that serves {path} does not know {verb} {target}; "
            "it is of another version, so restart it first"
        )
    return answer
