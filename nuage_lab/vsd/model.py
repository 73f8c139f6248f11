"""Owns the model, as read from model.yaml: resources, fields, where they are made and listed.

Never holds an object of the simulated VSD, and never checks a value (validation.py does).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

Described = Mapping[str, Any]  # an entry of model.yaml

API_ROOTS = {"v3_2": "3.2", "v4_0": "4.0", "v5_0": "5.0", "v6": "20.10"}
RELEASES = ("3.2", "4.0", "5.0", "6.0", "20.5", "20.10")
Limits = tuple[int | None, int | None]  # lowest and highest value, or length
_RANK = {release: rank for rank, release in enumerate(RELEASES)}


@dataclass(frozen=True)
class Field:
    """One attribute of a resource; the names are those of the grammar at the top of model.yaml."""

    name: str
    type: str
    choices: tuple[str, ...] = ()
    item: str | None = None  # of a list: string, object, enum, or None for anything
    is_required: bool = False
    is_enforced: bool = True
    is_unique: bool = False
    is_auto: bool = False
    is_deprecated: bool = False
    is_default_order: bool = False
    is_read_only: bool = False
    is_create_only: bool = False
    is_server_set: bool = False
    is_hidden: bool = False
    is_secret: bool = False
    is_filterable: bool = False
    is_orderable: bool = False
    is_indexed: bool = False
    specified: object = None  # the default in the specification
    seen: object = None
    length: Limits = (None, None)
    own_length: Limits = (None, None)
    range: Limits = (None, None)
    pattern: re.Pattern[str] | None = None
    own_pattern: re.Pattern[str] | None = None
    since: str = RELEASES[0]
    until: str = RELEASES[-1]

    @property
    def default(self) -> object:
        """The value in a new object if nobody gives another one."""
        return self.seen if self.specified is None else self.specified

    def is_known_in(self, release: str) -> bool:
        """Return whether a VSD of this release has the field."""
        return _RANK[self.since] <= _RANK[release] <= _RANK[self.until]


class Resource:
    """One kind of object: its words, its fields and the paths it appears on."""

    def __init__(
        self, rest_name: str, described: Described, mixins: Mapping[str, Described]
    ) -> None:
        self.rest_name = rest_name
        self.name = described["resource"]
        self.verbs = frozenset(described.get("verbs", ()))
        self.mixins = frozenset(described.get("mixins", ()))
        self.created_under = frozenset(described.get("created_under", ()))
        self.listed_under = frozenset(described.get("listed_under", ()))
        self.members_of = frozenset(described.get("members_of", ()))
        self.cleared_under = frozenset(described.get("cleared_under", ()))
        self.is_own = described.get("is_own", False)
        self.is_computed = described.get("is_computed", False)
        self.unique = dict(described.get("unique", ()))
        self.aliases = tuple(described.get("aliases", ()))
        own = _fields(described)
        self.since = min((field.since for field in own), key=_RANK.__getitem__)
        shared = [
            field for name in ("@object", *sorted(self.mixins)) for field in _fields(mixins[name])
        ]
        self.fields = {field.name: field for field in shared + own}
        self.indexed = tuple(field.name for field in self.fields.values() if field.is_indexed)
        self.writable = tuple(
            field
            for field in self.fields.values()
            if not (field.is_read_only or field.is_server_set or field.is_hidden)
        )
        # The resource whose objects are listed in the attribute `interfaces` of this one.
        self.embedded: Resource | None = None
        ordered = [field.name for field in own if field.is_default_order or field.name == "name"]
        self.default_order = ordered[0] if ordered else "ID"
        self.defaults = {field.name: field.default for field in self.fields.values()}
        self._visible = {
            release: tuple(
                f.name for f in self.fields.values() if f.is_known_in(release) and not f.is_hidden
            )
            for release in RELEASES
        }

    def is_known_in(self, release: str) -> bool:
        """Return whether a VSD of this release has the resource."""
        return _RANK[self.since] <= _RANK[release]

    def visible(self, release: str) -> tuple[str, ...]:
        """Return the names of the attributes that a reply of this release carries."""
        return self._visible[release]


class Model:
    """All resources, found by path word or by rest name."""

    def __init__(self, described: Mapping[str, Described]) -> None:
        mixins = {name: entry for name, entry in described.items() if name.startswith("@")}
        self.by_rest_name = {
            rest: Resource(rest, entry, mixins)
            for rest, entry in described.items()
            if rest not in mixins
        }
        self.by_rest_name["container"].embedded = self.by_rest_name["containerinterface"]
        for relation in ("created_under", "listed_under", "members_of", "cleared_under"):
            self._spread_over_mixins(relation)
        self._by_word: dict[str, Resource] = {}
        for resource in self.by_rest_name.values():
            for word in (resource.name, *resource.aliases):
                self._by_word[word] = resource

    def _spread_over_mixins(self, relation: str) -> None:
        """Put the words of all resources that have a mix-in in the place of its name."""
        for resource in self.by_rest_name.values():
            words = getattr(resource, relation)
            carriers = (one.name for one in self.by_rest_name.values() if one.mixins & words)
            setattr(resource, relation, words.union(carriers))

    def find(self, word: str, release: str) -> Resource | None:
        """Return the resource for a word in a path, or None if this release has none."""
        resource = self._by_word.get(word)
        if resource is None or not resource.is_known_in(release):
            return None
        return resource


def load_model() -> Model:
    """Read the packaged model.yaml."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = resources.files(__package__).joinpath("model.yaml").read_text(encoding="utf-8")
    return Model(yaml.load(text, Loader=loader))


