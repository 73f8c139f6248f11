"""Owns the planting of a seed file's tree; docs/LAB.md and seed.yaml describe the schema.

Never invents an object that the file does not name. IDs follow from the path of names, so that they
are the same after every start.
"""

import difflib
from dataclasses import replace

from .auth import CSP_ID, SYSTEM
from .errors import ApiError
from .naming import stable_id
from .network_addresses import L2_ADDRESSES
from .seed_file import SeedError, load, shown

__all__ = ["SeedError", "load", "plant"]

MEMBERSHIPS = {"user": ("groups", "group"), "vport": ("policygroups", "policygroup")}
NEVER = frozenset(("container", "containerinterface", "containerresync"))
_KEYS = {
    "user": "userName",
    "addressrange": "minAddress",
    "ipreservation": "MAC",
    "vmipreservation": "IPV4Address",
}
_MORE = {"domain": ("template",), "l2domain": ("template", "addressranges")}
_FIRST = ("groups", "users", "domaintemplates", "l2domaintemplates")


def plant(simulator, tree):
    """Create the objects of a seed tree; raises SeedError for the first entry that is refused."""
    _Planter(simulator).plant(tree)


def children_of(model, resource):
    """Return {word in the file: resource} of what a seed file may have below a kind."""
    return {
        one.name: one
        for one in model.by_rest_name.values()
        if resource.name in one.created_under and one.rest_name not in NEVER
    }


def usual_id(resource, parent, values):
    """Return the ID that a seeded object has when the file names none."""
    key = str(values.get(_KEYS.get(resource.rest_name, "name")))
    if resource.rest_name == "enterprise" and key == "CSP":
        return CSP_ID
    return stable_id(resource.rest_name, parent.id if parent else "", key)


