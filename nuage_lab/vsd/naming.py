"""Owns the numbers that the VSD invents: vnId, service IDs, gateway MACs, route targets (vsd §8).

A number follows from the object's ID, so that a seeded tree has the same numbers after every start.
Never gives one number twice within its kind.
"""

import uuid as uuids
import zlib
from collections.abc import Mapping

Kind = tuple[str, int, int]  # name, lowest and highest number

_SPACE = uuids.UUID("5d9b6a0e-2f0c-5a55-9c39-4f4f0d6a7c11")
VNID = ("vnId", 1, 16777165)
SERVICE = ("serviceID", 20001, 2147483647)
POLICY_GROUP = ("policyGroupID", 65536, 2147483647)
CUSTOMER = ("customerID", 10000, 2147483647)
VRF = ("vrf", 1, 2147483647)
ROUTE = ("route", 1, 65535)
GATEWAY = ("gateway", 1, 65535)
GLOBAL_MAC = "68:54:ED:00:59:EA"  # of every gateway whose network has useGlobalMAC


def stable_id(*path: str) -> str:
    """Return the ID that an object of the seed always has."""
    return str(uuids.uuid5(_SPACE, "/".join(path)))


class Numbers:
    """Gives out numbers by kind and remembers which object has which."""

    def __init__(self) -> None:
        # Number by (kind's name, object ID), in the order in which they were given.
        self.given: dict[tuple[str, str], int] = {}
        # Object ID by (kind's name, number).
        self._owners: dict[tuple[str, int], str] = {}

    def take_over(self, given: Mapping[tuple[str, str], int]) -> None:
        """Go on with the numbers that the process before gave out."""
        self.given = dict(given)
        self._owners = {(name, number): object_id for (name, object_id), number in given.items()}

    def number(self, kind: Kind, object_id: str) -> int:
        """Return the number of a kind that belongs to an object; the same on every call."""
        name, low, high = kind
        key = (name, object_id)
        if key not in self.given:
            size = high - low + 1
            offset = zlib.crc32(f"{name}/{object_id}".encode()) % size
            while (name, low + offset) in self._owners and len(self._owners) < size:
                offset = (offset + 1) % size
            self._owners[name, low + offset] = object_id
            self.given[key] = low + offset
        return self.given[key]

    def chosen(self) -> dict[str, set[int | str]]:
        """Return {object ID: the set of values that were made from its numbers}."""
        found: dict[str, set[int | str]] = {}
        for (name, owner), number in self.given.items():
            values = found.setdefault(owner[-36:], set())
            values.update((number, f"65534:{number}"))
            if name == GATEWAY[0]:
                values.add(_gateway_mac(number))
        return found

    def gateway_mac(self, object_id: str) -> str:
        """Return the MAC of a network's gateway."""
        return _gateway_mac(self.number(GATEWAY, object_id))

    def route(self, kind: str, object_id: str) -> str:
        """Return a route target or route distinguisher."""
        return f"65534:{self.number(ROUTE, kind + object_id)}"


def _gateway_mac(number: int) -> str:
    return f"68:54:ED:00:{number >> 8:02X}:{number & 255:02X}"
