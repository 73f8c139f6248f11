"""Owns which addresses of one network are taken, and the choice of a free one (vsd §12).

Addresses are plain integers here. Never knows a container, a reservation object or a client.

The lowest free address is found in constant time: a cursor runs over addresses that were never
given, a heap holds those that were given back.
"""

from __future__ import annotations

import heapq
import ipaddress
import random
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Pool:
    """The addresses of one family in one subnet or L2 domain."""

    def __init__(
        self, network: Network, lru_size: int = 32, chooser: random.Random | None = None
    ) -> None:
        """Cover an ipaddress network; `chooser` is the random source of the random mode."""
        self.network = network
        self.lru_size = lru_size
        self.chooser = chooser or random.Random()
        first, last = int(network.network_address), int(network.broadcast_address)
        margin = 0 if network.prefixlen >= network.max_prefixlen - 1 else 1
        upper_margin = margin if network.version == 4 else 0
        self._whole = [(first + margin, last - upper_margin)]
        self._intervals = self._whole
        self._used: set[int] = set()
        self._blocked: dict[int, str] = {}  # why, by address
        # Addresses freed lately, oldest first; the values mean nothing.
        self._recent: OrderedDict[int, None] = OrderedDict()
        # Heap of addresses that were free again when they were pushed.
        self._returned: list[int] = []
        # Place in the intervals and next address that was never given; None when there is none.
        self._cursor: tuple[int, int] | None = None
        self._restart()

    def set_ranges(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Restrict the automatic choice to (low, high) pairs; without any, to the whole network."""
        self._intervals = sorted(ranges) or self._whole
        self._restart()

    def block(self, address: int, why: str = "reserved") -> None:
        """Exclude an address from the automatic choice."""
        self._blocked[address] = why

    def unblock(self, address: int) -> None:
        """Let the automatic choice have an address again."""
        if self._blocked.pop(address, None) is not None:
            heapq.heappush(self._returned, address)

    def is_used(self, address: int) -> bool:
        """Return whether the address is taken."""
        return address in self._used

    def reason(self, address: int) -> str | None:
        """Return why an address is blocked, or None."""
        return self._blocked.get(address)

    def is_host(self, address: int) -> bool:
        """Return whether an interface may have the address.

        It must be inside the network, and neither its network nor its broadcast address.
        """
        low, high = self._whole[0]
        return low <= address <= high

    def take(self, address: int) -> None:
        """Mark an address as taken; it must be free."""
        self._used.add(address)
        self._recent.pop(address, None)

    def give_back(self, address: int) -> None:
        """Free an address.

        The automatic choice avoids it until `lru_size` other addresses were freed after it.
        """
        self._used.discard(address)
        self._recent.pop(address, None)
        self._recent[address] = None
        while len(self._recent) > self.lru_size:
            heapq.heappush(self._returned, self._recent.popitem(last=False)[0])

    def give_back_text(self, text: str) -> None:
        """Free an address given in its usual notation."""
        self.give_back(int(ipaddress.ip_address(text)))

    def undo_take(self, address: int) -> None:
        """Free an address that was taken by a request which then failed."""
        self._used.discard(address)
        heapq.heappush(self._returned, address)

    def choose(self, mode: str = "lowest") -> int | None:
        """Return a free address without taking it, or None if the network is full."""
        address = self._random() if mode == "random" else None
        if address is None:
            address = self._lowest()
        if address is None:
            address = next(
                (one for one in self._recent if self._is_choosable(one) and self._is_ranged(one)),
                None,
            )
        return address

    def _restart(self) -> None:
        self._cursor = (0, self._intervals[0][0]) if self._intervals else None
        self._returned = []

    def _is_choosable(self, address: int) -> bool:
        return address not in self._used and address not in self._blocked

    def _is_ranged(self, address: int) -> bool:
        return any(low <= address <= high for low, high in self._intervals)

    def _lowest(self) -> int | None:
        fresh = self._next_fresh()
        while self._returned:
            address = self._returned[0]
            is_free = self._is_choosable(address) and address not in self._recent
            if is_free and self._is_ranged(address):
                return address if fresh is None else min(address, fresh)
            heapq.heappop(self._returned)
        return fresh

    def _next_fresh(self) -> int | None:
        while self._cursor is not None:
            position, address = self._cursor
            if address > self._intervals[position][1]:
                position += 1
                self._cursor = None
                if position < len(self._intervals):
                    self._cursor = (position, self._intervals[position][0])
            elif not self._is_choosable(address) or address in self._recent:
                self._cursor = (position, address + 1)
            else:
                return address
        return None

    def _random(self) -> int | None:
        for _ in range(32):
            low, high = self.chooser.choice(self._intervals)
            address = self.chooser.randint(low, high)
            is_free = self._is_choosable(address) and address not in self._recent
            if is_free and self.is_host(address):
                return address
        return None


class NetworkState:
    """What one subnet or L2 domain hands out: its pools by IP version and the MACs in use."""

    def __init__(self, values: Mapping[str, Any], lru_size: int) -> None:
        self.pools: dict[int, Pool] = {}  # Pool by IP version
        self.macs: dict[str, str] = {}  # ID of the interface by its MAC, as 12 digits
        self.reserved_for_mac: dict[str, int] = {}  # IPv4 address by MAC
        if values.get("address") and values.get("netmask"):
            network = ipaddress.ip_network(f"{values['address']}/{values['netmask']}")
            self.pools[4] = Pool(network, lru_size)
        if values.get("IPv6Address"):
            network = ipaddress.ip_network(values["IPv6Address"], strict=False)
            self.pools[6] = Pool(network, lru_size)
        for version, name in ((4, "gateway"), (6, "IPv6Gateway")):
            if version in self.pools and values.get(name):
                self.pools[version].block(int(ipaddress.ip_address(values[name])), "gateway")
