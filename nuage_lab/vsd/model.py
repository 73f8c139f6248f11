"""Owns the model: which resources exist, their fields and where they may be made and listed, as read from model.yaml.

Never holds an object of the simulated VSD, and never checks a value (validation.py does).
"""

import re
from dataclasses import dataclass
from importlib import resources

import yaml

API_ROOTS = {"v3_2": "3.2", "v4_0": "4.0", "v5_0": "5.0", "v6": "20.10"}
RELEASES = ("3.2", "4.0", "5.0", "6.0", "20.5", "20.10")
_RANK = {release: rank for rank, release in enumerate(RELEASES)}


@dataclass(frozen=True)
class Field:
    """One attribute of a resource."""

    name: str
    type: str
    choices: tuple = ()
    is_required: bool = False
    is_read_only: bool = False
    is_create_only: bool = False
    is_server_set: bool = False
    is_hidden: bool = False
    is_filterable: bool = False
    is_orderable: bool = False
    is_indexed: bool = False
    default: object = None
    length: tuple = (None, None)
    range: tuple = (None, None)
    pattern: object = None
    since: str = RELEASES[0]
    until: str = RELEASES[-1]

    def is_known_in(self, release):
        """Tell whether a VSD of this release has the field."""
        return _RANK[self.since] <= _RANK[release] <= _RANK[self.until]


def _common_fields():
    made = dict(is_read_only=True)
    return [
        Field("ID", "string", is_filterable=True, is_orderable=True, **made),
        Field("parentID", "string", **made),
        Field("parentType", "string", **made),
        Field("children", "list", **made),
        Field("owner", "string", **made),
        Field("lastUpdatedBy", "string", **made),
        Field("creationDate", "integer", is_orderable=True, **made),
        Field("lastUpdatedDate", "integer", is_orderable=True, **made),
        Field("entityScope", "string", **made),
        Field("externalID", "string", is_filterable=True, is_orderable=True, is_indexed=True),
        Field("embeddedMetadata", "list", since="6.0", **made),
    ]


class Resource:
    """One kind of object: its words, its fields and the paths it appears on."""

    def __init__(self, rest_name, described):
        self.rest_name = rest_name
        self.name = described["resource"]
        self.verbs = frozenset(described.get("verbs", ()))
        self.created_under = frozenset(described.get("created_under", ()))
        self.listed_under = frozenset(described.get("listed_under", ()))
        self.members_of = frozenset(described.get("members_of", ()))
        self.cleared_under = frozenset(described.get("cleared_under", ()))
        self.aliases = tuple(described.get("aliases", ()))
        own = [parse_field(name, line) for name, line in described["fields"].items()]
        self.since = min((field.since for field in own), key=_RANK.get)
        self.fields = {field.name: field for field in _common_fields() + own}
        self.indexed = tuple(field.name for field in self.fields.values() if field.is_indexed)
        self.writable = tuple(
            field for field in self.fields.values() if not (field.is_read_only or field.is_server_set or field.is_hidden)
        )
        self.embedded = None  # the resource whose objects stand in the list `interfaces` of this one
        self.default_order = "name" if "name" in self.fields else "ID"
        self.defaults = {field.name: field.default for field in self.fields.values()}
        self._visible = {
            release: tuple(f.name for f in self.fields.values() if f.is_known_in(release) and not f.is_hidden)
            for release in RELEASES
        }

    def is_known_in(self, release):
        """Tell whether a VSD of this release has the resource."""
        return _RANK[self.since] <= _RANK[release]

    def visible(self, release):
        """Return the names of the attributes that a reply of this release carries."""
        return self._visible[release]


class Model:
    """All resources, found by path word or by rest name."""

    def __init__(self, described):
        self.by_rest_name = {rest: Resource(rest, entry) for rest, entry in described.items()}
        self.by_rest_name["container"].embedded = self.by_rest_name["containerinterface"]
        self._by_word = {}
        for resource in self.by_rest_name.values():
            for word in (resource.name, *resource.aliases):
                self._by_word[word] = resource

    def find(self, word, release):
        """Return the resource for a word in a path, or None if this release has no such resource."""
        resource = self._by_word.get(word)
        if resource is None or not resource.is_known_in(release):
            return None
        return resource


def load_model():
    """Read the packaged model.yaml."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = resources.files(__package__).joinpath("model.yaml").read_text(encoding="utf-8")
    return Model(yaml.load(text, Loader=loader))


_FLAGS = {
    "req": ("is_required",),
    "ro": ("is_read_only",),
    "create": ("is_create_only",),
    "server": ("is_server_set",),
    "hidden": ("is_hidden",),
    "F": ("is_filterable",),
    "O": ("is_orderable",),
    "FO": ("is_filterable", "is_orderable"),
    "I": ("is_indexed",),
}


def parse_field(name, line):
    """Read one field line of model.yaml; raises ValueError on a word that is not in its grammar."""
    line, _, pattern = str(line).partition(" re=")
    words = line.split()
    kind, choices = words[0], ()
    if kind.startswith("enum("):
        kind, choices = "enum", tuple(kind[5:-1].split("|"))
    traits = {"name": name, "type": kind, "choices": choices}
    if pattern:
        traits["pattern"] = re.compile(pattern)
    for word in words[1:]:
        key, has_value, value = word.partition("=")
        if word in _FLAGS:
            traits.update(dict.fromkeys(_FLAGS[word], True))
        elif not has_value:
            raise ValueError(f"model.yaml: field {name}: unknown word {word!r}")
        elif key == "":
            traits["default"] = _typed(kind, value)
        elif key in ("len", "range"):
            low, high = value.split("..")
            traits["length" if key == "len" else "range"] = (int(low) if low else None, int(high) if high else None)
        elif key in ("since", "until"):
            traits[key] = value
        else:
            raise ValueError(f"model.yaml: field {name}: unknown word {word!r}")
    return Field(**traits)


def _typed(kind, text):
    if kind == "boolean":
        return text.lower() == "true"
    return int(text) if kind == "integer" else text
