"""The UUIDs and MACs that VSD containers are made with. Owns nothing; no I/O."""

from __future__ import annotations

import hashlib
import random


class Identifiers:
    """Draws identifiers at random; two bytes of every MAC come from `hostname`."""

    def __init__(self, hostname: str, rng: random.Random | None = None) -> None:
        self._rng = rng or random.SystemRandom()
        self._host_bytes = hashlib.md5(hostname.encode()).digest()[:2]

    def new_uuid(self) -> str:
        """64 hexadecimal digits whose first twelve are no decimal number (predecessor §8.1)."""
        while True:
            text = f"{self._rng.getrandbits(256):064x}"
            if not text[:12].isdecimal():
                return text

    def new_mac(self) -> str:
        """A locally administered unicast MAC such as 7a:42:d6:aa:d0:11 (predecessor §8.1)."""
        first = (self._rng.getrandbits(8) & 0xFE) | 0x02
        tail = self._rng.getrandbits(24).to_bytes(3, "big")
        return ":".join(f"{byte:02x}" for byte in bytes([first]) + self._host_bytes + tail)
