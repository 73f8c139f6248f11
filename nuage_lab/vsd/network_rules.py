"""Owns the rules of subnets, L2 domains and their templates: addressing, numbers, what keeps them (vsd §9, §13).

Same hooks as rules.py. Never touches containers, ports or reservations.
"""

from . import naming
from .errors import invalid
from .network_addresses import ADDRESS_NAMES, check_families, complete_change, networks
from .rules import DomainTemplateRules, Rules, still_used


class L2DomainTemplateRules(DomainTemplateRules):
    """A managed template carries a whole network, an unmanaged one none."""

    user_of_template = "l2domain"

    def complete(self, rest_name, parent, values, caller):
        super().complete(rest_name, parent, values, caller)
        if values.get("DHCPManaged") is False:
            values.update(dict.fromkeys(ADDRESS_NAMES))
        else:
            check_families(values)

    def check_change(self, entity, changes, caller):
        super().check_change(entity, changes, caller)
        complete_change(entity, changes)

    def changed(self, entity, changes, caller):
        self.simulator.addressing.forget(entity)


class NetworkRules(Rules):
    """What subnets and L2 domains have in common: containers hold addresses of them."""

    def check_change(self, entity, changes, caller):
        super().check_change(entity, changes, caller)
        check_readdressing(self.store, entity, changes)

    def changed(self, entity, changes, caller):
        follow_change(self.simulator, entity, changes, caller)

    def check_delete(self, entity, caller):
        if self.store.within("containerinterface", entity.id):
            raise still_used(entity)

    def deleted(self, entity, caller):
        self.simulator.addressing.forget(entity)


class SubnetRules(NetworkRules):
    """Subnets have a network address; their addressing cannot change while containers hold addresses of it."""

    def complete(self, rest_name, parent, values, caller):
        super().complete(rest_name, parent, values, caller)
        check_families(values)
        self._check_overlap(parent, values)

    def created(self, entity, caller):
        numbers = self.simulator.numbers
        self.store.update(entity, {
            "vnId": entity.values["vnId"] or numbers.number(naming.VNID, entity.id),
            "serviceID": entity.values["serviceID"] or numbers.number(naming.SERVICE, entity.id),
            "policyGroupID": numbers.number(naming.POLICY_GROUP, entity.id),
            "routeTarget": entity.values["routeTarget"] or numbers.route("rt", entity.id),
            "routeDistinguisher": entity.values["routeDistinguisher"] or numbers.route("rd", entity.id),
            "gatewayMACAddress": entity.values["gatewayMACAddress"] or gateway_mac(self.simulator, entity),
        }, caller)  # fmt: skip

    def check_change(self, entity, changes, caller):
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
    """L2 domains take their addressing from a template; unmanaged ones have none."""

    def complete(self, rest_name, parent, values, caller):
        super().complete(rest_name, parent, values, caller)
        if not values.get("templateID"):
            raise invalid("templateID", "This value is mandatory.")
        template = self.simulator.template(parent, "l2domaintemplate", values["templateID"])
        for name in (
            "DHCPManaged",
            "IPType",
            "address",
            "netmask",
            "gateway",
            "IPv6Address",
            "IPv6Gateway",
        ):
            values[name] = template.values[name]
        for name in ("enableDHCPv4", "enableDHCPv6", "dualStackDynamicIPAllocation"):
            values[name] = template.values[name]

    def created(self, entity, caller):
        numbers = self.simulator.numbers
        self.store.update(entity, {
            "vnId": numbers.number(naming.VNID, entity.id), "serviceID": numbers.number(naming.SERVICE, entity.id),
            "customerID": numbers.number(naming.CUSTOMER, entity.id), "routeTarget": numbers.route("rt", entity.id),
            "routeDistinguisher": numbers.route("rd", entity.id),
            "gatewayMACAddress": gateway_mac(self.simulator, entity),
        }, caller)  # fmt: skip
        self.store.relate(entity, self.store.get("l2domaintemplate", entity.values["templateID"]))
        for entry in list(self.store.within("addressrange", entity.values["templateID"])):
            self.store.add_scope(entry, entity.id)


def gateway_mac(simulator, network):
    """Return the MAC of a network's gateway; that of an L2 domain without a gateway is None."""
    if network.resource.rest_name == "l2domain" and not network.values["gateway"]:
        return None
    return (
        naming.GLOBAL_MAC
        if network.values["useGlobalMAC"] == "ENABLED"
        else simulator.numbers.gateway_mac(network.id)
    )


def follow_change(simulator, network, changes, caller):
    """Do what follows the change of a subnet or an L2 domain."""
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
