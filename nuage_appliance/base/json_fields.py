"""Reads fields of a backend's JSON, where any field may be missing, null or of another type.

Owns nothing. What is not of the wanted type counts as missing, so that a strange answer never ends
a greenlet.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any


def text(item: Mapping[str, Any], key: str) -> str:
    """The string under `key`, or an empty one."""
    value = item.get(key)
    return value if isinstance(value, str) else ""


def mapping(item: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object under `key`, or an empty one."""
    value = item.get(key)
    return value if isinstance(value, dict) else {}


def texts(item: Mapping[str, Any], key: str) -> dict[str, str]:
    """The members of the object under `key` that are strings."""
    return {name: value for name, value in mapping(item, key).items() if isinstance(value, str)}


def mappings(item: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The members of the array under `key` that are objects; empty when there is no array."""
    value = item.get(key)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def address(value: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IP address, with or without `/PREFIX`; None for an empty text and for anything else."""
    if not isinstance(value, str) or not value:
        return None
    try:
        return ipaddress.ip_address(value.split("/")[0])
    except ValueError:
        return None


def network(
    value: Any, strict: bool = True
) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """An IP network from `ADDRESS/PREFIX` or `ADDRESS/NETMASK`; None for anything else.

    `strict` refuses an address with host bits; else they are cut off.
    """
    if not isinstance(value, str) or not value:
        return None
    try:
        return ipaddress.ip_network(value, strict=strict)
    except ValueError:
        return None
