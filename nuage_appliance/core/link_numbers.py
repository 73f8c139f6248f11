"""The numbers that name this host's veth pairs.

Owns which numbers are taken. Must never give out one that a device, a port, a row or a VSD
interface of this host carries. No I/O, no switch of greenlets.
"""

from __future__ import annotations

from nuage_appliance.model import VethPair


class LinkNumbers:
    """The numbers of veth pairs, which are given out upwards, so that none comes again soon."""

    def __init__(self) -> None:
        # What something of this host carries, or was given out and not freed.
        self._used: set[int] = set()
        # Those of them that a device had at the start: whoever holds that device may be running.
        self._of_devices: set[int] = set()
        self._last = VethPair(0)

    def take(self, pair: VethPair) -> None:
        """Note that something of this host carries the pair's number."""
        self._used.add(pair.number)
        if pair.number > self._last.number and not pair.is_of_reservation:
            self._last = pair

    def take_device(self, pair: VethPair) -> None:
        """Note that a device of that pair was on the host at the start."""
        self.take(pair)
        self._of_devices.add(pair.number)

    def keep(self, pair: VethPair) -> None:
        """Note that an endpoint has the pair, without counting on from its number."""
        self._used.add(pair.number)

    def free(self, pair: VethPair) -> None:
        """Note that nothing carries the pair's number any more."""
        self._used.discard(pair.number)
        self._of_devices.discard(pair.number)

    def had_device(self, pair: VethPair) -> bool:
        """True when a device of that pair was on the host at the start, and was not freed since."""
        return pair.number in self._of_devices

    def next_pair(self) -> VethPair:
        """A pair with a free number, which is taken now."""
        pair = self._last.next()
        while pair.number in self._used:
            pair = pair.next()
        self._used.add(pair.number)
        self._last = pair
        return pair
