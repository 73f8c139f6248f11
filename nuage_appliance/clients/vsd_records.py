"""The VSD's JSON, read into the records of the model, and the filters of its lists. Pure.

Owns nothing. Reads defensively: a field may be missing or null in any release of the VSD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nuage_appliance.base.faults import Refused
from nuage_appliance.base.json_fields import address, mappings, network, text
from nuage_appliance.model import Cidr, Container, ContainerInterface, Place, Subnet

_DELETED_SUFFIX = "_MARKED_FOR_DELETION"
_DELETED_STATE = "MARKED_FOR_DELETION"


def predicate(attribute: str, value: str) -> str | None:
    """A filter `attribute == value`, or None when the value cannot be quoted safely (vsd §4)."""
    if not value.isascii() or not value.isprintable() or "\\" in value:
        return None
    for quote in ('"', "'"):
        if quote not in value:
            return f"{attribute} == {quote}{value}{quote}"
    return None


def is_live(item: Mapping[str, Any], name: str) -> bool:
    """True for an object called exactly `name` that is not being deleted.

    The VSD renames what it deletes, or marks it, and lists it until it is gone.
    """
    return (
        text(item, "name") == name
        and bool(text(item, "ID"))
        and not name.endswith(_DELETED_SUFFIX)
        and item.get("entityState") != _DELETED_STATE
    )


def subnet(item: Mapping[str, Any], place: Place, domain_id: str) -> Subnet:
    """A subnet or managed L2 domain. Raises Refused for one without an IPv4 range."""
    cidr = _cidr(item.get("address"), item.get("netmask"))
    if cidr is None:
        raise Refused(
            f"the VSD's {place} has no IPv4 address range, so the VSD cannot assign addresses in "
            "it; choose a subnet, or an L2 domain that manages addresses"
        )
    return Subnet(text(item, "ID"), place, cidr, address(item.get("gateway")), domain_id)


def container(item: Mapping[str, Any], made_in: Subnet | None) -> Container:
    """A container with its interfaces.

    `made_in` is the subnet of a container that this call has just made: some releases answer the
    creation without what they say later.
    """
    created = item.get("creationDate")
    organization = text(item, "enterpriseName")
    return Container(
        vsd_id=text(item, "ID"),
        uuid=text(item, "UUID"),
        name=text(item, "name"),
        external_id=text(item, "externalID"),
        created_ms=created if isinstance(created, int) else 0,
        interfaces=tuple(
            _interface(entry, organization, made_in) for entry in mappings(item, "interfaces")
        ),
        status=text(item, "status"),
    )


def _interface(
    item: Mapping[str, Any], organization: str, made_in: Subnet | None
) -> ContainerInterface:
    is_l2 = item.get("attachedNetworkType") == "L2DOMAIN" or (
        made_in is not None and made_in.place.is_l2
    )
    attached_id = text(item, "attachedNetworkID") or (made_in.vsd_id if made_in else "")
    return ContainerInterface(
        vsd_id=text(item, "ID"),
        name=text(item, "name"),
        mac=text(item, "MAC").lower(),
        address=address(item.get("IPAddress")),
        prefix_len=_prefix_len(item.get("netmask")) or (made_in.cidr.prefixlen if made_in else 0),
        gateway=address(item.get("gateway")),
        vport_id=text(item, "VPortID"),
        subnet_id=attached_id,
        domain_id=text(item, "domainID") or (attached_id if is_l2 else ""),
        is_l2=is_l2,
        place=made_in.place if made_in else _place(item, organization, is_l2),
        endpoint_id=text(item, "endpointID"),
        network_id=text(item, "networkID"),
        external_id=text(item, "externalID"),
    )


def _place(item: Mapping[str, Any], organization: str, is_l2: bool) -> Place:
    """Where an interface is: for an L2 domain, networkName is the domain's name."""
    if is_l2:
        return Place(organization, text(item, "networkName"), "", "")
    return Place(
        organization,
        text(item, "domainName"),
        text(item, "zoneName"),
        text(item, "networkName"),
    )


def _cidr(first: Any, netmask: Any) -> Cidr | None:
    return network(f"{first}/{netmask}") if first and netmask else None


def _prefix_len(netmask: Any) -> int:
    found = _cidr("0.0.0.0", netmask)
    return found.prefixlen if found else 0