class _Planter:
    """Plants one tree; memberships are joined at the end, when all their objects exist."""

    def __init__(self, simulator):
        self._simulator = simulator
        self._store = simulator.store
        self._kinds = simulator.model.by_rest_name
        self._planted = set()
        self._memberships = []

    def plant(self, tree):
        tree = _mapping("", tree, "enterprises: and containers:")
        _known("", tree, ("enterprises", "containers"))
        for where, entry in _entries("enterprises", tree.get("enterprises")):
            self._object(where, self._kinds["enterprise"], None, entry)
        for where, member, names in self._memberships:
            self._join(where, member, names)
        for where, entry in _entries("containers", tree.get("containers")):
            self._container(where, entry)

    def _object(self, where, resource, parent, entry):
        if isinstance(entry, str) and "name" in resource.fields:
            entry = {"name": entry}
            if resource.rest_name == "policygroup":
                entry["type"] = "SOFTWARE"
        entry = dict(_mapping(where, entry, f"the attributes of {resource.rest_name}"))
        below = {word: entry.pop(word, None) for word in self._words(resource)}
        membership = MEMBERSHIPS.get(resource.rest_name, ("",))[0]
        members = entry.pop(membership, []) if membership else []
        complete = getattr(self, f"_complete_{resource.rest_name}", None)
        if complete is not None:
            entry = complete(where, parent, entry, below)
        made = self._make(where, resource, parent, entry)
        if members:
            self._memberships.append((f"{where}.{membership}", made, members))
        for word, kind in self._words(resource).items():
            for place, child in _entries(f"{where}.{word}", below[word]):
                self._object(place, kind, made, child)

    def _words(self, resource):
        words = children_of(self._simulator.model, resource)
        if resource.rest_name == "l2domain":
            words.pop("addressranges", None)
        ordered = sorted(words, key=lambda word: (word not in _FIRST, word))
        return {word: words[word] for word in ordered}

    def _complete_user(self, where, parent, entry, below):
        name = str(entry.get("userName"))
        made_up = {
            "firstName": name,
            "lastName": name,
            "email": f"{name}@{parent.values['name'].replace(' ', '-')}.example",
        }
        return {**made_up, **entry}

    def _complete_domain(self, where, parent, entry, below):
        template = self._template(where, "domaintemplate", parent, entry)
        return {**entry, "templateID": template.id}

    def _complete_l2domain(self, where, parent, entry, below):
        ranges = entry.pop("addressranges", None)
        addresses = {}
        if "template" not in entry:
            addresses = {name: entry.pop(name) for name in L2_ADDRESSES if name in entry}
        template = self._template(where, "l2domaintemplate", parent, entry, addresses)
        for place, child in _entries(f"{where}.addressranges", ranges):
            self._object(place, self._kinds["addressrange"], template, child)
        return {**entry, "templateID": template.id}

    def _template(self, where, rest_name, parent, entry, addresses=()):
        """Return the template that an entry names, or make one of its own."""
        name = entry.pop("template", None)
        if name is None:
            own = {"name": f"{entry.get('name')} template", **dict(addresses)}
            return self._make(where, self._kinds[rest_name], parent, own)
        return self._named(f"{where}.template", rest_name, parent, name)

    def _make(self, where, resource, parent, entry):
        entry = dict(entry)
        allowed = [field.name for field in resource.writable] + ["ID"]
        hidden = [name for name in entry if name in resource.fields and name not in allowed]
        if hidden:
            raise SeedError(
                f"{where}.{hidden[0]}",
                f"{shown(entry[hidden[0]])}: the VSD itself sets this attribute; leave it out",
            )
        membership = MEMBERSHIPS.get(resource.rest_name, ())[:1]
        more = _MORE.get(resource.rest_name, ())
        _known(where, entry, [*allowed, *self._words(resource), *membership, *more])
        object_id = entry.pop("ID", None)
        if not isinstance(object_id, (str, type(None))):
            raise SeedError(f"{where}.ID", f"{shown(object_id)}: must be a text. Put it in quotes.")
        object_id = object_id or self._free_id(resource, parent, entry)
        present = self._present(resource, parent, entry.get("name"))
        try:
            if present is not None:
                self._simulator.update(present, entry, SYSTEM, True)
                made = present
            else:
                made = self._simulator.create(resource, parent, entry, SYSTEM, object_id)
        except ApiError as refusal:
            if refusal.code != 2039:
                raise _refused(where, entry, refusal) from refusal
            made = present
        self._planted.add(made.id)
        if made.id == CSP_ID:
            self._store.update(made, {"enterpriseType": "CSP"}, SYSTEM)
        return made

    def _free_id(self, resource, parent, entry):
        wanted = object_id = usual_id(resource, parent, entry)
        number = 1
        while object_id in self._planted:
            number += 1
            object_id = stable_id(wanted, str(number))
        return object_id

    def _present(self, resource, parent, name):
        """Return what the VSD has made by itself under this name, or None."""
        if parent is None or "name" not in resource.indexed or not isinstance(name, str):
            return None
        found = [
            one
            for one in self._store.find_by(resource.rest_name, "name", name)
            if one.parent is parent
        ]
        return found[0] if found and found[0].id not in self._planted else None

    def _named(self, where, rest_name, parent, name):
        found = [
            one
            for one in self._store.within(rest_name, parent.id)
            if one.parent is parent and one.values["name"] == name
        ]
        if not found:
            there = sorted(
                one.values["name"]
                for one in self._store.within(rest_name, parent.id)
                if one.parent is parent
            )
            owner = f"{parent.resource.rest_name} {parent.values['name']!r}"
            known = ", ".join(there) or "none"
            raise SeedError(where, f"{name!r}: no {rest_name} of {owner}; it has {known}")
        return found[0]

    def _join(self, where, member, names):
        rest_name = MEMBERSHIPS[member.resource.rest_name][1]
        owner = member.parent
        if rest_name != "group":
            owner = member.ancestor("domain") or member.ancestor("l2domain")
        for place, name in _entries(where, names):
            self._store.relate(self._named(place, rest_name, owner, name), member)

    def _container(self, where, entry):
        entry = dict(_mapping(where, entry, "the attributes of a container"))
        interfaces, user = entry.pop("interfaces", []), entry.pop("user", None)
        attributes = [field.name for field in self._kinds["container"].writable]
        _known(where, entry, [*attributes, "interfaces", "user"])
        ports = [
            self._interface(place, one)
            for place, one in _entries(f"{where}.interfaces", interfaces)
        ]
        caller = SYSTEM
        if user is not None:
            kinds = {2: ("enterprise", "user")}
            owner = self._walk(f"{where}.user", user, kinds, "[enterprise, user]")
            caller = replace(SYSTEM, owner_id=owner.id, owner_name=owner.values["userName"])
        body = {**entry, "interfaces": [body for body, _ in ports]}
        try:
            made = self._simulator.create(self._kinds["container"], None, body, caller)
        except ApiError as refusal:
            given = {**entry, **{key: value for body, _ in ports for key, value in body.items()}}
            raise _refused(where, given, refusal) from refusal
        places = [place for place, _ in _entries(f"{where}.interfaces", interfaces)]
        made_interfaces = made.values["interfaces"]
        for (_, names), place, one in zip(ports, places, made_interfaces, strict=True):
            self._join(f"{place}.policygroups", self._store.get("vport", one["VPortID"]), names)

    def _interface(self, where, entry):
        entry = dict(_mapping(where, entry, "MAC and network"))
        path = entry.pop("network", None)
        vport = entry.pop("vport", None)
        names = entry.pop("policygroups", [])
        attributes = [field.name for field in self._kinds["containerinterface"].writable]
        allowed = [name for name in attributes if name not in ("VPortID", "attachedNetworkID")]
        _known(where, entry, [*allowed, "network", "vport", "policygroups"])
        kinds = {4: ("enterprise", "domain", "zone", "subnet"), 2: ("enterprise", "l2domain")}
        form = "[enterprise, domain, zone, subnet] or [enterprise, L2 domain]"
        network = self._walk(f"{where}.network", path, kinds, form)
        if vport is not None:
            vport_id = self._named(f"{where}.vport", "vport", network, vport).id
            return {**entry, "VPortID": vport_id}, names
        return {**entry, "attachedNetworkID": network.id}, names

    def _walk(self, where, path, kinds, form):
        """Return the object that a list of names leads to, from the enterprise down."""
        if (
            not isinstance(path, list)
            or len(path) not in kinds
            or not all(isinstance(name, str) for name in path)
        ):
            raise SeedError(where, f"{shown(path)}: write the names that lead to it, {form}")
        found = None
        for kind, name in zip(kinds[len(path)], path, strict=True):
            key = _KEYS.get(kind, "name")
            there = self._store.all(kind) if found is None else self._store.within(kind, found.id)
            there = {one.values[key]: one for one in there if one.parent is found}
            if name not in there:
                known = ", ".join(sorted(there)) or "none"
                raise SeedError(where, f"{name!r}: no such {kind}; there are {known}")
            found = there[name]
        return found


def _entries(where, value):
    """Return [(place, entry)] of a list; a missing list is empty."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise SeedError(where, f"{shown(value)}: must be a list, each entry behind a dash")
    return [(f"{where}[{index}]", entry) for index, entry in enumerate(value)]


def _mapping(where, value, what):
    if not isinstance(value, dict):
        raise SeedError(where, f"{shown(value)}: must be a mapping with {what}")
    return value


def _known(where, entry, names):
    for key in entry:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, 1)
            hint = f"; is it {near[0]!r}?" if near else f"; known are {', '.join(sorted(names))}"
            raise SeedError(f"{where}.{key}" if where else str(key), f"unknown{hint}")


def _refused(where, entry, refusal):
    name, text = refusal.property_name, refusal.description
    if not name or name not in entry:
        if "mandatory" in text:
            return SeedError(where, f"{name} is missing")
        return SeedError(where, f"{name}: {text}" if name else text)
    hint = " Put it in quotes." if "type string" in text else ""
    value = "" if name == "password" else f"{shown(entry[name])}: "
    return SeedError(f"{where}.{name}", f"{value}{text}{hint}")
