"""The engine's JSON, read into the records of the model. Pure; owns nothing.

Reads defensively: a field may be missing or null in any release of the engine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from nuage_appliance.base.json_fields import address, mapping, mappings, network, text, texts
from nuage_appliance.model import EngineEndpoint, EngineNetwork, Identity, NetworkSpec, Place

_POLICY_GROUP, _TASK_ID = "NUAGE-POLICY-GROUP", "MESOS_TASK_ID"
_SETTINGS = (_POLICY_GROUP, _TASK_ID)
_LIVING = ("running", "paused", "restarting")


@dataclasses.dataclass(frozen=True)
class NetworkIds:
    """The ids of an engine's networks; `ours` name this driver, whatever their options say."""

    every: frozenset[str]
    ours: frozenset[str]


@dataclasses.dataclass(frozen=True)
class NetworkDetails:
    """One network with its endpoints; `network` is None when it is not this driver's."""

    network: EngineNetwork | None
    endpoints: tuple[EngineEndpoint, ...]


@dataclasses.dataclass(frozen=True)
class ContainerDetails:
    """One container: who it is, and its endpoints on every network."""

    identity: Identity
    endpoints: tuple[EngineEndpoint, ...]


@dataclasses.dataclass(frozen=True)
class Disconnection:
    """A container left a network."""

    network_id: str
    container_id: str


def network_ids(items: list[dict[str, Any]]) -> NetworkIds:
    """Read the list of networks."""
    return NetworkIds(
        every=frozenset(text(item, "Id") for item in items),
        ours=frozenset(text(item, "Id") for item in items if is_our_driver(text(item, "Driver"))),
    )


def network_details(network_id: str, item: Mapping[str, Any]) -> NetworkDetails:
    """Read the inspection of a network; it lists only containers that run."""
    return NetworkDetails(
        network=engine_network(item),
        endpoints=tuple(
            EngineEndpoint(
                container_id=container_id,
                container_name=text(entry, "Name"),
                network_id=network_id,
                endpoint_id=text(entry, "EndpointID"),
                address=address(entry.get("IPv4Address")),
                is_running=True,
            )
            for container_id, entry in mapping(item, "Containers").items()
            if isinstance(entry, dict)
        ),
    )


def is_our_driver(name: str) -> bool:
    """True for `nuage`, and for managed plugins made from it, such as `nuage:latest`."""
    return name.split("/")[-1].startswith("nuage")


def _first_ipam_config(item: Mapping[str, Any]) -> dict[str, Any]:
    """The first member of IPAM.Config, or an empty object; a network has one subnet here."""
    return next(iter(mappings(mapping(item, "IPAM"), "Config")), {})


def engine_network(item: Mapping[str, Any]) -> EngineNetwork | None:
    """A network of ours; None when its driver or its IPAM options are not ours."""
    options = mapping(mapping(item, "IPAM"), "Options")
    if (
        not is_our_driver(text(item, "Driver"))
        or not text(item, "Id")
        or not text(options, "organization")
        or not text(options, "domain")
    ):
        return None
    config = _first_ipam_config(item)
    return EngineNetwork(
        network_id=text(item, "Id"),
        name=text(item, "Name"),
        place=Place(*(text(options, key) for key in ("organization", "domain", "zone", "subnet"))),
        user=text(options, "user"),
        cidr=network(config.get("Subnet"), strict=False),
        address_range=network(config.get("IPRange"), strict=False),
        is_internal=item.get("Internal") is True,
        is_local=item.get("Scope") != "global",
        is_swarm=item.get("Scope") == "swarm",
    )


def network_spec(item: Mapping[str, Any]) -> NetworkSpec | None:
    """A network of ours of scope local; None for any other, and for one that is only a template."""
    ours = engine_network(item)
    if (
        ours is None
        or text(item, "Scope") not in ("", "local")
        or item.get("ConfigOnly") is True
        or not ours.name
    ):
        return None
    ipam = mapping(item, "IPAM")
    config = _first_ipam_config(item)
    return NetworkSpec(
        name=ours.name,
        network_id=ours.network_id,
        driver=text(item, "Driver"),
        ipam_driver=text(ipam, "Driver"),
        is_internal=ours.is_internal,
        is_attachable=item.get("Attachable") is True,
        options=texts(item, "Options"),
        ipam_options=texts(ipam, "Options"),
        subnet=text(config, "Subnet"),
        gateway=text(config, "Gateway"),
        ip_range=text(config, "IPRange"),
        labels=texts(item, "Labels"),
    )


def network_body(spec: NetworkSpec, labels: Mapping[str, str]) -> dict[str, Any]:
    """The body of POST /networks/create that makes a network like `spec`, with more labels."""
    parts = {"Subnet": spec.subnet, "Gateway": spec.gateway, "IPRange": spec.ip_range}
    config = {key: value for key, value in parts.items() if value}
    return {
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


def container_name(item: Mapping[str, Any]) -> str:
    """The name without the leading slash, from an inspection (Name) or a list (Names)."""
    names = item.get("Names")
    first = names[0] if isinstance(names, list) and names else ""
    name = text(item, "Name") or (first if isinstance(first, str) else "")
    return name.removeprefix("/")


def container_endpoints(item: Mapping[str, Any]) -> list[EngineEndpoint]:
    """The networks of a container, from its inspection or from the list of containers."""
    # State is an object in an inspection and a text in a list.
    state = mapping(item, "State").get("Status") or item.get("State")
    return [
        EngineEndpoint(
            container_id=text(item, "Id"),
            container_name=container_name(item),
            network_id=text(entry, "NetworkID"),
            endpoint_id=text(entry, "EndpointID"),
            address=address(entry.get("IPAddress")),
            is_running=state in _LIVING,
        )
        for entry in mapping(mapping(item, "NetworkSettings"), "Networks").values()
        if isinstance(entry, dict)
    ]


def identity(item: Mapping[str, Any]) -> Identity:
    """Who a container is: from its environment, and from its labels where that names nothing.

    Keys are matched exactly, and a value may contain `=` (predecessor D-DOC-1).
    """
    config = mapping(item, "Config")
    settings = {key: value for key, value in texts(config, "Labels").items() if key in _SETTINGS}
    environment = config.get("Env")
    for entry in environment if isinstance(environment, list) else ():
        key, separator, value = entry.partition("=") if isinstance(entry, str) else ("", "", "")
        if separator and key in _SETTINGS:
            settings[key] = value
    names = (part.strip() for part in settings.get(_POLICY_GROUP, "").split(","))
    return Identity(
        container_id=text(item, "Id"),
        name=text(item, "Name").removeprefix("/"),
        policy_groups=tuple(dict.fromkeys(name for name in names if name)),
        orchestration_id=settings.get(_TASK_ID, ""),
    )


def disconnection(event: Mapping[str, Any]) -> Disconnection | None:
    """What a `disconnect` event of a network says; None for any other event."""
    if event.get("Type") != "network" or event.get("Action") != "disconnect":
        return None
    actor = mapping(event, "Actor")
    network_id, container_id = text(actor, "ID"), text(mapping(actor, "Attributes"), "container")
    return Disconnection(network_id, container_id) if network_id and container_id else None
