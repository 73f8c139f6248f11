"""The Docker engine's API: networks, containers, and the event stream; the API version is negotiated.

Owns no state but the negotiated version. Everything may switch greenlets and is bounded by its deadline; the event
stream alone may be silent for ever.
"""

from __future__ import annotations

import codecs
import http.client
import json
import socket
import urllib.parse
from collections.abc import Iterator
from typing import Any

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Conflict, NotFound, Refused, Unavailable
from nuage_appliance.model import Identity

_NEWEST_API = (1, 56)
_OLDEST_API = (1, 24)
_LARGEST_ANSWER_BYTES = 64 << 20
_LARGEST_EVENT_CHARS = 1 << 20


class _Socket(http.client.HTTPConnection):
    """HTTP over the engine's unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise


class DockerEngine:
    """The engine of this host."""

    def __init__(self, address: str) -> None:
        """`address` is `unix:///PATH` or `tcp://HOST:PORT`."""
        self._address = address
        self._version: str | None = None
        self._problem = "the Docker engine was not reached yet"

    @property
    def problem(self) -> str:
        """Why the engine cannot be used now, or an empty text."""
        return self._problem

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        parts = urllib.parse.urlsplit(self._address)
        if parts.scheme == "unix":
            return _Socket(parts.path, seconds)
        return http.client.HTTPConnection(parts.hostname or "localhost", parts.port or 2375, timeout=seconds)

    def _open(self, path: str, query: dict[str, str], seconds: float) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        target = path + ("?" + urllib.parse.urlencode(query) if query else "")
        connection = self._connection(max(0.01, seconds))
        try:
            connection.request("GET", target, headers={"Accept": "application/json"})
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._version = None
            reason = "no answer in time" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or type(error).__name__
            self._problem = f"the Docker engine at {self._address} does not answer: {reason}"
            raise Unavailable(self._problem) from None

    def _get(self, path: str, query: dict[str, str], deadline: Deadline, versioned: bool = True) -> tuple[Any, http.client.HTTPMessage]:
        prefix = self.version(deadline) if versioned else ""
        connection, response = self._open(prefix + path, query, deadline.remaining_s())
        try:
            text = response.read(_LARGEST_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"the Docker engine at {self._address} broke off its answer: {type(error).__name__}") from None
        finally:
            connection.close()
        try:
            data = json.loads(text) if text.strip() else None
        except ValueError:
            data = text.decode("utf-8", "replace").strip()
        if response.status == 200:
            self._problem = ""
            return data, response.headers
        said = data.get("message", "") if isinstance(data, dict) else str(data or "")
        message = f"the Docker engine at {self._address} answered {path} with status {response.status}: {said[:200]}"
        if response.status == 404:
            raise NotFound(message)
        if response.status == 409:
            raise Conflict(message)
        if response.status == 400:
            self._version = None
            raise Refused(message)
        raise Unavailable(message)

    def version(self, deadline: Deadline) -> str:
        """The path prefix of the negotiated API version, such as `/v1.41` (libnetwork-contract §6.1)."""
        if self._version is None:
            _, headers = self._get("/_ping", {}, deadline, versioned=False)
            newest = _numbers(headers.get("Api-Version", "")) or _OLDEST_API
            if newest < _OLDEST_API:
                raise Refused(f"the Docker engine at {self._address} speaks API {newest[0]}.{newest[1]}; 1.24 or newer is needed")
            chosen = min(newest, _NEWEST_API)
            self._version = f"/v{chosen[0]}.{chosen[1]}"
        return self._version

    def renegotiate(self) -> None:
        """Forget the API version; the engine may have been upgraded while it was away."""
        self._version = None

    def list_networks(self, deadline: Deadline) -> list[dict[str, Any]]:
        """Every network of the engine, whatever its driver; complete or raises."""
        return self._objects("/networks", {}, deadline)

    def get_network(self, network_id: str, deadline: Deadline) -> dict[str, Any]:
        """One network with its endpoints; raises NotFound. Safe to call from CreateEndpoint (contract §1.6)."""
        data, _ = self._get(f"/networks/{urllib.parse.quote(network_id, safe='')}", {}, deadline)
        if not isinstance(data, dict):
            raise Unavailable(f"the Docker engine at {self._address} gave no usable answer about network {network_id[:12]}")
        return data

    def list_containers(self, deadline: Deadline) -> list[dict[str, Any]]:
        """Every container in every state; takes no container lock; complete or raises."""
        return self._objects("/containers/json", {"all": "1"}, deadline)

    def _objects(self, path: str, query: dict[str, str], deadline: Deadline) -> list[dict[str, Any]]:
        data, _ = self._get(path, query, deadline)
        if data is None:
            return []
        if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
            raise Unavailable(f"the Docker engine at {self._address} answered {path} with something that is not a list")
        return data

    def inspect(self, container_id: str, deadline: Deadline) -> dict[str, Any]:
        """One container in full. Waits for the container's lock: never call it from a plugin handler."""
        data, _ = self._get(f"/containers/{urllib.parse.quote(container_id, safe='')}/json", {}, deadline)
        if not isinstance(data, dict):
            raise Unavailable(f"the Docker engine at {self._address} gave no usable answer about container {container_id[:12]}")
        return data

    def events(self, since: str | None, deadline: Deadline) -> Iterator[dict[str, Any]]:
        """The events of networks and containers from `since` (`seconds.nanoseconds`) on, for ever.

        The stream is open when this returns; the iterator raises Unavailable when it ends.
        """
        filters = {"type": ["network", "container"],
                   "event": ["create", "connect", "disconnect", "destroy", "remove", "rename", "die"]}
        query = {"filters": json.dumps(filters)}
        if since:
            query["since"] = since
        connection, response = self._open(self.version(deadline) + "/events", query, deadline.remaining_s())
        if response.status != 200:
            connection.close()
            raise Unavailable(f"the Docker engine at {self._address} refused the event stream with status {response.status}")
        if connection.sock is not None:
            connection.sock.settimeout(None)
        else:
            response.fp.raw._sock.settimeout(None)  # the response took the socket over ("Connection: close")
        self._problem = ""
        return self._read_events(connection, response)

    def _read_events(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        text = ""
        decoder = json.JSONDecoder()
        incremental = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            while True:
                piece = response.read1(65536)
                if not piece:
                    raise Unavailable(f"the Docker engine at {self._address} ended the event stream")
                text = (text + incremental.decode(piece)).lstrip()
                while text:
                    try:
                        event, end = decoder.raw_decode(text)
                    except ValueError:
                        if len(text) > _LARGEST_EVENT_CHARS:
                            raise Unavailable(f"the Docker engine at {self._address} sent events that are not JSON") from None
                        break
                    text = text[end:].lstrip()
                    if isinstance(event, dict):
                        yield event
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"the Docker engine at {self._address} broke off the event stream: {type(error).__name__}") from None
        finally:
            self._version = None
            connection.close()


