"""Owns what the tables do not say about enterprises, templates, domains, zones, networks, users, groups (vsd-contract §9).

Each kind has one class with hooks: `complete` checks and fills the values of a new object, `created` does what follows,
`check_change` guards a PUT, `check_delete` guards a DELETE. Never touches containers, ports or reservations.
"""

import ipaddress

from . import naming
from .auth import CSP_ID, new_secret
from .errors import conflict, duplicate, invalid, not_found

ADDRESS_NAMES = frozenset(("address", "netmask", "gateway", "IPv6Address", "IPv6Gateway"))


class Rules:
    """The default hooks: names and external IDs are unique among siblings, anything may be deleted."""

    unique_names = {"name": 2510, "externalID": 2510}

    def __init__(self, engine):
        self.engine = engine
        self.store = engine.store

    def complete(self, rest_name, parent, values, caller):
        """Check the values of a new object and fill in what the server chooses."""
        self._check_unique(rest_name, parent, values)

    def created(self, entity, caller):
        """Do what follows the creation."""

    def check_change(self, entity, changes, caller):
        """Check the changed values of an object."""
        self._check_unique(entity.resource.rest_name, entity.parent, changes)

    def changed(self, entity, changes, caller):
        """Do what follows a change."""

    def check_delete(self, entity, caller):
        """Raise the 409 that forbids the deletion, if any."""

    def deleted(self, entity, caller):
        """Do what follows the deletion."""

    def _check_unique(self, rest_name, parent, values):
        for name, code in self.unique_names.items():
            value = values.get(name)
            if value is None:
                continue
            for other in self.store.find_by(rest_name, name, value):
                if other.parent is parent:
                    raise duplicate(rest_name, name, value, code)


class Plain(Rules):
    """Hooks for kinds without any rule of their own."""

    unique_names = {}


class EnterpriseRules(Rules):
    """Enterprises bring their system groups with them; the system enterprise stays."""

    def complete(self, rest_name, parent, values, caller):
        super().complete(rest_name, parent, values, caller)
        values["enterpriseType"] = values.get("enterpriseType") or "NORMAL"

    def created(self, entity, caller):
        self.store.update(entity, {"customerID": self.engine.numbers.number(naming.CUSTOMER, entity.id)}, caller)
        for name, role in (("Administrators", "ORGADMIN"), ("CMS Group", "CMS"), ("Everybody", "ORGUSER")):
            values = {"name": name, "role": role, "managementMode": "DEFAULT"}
            self.store.insert("group", entity, values, caller, naming.stable_id("group", entity.id, name))

    def check_delete(self, entity, caller):
        if entity.id == CSP_ID:
            raise conflict("System enterprise", "The system enterprise cannot be deleted.", code=2010)
        if self.store.within("container", entity.id):
            raise still_used(entity)


class UserRules(Rules):
    """User names are unique in an enterprise; passwords never come back."""

    unique_names = {"userName": 2510, "externalID": 2510}

    def complete(self, rest_name, parent, values, caller):
        super().complete(rest_name, parent, values, caller)
        new_secret(values["password"])

    def check_change(self, entity, changes, caller):
        super().check_change(entity, changes, caller)
        password = changes.get("password")
        if password is not None:
            entity.secret["password"] = new_secret(password)["password"]
            changes["password"] = None

    def check_delete(self, entity, caller):
        if entity.values["userName"] == "csproot":
            raise conflict("System user", "The system user cannot be deleted.", code=2013)


class DomainTemplateRules(Rules):
    """A template in use stays."""

    user_of_template = "domain"

    def check_delete(self, entity, caller):
        if any(one.values["templateID"] == entity.id for one in self.store.within(self.user_of_template, entity.parent.id)):
            raise still_used(entity)


class L2DomainTemplateRules(DomainTemplateRules):
    """A managed template carries a whole IPv4 network, an unmanaged one none."""

    user_of_template = "l2domain"

    def complete(self, rest_name, parent, values, caller):
        super().complete(rest_name, parent, values, caller)
        complete_addresses(values, needs_ipv4=values.get("DHCPManaged") is not False)


