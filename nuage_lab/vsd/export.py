"""Owns the export of the live tree as a seed file that, planted again, gives the same tree.

It leaves out what the VSD makes and chooses by itself, and writes an ID only where the seed would
give another one. It has passwords, because a user cannot be planted without one. It has no states,
VRS objects or keys.
"""

import yaml

from .auth import CSP_ID
from .naming import stable_id
from .network_addresses import L2_ADDRESSES
from .seed import MEMBERSHIPS, children_of, usual_id

_FILLED = {
    "domain": ("templateID",),
    "l2domain": ("templateID", *L2_ADDRESSES),
    "user": ("password",),
}
_OWN = {
    "zone": ("BackHaulZone",),
    "subnet": ("BackHaulSubnet",),
    "group": ("Administrators", "CMS Group", "Everybody"),
}
_HEAD = (
    "# The tree of a simulated VSD: python -m nuage_lab.vsd --seed FILE.yaml plants it again."
    " It holds the passwords of its users.\n"
)


def text(simulator):
    """Return the seed file as YAML."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return _HEAD + yaml.dump(
        tree(simulator),
        Dumper=dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=150,
    )


def tree(simulator):
    """Return the content of the seed file as plain values."""
    return _Exporter(simulator).tree()


class _Exporter:
    def __init__(self, simulator):
        self._store = simulator.store
        self._model = simulator.model
        self._chosen = simulator.numbers.chosen()

    def tree(self):
        enterprises = sorted(self._store.all("enterprise"), key=lambda one: one.id != CSP_ID)
        found = {"enterprises": [self._entry(one) for one in enterprises]}
        containers = [self._container(one) for one in self._store.all("container")]
        return {**found, "containers": containers} if containers else found

    def _entry(self, entity):
        resource = entity.resource
        rest_name = resource.rest_name
        found = self._attributes(entity, _FILLED.get(rest_name, ()))
        if entity.id != usual_id(resource, entity.parent, entity.values):
            found["ID"] = entity.id
        if rest_name == "user":
            found["password"] = entity.secret["password"]
        if rest_name in MEMBERSHIPS:
            word, kind = MEMBERSHIPS[rest_name]
            names = [one.values["name"] for one in self._store.within(kind, entity.id)]
            if names:
                found[word] = names
        below = {
            word: self._below(entity, kind)
            for word, kind in children_of(self._model, resource).items()
        }
        if rest_name in ("domain", "l2domain"):
            self._add_template(entity, found)
            if rest_name == "l2domain":
                below.pop("addressranges", None)
        found.update(
            (word, [self._entry(one) for one in children])
            for word, children in below.items()
            if children
        )
        return found

    def _add_template(self, entity, found):
        template = self._store.get(
            f"{entity.resource.rest_name}template", entity.values["templateID"]
        )
        if not self._is_own_template(template):
            found["template"] = template.values["name"]
        elif entity.resource.rest_name == "l2domain":
            found.update(
                (name, value)
                for name, value in self._attributes(template, ()).items()
                if name in L2_ADDRESSES
            )
            ranges = [
                self._entry(one)
                for one in self._below(template, self._model.by_rest_name["addressrange"])
            ]
            if ranges:
                found["addressranges"] = ranges

    def _is_own_template(self, entity):
        """Return whether a template holds only what its one domain, made with it, has too."""
        rest_name = entity.resource.rest_name.removesuffix("template")
        if entity.id != usual_id(entity.resource, entity.parent, entity.values):
            return False
        users = [
            one
            for one in self._store.within(rest_name, entity.parent.id)
            if one.values.get("templateID") == entity.id
        ]
        kinds = [
            kind
            for word, kind in children_of(self._model, entity.resource).items()
            if word != "addressranges"
        ]
        return (
            [f"{one.values['name']} template" for one in users] == [entity.values["name"]]
            and set(self._attributes(entity, L2_ADDRESSES)) == {"name"}
            and not any(self._below(entity, kind) for kind in kinds)
        )

    def _below(self, entity, kind):
        return [
            one
            for one in self._store.within(kind.rest_name, entity.id)
            if one.parent is entity and not self._is_left_out(one)
        ]

    def _is_left_out(self, entity):
        rest_name, values = entity.resource.rest_name, entity.values
        if rest_name in ("domaintemplate", "l2domaintemplate"):
            return self._is_own_template(entity)
        if rest_name == "vport":
            return values["autoCreated"]
        return values.get("name") in _OWN.get(rest_name, ()) and entity.id == stable_id(
            rest_name, entity.parent.id, values["name"]
        )

    def _attributes(self, entity, filled):
        chosen = self._chosen.get(entity.id, ())
        found = {}
        for field in sorted(
            entity.resource.writable, key=lambda field: field.name not in ("name", "userName")
        ):
            value = entity.values[field.name]
            is_chosen = isinstance(value, (int, str)) and value in chosen
            if field.name not in filled and value != field.default and not is_chosen:
                found[field.name] = value
        return found

    def _container(self, entity):
        found = self._attributes(entity, ("interfaces",))
        owner = self._store.find("user", entity.values["userID"])
        if owner is not None:
            found["user"] = [owner.parent.values["name"], owner.values["userName"]]
        interfaces = [
            self._interface(self._store.get("containerinterface", one["ID"]))
            for one in entity.values["interfaces"]
        ]
        return {**found, "interfaces": interfaces} if interfaces else found

    def _interface(self, entity):
        found = self._attributes(entity, ("VPortID", "attachedNetworkID"))
        vport = self._store.get("vport", entity.values["VPortID"])
        network, path = vport.parent, []
        while network is not None:
            path.insert(0, network.values["name"])
            network = network.parent
        found["network"] = path
        groups = [one.values["name"] for one in self._store.within("policygroup", vport.id)]
        if not vport.values["autoCreated"]:
            found["vport"] = vport.values["name"]
        elif groups:
            found["policygroups"] = groups
        return found
