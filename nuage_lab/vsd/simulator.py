"""Owns the simulated VSD: its parts, joined by hand; create, change, delete and membership.

Never sees HTTP. No method except those of `timers` switches greenlets, so each request is atomic.
"""

import random

import gevent

from . import annotations, dhcp, naming, network_rules, port_rules, rules, seed
from .addressing import Addressing
from .auth import SYSTEM, Authority, new_secret
from .containers import NO_CHANGES, Containers
from .errors import ApiError, Confirmation, conflict, invalid, malformed, not_found
from .journal import Journal
from .resync import Resyncs
from .store import Store
from .validation import accepted_values


class Timers:
    """Deferred work that a reset cancels."""

    def __init__(self):
        self._pending = set()

    def later(self, delay_s, work, *arguments):
        """Run work after a delay in a greenlet of its own."""
        greenlet = gevent.spawn_later(delay_s, work, *arguments)
        self._pending.add(greenlet)
        greenlet.link(self._pending.discard)

    def clear(self):
        """Cancel all that is pending."""
        gevent.killall(list(self._pending), block=False)
        self._pending.clear()


class Simulator:
    """One VSD. `reset` brings the seeded state back."""

    def __init__(self, model, settings, seed_tree, chooser=None):
        self.model = model
        self.settings = settings
        self.journal = Journal()
        self.timers = Timers()
        self._chooser = chooser or random.Random()
        self._seed_tree = seed_tree
        self._build()

    def reset(self):
        """Delete all objects and build the seeded tree again.

        The journal records each deleted container, so that controllers notice.
        """
        self.timers.clear()
        for container in list(self.store.all("container")):
            self.containers.delete(container, SYSTEM)
        self._build()

    def take_over(self, entities, seq, numbers):
        """Load the objects of the process before; its API keys are no longer valid.

        `seq` is the number of changes that it recorded, `numbers` what `Numbers.given` held.
        """
        self.journal.go_on_after(seq)
        self._join()
        self.numbers.take_over(numbers)
        for entity in entities:
            self.store.put_back(entity)
        self.resyncs.go_on()

    def _build(self):
        self._join()
        seed.plant(self, self._seed_tree)

    def _join(self):
        self.store = Store(self.model, self.journal)
        self.numbers = naming.Numbers()
        self.addressing = Addressing(self.store, self.settings, self._chooser)
        self.authority = Authority(self.store, self.settings)
        self.containers = Containers(self.store, self.addressing)
        self.resyncs = Resyncs(self.store, self.settings, self.timers, self.containers)
        self.rules = {rest: rules.Rules(self) for rest in self.model.by_rest_name}
        for rest, kind in _RULES.items():
            self.rules[rest] = kind(self)

    def create(self, resource, parent, body, caller, object_id=None):
        """Create an object and return it."""
        rest_name = resource.rest_name
        if rest_name == "container":
            return self.containers.create(body, caller)
        if rest_name == "containerinterface":
            return self.containers.create_interface(parent, body, caller)
        self._check_write(caller)
        if rest_name == "containerresync":
            return self.resyncs.create(parent, caller)
        if rest_name == "enterprise" and not caller.is_root:
            raise ApiError(
                403, "Permission denied", "Only the service provider may create enterprises."
            )
        values = accepted_values(resource, body, is_create=True, is_system=caller is SYSTEM)
        if rest_name == "user" and parent is None:
            parent = self.store.get("enterprise", caller.enterprise_id)
        self.rules[rest_name].complete(rest_name, parent, values, caller)
        secret = new_secret(values.pop("password")) if rest_name == "user" else None
        entity = self.store.insert(rest_name, parent, values, caller, object_id)
        entity.secret = secret
        self.rules[rest_name].created(entity, caller)
        return entity

    def update(self, entity, body, caller, is_confirmed):
        """Change an object; raises 409/2039 when nothing would change."""
        rest_name = entity.resource.rest_name
        self._check_write(caller)
        if rest_name == "container":
            return self.containers.update(entity, body, caller)
        if rest_name == "containerinterface":
            return self.containers.update_interface(entity, body, caller)
        if rest_name == "policygroup":
            self.ask(is_confirmed, "The policy group is in use. Change it?")
        accepted = accepted_values(entity.resource, body, is_create=False)
        changes = {
            name: value for name, value in accepted.items() if entity.values.get(name) != value
        }
        if not changes:
            raise conflict("No changes to modify the entity", NO_CHANGES, code=2039)
        self.rules[rest_name].check_change(entity, changes, caller)
        self.store.update(entity, changes, caller)
        self.rules[rest_name].changed(entity, changes, caller)
        return None

    def delete(self, entity, caller, is_confirmed):
        """Delete an object and what lies below it."""
        rest_name = entity.resource.rest_name
        self._check_write(caller)
        if rest_name == "container":
            self.ask(is_confirmed, "The container may be in use. Delete it?")
            return self.containers.delete(entity, caller)
        if rest_name == "containerinterface":
            return self.containers.delete_interface(entity, caller)
        if rest_name == "vmipreservation" and entity.values["state"] == "ASSIGNED":
            return self.store.update(entity, {"state": "ASSIGNED_DELETE_PENDING"}, caller)
        self.rules[rest_name].check_delete(entity, caller)
        for below in reversed(self.store.descendants(entity)):
            self.store.remove(below, caller)
            self.rules[below.resource.rest_name].deleted(below, caller)
        self.store.remove(entity, caller)
        return self.rules[rest_name].deleted(entity, caller)

    def clear(self, resource, parent, query, caller):
        """Delete the children of a kind whose attributes equal those in a query (vsd §9)."""
        wanted = {name: value for name, value in query.items() if name in resource.fields}
        if not wanted:
            raise malformed("Name the address of the reservations to delete.")
        for entity in list(self.store.within(resource.rest_name, parent.id)):
            if all(entity.values[name] == value for name, value in wanted.items()):
                self.delete(entity, caller, True)

    def set_members(self, resource, owner, ids, caller, how="replace"):
        """Replace the members of a list, or add or remove some (`how`), all or nothing.

        Raises ApiError if one of them is refused.
        """
        self._check_write(caller)
        if owner.resource.rest_name == "group" and not caller.may_grant:
            raise ApiError(
                403, "Permission denied", "Only administrators decide who is in a group."
            )
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            raise malformed("The body must be a list of IDs.")
        rest_name = resource.rest_name
        wanted = {object_id: self.store.get(rest_name, object_id) for object_id in ids}
        for member in wanted.values():
            self._check_membership(member, owner, caller)
        present = {member.id: member for member in self.store.within(rest_name, owner.id)}
        leaving = {
            "replace": set(present) - set(wanted),
            "add": set(),
            "remove": set(present) & set(wanted),
        }[how]
        if any(present[one].parent is owner for one in leaving):
            text = f"A {rest_name} of this {owner.resource.rest_name} can only be deleted."
            raise conflict("Not a member", text)
        joining = set() if how == "remove" else set(wanted) - set(present)
        for object_id in leaving:
            self.store.separate(present[object_id], owner)
        for object_id in joining:
            self.store.relate(wanted[object_id], owner)
        touched = [present[one] for one in leaving] + [wanted[one] for one in joining]
        for member in touched:
            self.store.touch(member, caller)
        if touched:
            self.store.touch(owner, caller)

    def template(self, parent, rest_name, template_id):
        """Return a template of an enterprise; raises the 404."""
        return rules.find_template(self.store, parent, rest_name, template_id)

    def ask(self, is_confirmed, question):
        """Raise the 300 if confirmations are required and this request has none (vsd §6.1)."""
        if self.settings.demand_confirmation and not is_confirmed:
            raise Confirmation(question)

    def _check_membership(self, member, owner, caller):
        if not caller.sees(member.enterprise_id):
            raise not_found(member.resource.rest_name, member.id)
        pair = {member.resource.rest_name: member, owner.resource.rest_name: owner}
        vport, group = pair.get("vport"), pair.get("policygroup")
        if vport is None or group is None:
            return
        if group.parent.id != vport.values["domainID"]:
            what = f"Policy group {group.values['name']} and vPort {vport.id}"
            raise conflict("Different domains", f"{what} are in different domains.", code=7309)
        if group.values["type"] != vport.values["systemType"]:
            raise invalid("type", "The vPort can only join policy groups of type SOFTWARE.")

    def _check_write(self, caller):
        if not caller.may_write:
            raise ApiError(403, "Permission denied", "The role of the user does not allow changes.")


_RULES = {
    "enterprise": rules.EnterpriseRules,
    "group": rules.GroupRules,
    "user": rules.UserRules,
    "domaintemplate": rules.DomainTemplateRules,
    "l2domaintemplate": network_rules.L2DomainTemplateRules,
    "domain": rules.DomainRules,
    "zone": rules.ZoneRules,
    "subnet": network_rules.SubnetRules,
    "l2domain": network_rules.L2DomainRules,
    "vport": port_rules.VPortRules,
    "policygroup": port_rules.PolicyGroupRules,
    "addressrange": port_rules.AddressRangeRules,
    "ipreservation": port_rules.IpReservationRules,
    "vmipreservation": port_rules.VmIpReservationRules,
    "dhcpoption": dhcp.DhcpOptionRules,
    "dhcpv6option": dhcp.DhcpV6OptionRules,
    "metadata": annotations.MetadataRules,
    "globalmetadata": annotations.MetadataRules,
    "permission": annotations.PermissionRules,
}
