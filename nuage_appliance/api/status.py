"""The state of every component with its reason, as JSON over a unix socket; an audit on request.

Owns the socket. Must never show a credential.
"""

from __future__ import annotations

import http.client
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gevent.pywsgi import WSGIServer

from nuage_appliance.base.faults import Refused, Unavailable
from nuage_appliance.base.unix_http import UnixConnection
from nuage_appliance.base.unix_socket import UnixSocket

_log = logging.getLogger(__name__)

_ANSWER_S = 180.0
_BACKLOG = 16


class StatusServer:
    """`GET /` answers the state: with status 200 when every component is well, else 503."""

    def __init__(
        self,
        path: str,
        state: Callable[[], dict[str, Any]],
        more: Mapping[tuple[str, str], Callable[[], dict[str, Any]]],
    ) -> None:
        """`more` maps further (verb, path) to what is done and answered; it may take long."""
        self._state = state
        self._more = more
        self._server: WSGIServer | None = None
        self._socket = UnixSocket("status socket", path)

    def start(self) -> None:
        """Serve. A socket that cannot be made is logged; the appliance serves without it."""
        try:
            listener = self._socket.bind(_BACKLOG)
        except Refused as fault:
            _log.warning("%s", fault.message)
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
            self._socket.remove()


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
