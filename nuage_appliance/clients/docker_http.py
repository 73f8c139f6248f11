"""HTTP to the Docker engine: the negotiated API version, the faults of answers, the event stream.

Owns the negotiated version and what was wrong at the last call. Everything may switch greenlets and
is bounded by its deadline; the event stream alone may be silent for ever.
"""

from __future__ import annotations

import codecs
import http.client
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Conflict, NotFound, Refused, Unavailable
from nuage_appliance.base.json_pieces import decode
from nuage_appliance.base.unix_http import UnixConnection
from nuage_appliance.base.yielding import pause

_NEWEST_API = (1, 56)
_LONGEST_REFUSAL_BYTES = 4096
_OLDEST_API = (1, 24)
_DEFAULT_TCP_PORT = 2375
_LARGEST_ANSWER_BYTES = 64 << 20
_LARGEST_EVENT_CHARS = 1 << 20
_READ_BYTES = 1 << 16
_DONE = (200, 201, 204)


class DockerHttp:
    """The HTTP side of one engine at `unix:///PATH` or `tcp://HOST:PORT`."""

    def __init__(self, address: str) -> None:
        self.name = f"the Docker engine at {address}"
        self._address = urllib.parse.urlsplit(address)
        self._version: str | None = None
        self.release = ""
        self.problem = "the Docker engine was not reached yet"

    # -- calls ------------------------------------------------------------------------------------

    def call(
        self,
        verb: str,
        path: str,
        deadline: Deadline,
        query: Mapping[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> Any:
        """Make one call of the negotiated API version and return its decoded JSON ("" for no body).

        Raises NotFound (404), Conflict (403, 409), Refused (400), Unavailable.
        """
        data, _ = self._call(verb, self.version(deadline), path, query or {}, deadline, body)
        return data

    def version(self, deadline: Deadline) -> str:
        """The path prefix of the negotiated API version, such as `/v1.41` (libnetwork §6.1).

        Raises Refused for an engine that is too old, Unavailable.
        """
        if self._version is None:
            _, headers = self._call("GET", "", "/_ping", {}, deadline)
            newest = _numbers(headers.get("Api-Version", "")) or _OLDEST_API
            self.release = headers.get("Server", "").partition(" ")[0].removeprefix("Docker/")
            if newest < _OLDEST_API:
                raise Refused(
                    f"{self.name} speaks API {newest[0]}.{newest[1]}; 1.24 or newer is needed"
                )
            chosen = min(newest, _NEWEST_API)
            self._version = f"/v{chosen[0]}.{chosen[1]}"
        return self._version

    def renegotiate(self) -> None:
        """Forget the API version: the engine may have been upgraded while it was away."""
        self._version = None

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        if self._address.scheme == "unix":
            return UnixConnection(self._address.path, seconds, "docker")
        return http.client.HTTPConnection(
            self._address.hostname or "localhost",
            self._address.port or _DEFAULT_TCP_PORT,
            timeout=seconds,
        )

    def _open(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str],
        seconds: float,
        body: dict[str, Any] | None = None,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request and read the answer's head; the caller closes the connection."""
        target = path + ("?" + urllib.parse.urlencode(query) if query else "")
        headers = {"Accept": "application/json"}
        payload = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            payload = json.dumps(body)
        connection = self._connection(max(0.01, seconds))
        try:
            connection.request(verb, target, payload, headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._version = None
            reason = (
                "no answer in time"
                if isinstance(error, TimeoutError)
                else getattr(error, "strerror", None) or type(error).__name__
            )
            self.problem = f"{self.name} does not answer: {reason}"
            raise Unavailable(self.problem) from None

    def _call(
        self,
        verb: str,
        version: str,
        path: str,
        query: Mapping[str, str],
        deadline: Deadline,
        body: dict[str, Any] | None = None,
    ) -> tuple[Any, http.client.HTTPMessage]:
        """One call; without a `version` (the ping) its answer need not be JSON."""
        connection, response = self._open(verb, version + path, query, deadline.remaining_s(), body)
        try:
            text = response.read(_LARGEST_ANSWER_BYTES)
            if response.length:
                # Asked for a number of bytes, the library takes a body that is cut for a whole one.
                raise http.client.IncompleteRead(text, response.length)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{self.name} broke off its answer: {type(error).__name__}") from None
        finally:
            connection.close()
        try:
            data = decode(text, pause, 2) if text.strip() else ""
        except ValueError:
            if response.status in _DONE and version:
                raise Unavailable(
                    f"{self.name} answered {path[:40]} with something that is not JSON"
                ) from None
            data = text.decode("utf-8", "replace").strip()
        if response.status in _DONE:
            self.problem = ""
            return data, response.headers
        reason = data.get("message", "") if isinstance(data, dict) else str(data or "")
        message = f"{self.name} answered {path} with status {response.status}: {reason[:200]}"
        if response.status == 404:
            raise NotFound(message)
        if response.status in (403, 409):  # 403: a network that is in use
            raise Conflict(message)
        if response.status == 400:
            self._version = None
            raise Refused(message)
        raise Unavailable(message)

    # -- the event stream -------------------------------------------------------------------------

    def stream(self, query: Mapping[str, str], deadline: Deadline) -> EventStream:
        """Open the event stream; `deadline` is for the opening alone. Raises Unavailable."""
        connection, response = self._open(
            "GET", self.version(deadline) + "/events", query, deadline.remaining_s()
        )
        if response.status != 200:
            reason = _reason(response)
            connection.close()
            self.problem = f"{self.name} refused the event stream with status {response.status}"
            if reason:
                self.problem += f": {reason}"
            raise Unavailable(self.problem)
        return EventStream(self.name, connection, response)


def _reason(response: http.client.HTTPResponse) -> str:
    """What the engine says about a refusal, at most 200 characters; empty when it says nothing.

    The connection's time limit bounds the wait. Switches greenlets.
    """
    try:
        data = json.loads(response.read(_LONGEST_REFUSAL_BYTES))
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    message = data.get("message") if isinstance(data, dict) else None
    return message[:200] if isinstance(message, str) else ""


class EventStream:
    """An open stream of events; iterating over it reads and finally closes it."""

    def __init__(
        self,
        name: str,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
    ) -> None:
        self._name = name
        self._connection = connection
        self._response = response

    def may_be_silent(self) -> None:
        """Wait for events without a time limit from now on."""
        if self._connection.sock is not None:
            self._connection.sock.settimeout(None)
        else:
            # After "Connection: close" the response has taken the socket over, and hides it.
            stream: Any = self._response.fp
            stream.raw._sock.settimeout(None)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield each event until the engine ends the stream; raises Unavailable when it breaks."""
        text = ""
        decoder = json.JSONDecoder()
        incremental = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            while True:
                piece = self._response.read1(_READ_BYTES)
                if not piece:
                    return
                text = (text + incremental.decode(piece)).lstrip()
                while text:
                    try:
                        event, end = decoder.raw_decode(text)
                    except ValueError:
                        if len(text) > _LARGEST_EVENT_CHARS:
                            raise Unavailable(
                                f"{self._name} sent events that are not JSON"
                            ) from None
                        break
                    text = text[end:].lstrip()
                    if isinstance(event, dict):
                        yield event
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"{self._name} broke off the event stream: {type(error).__name__}"
            ) from None
        finally:
            self._connection.close()


def _numbers(version: str) -> tuple[int, int] | None:
    major, _, minor = version.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None
