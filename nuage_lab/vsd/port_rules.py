"""Owns the rules of vPorts, policy groups, address ranges, reservations and VRS objects (vsd §9).

Same hooks as rules.py. Never creates a container.
"""

from . import naming
from .addressing import normal_mac, parse_address, to_text
from .errors import conflict, duplicate, invalid
from .rules import Rules


class VPortRules(Rules):
    """A vPort knows its network; one with an interface cannot be deleted (7010)."""

    def complete(self, rest_name, parent, values, caller):
        """Fill in network, domain and zone."""
        super().complete(rest_name, parent, values, caller)
        zone, domain = parent.ancestor("zone"), parent.ancestor("domain")
        values["assocEntityID"] = parent.id
        values["domainID"] = domain.id if domain else parent.id
        values["zoneID"] = zone.id if zone else None

    def check_change(self, entity, changes, caller):
        """Refuse another type."""
        super().check_change(entity, changes, caller)
        if "type" in changes:
            raise invalid("type", "The type of a vPort cannot be changed.")

    def check_delete(self, entity, caller):
        """Refuse the deletion while an interface is attached (7010)."""
        if self.store.within("containerinterface", entity.id):
            text = f"An interface is still attached to vPort {entity.id}."
            raise conflict("vPort in use", text, code=7010)


class PolicyGroupRules(Rules):
    """A policy group with members cannot be deleted (7097)."""

    def created(self, entity, caller):
        """Give the group its number."""
        number = self.simulator.numbers.number(naming.POLICY_GROUP, entity.id)
        self.store.update(entity, {"policyGroupID": number}, caller)

    def check_delete(self, entity, caller):
        """Refuse the deletion while the group has vPorts (7097)."""
        if self.store.within("vport", entity.id):
            text = f"Policy group {entity.values['name']} has vPorts."
            raise conflict("Policy group in use", text, code=7097)


class AddressRangeRules(Rules):
    """A range lies inside its network.

    Ranges of an L2 domain template apply to every L2 domain made from it.
    """

    def complete(self, rest_name, parent, values, caller):
        """Check that the range is in order and inside the network."""
        version = 6 if values.get("IPType") == "IPV6" else 4
        low = parse_address(values["minAddress"], version, "minAddress")
        high = parse_address(values["maxAddress"], version, "maxAddress")
        if low > high:
            raise invalid("maxAddress", "The range ends before it begins.")
        pool = self.simulator.addressing.state(parent).pools.get(version)
        if pool is None or not (pool.is_host(low) and pool.is_host(high)):
            raise invalid("minAddress", "The range is not inside the network.")

    def created(self, entity, caller):
        """Let the address pools follow."""
        for network in self._networks(entity):
            self.store.add_scope(entity, network.id)
            self.simulator.addressing.apply_ranges(network)

    def check_change(self, entity, changes, caller):
        """Check the range as it would be after the change."""
        self.complete("addressrange", entity.parent, {**entity.values, **changes}, caller)

    def changed(self, entity, changes, caller):
        """Let the address pools follow."""
        self.created(entity, caller)

    def deleted(self, entity, caller):
        """Let the address pools follow."""
        for network in self._networks(entity):
            self.simulator.addressing.apply_ranges(network)

    def _networks(self, entity):
        parent = entity.parent
        if parent.resource.rest_name == "subnet":
            return [parent]
        siblings = list(self.store.within("l2domain", parent.parent.id))
        return [one for one in siblings if one.values["templateID"] == parent.id]


class IpReservationRules(Rules):
    """A MAC has one reserved address, which no other interface gets."""

    def complete(self, rest_name, parent, values, caller):
        """Refuse a second reservation of a MAC and an address that is not free."""
        mac = normal_mac(values["MAC"])
        state = self.simulator.addressing.state(parent)
        if mac in state.reserved_for_mac:
            raise duplicate(rest_name, "MAC", values["MAC"])
        self.simulator.addressing.check_wanted(parent, values["IPAddress"], 4, "IPAddress", mac)

    def created(self, entity, caller):
        """Keep the address for the MAC."""
        self.simulator.addressing.reserve_for_mac(entity.parent, entity.values)

    def check_change(self, entity, changes, caller):
        """Check the reservation as it would be after the change, as if it were new."""
        self.simulator.addressing.release_for_mac(entity.parent, entity.values)
        try:
            self.complete("ipreservation", entity.parent, {**entity.values, **changes}, caller)
        finally:
            self.simulator.addressing.reserve_for_mac(entity.parent, entity.values)

    def changed(self, entity, changes, caller):
        """Rebuild the address pools at their next use."""
        self.simulator.addressing.forget(entity.parent)

    def deleted(self, entity, caller):
        """Free the address."""
        self.simulator.addressing.release_for_mac(entity.parent, entity.values)


class VmIpReservationRules(Rules):
    """Addresses that are kept for a future interface.

    The client names an address or pools from which the server picks one.
    """

    def complete(self, rest_name, parent, values, caller):
        """Check the addresses, or pick them from the pools."""
        sources = (
            (4, "IPV4Address", "allocationPools"),
            (6, "IPV6Address", "IPV6AllocationPools"),
        )
        if not any(values.get(name) or values.get(pools) for _, name, pools in sources):
            missing = "IPV6Address" if values.get("IPType") == "IPV6" else "IPV4Address"
            raise invalid(missing, "This value is mandatory.")
        for version, name, pools in sources:
            if values.get(name):
                self._check(parent, values, version, name)
            elif values.get(pools):
                values[name] = self._pick(parent, values[pools], version)

    def created(self, entity, caller):
        """Exclude the addresses from the automatic choice."""
        self.simulator.addressing.block_reservation(entity.parent, entity.values)

    def check_change(self, entity, changes, caller):
        """Refuse another address."""
        if any(name in changes for name in ("IPV4Address", "IPV6Address")):
            raise invalid("IPV4Address", "The address of a reservation cannot be changed.")

    def deleted(self, entity, caller):
        """Let the automatic choice have the addresses again."""
        self.simulator.addressing.unblock_reservation(entity.parent, entity.values)

    def _check(self, parent, values, version, name):
        for other in self.store.within("vmipreservation", parent.id):
            if other.values[name] == values[name]:
                raise duplicate("vmipreservation", name, values[name], 7205)
        address = self.simulator.addressing.check_wanted(parent, values[name], version, name)
        values[name] = to_text(address, version)

    def _pick(self, parent, pools, version):
        pool = self.simulator.addressing.state(parent).pools.get(version)
        for entry in pools:
            if pool is None or not isinstance(entry, dict):
                raise invalid("allocationPools", "The pools do not fit the network.")
            low = parse_address(entry.get("minAddress"), version, "allocationPools")
            high = parse_address(entry.get("maxAddress"), version, "allocationPools")
            if not (pool.is_host(low) and pool.is_host(high)):
                raise invalid("allocationPools", "The pools do not fit the network.")
            if low > high:
                first, last = to_text(low, version), to_text(high, version)
                text = f"The pool ends at {last}, before it begins at {first}."
                raise invalid("allocationPools", text)
            for address in range(low, high + 1):
                if not pool.is_used(address) and pool.reason(address) is None:
                    return to_text(address, version)
        raise conflict(
            "No free address", "There is no IP address left in the pools.", "allocationPools", 2702
        )
