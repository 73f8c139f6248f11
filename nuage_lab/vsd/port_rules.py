"""Owns the rules of vPorts, policy groups, address ranges, reservations and VRS objects (vsd §9).

Same hooks as rules.py. Never creates a container.
"""

from . import naming
from .addressing import normal_mac, parse_address, to_text
from .errors import conflict, duplicate, invalid
from .rules import Rules


class VPortRules(Rules):
    """A vPort knows its network; one with an interface stays (7010)."""

    def complete(self, rest_name, parent, values, caller):
        super().complete(rest_name, parent, values, caller)
        zone, domain = parent.ancestor("zone"), parent.ancestor("domain")
        values["assocEntityID"] = parent.id
        values["domainID"] = domain.id if domain else parent.id
        values["zoneID"] = zone.id if zone else None

    def check_change(self, entity, changes, caller):
        super().check_change(entity, changes, caller)
        if "type" in changes:
            raise invalid("type", "The type of a vPort cannot be changed.")

    def check_delete(self, entity, caller):
        if self.store.within("containerinterface", entity.id):
            raise conflict(
                "vPort in use", f"An interface is still attached to vPort {entity.id}.", code=7010
            )


class PolicyGroupRules(Rules):
    """A group with members stays (7097)."""

    def created(self, entity, caller):
        number = self.simulator.numbers.number(naming.POLICY_GROUP, entity.id)
        self.store.update(entity, {"policyGroupID": number}, caller)

    def check_delete(self, entity, caller):
        if self.store.within("vport", entity.id):
            raise conflict(
                "Policy group in use",
                f"Policy group {entity.values['name']} has vPorts.",
                code=7097,
            )


class AddressRangeRules(Rules):
    """Ranges lie in their network; those of an L2 domain template count in every L2 domain made from it."""

    def complete(self, rest_name, parent, values, caller):
        version = 6 if values.get("IPType") == "IPV6" else 4
        low = parse_address(values["minAddress"], version, "minAddress")
        high = parse_address(values["maxAddress"], version, "maxAddress")
        if low > high:
            raise invalid("maxAddress", "The range ends before it begins.")
        pool = self.simulator.addressing.state(parent).pools.get(version)
        if pool is None or not (pool.is_host(low) and pool.is_host(high)):
            raise invalid("minAddress", "The range is not inside the network.")

    def created(self, entity, caller):
        for network in self._networks(entity):
            self.store.add_scope(entity, network.id)
            self.simulator.addressing.apply_ranges(network)

    def check_change(self, entity, changes, caller):
        self.complete("addressrange", entity.parent, {**entity.values, **changes}, caller)

    def changed(self, entity, changes, caller):
        self.created(entity, caller)

    def deleted(self, entity, caller):
        for network in self._networks(entity):
            self.simulator.addressing.apply_ranges(network)

    def _networks(self, entity):
        parent = entity.parent
        if parent.resource.rest_name == "subnet":
            return [parent]
        siblings = list(self.store.within("l2domain", parent.parent.id))
        return [one for one in siblings if one.values["templateID"] == parent.id]


class IpReservationRules(Rules):
    """A MAC has one reserved address, which nobody else is given."""

    def complete(self, rest_name, parent, values, caller):
        mac = normal_mac(values["MAC"])
        state = self.simulator.addressing.state(parent)
        if mac in state.reserved_for_mac:
            raise duplicate(rest_name, "MAC", values["MAC"])
        self.simulator.addressing.check_wanted(parent, values["IPAddress"], 4, "IPAddress", mac)

    def created(self, entity, caller):
        self.simulator.addressing.reserve_for_mac(entity.parent, entity.values)

    def check_change(self, entity, changes, caller):
        self.simulator.addressing.release_for_mac(entity.parent, entity.values)
        try:
            self.complete("ipreservation", entity.parent, {**entity.values, **changes}, caller)
        finally:
            self.simulator.addressing.reserve_for_mac(entity.parent, entity.values)

    def changed(self, entity, changes, caller):
        self.simulator.addressing.forget(entity.parent)

    def deleted(self, entity, caller):
        self.simulator.addressing.release_for_mac(entity.parent, entity.values)


class VmIpReservationRules(Rules):
    """Addresses that are kept for an interface to come; the server may pick one from pools."""

    def complete(self, rest_name, parent, values, caller):
        if not any(
            values.get(name)
            for name in ("IPV4Address", "IPV6Address", "allocationPools", "IPV6AllocationPools")
        ):
            raise invalid(
                "IPV6Address" if values.get("IPType") == "IPV6" else "IPV4Address",
                "This value is mandatory.",
            )
        for version, name, pools in (
            (4, "IPV4Address", "allocationPools"),
            (6, "IPV6Address", "IPV6AllocationPools"),
        ):
            if values.get(name):
                self._check(parent, values, version, name)
            elif values.get(pools):
                values[name] = self._pick(parent, values[pools], version)

    def created(self, entity, caller):
        self.simulator.addressing.block_reservation(entity.parent, entity.values)

    def check_change(self, entity, changes, caller):
        if any(name in changes for name in ("IPV4Address", "IPV6Address")):
            raise invalid("IPV4Address", "The address of a reservation cannot be changed.")

    def deleted(self, entity, caller):
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
                raise invalid(
                    "allocationPools",
                    f"The pool ends at {to_text(high, version)}, before it begins at {to_text(low, version)}.",
                )
            for address in range(low, high + 1):
                if not pool.is_used(address) and pool.reason(address) is None:
                    return to_text(address, version)
        raise conflict(
            "No free address", "There is no IP address left in the pools.", "allocationPools", 2702
        )
