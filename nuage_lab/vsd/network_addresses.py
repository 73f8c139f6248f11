"""Owns what a network's addresses must be: whole networks, gateways inside (vsd §8, §9, §13).

Never looks at another object, and never at an address of an interface.
"""

import ipaddress
from typing import TYPE_CHECKING, Any

from .errors import invalid

if TYPE_CHECKING:
    from .store import Entity

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_RESERVED = [
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8")
]
ADDRESS_NAMES = frozenset(("address", "netmask", "gateway", "IPv6Address", "IPv6Gateway"))
# What an L2 domain takes from its template, in the order of a seed file.
L2_ADDRESSES = (
    "DHCPManaged",
    "IPType",
    "address",
    "netmask",
    "gateway",
    "IPv6Address",
    "IPv6Gateway",
    "enableDHCPv4",
    "enableDHCPv6",
    "dualStackDynamicIPAllocation",
)


def complete_change(entity: "Entity", changes: dict[str, Any]) -> None:
    """Check the addresses of a network as they would be after a change.

    Adds to `changes` the first host as gateway where they remove one. Raises the 409.
    """
    if ADDRESS_NAMES & set(changes):
        values = {name: changes.get(name, entity.values[name]) for name in ADDRESS_NAMES}
        complete_addresses(values)
        for name in {"gateway", "IPv6Gateway"} & set(changes):
            changes[name] = values[name]


def check_families(values: dict[str, Any]) -> None:
    """Check that a new network has the addresses of its families and no others (vsd §13).

    Completes `values` as `complete_addresses` does. Raises the 409.
    """
    families = values.get("IPType") or "IPV4"
    for names, without in ((("address", "netmask"), "IPV6"), (("IPv6Address",), "IPV4")):
        for name in names:
            if families == without and values.get(name):
                raise invalid(name, f"A network of type {families} has no such address.")
            if families != without and not values.get(name):
                raise invalid(name, "This value is mandatory.")
    complete_addresses(values)


def networks(values: dict[str, Any]) -> list[tuple[str, Network]]:
    """Return the (attribute, ipaddress network) pairs of a network's values."""
    found: list[tuple[str, Network]] = []
    if values.get("address") and values.get("netmask"):
        found.append(("address", ipaddress.ip_network(f"{values['address']}/{values['netmask']}")))
    if values.get("IPv6Address"):
        found.append(("IPv6Address", ipaddress.ip_network(values["IPv6Address"], strict=False)))
    return found


def complete_addresses(values: dict[str, Any]) -> None:
    """Check the addresses of a network; the first host is the default gateway (vsd §8).

    Writes the gateways into `values`. Raises the 409.
    """
    if values.get("address") and values.get("netmask"):
        netmask = values["netmask"]
        network = _network("address", f"{values['address']}/{netmask}", ipaddress.IPv4Network)
        if netmask != str(network.netmask):
            text = f"{netmask} is not a netmask in dotted form, as {network.netmask}."
            raise invalid("netmask", text)
        values["gateway"] = _gateway("gateway", values.get("gateway"), network)
    if values.get("IPv6Address"):
        network = _network("IPv6Address", values["IPv6Address"], ipaddress.IPv6Network)
        values["IPv6Gateway"] = _gateway("IPv6Gateway", values.get("IPv6Gateway"), network)


def _network(name: str, text: str, kind: type[Network]) -> Network:
    try:
        network = kind(text)
    except ValueError as problem:
        raise invalid(name, f"{text} is not a network address: {problem}") from problem
    if any(network.version == one.version and network.overlaps(one) for one in _RESERVED):
        address = network.network_address
        text = f"IP Address {address} is not valid or cannot be in reserved address space"
        raise invalid(name, text)
    if network.num_addresses < 4:
        raise invalid(name, f"{text} is too small for a gateway and a container.")
    return network


def _gateway(name: str, text: str | None, network: Network) -> str:
    if not text:
        return str(network.network_address + 1)
    try:
        address = ipaddress.ip_address(text)
    except ValueError as problem:
        raise invalid(name, "Gateway is not valid on subnet") from problem
    if address not in network:
        raise invalid(name, f"Network Gateway IP Address {text} is out of range.")
    if network.version == 4 and address in (network.network_address, network.broadcast_address):
        raise invalid(name, "Gateway is not valid on subnet")
    return str(address)
