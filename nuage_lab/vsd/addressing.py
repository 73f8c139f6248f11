"""Owns the address pools of all networks, and their ranges and reservations (vsd §9, §12).

Never creates a container; it only decides which address one may have.
"""

import ipaddress
import re

from .errors import conflict, invalid
from .pools import NetworkState

_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-]?[0-9A-Fa-f]{2}){5}\Z")


def normal_mac(text):
    """Return a MAC as 12 lower-case digits; raises the 409 for a text that is not a MAC."""
    if not isinstance(text, str) or not _MAC.match(text):
        raise invalid("MAC", f"{text!r} is not a MAC address.")
    return re.sub("[:-]", "", text).lower()


def parse_address(text, version, name):
    """Return an address of one IP version as an integer; raises the 409 of vsd §11.2 step 6."""
    try:
        address = ipaddress.ip_address(text.partition("/")[0])
    except (ValueError, AttributeError) as problem:
        raise invalid(name, _not_valid(text)) from problem
    if address.version != version:
        raise invalid(name, _not_valid(text))
    return int(address)


def to_text(address, version):
    """Return an integer address in its usual notation."""
    kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    return str(kind(address))


def _not_valid(text):
    return f"IP Address {text} is not valid or cannot be in reserved address space"


class Addressing:
    """The `NetworkState` of each subnet and L2 domain, in step with ranges and reservations."""

    def __init__(self, store, settings, chooser):
        self._store = store
        self._settings = settings
        self._chooser = chooser
        self._states = {}  # NetworkState by the ID of its subnet or L2 domain

    def state(self, network):
        """Return the state of a subnet or L2 domain, made on first use."""
        state = self._states.get(network.id)
        if state is None:
            state = self._states[network.id] = self._build(network)
        return state

    def forget(self, network):
        """Drop the state of a network that is gone or readdressed; the next use rebuilds it."""
        self._states.pop(network.id, None)

    def _build(self, network):
        state = NetworkState(network.values, self._settings.lru_size)
        for pool in state.pools.values():
            pool.chooser = self._chooser
        self._states[network.id] = state
        self.apply_ranges(network)
        for reservation in self._store.within("ipreservation", network.id):
            self.reserve_for_mac(network, reservation.values)
        for reservation in self._store.within("vmipreservation", network.id):
            self.block_reservation(network, reservation.values)
        for interface in self._store.within("containerinterface", network.id):
            state.macs[normal_mac(interface.values["MAC"])] = interface.id
            for version, name in ((4, "IPAddress"), (6, "IPv6Address")):
                if interface.values.get(name) and version in state.pools:
                    state.pools[version].take(parse_address(interface.values[name], version, name))
        return state

    def apply_ranges(self, network):
        """Let the automatic choice follow the address ranges of a network."""
        state = self.state(network)
        for version, pool in state.pools.items():
            ranges = [
                (
                    parse_address(entry.values["minAddress"], version, "minAddress"),
                    parse_address(entry.values["maxAddress"], version, "maxAddress"),
                )
                for entry in self._store.within("addressrange", network.id)
                if entry.values["IPType"] == f"IPV{version}"
            ]
            pool.set_ranges(ranges)

    def reserve_for_mac(self, network, values):
        """Keep an address for one MAC."""
        state = self.state(network)
        if 4 in state.pools:
            address = parse_address(values["IPAddress"], 4, "IPAddress")
            state.reserved_for_mac[normal_mac(values["MAC"])] = address
            state.pools[4].block(address, "ipreservation")

    def release_for_mac(self, network, values):
        """Undo `reserve_for_mac`."""
        state = self.state(network)
        address = state.reserved_for_mac.pop(normal_mac(values["MAC"]), None)
        if address is not None:
            state.pools[4].unblock(address)

    def block_reservation(self, network, values):
        """Keep the addresses of a vmipreservation out of the automatic choice."""
        for version, name in ((4, "IPV4Address"), (6, "IPV6Address")):
            pool = self.state(network).pools.get(version)
            if pool is not None and values.get(name):
                pool.block(parse_address(values[name], version, name), "vmipreservation")

    def unblock_reservation(self, network, values):
        """Undo `block_reservation`."""
        for version, name in ((4, "IPV4Address"), (6, "IPV6Address")):
            pool = self.state(network).pools.get(version)
            if pool is not None and values.get(name):
                pool.unblock(parse_address(values[name], version, name))

    def check_wanted(self, network, text, version, name, mac=None):
        """Check an address that a client asks for; return it as an integer (vsd §11.2 step 6)."""
        state = self.state(network)
        pool = state.pools.get(version)
        address = parse_address(text, version, name)
        if pool is None or not pool.is_host(address) or pool.reason(address) == "gateway":
            raise invalid(name, _not_valid(text))
        if pool.is_used(address):
            holder = "another interface of this request"
            raise self._in_use(network, to_text(address, version), name, holder)
        is_reserved = version == 4 and pool.reason(address) == "ipreservation"
        if is_reserved and state.reserved_for_mac.get(mac) != address:
            raise self._in_use(network, to_text(address, version), name, "a reservation")
        return address

    def choose(self, network, version, mac=None):
        """Return a free address as an integer without taking it; raises 409/2702 without one."""
        state = self.state(network)
        pool = state.pools[version]
        reserved = state.reserved_for_mac.get(mac) if version == 4 else None
        if reserved is not None and not pool.is_used(reserved):
            return reserved
        address = pool.choose(self._settings.allocation)
        if address is None:
            name = network.values["name"]
            raise conflict(
                "No free address", f"There is no IP address left in {name}.", "IPAddress", 2702
            )
        return address

    def mark_reservation(self, network, address_text, state, caller):
        """Set the state of the vmipreservation that holds an address, if there is one."""
        for reservation in list(self._store.within("vmipreservation", network.id)):
            values = reservation.values
            if address_text not in (values["IPV4Address"], values["IPV6Address"]):
                continue
            if state == "UNASSIGNED" and values["state"] == "ASSIGNED_DELETE_PENDING":
                self.unblock_reservation(network, values)
                self._store.remove(reservation, caller)
            else:
                self._store.update(reservation, {"state": state}, caller)
            return

    def _in_use(self, network, text, name, otherwise):
        holders = self._store.within("containerinterface", network.id)
        if name != "IPv6Address":  # IPv6 addresses have no index
            holders = [
                one
                for one in self._store.find_by("containerinterface", "IPAddress", text)
                if network.id in one.scopes
            ]
        for holder in holders:
            if text in (holder.values["IPAddress"], holder.values["IPv6Address"]):
                break
        else:
            holder = None
        who = f"container {holder.values['containerUUID']}" if holder else otherwise
        return conflict(
            "IP address in use", f"The IP Address {text} is currently in use by {who}.", name, 2704
        )