def _fields(described: Described) -> list[Field]:
    return [parse_field(name, line) for name, line in described["fields"].items()]


_FLAGS = {
    "req": ("is_required",),
    "ro": ("is_read_only",),
    "create": ("is_create_only",),
    "unique": ("is_unique",),
    "auto": ("is_auto",),
    "depr": ("is_deprecated",),
    "default-order": ("is_default_order",),
    "server": ("is_server_set",),
    "secret": ("is_secret",),
    "hidden": ("is_hidden",),
    "F": ("is_filterable",),
    "O": ("is_orderable",),
    "FO": ("is_filterable", "is_orderable"),
    "I": ("is_indexed",),
}


_PAIRS = {"len": "length", "own-len": "own_length", "range": "range"}


def parse_field(name: str, line: str) -> Field:
    """Read one field line of model.yaml; raises ValueError on a word that is not in its grammar."""
    line, mark, pattern = re.split(r" ((?:own-)?re=)", f"{line} re=", maxsplit=1)
    words = line.split()
    kind, _, inside = words[0].rstrip(")").partition("(")
    traits: dict[str, Any] = {"name": name, "type": kind}
    if kind == "list" and inside in ("string", "object"):
        traits["item"] = inside
    elif inside:
        traits.update(choices=tuple(inside.split("|")), item="enum" if kind == "list" else None)
    pattern = pattern.removesuffix(" re=")
    if pattern:
        traits["own_pattern" if mark.startswith("own") else "pattern"] = re.compile(pattern)
    for word in words[1:]:
        key, has_value, value = word.partition("=")
        if word in _FLAGS:
            traits.update(dict.fromkeys(_FLAGS[word], True))
        elif word == "lax":
            traits["is_enforced"] = False
        elif not has_value:
            raise ValueError(f"model.yaml: field {name}: unknown word {word!r}")
        elif key in ("", "seen"):
            traits[key or "specified"] = _typed(kind, value)
        elif key in _PAIRS:
            low, high = value.split("..")
            traits[_PAIRS[key]] = (int(low) if low else None, int(high) if high else None)
        elif key in ("since", "until"):
            traits[key] = value
        else:
            raise ValueError(f"model.yaml: field {name}: unknown word {word!r}")
    return Field(**traits)


def _typed(kind: str, text: str) -> bool | int | str:
    if kind == "boolean":
        return text.lower() == "true"
    return int(text) if kind in ("integer", "long") else text
