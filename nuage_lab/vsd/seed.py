"""Owns the reading of a seed file and the planting of its tree; the schema is described at the top of seed.yaml.

Never invents an object that the file does not name. IDs follow from the path of names, so that they stay the same.
"""

from importlib import resources

import yaml

from .auth import CSP_ID, SYSTEM
from .naming import stable_id


def load(path=None):
    """Return the tree of a seed file, or of the packaged one."""
    if path is None:
        return yaml.safe_load(resources.files(__package__).joinpath("seed.yaml").read_text(encoding="utf-8"))
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def plant(engine, tree):
    """Create the objects of a seed tree; raises ValueError for a key that the schema does not have."""
    _Planter(engine).enterprises(tree.get("enterprises", []))


class _Planter:
    def __init__(self, engine):
        self._engine = engine
        self._store = engine.store

    def enterprises(self, entries):
        """Create the enterprises of a tree and all below them."""
        for entry in entries:
            entry = dict(entry)
            users, groups = entry.pop("users", []), entry.pop("groups", [])
            domains, l2domains = entry.pop("domains", []), entry.pop("l2domains", [])
            is_csp = entry["name"] == "CSP"
            enterprise = self._make("enterprise", None, entry, CSP_ID if is_csp else None)
            if is_csp:
                self._store.update(enterprise, {"enterpriseType": "CSP"}, SYSTEM)
            for group in groups:
                self._make("group", enterprise, group)
            for user in users:
                self._user(enterprise, dict(user))
            for domain in domains:
                self._domain(enterprise, dict(domain))
            for l2domain in l2domains:
                self._l2domain(enterprise, dict(l2domain))

    def _user(self, enterprise, entry):
        names = list(entry.pop("groups", []))
        entry.setdefault("firstName", entry["userName"])
        entry.setdefault("lastName", entry["userName"])
        entry.setdefault("email", f"{entry['userName']}@{enterprise.values['name'].replace(' ', '-')}.example")
        user = self._make("user", enterprise, entry, key="userName")
        for group in list(self._store.within("group", enterprise.id)):
            if group.values["name"] in names:
                names.remove(group.values["name"])
                self._store.relate(group, user)
        if names:
            raise ValueError(f"seed: user {entry['userName']}: unknown groups {names}")

    def _domain(self, enterprise, entry):
        zones, policy_groups = entry.pop("zones", []), entry.pop("policygroups", [])
        template = self._make("domaintemplate", enterprise, {"name": f"{entry['name']} template"})
        domain = self._make("domain", enterprise, {**entry, "templateID": template.id})
        for zone in zones:
            zone = dict(zone)
            subnets = zone.pop("subnets", [])
            made = self._make("zone", domain, zone)
            for subnet in subnets:
                self._network("subnet", made, dict(subnet))
        for name in policy_groups:
            self._make("policygroup", domain, {"name": name, "type": "SOFTWARE"})

    def _l2domain(self, enterprise, entry):
        policy_groups = entry.pop("policygroups", [])
        addresses = ("DHCPManaged", "IPType", "address", "netmask", "gateway", "IPv6Address", "IPv6Gateway")
        template = {name: entry.pop(name) for name in addresses if name in entry}
        made = self._make("l2domaintemplate", enterprise, {"name": f"{entry['name']} template", **template})
        l2domain = self._network("l2domain", enterprise, {**entry, "templateID": made.id})
        for name in policy_groups:
            self._make("policygroup", l2domain, {"name": name, "type": "SOFTWARE"})

    def _network(self, rest_name, parent, entry):
        below = {kind: entry.pop(f"{kind}s", []) for kind in ("vport", "addressrange", "ipreservation", "vmipreservation")}
        network = self._make(rest_name, parent, entry)
        for kind, children in below.items():
            key = {"vport": "name", "addressrange": "minAddress", "ipreservation": "MAC"}.get(kind, "IPV4Address")
            for child in children:
                self._make(kind, network, child, key=key)
        return network

    def _make(self, rest_name, parent, entry, object_id=None, key="name"):
        engine = self._engine
        resource = engine.model.by_rest_name[rest_name]
        unknown = set(entry) - set(resource.fields)
        if unknown:
            raise ValueError(f"seed: {rest_name} {entry.get(key)}: unknown attributes {sorted(unknown)}")
        object_id = object_id or stable_id(rest_name, parent.id if parent else "", str(entry.get(key)))
        return engine.create(resource, parent, entry, SYSTEM, object_id)

