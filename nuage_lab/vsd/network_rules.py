"""Owns the rules of subnets, L2 domains and their templates: addresses, numbers (vsd §9, §13).

Same hooks as rules.py. Never touches containers, ports or reservations.
"""

from . import naming
from .errors import invalid
from .network_addresses import (
    ADDRESS_NAMES,
    L2_ADDRESSES,
    check_families,
    complete_change,
    networks,
)
from .rules import DomainTemplateRules, Rules, still_used


class L2DomainTemplateRules(DomainTemplateRules):
    """A managed template holds a whole network, an unmanaged one none."""

    user_of_template = "l2domain"

    def complete(self, rest_name, parent, values, caller):
        """Check and complete the addresses; an unmanaged template loses them."""
        super().complete(rest_name, parent, values, caller)
        if values.get("DHCPManaged") is False:
            values.update(dict.fromkeys(ADDRESS_NAMES))
        else:
            check_families(values)

    def check_change(self, entity, changes, caller):
        """Check the addresses as they would be after the change."""
        super().check_change(entity, changes, caller)
        complete_change(entity, changes)

    def changed(self, entity, changes, caller):
        """Rebuild the address pools at their next use."""
        self.simulator.addressing.forget(entity)


class NetworkRules(Rules):
    """What subnets and L2 domains have in common: containers hold their addresses."""

    def check_change(self, entity, changes, caller):
        """Refuse new addresses while interfaces are attached (2506)."""
        super().check_change(entity, changes, caller)
        check_readdressing(self.store, entity, changes)

    def changed(self, entity, changes, caller):
        """Rebuild the address pools at their next use; let the gateway MAC follow."""
        follow_change(self.simulator, entity, changes, caller)

    def check_delete(self, entity, caller):
        """Refuse the deletion while interfaces are attached (2506)."""
        if self.store.within("containerinterface", entity.id):
            raise still_used(entity)

    def deleted(self, entity, caller):
        """Drop the address pools."""
        self.simulator.addressing.forget(entity)


class SubnetRules(NetworkRules):
    """A subnet has a network address that overlaps with no other subnet of its domain."""

    def complete(self, rest_name, parent, values, caller):
        """Check and complete the addresses; refuse an overlap."""
        super().complete(rest_name, parent, values, caller)
        check_families(values)
        self._check_overlap(parent, values)

    def created(self, entity, caller):
        """Give the subnet its numbers, route targets and gateway MAC, if not chosen already."""
        numbers, given = self.simulator.numbers, entity.values
        changes = {
            "vnId": given["vnId"] or numbers.number(naming.VNID, entity.id),
            "serviceID": given["serviceID"] or numbers.number(naming.SERVICE, entity.id),
            "policyGroupID": numbers.number(naming.POLICY_GROUP, entity.id),
            "routeTarget": given["routeTarget"] or numbers.route("rt", entity.id),
            "routeDistinguisher": given["routeDistinguisher"] or numbers.route("rd", entity.id),
            "gatewayMACAddress": given["gatewayMACAddress"] or gateway_mac(self.simulator, entity),
        }
        self.store.update(entity, changes, caller)

    def check_change(self, entity, changes, caller):
        """Check new addresses, and that they overlap with no other subnet."""
        super().check_change(entity, changes, caller)
        if ADDRESS_NAMES & set(changes):
            self._check_overlap(entity.parent, {**entity.values, **changes}, entity)

    def _check_overlap(self, zone, values, itself=None):
        wanted = dict(networks(values))
        for other in self.store.within("subnet", zone.parent.id) if wanted else ():
            for name, network in networks(other.values) if other is not itself else ():
                if name in wanted and wanted[name].overlaps(network):
                    raise invalid(name, f"The network overlaps with subnet {other.values['name']}.")


class L2DomainRules(NetworkRules):
    """An L2 domain takes its addresses from a template; an unmanaged one has none."""

    def complete(self, rest_name, parent, values, caller):
        """Copy the addresses from the template; raises the 409 without one."""
        super().complete(rest_name, parent, values, caller)
        if not values.get("templateID"):
            raise invalid("templateID", "This value is mandatory.")
        template = self.simulator.template(parent, "l2domaintemplate", values["templateID"])
        for name in L2_ADDRESSES:
            values[name] = template.values[name]

    def created(self, entity, caller):
        """Give the L2 domain its numbers, route targets, gateway MAC and address ranges."""
        numbers = self.simulator.numbers
        changes = {
            "vnId": numbers.number(naming.VNID, entity.id),
            "serviceID": numbers.number(naming.SERVICE, entity.id),
            "customerID": numbers.number(naming.CUSTOMER, entity.id),
            "routeTarget": numbers.route("rt", entity.id),
            "routeDistinguisher": numbers.route("rd", entity.id),
            "gatewayMACAddress": gateway_mac(self.simulator, entity),
        }
        self.store.update(entity, changes, caller)
        self.store.relate(entity, self.store.get("l2domaintemplate", entity.values["templateID"]))
        for entry in list(self.store.within("addressrange", entity.values["templateID"])):
            self.store.add_scope(entry, entity.id)


def gateway_mac(simulator, network):
    """Return the MAC of a network's gateway; None for an L2 domain without a gateway."""
    if network.resource.rest_name == "l2domain" and not network.values["gateway"]:
        return None
    if network.values["useGlobalMAC"] == "ENABLED":
        return naming.GLOBAL_MAC
    return simulator.numbers.gateway_mac(network.id)


def follow_change(simulator, network, changes, caller):
    """Do what follows from a change of a subnet or an L2 domain."""
    if ADDRESS_NAMES & set(changes):
        simulator.addressing.forget(network)
    if "useGlobalMAC" in changes:
        simulator.store.update(
            network, {"gatewayMACAddress": gateway_mac(simulator, network)}, caller
        )


def check_readdressing(store, entity, changes):
    """Check new addresses of a network; raises 409/2506 while interfaces are attached."""
    if ADDRESS_NAMES & set(changes) and store.within("containerinterface", entity.id):
        raise still_used(entity)
    complete_change(entity, changes)
