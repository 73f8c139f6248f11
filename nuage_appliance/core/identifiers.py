"""The UUIDs and MACs that VSD containers are made with. Owns nothing; no I/O."""

from __future__ import annotations

import hashlib
import random

from nuage_appliance.model import Address, Place


class Identifiers:
    """Draws identifiers at random; two bytes of every MAC come from `hostname`."""

    def __init__(self, hostname: str, rng: random.Random | None = None) -> None:
        self._rng = rng or random.SystemRandom()
        self._host_bytes = hashlib.md5(hostname.encode(), usedforsecurity=False).digest()[:2]

    def new_uuid(self) -> str:
        """64 hexadecimal digits whose first twelve are no decimal number (predecessor §8.1)."""
        while True:
            text = f"{self._rng.getrandbits(256):064x}"
            if not text[:12].isdecimal():
                return text

    def new_mac(self) -> str:
        """A locally administered unicast MAC such as 7a:42:d6:aa:d0:11 (predecessor §8.1)."""
        tail = self._rng.getrandbits(24).to_bytes(3, "big")
        return _mac(self._rng.getrandbits(8), self._host_bytes + tail)

    def mac_of(self, place: Place, address: Address) -> str:
        """The MAC of an address that is known beforehand: always the same one, on every host.

        So a container that gets its address again keeps its MAC, and its peers' ARP entries stay
        right. Engines before 28 do not announce an address, so with another MAC the peers would
        lose the container until their entries expire.
        """
        names = (place.organization, place.domain, place.zone, place.subnet, str(address))
        digest = hashlib.sha256("\0".join(names).encode("utf-8")).digest()
        return _mac(digest[0], digest[1:6])


def _mac(first: int, rest: bytes) -> str:
    """A locally administered unicast MAC of a first byte, two bits of which are set, and five."""
    return ":".join(f"{byte:02x}" for byte in bytes([first & 0xFE | 0x02]) + rest)
