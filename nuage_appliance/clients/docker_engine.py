"""The Docker engine's API: the calls about networks, containers and events that this product makes.

Owns no state of its own. Everything may switch greenlets and is bounded by its deadline; the event
stream alone may be silent for ever.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import NotFound, Unavailable
from nuage_appliance.base.json_fields import mapping, text
from nuage_appliance.base.yielding import in_batches
from nuage_appliance.clients import docker_records as records
from nuage_appliance.clients.docker_http import DockerHttp, EventStream
from nuage_appliance.model import EngineEndpoint, EngineNetwork, NetworkSpec

_BATCH = 100
_WATCHED_TYPES = ["network", "container"]
_WATCHED_EVENTS = ["create", "connect", "disconnect", "destroy", "remove", "rename", "die"]


class DockerEngine:
    """The engine of this host, at `unix:///PATH` or `tcp://HOST:PORT`."""

    def __init__(self, address: str) -> None:
        self._http = DockerHttp(address)

    @property
    def problem(self) -> str:
        """Why the engine cannot be used now, or an empty text."""
        return self._http.problem

    @property
    def release(self) -> str:
        """The engine's release, such as `20.10.24`; empty until it answered once."""
        return self._http.release

    def version(self, deadline: Deadline) -> str:
        """The path prefix of the negotiated API version, such as `/v1.41` (libnetwork §6.1)."""
        return self._http.version(deadline)

    def renegotiate(self) -> None:
        """Forget the API version: the engine may have been upgraded while it was away."""
        self._http.renegotiate()

    # -- networks ---------------------------------------------------------------------------------

    def list_networks(self, deadline: Deadline) -> list[EngineNetwork]:
        """The networks of this driver; complete or raises."""
        items = self._objects("/networks", {}, deadline)
        return [network for network in map(records.engine_network, items) if network]

    def list_network_ids(self, deadline: Deadline) -> records.NetworkIds:
        """The ids of all networks; complete or raises."""
        return records.network_ids(self._objects("/networks", {}, deadline))

    def list_specs(self, deadline: Deadline) -> list[NetworkSpec]:
        """The networks of this driver that live on this engine only; complete or raises.

        Each with all that it was made of.
        """
        items = self._objects("/networks", {}, deadline)
        return [spec for spec in map(records.network_spec, items) if spec]

    def get_network(self, network_id: str, deadline: Deadline) -> records.NetworkDetails:
        """One network and its endpoints. Raises NotFound.

        Safe in CreateEndpoint (libnetwork §1.6).
        """
        return records.network_details(
            network_id, self._object(f"/networks/{_quote(network_id)}", deadline)
        )

    def create_network(
        self, spec: NetworkSpec, labels: Mapping[str, str], deadline: Deadline
    ) -> str:
        """Make a network like `spec`, with more labels, and return its id.

        The engine calls our drivers for it. Raises Conflict when the name is taken.
        """
        body = records.network_body(spec, labels)
        data = self._http.call("POST", "/networks/create", deadline, body=body)
        if not isinstance(data, dict) or not text(data, "Id"):
            raise Unavailable(f"{self._http.name} made a network without an id")
        return text(data, "Id")

    def remove_network(self, network_id: str, deadline: Deadline) -> None:
        """Remove a network; one that is gone is success. Raises Conflict while endpoints use it."""
        try:
            self._http.call("DELETE", f"/networks/{_quote(network_id)}", deadline)
        except NotFound:
            return

    # -- containers -------------------------------------------------------------------------------

    def containers_of(self, network_id: str, name: str, deadline: Deadline) -> list[str]:
        """The names of the containers of every state that belong to a network; complete or raises.

        A container that was never started may know only the network's name.
        """
        found = []
        for item in self._objects("/containers/json", {"all": "1"}, deadline):
            for key, entry in mapping(mapping(item, "NetworkSettings"), "Networks").items():
                known_as = text(entry, "NetworkID") if isinstance(entry, dict) else ""
                if known_as == network_id or (not known_as and key in (name, network_id)):
                    found.append(records.container_name(item) or text(item, "Id")[:12])
        return sorted(found)

    def list_endpoints(self, deadline: Deadline) -> list[EngineEndpoint]:
        """Every container of every state on every network; complete or raises.

        The engine takes no container's lock for it.
        """
        found: list[EngineEndpoint] = []
        items = self._objects("/containers/json", {"all": "1"}, deadline)
        for item in in_batches(items, _BATCH):
            found += records.container_endpoints(item)
        return found

    def inspect(self, container_id: str, deadline: Deadline) -> records.ContainerDetails:
        """Who a container is, and its networks. Raises NotFound.

        The engine waits for the container's lock: never call this from a plugin handler.
        """
        data = self._object(f"/containers/{_quote(container_id)}/json", deadline)
        return records.ContainerDetails(
            identity=records.identity(data), endpoints=tuple(records.container_endpoints(data))
        )

    # -- events -----------------------------------------------------------------------------------

    def events(self, since: str | None, deadline: Deadline) -> Iterator[dict[str, Any]]:
        """The events of networks and containers from `since` (`seconds.nanoseconds`) on.

        The stream is open when this returns, and ends when the engine ends it; the iterator raises
        Unavailable when it breaks.
        """
        past = {"since": since} if since else {}
        stream = self._stream(_WATCHED_TYPES, _WATCHED_EVENTS, past, deadline)
        stream.may_be_silent()
        self._http.problem = ""
        return iter(stream)

    def past_removals(self, until_s: float, deadline: Deadline) -> list[str]:
        """The ids of the removed networks that the engine still remembers.

        Up to a time of its wall clock, in seconds.
        """
        return [
            text(mapping(event, "Actor"), "ID")
            for event in self._past("destroy", until_s, deadline)
            if event.get("Action") == "destroy"
        ]

    def past_disconnections(
        self, until_s: float, deadline: Deadline
    ) -> list[records.Disconnection]:
        """The `disconnect` events that the engine still remembers.

        Up to a time of its wall clock, in seconds.
        """
        events = self._past("disconnect", until_s, deadline)
        return [found for found in map(records.disconnection, events) if found]

    def _past(self, event: str, until_s: float, deadline: Deadline) -> EventStream:
        past = {"since": "1", "until": f"{until_s:.9f}"}
        return self._stream(["network"], [event], past, deadline)

    def _stream(
        self, types: list[str], events: list[str], past: Mapping[str, str], deadline: Deadline
    ) -> EventStream:
        filters = json.dumps({"type": types, "event": events})
        return self._http.stream({"filters": filters, **past}, deadline)

    # -- answers ----------------------------------------------------------------------------------

    def _objects(
        self, path: str, query: Mapping[str, str], deadline: Deadline
    ) -> list[dict[str, Any]]:
        data = self._http.call("GET", path, deadline, query)
        if data is None:  # Go's empty list; a missing body is not one
            return []
        if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
            raise Unavailable(
                f"{self._http.name} answered {path} with something that is not a list"
            )
        return data

    def _object(self, path: str, deadline: Deadline) -> dict[str, Any]:
        data = self._http.call("GET", path, deadline)
        if not isinstance(data, dict):
            raise Unavailable(
                f"{self._http.name} answered {path[:40]} with something that is not an object"
            )
        return data


def _quote(part: str) -> str:
    return urllib.parse.quote(part, safe="")
