"""The state of every room with its reason, as JSON over a unix socket.

Owns the socket. Reads only; must never show a credential.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from gevent.pywsgi import WSGIServer

_log = logging.getLogger(__name__)


class StatusServer:
    """`GET /` answers the state; the status is 200 when every room is well, else 503."""

    def __init__(self, path: str, state: Callable[[], dict[str, Any]]) -> None:
        self._path, self._state = path, state
        self._server: WSGIServer | None = None

    def start(self) -> None:
        """Serve; a socket that cannot be made is said in the log and is no reason to end."""
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o755, exist_ok=True)
            if os.path.exists(self._path):
                os.unlink(self._path)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            mask = os.umask(0o177)
            try:
                listener.bind(self._path)
            finally:
                os.umask(mask)
            listener.listen(16)
        except OSError as error:
            _log.warning("the status socket %s cannot be made: %s", self._path, error.strerror or error)
            return
        self._server = WSGIServer(listener, self._wsgi, log=None, error_log=None, spawn=16)
        self._server.start()

    def _wsgi(self, environ, start_response):
        state = self._state()
        body = (json.dumps(state, indent=2) + "\n").encode()
        well = all(not room.get("problem") for room in state.get("rooms", {}).values())
        start_response("200 OK" if well else "503 Service Unavailable",
                       [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def close(self) -> None:
        """Stop serving and remove the socket."""
        if self._server is not None:
            self._server.stop(timeout=0.1)
            self._server = None
            if os.path.exists(self._path):
                os.unlink(self._path)
