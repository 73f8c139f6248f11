"""Owns what model.yaml does not cover of enterprises, users, domains, templates, zones (vsd §9).

Each kind has one class with hooks: `complete` checks and fills the values of a new object,
`created` does what follows, `check_change` guards a PUT, `check_delete` guards a DELETE. Never
touches networks, containers, ports or reservations.
"""

from . import naming
from .auth import CSP_ID, new_secret
from .errors import ApiError, conflict, duplicate, invalid, not_found

_SYSTEM_GROUPS = {"Administrators": "ORGADMIN", "CMS Group": "CMS", "Everybody": "ORGUSER"}
_ROLES_OF_ORGANISATIONS = ("ORGADMIN", "ORGNETWORKDESIGNER", "ORGUSER", "USER")


class Rules:
    """The default hooks: unique attributes are so among siblings; anything may be deleted."""

    def __init__(self, simulator):
        self.simulator = simulator
        self.store = simulator.store

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
        for name, code in self.simulator.model.by_rest_name[rest_name].unique.items():
            value = values.get(name)
            if value is not None and any(
                one.parent is parent for one in self.store.find_by(rest_name, name, value)
            ):
                raise duplicate(rest_name, name, value, code)


class EnterpriseRules(Rules):
    """An enterprise brings its system groups with it; the system enterprise stays.

    Log-ins ignore case, so names must differ by more than that.
    """

    def complete(self, rest_name, parent, values, caller):
        """Refuse a name that differs from another one only by case."""
        super().complete(rest_name, parent, values, caller)
        self._check_name(values["name"])
        values["enterpriseType"] = values.get("enterpriseType") or "NORMAL"

    def created(self, entity, caller):
        """Give the enterprise its number and its three system groups."""
        number = self.simulator.numbers.number(naming.CUSTOMER, entity.id)
        self.store.update(entity, {"customerID": number}, caller)
        for name, role in _SYSTEM_GROUPS.items():
            values = {"name": name, "role": role, "managementMode": "DEFAULT"}
            group_id = naming.stable_id("group", entity.id, name)
            self.store.insert("group", entity, values, caller, group_id)

    def check_change(self, entity, changes, caller):
        """Refuse a new name that differs from another one only by case."""
        super().check_change(entity, changes, caller)
        if changes.get("name", entity.values["name"]).lower() != entity.values["name"].lower():
            self._check_name(changes["name"])

    def _check_name(self, name):
        if any(one.values["name"].lower() == name.lower() for one in self.store.all("enterprise")):
            code = self.simulator.model.by_rest_name["enterprise"].unique["name"]
            raise duplicate("enterprise", "name", name, code)

    def check_delete(self, entity, caller):
        """Refuse to delete the system enterprise, or one with containers."""
        if entity.id == CSP_ID:
            raise conflict(
                "System enterprise", "The system enterprise cannot be deleted.", code=2010
            )
        if self.store.within("container", entity.id):
            raise still_used(entity)


class GroupRules(Rules):
    """An enterprise gives its users no power over others."""

    def complete(self, rest_name, parent, values, caller):
        """Refuse a role that only the service provider may give (403)."""
        super().complete(rest_name, parent, values, caller)
        self._check_role(values, caller)

    def check_change(self, entity, changes, caller):
        """Refuse a role that only the service provider may give (403)."""
        super().check_change(entity, changes, caller)
        self._check_role(changes, caller)

    def _check_role(self, values, caller):
        if values.get("role") not in (None, *_ROLES_OF_ORGANISATIONS) and not caller.is_root:
            text = f"Only the service provider may give the role {values['role']}."
            raise ApiError(403, "Permission denied", text)