class DomainRules(Rules):
    """Domains come from a template and bring the hidden backhaul zone and subnet (§7)."""

    def complete(self, rest_name, parent, values, caller):
        super().complete(rest_name, parent, values, caller)
        self.engine.template(parent, "domaintemplate", values["templateID"])
        values["enterpriseID"] = parent.id

    def created(self, entity, caller):
        numbers = self.engine.numbers
        self.store.update(entity, {
            "customerID": numbers.number(naming.CUSTOMER, entity.id),
            "serviceID": numbers.number(naming.SERVICE, entity.id),
            "backHaulServiceID": numbers.number(naming.SERVICE, "backhaul" + entity.id),
            "backHaulVNID": numbers.number(naming.VNID, "backhaul" + entity.id),
            "routeTarget": entity.values["routeTarget"] or numbers.route("rt", entity.id),
            "routeDistinguisher": entity.values["routeDistinguisher"] or numbers.route("rd", entity.id),
            "backHaulRouteTarget": numbers.route("brt", entity.id),
            "backHaulRouteDistinguisher": numbers.route("brd", entity.id),
        }, caller)  # fmt: skip
        self.store.relate(entity, self.store.get("domaintemplate", entity.values["templateID"]))
        zone_id = naming.stable_id("zone", entity.id, "BackHaulZone")
        zone = self.store.insert("zone", entity, {"name": "BackHaulZone"}, caller, zone_id)
        self.engine.rules["zone"].created(zone, caller)
        subnet_id = naming.stable_id("subnet", entity.id, "BackHaulSubnet")
        subnet = self.store.insert("subnet", zone, {"name": "BackHaulSubnet"}, caller, subnet_id)
        self.engine.rules["subnet"].created(subnet, caller)

    def check_delete(self, entity, caller):
        if self.store.within("container", entity.id) or self.store.within("containerinterface", entity.id):
            raise still_used(entity)


class ZoneRules(Rules):
    """A zone with containers stays."""

    def created(self, entity, caller):
        number = self.engine.numbers.number(naming.POLICY_GROUP, entity.id)
        self.store.update(entity, {"policyGroupID": number}, caller)

    def check_delete(self, entity, caller):
        if self.store.within("containerinterface", entity.id):
            raise still_used(entity)


class SubnetRules(Rules):
    """Subnets have a network address; their addressing cannot change while containers hold addresses of it."""

    unique_names = {"name": 2505, "externalID": 2510}

    def complete(self, rest_name, parent, values, caller):
        super().complete(rest_name, parent, values, caller)
        complete_addresses(values, needs_ipv4=values.get("IPType") != "IPV6")
        self._check_overlap(parent, values)

    def created(self, entity, caller):
        numbers = self.engine.numbers
        self.store.update(entity, {
            "vnId": entity.values["vnId"] or numbers.number(naming.VNID, entity.id),
            "serviceID": entity.values["serviceID"] or numbers.number(naming.SERVICE, entity.id),
            "policyGroupID": numbers.number(naming.POLICY_GROUP, entity.id),
            "routeTarget": entity.values["routeTarget"] or numbers.route("rt", entity.id),
            "routeDistinguisher": entity.values["routeDistinguisher"] or numbers.route("rd", entity.id),
            "gatewayMACAddress": entity.values["gatewayMACAddress"] or numbers.gateway_mac(entity.id),
        }, caller)  # fmt: skip

    def check_change(self, entity, changes, caller):
        super().check_change(entity, changes, caller)
        check_readdressing(self.store, entity, changes)

    def changed(self, entity, changes, caller):
        if ADDRESS_NAMES & set(changes):
            self.engine.addressing.forget(entity)

    def check_delete(self, entity, caller):
        if self.store.within("containerinterface", entity.id):
            raise still_used(entity)

    def deleted(self, entity, caller):
        self.engine.addressing.forget(entity)

    def _check_overlap(self, zone, values):
        if not values.get("address"):
            return
        wanted = ipaddress.ip_network(f"{values['address']}/{values['netmask']}")
        for other in self.store.within("subnet", zone.parent.id):
            if other.values["address"] is None:
                continue
            if wanted.overlaps(ipaddress.ip_network(f"{other.values['address']}/{other.values['netmask']}")):
                raise invalid("address", f"The network overlaps with subnet {other.values['name']}.")


