"""The Docker engine's API: networks, containers, and the event stream; the API version is negotiated.

Owns no state but the negotiated version. Everything may switch greenlets and is bounded by its deadline; the event
stream alone may be silent for ever.
"""

from __future__ import annotations

import codecs
import http.client
import ipaddress
import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

import gevent

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Conflict, NotFound, Refused, Unavailable
from nuage_appliance.base.json_pieces import decode
from nuage_appliance.base.unix_http import UnixConnection
from nuage_appliance.model import (
    Address,
    Cidr,
    EngineEndpoint,
    EngineNetwork,
    Identity,
    NetworkSpec,
    Place,
)

_NEWEST_API = (1, 56)
_OLDEST_API = (1, 24)
_LARGEST_ANSWER_BYTES = 64 << 20
_LARGEST_EVENT_CHARS = 1 << 20
_DONE = (200, 201, 204)
_PAUSE_S = 1e-6  # lets timers and sockets in
_POLICY_GROUP, _TASK_ID = "NUAGE-POLICY-GROUP", "MESOS_TASK_ID"
_SETTINGS = (_POLICY_GROUP, _TASK_ID)


def _pause() -> None:
    gevent.sleep(_PAUSE_S)


class DockerEngine:
    """The engine of this host."""

    def __init__(self, address: str) -> None:
        """`address` is `unix:///PATH` or `tcp://HOST:PORT`."""
        self._engine = address
        self._version: str | None = None
        self.release = ""
        self._problem = "the Docker engine was not reached yet"

    @property
    def problem(self) -> str:
        """Why the engine cannot be used now, or an empty text."""
        return self._problem

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        parts = urllib.parse.urlsplit(self._engine)
        if parts.scheme == "unix":
            return UnixConnection(parts.path, seconds, "docker")
        return http.client.HTTPConnection(
            parts.hostname or "localhost", parts.port or 2375, timeout=seconds
        )

    def _open(
        self,
        path: str,
        query: dict[str, str],
        seconds: float,
        verb: str = "GET",
        body: dict[str, Any] | None = None,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        target = path + ("?" + urllib.parse.urlencode(query) if query else "")
        connection = self._connection(max(0.01, seconds))
        try:
            text = None if body is None else json.dumps(body)
            connection.request(
                verb,
                target,
                text,
                {
                    "Accept": "application/json",
                    **({} if text is None else {"Content-Type": "application/json"}),
                },
            )
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._version = None
            reason = (
                "no answer in time"
                if isinstance(error, TimeoutError)
                else getattr(error, "strerror", None) or type(error).__name__
            )
            self._problem = f"the Docker engine at {self._engine} does not answer: {reason}"
            raise Unavailable(self._problem) from None

    def _get(
        self, path: str, query: dict[str, str], deadline: Deadline, versioned: bool = True
    ) -> tuple[Any, http.client.HTTPMessage]:
        return self._call("GET", path, query, deadline, versioned=versioned)

    def _call(
        self,
        verb: str,
        path: str,
        query: dict[str, str],
        deadline: Deadline,
        body: dict[str, Any] | None = None,
        versioned: bool = True,
    ) -> tuple[Any, http.client.HTTPMessage]:
        prefix = self.version(deadline) if versioned else ""
        connection, response = self._open(prefix + path, query, deadline.remaining_s(), verb, body)
        try:
            text = response.read(_LARGEST_ANSWER_BYTES)
            if response.length:  # a body that is cut is no failure for the library when it is asked for a number of bytes
                raise http.client.IncompleteRead(text, response.length)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"the Docker engine at {self._engine} broke off its answer: {type(error).__name__}"
            ) from None
        finally:
            connection.close()
        try:
            data = decode(text, _pause, 2) if text.strip() else ""
        except ValueError:
            if response.status in _DONE and versioned:
                raise Unavailable(
                    f"the Docker engine at {self._engine} answered {path[:40]} with something that is not JSON"
                ) from None
            data = text.decode("utf-8", "replace").strip()
        if response.status in _DONE:
            self._problem = ""
            return data, response.headers
        said = data.get("message", "") if isinstance(data, dict) else str(data or "")
        message = f"the Docker engine at {self._engine} answered {path} with status {response.status}: {said[:200]}"
        if response.status == 404:
            raise NotFound(message)
        if response.status in (403, 409):  # 403: a network that is in use
            raise Conflict(message)
        if response.status == 400:
            self._version = None
            raise Refused(message)
        raise Unavailable(message)

    def version(self, deadline: Deadline) -> str:
        """The path prefix of the negotiated API version, such as `/v1.41` (libnetwork §6.1)."""
        if self._version is None:
            _, headers = self._get("/_ping", {}, deadline, versioned=False)
            newest = _numbers(headers.get("Api-Version", "")) or _OLDEST_API
            self.release = headers.get("Server", "").partition(" ")[0].removeprefix("Docker/")
            if newest < _OLDEST_API:
                raise Refused(
                    f"the Docker engine at {self._engine} speaks API {newest[0]}.{newest[1]}; 1.24 or newer is needed"
                )
            chosen = min(newest, _NEWEST_API)
            self._version = f"/v{chosen[0]}.{chosen[1]}"
        return self._version

    def renegotiate(self) -> None:
        """Forget the API version; the engine may have been upgraded while it was away."""
        self._version = None

    def list_networks(self, deadline: Deadline) -> list[EngineNetwork]:
        """The networks of this driver; complete or raises."""
        return [
            network
            for network in map(_network, self._objects("/networks", {}, deadline))
            if network
        ]

    def list_network_ids(self, deadline: Deadline) -> tuple[frozenset[str], frozenset[str]]:
        """The ids of all networks, and of those that name this driver whatever their options say; complete or raises."""
        items = self._objects("/networks", {}, deadline)
        return (
            frozenset(_text(item, "Id") for item in items),
            frozenset(_text(item, "Id") for item in items if _is_our_driver(_text(item, "Driver"))),
        )

    def get_network(
        self, network_id: str, deadline: Deadline
    ) -> tuple[EngineNetwork | None, list[EngineEndpoint]]:
        """One network (None when it is not this driver's) and its endpoints; raises NotFound. Safe in CreateEndpoint (libnetwork §1.6)."""
        data = self._object(f"/networks/{urllib.parse.quote(network_id, safe='')}", deadline)
        endpoints = [
            EngineEndpoint(
                container_id,
                _text(entry, "Name"),
                network_id,
                _text(entry, "EndpointID"),
                _address(entry.get("IPv4Address")),
                True,
            )
            for container_id, entry in _mapping(data, "Containers").items()
            if isinstance(entry, dict)
        ]
        return _network(data), endpoints

    def list_specs(self, deadline: Deadline) -> list[NetworkSpec]:
        """The networks of this driver that live on this engine only, with all that they were made of; complete or raises."""
        return [spec for spec in map(_spec, self._objects("/networks", {}, deadline)) if spec]

    def create_network(self, spec: NetworkSpec, labels: dict[str, str], deadline: Deadline) -> str:
        """Make a network and return its id; the engine calls our drivers for it. Raises Conflict when the name is taken."""
        config = {
            key: value
            for key, value in (
                ("Subnet", spec.subnet),
                ("Gateway", spec.gateway),
                ("IPRange", spec.ip_range),
            )
            if value
        }
        body = {
            "Name": spec.name,
            "CheckDuplicate": True,
            "Driver": spec.driver,
            "Internal": spec.is_internal,
            "Attachable": spec.is_attachable,
            "EnableIPv6": False,
            "Options": dict(spec.options),
            "Labels": {**spec.labels, **labels},
            "IPAM": {
                "Driver": spec.ipam_driver,
                "Options": dict(spec.ipam_options),
                "Config": [config] if config else [],
            },
        }
        data, _ = self._call("POST", "/networks/create", {}, deadline, body)
        if not isinstance(data, dict) or not _text(data, "Id"):
            raise Unavailable(f"the Docker engine at {self._engine} made a network without an id")
        return _text(data, "Id")

    def remove_network(self, network_id: str, deadline: Deadline) -> None:
        """Remove a network; one that is gone is success. Raises Conflict while endpoints use it."""
        try:
            self._call(
                "DELETE", f"/networks/{urllib.parse.quote(network_id, safe='')}", {}, deadline
            )
        except NotFound:
            return

    def containers_of(self, network_id: str, name: str, deadline: Deadline) -> list[str]:
        """The names of the containers of every state that belong to a network; a new one may know only its name. Complete or raises."""
        found = []
        for item in self._objects("/containers/json", {"all": "1"}, deadline):
            for key, entry in _mapping(_mapping(item, "NetworkSettings"), "Networks").items():
                known_as = _text(entry, "NetworkID") if isinstance(entry, dict) else ""
                if known_as == network_id or (not known_as and key in (name, network_id)):
                    found.append(_container_name(item) or _text(item, "Id")[:12])
        return sorted(found)

    def list_endpoints(self, deadline: Deadline) -> list[EngineEndpoint]:
        """Every container of every state on every network; takes no container lock; complete or raises."""
        found: list[EngineEndpoint] = []
        for count, item in enumerate(self._objects("/containers/json", {"all": "1"}, deadline)):
            if count % 100 == 99:
                gevent.sleep(_PAUSE_S)
            found += _endpoints(item)
        return found

    def inspect(
        self, container_id: str, deadline: Deadline
    ) -> tuple[Identity, list[EngineEndpoint]]:
        """Who a container is and its networks. Waits for the container's lock: never call it from a plugin handler."""
        data = self._object(
            f"/containers/{urllib.parse.quote(container_id, safe='')}/json", deadline
        )
        return _identity(data), _endpoints(data)

    def _objects(
        self, path: str, query: dict[str, str], deadline: Deadline
    ) -> list[dict[str, Any]]:
        data, _ = self._get(path, query, deadline)
        if data is None:  # Go's empty list; a missing body is none
            return []
        if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
            raise Unavailable(
                f"the Docker engine at {self._engine} answered {path} with something that is not a list"
            )
        return data

    def _object(self, path: str, deadline: Deadline) -> dict[str, Any]:
        data, _ = self._get(path, {}, deadline)
        if not isinstance(data, dict):
            raise Unavailable(
                f"the Docker engine at {self._engine} answered {path[:40]} with something that is not an object"
            )
        return data

    def events(self, since: str | None, deadline: Deadline) -> Iterator[dict[str, Any]]:
        """The events of networks and containers from `since` (`seconds.nanoseconds`) on, until the engine ends the stream.

        The stream is open when this returns; the iterator raises Unavailable when it breaks.
        """
        filters = {
            "type": ["network", "container"],
            "event": ["create", "connect", "disconnect", "destroy", "remove", "rename", "die"],
        }
        connection, response = self._event_stream(
            filters, {"since": since} if since else {}, deadline
        )
        if connection.sock is not None:
            connection.sock.settimeout(None)
        else:
            response.fp.raw._sock.settimeout(
                None
            )  # the response took the socket over ("Connection: close")
        self._problem = ""
        return self._read_events(connection, response)

    def past_removals(self, until_s: float, deadline: Deadline) -> list[str]:
        """The ids of the removed networks that the engine still remembers, up to a time of its wall clock."""
        past = {"since": "1", "until": f"{until_s:.9f}"}
        connection, response = self._event_stream(
            {"type": ["network"], "event": ["destroy"]}, past, deadline
        )
        return [
            _text(_mapping(event, "Actor"), "ID")
            for event in self._read_events(connection, response)
            if event.get("Action") == "destroy"
        ]

    def past_disconnections(self, until_s: float, deadline: Deadline) -> list[tuple[str, str]]:
        """(network id, container id) of each `disconnect` that the engine still remembers, up to a time of its wall clock."""
        past = {"since": "1", "until": f"{until_s:.9f}"}
        connection, response = self._event_stream(
            {"type": ["network"], "event": ["disconnect"]}, past, deadline
        )
        return [
            pair for pair in map(disconnection, self._read_events(connection, response)) if pair
        ]

    def _event_stream(
        self, filters: dict[str, list[str]], query: dict[str, str], deadline: Deadline
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        query = {"filters": json.dumps(filters), **query}
        connection, response = self._open(
            self.version(deadline) + "/events", query, deadline.remaining_s()
        )
        if response.status != 200:
            connection.close()
            raise Unavailable(
                f"the Docker engine at {self._engine} refused the event stream with status {response.status}"
            )
        return connection, response

    def _read_events(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> Iterator[dict[str, Any]]:
        text = ""
        decoder = json.JSONDecoder()
        incremental = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            while True:
                piece = response.read1(65536)
                if not piece:
                    return
                text = (text + incremental.decode(piece)).lstrip()
                while text:
                    try:
                        event, end = decoder.raw_decode(text)
                    except ValueError:
                        if len(text) > _LARGEST_EVENT_CHARS:
                            raise Unavailable(
                                f"the Docker engine at {self._engine} sent events that are not JSON"
                            ) from None
                        break
                    text = text[end:].lstrip()
                    if isinstance(event, dict):
                        yield event
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"the Docker engine at {self._engine} broke off the event stream: {type(error).__name__}"
            ) from None
        finally:
            connection.close()


def disconnection(event: dict[str, Any]) -> tuple[str, str] | None:
    """(network id, container id) of a `disconnect` event of a network; None for anything else."""
    if event.get("Type") != "network" or event.get("Action") != "disconnect":
        return None
    actor = _mapping(event, "Actor")
    network_id, container_id = _text(actor, "ID"), _text(_mapping(actor, "Attributes"), "container")
    return (network_id, container_id) if network_id and container_id else None


def _numbers(version: str) -> tuple[int, int] | None:
    major, _, minor = version.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def _text(item: dict[str, Any], key: str) -> str:
    value = item.get(key)
    return value if isinstance(value, str) else ""


def _mapping(item: dict[str, Any], key: str) -> dict[str, Any]:
    value = item.get(key)
    return value if isinstance(value, dict) else {}


def _address(value: Any) -> Address | None:
    try:
        return (
            ipaddress.ip_address(value.split("/")[0]) if isinstance(value, str) and value else None
        )
    except ValueError:
        return None


def _cidr(value: Any) -> Cidr | None:
    try:
        return (
            ipaddress.ip_network(value, strict=False) if isinstance(value, str) and value else None
        )
    except ValueError:
        return None


def _is_our_driver(name: str) -> bool:
    """True for `nuage`, and for the names of managed plugins made from it, such as `nuage:latest`."""
    return name.split("/")[-1].startswith("nuage")


def _network(item: dict[str, Any]) -> EngineNetwork | None:
    """A network of ours; None when its driver or its IPAM options are not ours."""
    ipam = _mapping(item, "IPAM")
    options = _mapping(ipam, "Options")
    if (
        not _is_our_driver(_text(item, "Driver"))
        or not _text(item, "Id")
        or not _text(options, "organization")
        or not _text(options, "domain")
    ):
        return None
    configs = ipam.get("Config")
    first = (
        next((config for config in configs if isinstance(config, dict)), {})
        if isinstance(configs, list)
        else {}
    )
    return EngineNetwork(
        network_id=_text(item, "Id"),
        name=_text(item, "Name"),
        place=Place(*(_text(options, key) for key in ("organization", "domain", "zone", "subnet"))),
        user=_text(options, "user"),
        cidr=_cidr(first.get("Subnet")),
        address_range=_cidr(first.get("IPRange")),
        is_internal=item.get("Internal") is True,
        is_local=item.get("Scope") != "global",
        is_swarm=item.get("Scope") == "swarm",
    )


def _spec(item: dict[str, Any]) -> NetworkSpec | None:
    """A network of ours of scope local; None for any other, and for what is only a template."""
    network = _network(item)
    if (
        network is None
        or _text(item, "Scope") not in ("", "local")
        or item.get("ConfigOnly") is True
        or not network.name
    ):
        return None
    ipam = _mapping(item, "IPAM")
    configs = ipam.get("Config")
    first = (
        next((config for config in configs if isinstance(config, dict)), {})
        if isinstance(configs, list)
        else {}
    )
    return NetworkSpec(
        name=network.name,
        network_id=network.network_id,
        driver=_text(item, "Driver"),
        ipam_driver=_text(ipam, "Driver"),
        is_internal=network.is_internal,
        is_attachable=item.get("Attachable") is True,
        options=_texts(item, "Options"),
        ipam_options=_texts(ipam, "Options"),
        subnet=_text(first, "Subnet"),
        gateway=_text(first, "Gateway"),
        ip_range=_text(first, "IPRange"),
        labels=_texts(item, "Labels"),
    )


def _texts(item: dict[str, Any], key: str) -> dict[str, str]:
    return {name: value for name, value in _mapping(item, key).items() if isinstance(value, str)}


def _container_name(item: dict[str, Any]) -> str:
    names = item.get("Names")
    name = _text(item, "Name") or (
        names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    )
    return name.removeprefix("/")


def _endpoints(item: dict[str, Any]) -> list[EngineEndpoint]:
    """The networks of a container, from its inspection or from the list of containers."""
    state = _mapping(item, "State").get("Status") or item.get("State")
    return [
        EngineEndpoint(
            _text(item, "Id"),
            _container_name(item),
            _text(entry, "NetworkID"),
            _text(entry, "EndpointID"),
            _address(entry.get("IPAddress")),
            state in ("running", "paused", "restarting"),
        )
        for entry in _mapping(_mapping(item, "NetworkSettings"), "Networks").values()
        if isinstance(entry, dict)
    ]


def _identity(item: dict[str, Any]) -> Identity:
    """Who a container is: its environment first, its labels where the environment is silent.

    The keys are matched exactly and a value may hold `=` (predecessor D-DOC-1).
    """
    config = _mapping(item, "Config")
    settings = {
        key: value
        for key, value in _mapping(config, "Labels").items()
        if key in _SETTINGS and isinstance(value, str)
    }
    environment = config.get("Env")
    for entry in environment if isinstance(environment, list) else ():
        key, separator, value = entry.partition("=") if isinstance(entry, str) else ("", "", "")
        if separator and key in _SETTINGS:
            settings[key] = value
    groups = tuple(
        dict.fromkeys(
            part.strip() for part in settings.get(_POLICY_GROUP, "").split(",") if part.strip()
        )
    )
    return Identity(
        _text(item, "Id"), _text(item, "Name").removeprefix("/"), groups, settings.get(_TASK_ID, "")
    )