def _numbers(version: str) -> tuple[int, int] | None:
    major, _, minor = version.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def identity_of(inspected: dict[str, Any]) -> Identity:
    """Who a container is, from its inspection: environment first, labels where the environment is silent.

    The keys are matched exactly and a value may hold `=` (predecessor D-DOC-1).
    """
    config = inspected.get("Config") if isinstance(inspected.get("Config"), dict) else {}
    settings: dict[str, str] = {}
    labels = config.get("Labels")
    for key, value in (labels.items() if isinstance(labels, dict) else ()):
        if key in ("NUAGE-POLICY-GROUP", "MESOS_TASK_ID") and isinstance(value, str):
            settings[key] = value
    for entry in config.get("Env") or []:
        key, separator, value = entry.partition("=") if isinstance(entry, str) else ("", "", "")
        if separator and key in ("NUAGE-POLICY-GROUP", "MESOS_TASK_ID"):
            settings[key] = value
    groups = tuple(dict.fromkeys(part.strip() for part in settings.get("NUAGE-POLICY-GROUP", "").split(",") if part.strip()))
    name = inspected.get("Name")
    return Identity(container_id=str(inspected.get("Id") or ""), name=name.removeprefix("/") if isinstance(name, str) else "",
                    policy_groups=groups, orchestration_id=settings.get("MESOS_TASK_ID", ""))