class L2DomainRules(Rules):
    """L2 domains take their addressing from a template; unmanaged ones have none."""

    def complete(self, rest_name, parent, values, caller):
        super().complete(rest_name, parent, values, caller)
        if not values.get("templateID"):
            raise invalid("templateID", "This value is mandatory.")
        template = self.engine.template(parent, "l2domaintemplate", values["templateID"])
        for name in ("DHCPManaged", "IPType", "address", "netmask", "gateway", "IPv6Address", "IPv6Gateway"):
            values[name] = template.values[name]
        for name in ("enableDHCPv4", "enableDHCPv6", "dualStackDynamicIPAllocation"):
            values[name] = template.values[name]

    def created(self, entity, caller):
        numbers = self.engine.numbers
        self.store.update(entity, {
            "vnId": numbers.number(naming.VNID, entity.id), "serviceID": numbers.number(naming.SERVICE, entity.id),
            "customerID": numbers.number(naming.CUSTOMER, entity.id), "routeTarget": numbers.route("rt", entity.id),
            "routeDistinguisher": numbers.route("rd", entity.id),
            "gatewayMACAddress": numbers.gateway_mac(entity.id) if entity.values["gateway"] else None,
        }, caller)  # fmt: skip
        self.store.relate(entity, self.store.get("l2domaintemplate", entity.values["templateID"]))
        for entry in list(self.store.within("addressrange", entity.values["templateID"])):
            self.store.add_scope(entry, entity.id)

    def check_change(self, entity, changes, caller):
        super().check_change(entity, changes, caller)
        check_readdressing(self.store, entity, changes)

    def changed(self, entity, changes, caller):
        if ADDRESS_NAMES & set(changes):
            self.engine.addressing.forget(entity)

    def check_delete(self, entity, caller):
        if self.store.within("containerinterface", entity.id):
            raise still_used(entity)

    def deleted(self, entity, caller):
        self.engine.addressing.forget(entity)


def still_used(entity):
    """Build the 409/2506 of an object that something still lives in."""
    rest_name = entity.resource.rest_name
    return conflict("Resource in use", f"Resources still exist in {rest_name} {entity.values['name']}.", code=2506)


def find_template(store, parent, rest_name, template_id):
    """Return a template of the enterprise; raises its 404."""
    template = store.find(rest_name, template_id)
    if template is None or template.parent is not parent:
        raise not_found(rest_name, template_id)
    return template


def check_readdressing(store, entity, changes):
    """Check new addresses of a network; raises 409/2506 while interfaces are attached."""
    if ADDRESS_NAMES & set(changes):
        if store.within("containerinterface", entity.id):
            raise still_used(entity)
        values = {name: changes.get(name, entity.values[name]) for name in ADDRESS_NAMES}
        complete_addresses(values, needs_ipv4=False)


def complete_addresses(values, needs_ipv4):
    """Check the addresses of a network, and choose the first host as gateway where none is given (§8)."""
    for name in ("address", "netmask") if needs_ipv4 else ():
        if not values.get(name):
            raise invalid(name, "This value is mandatory.")
    if values.get("address") and values.get("netmask"):
        network = _network("address", f"{values['address']}/{values['netmask']}")
        values["gateway"] = _gateway("gateway", values.get("gateway"), network)
    if values.get("IPv6Address"):
        network = _network("IPv6Address", values["IPv6Address"])
        values["IPv6Gateway"] = _gateway("IPv6Gateway", values.get("IPv6Gateway"), network)


def _network(name, text):
    try:
        return ipaddress.ip_network(text)
    except ValueError as problem:
        raise invalid(name, f"{text} is not a network address: {problem}") from problem


def _gateway(name, text, network):
    if not text:
        return str(network.network_address + 1)
    try:
        address = ipaddress.ip_address(text)
    except ValueError as problem:
        raise invalid(name, "Gateway is not valid on subnet") from problem
    if address not in network:
        raise invalid(name, f"Network Gateway IP Address {text} is out of range.")
    return str(address)