class UserRules(Rules):
    """Passwords never come back; the system user stays and can log in.

    A user name must fit into the header that is sent to log in.
    """

    def complete(self, rest_name, parent, values, caller):
        """Check name and password."""
        super().complete(rest_name, parent, values, caller)
        self._check_name(values["userName"])
        new_secret(values["password"])

    def check_change(self, entity, changes, caller):
        """Check a new name; move a new password out of sight; keep the system user enabled."""
        super().check_change(entity, changes, caller)
        if "userName" in changes:
            self._check_name(changes["userName"])
        if entity.values["userName"] == "csproot" and changes.get("disabled"):
            raise conflict("System user", "The system user cannot be disabled.", "disabled", 2013)
        password = changes.get("password")
        if password is not None:
            entity.secret["password"] = new_secret(password)["password"]
            changes["password"] = None

    @staticmethod
    def _check_name(name):
        if ":" in name or name != name.strip() or not name.isprintable():
            text = (
                "A user name has no colon, no control character, and no blank around it:"
                " nobody could log in by it."
            )
            raise invalid("userName", text)

    def check_delete(self, entity, caller):
        """Refuse to delete the system user."""
        if entity.values["userName"] == "csproot":
            raise conflict("System user", "The system user cannot be deleted.", code=2013)


class DomainTemplateRules(Rules):
    """A template in use cannot be deleted."""

    user_of_template = "domain"

    def check_delete(self, entity, caller):
        """Refuse the deletion while a domain uses the template (2506)."""
        users = self.store.within(self.user_of_template, entity.parent.id)
        if any(one.values["templateID"] == entity.id for one in users):
            raise still_used(entity)


class DomainRules(Rules):
    """A domain comes from a template and brings the hidden backhaul zone and subnet (vsd §7)."""

    def complete(self, rest_name, parent, values, caller):
        """Check the template and fill in the enterprise's ID."""
        super().complete(rest_name, parent, values, caller)
        self.simulator.template(parent, "domaintemplate", values["templateID"])
        values["enterpriseID"] = parent.id

    def created(self, entity, caller):
        """Give the domain its numbers and route targets, and make the backhaul zone and subnet."""
        numbers, given = self.simulator.numbers, entity.values
        changes = {
            "customerID": numbers.number(naming.CUSTOMER, entity.id),
            "serviceID": numbers.number(naming.SERVICE, entity.id),
            "backHaulServiceID": numbers.number(naming.SERVICE, "backhaul" + entity.id),
            "backHaulVNID": numbers.number(naming.VNID, "backhaul" + entity.id),
            "routeTarget": given["routeTarget"] or numbers.route("rt", entity.id),
            "routeDistinguisher": given["routeDistinguisher"] or numbers.route("rd", entity.id),
            "backHaulRouteTarget": numbers.route("brt", entity.id),
            "backHaulRouteDistinguisher": numbers.route("brd", entity.id),
        }
        self.store.update(entity, changes, caller)
        self.store.relate(entity, self.store.get("domaintemplate", entity.values["templateID"]))
        zone_id = naming.stable_id("zone", entity.id, "BackHaulZone")
        zone = self.store.insert("zone", entity, {"name": "BackHaulZone"}, caller, zone_id)
        self.simulator.rules["zone"].created(zone, caller)
        if not entity.values["createBackHaulSubnet"]:
            return
        subnet_id = naming.stable_id("subnet", entity.id, "BackHaulSubnet")
        subnet = self.store.insert("subnet", zone, {"name": "BackHaulSubnet"}, caller, subnet_id)
        self.simulator.rules["subnet"].created(subnet, caller)

    def check_delete(self, entity, caller):
        """Refuse the deletion while containers live in the domain (2506)."""
        kinds = ("container", "containerinterface")
        if any(self.store.within(kind, entity.id) for kind in kinds):
            raise still_used(entity)


class ZoneRules(Rules):
    """A zone with containers cannot be deleted."""

    def created(self, entity, caller):
        """Give the zone its policy group number."""
        number = self.simulator.numbers.number(naming.POLICY_GROUP, entity.id)
        self.store.update(entity, {"policyGroupID": number}, caller)

    def check_delete(self, entity, caller):
        """Refuse the deletion while interfaces are in the zone (2506)."""
        if self.store.within("containerinterface", entity.id):
            raise still_used(entity)


def still_used(entity):
    """Build the 409/2506 for an object that others still need."""
    rest_name = entity.resource.rest_name
    return conflict(
        "Resource in use",
        f"Resources still exist in {rest_name} {entity.values['name']}.",
        code=2506,
    )


def find_template(store, parent, rest_name, template_id):
    """Return a template of the enterprise; raises its 404."""
    template = store.find(rest_name, template_id)
    if template is None or template.parent is not parent:
        raise not_found(rest_name, template_id)
    return template
