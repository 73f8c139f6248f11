"""The simulator's model against Annex A of the VSD contract, field by field, and what a served
field does.
"""

import re

import pytest

from nuage_lab.vsd.model import RELEASES, load_model
from tests.support import annex

MODEL = load_model()
# What the simulator does otherwise than the annex's table, and the section of the contract that
# says so.
_NOT_ENFORCED = {("container", "orchestrationID"): "vsd §11.1"}
_OWN_LIMITS = {("container", "UUID"): "vsd §11.2", ("vport", "name"): "vsd §9"}
_MIXIN_FIELDS = {  # the table of mix-ins, and the sentence below it
    "@object": {"ID", "parentID", "parentType", "children"},
    "@base": {"entityScope", "externalID"},
    "@audited": {"creationDate", "lastUpdatedDate", "lastUpdatedBy", "owner"},
    "@metadata": {"embeddedMetadata"},
    "@permission": set(),
}


@pytest.fixture(scope="module")
def tables():
    return annex.read()


def test_every_resource_of_the_annex_is_in_the_model_and_no_other(tables):
    assert set(MODEL.by_rest_name) == set(tables)
    assert len(tables) == 27 and sum(len(table.fields) for table in tables.values()) > 500


@pytest.mark.parametrize("rest_name", MODEL.by_rest_name)
def test_a_resource_has_the_annexes_word_verbs_mixins_and_relations(tables, rest_name):
    table, resource = tables[rest_name], MODEL.by_rest_name[rest_name]
    assert (resource.name, resource.verbs) == (table.word, table.verbs)
    assert resource.mixins == table.mixins
    for letter, words in (
        ("C", resource.created_under),
        ("G", resource.listed_under),
        ("U", resource.members_of),
        ("D", resource.cleared_under),
    ):
        wanted = {word for word, letters in table.relations if letter in letters}
        wanted |= {"root"} if (rest_name, letter) == ("me", "G") else set()
        mixed_in = {
            "metadata": "@metadata",
            "globalmetadata": "@metadata",
            "permission": "@permission",
        }.get(rest_name)
        carriers = {other.word for other in tables.values() if mixed_in in other.mixins}
        if (
            carriers
            and letter
            in {"metadata": "CG", "globalmetadata": "CGU", "permission": "CGUD"}[rest_name]
        ):
            wanted |= carriers | {mixed_in}
        assert words == wanted, (rest_name, letter)


@pytest.mark.parametrize("rest_name", MODEL.by_rest_name)
def test_a_parents_children_in_the_annex_are_served_below_it(tables, rest_name):
    words = {resource.name: resource for resource in MODEL.by_rest_name.values()}
    parent = "root" if rest_name == "me" else tables[rest_name].word
    for word, letters in tables[rest_name].children:
        if word in words:
            child = words[word]
            found = {
                "C": child.created_under,
                "G": child.listed_under,
                "U": child.members_of,
                "D": child.cleared_under,
            }
            assert not [letter for letter in letters if parent not in found[letter]], (
                parent,
                word,
                letters,
            )


@pytest.mark.parametrize("rest_name", MODEL.by_rest_name)
def test_every_field_is_as_in_the_annex(tables, rest_name):
    table, resource = tables[rest_name], MODEL.by_rest_name[rest_name]
    mixed_in = set().union(*(_MIXIN_FIELDS[name] for name in ("@object", *table.mixins)))
    assert set(resource.fields) == set(table.fields) | set(table.older) | mixed_in
    for name, row in table.fields.items():
        assert _described(resource.fields[name]) == _wanted(row), (rest_name, name)
        assert resource.fields[name].is_enforced or (rest_name, name) in _NOT_ENFORCED
        own_limits = (
            resource.fields[name].own_length != (None, None)
            or resource.fields[name].own_pattern is not None
        )
        assert not own_limits or (rest_name, name) in _OWN_LIMITS
    for name, last in table.older.items():
        assert (resource.fields[name].since, resource.fields[name].until) == (RELEASES[0], last)


def _described(field):
    kind = (
        f"list({field.item})"
        if field.type == "list" and field.item in ("string", "object")
        else field.type
    )
    default = field.specified
    return {
        "type": kind,
        "choices": field.choices,
        "default": None if default is None else str(default).lower(),
        "length": field.length,
        "range": field.range,
        "since": field.since,
        "until": field.until,
        "pattern": field.pattern.pattern if field.pattern else None,
        "req": field.is_required,
        "ro": field.is_read_only,
        "create-only": field.is_create_only,
        "unique": field.is_unique,
        "auto": field.is_auto,
        "depr": field.is_deprecated,
        "hidden": field.is_hidden,
        "default-order": field.is_default_order,
        "F": field.is_filterable,
        "O": field.is_orderable,
    }


def _wanted(row):
    flags = (
        "req",
        "ro",
        "create-only",
        "unique",
        "auto",
        "depr",
        "hidden",
        "default-order",
        "F",
        "O",
    )
    return {
        "type": row.kind,
        "choices": row.choices,
        "default": None if row.default is None else row.default.lower(),
        "length": row.length,
        "range": row.range,
        "since": row.since,
        "until": RELEASES[-1],
        "pattern": row.pattern,
        **{flag: flag in row.flags for flag in flags},
    }


def test_the_mixins_have_the_fields_that_the_annex_gives_them(tables):
    text = annex.CONTRACT.read_text(encoding="utf-8")
    for name in ("@base", "@audited", "@metadata", "@permission"):
        row = re.search(rf"^\| {name} \| (.*) \|$", text, re.MULTILINE)[1]
        assert set(re.findall(r"`(\w+)`", row.partition("child")[0])) == _MIXIN_FIELDS[name]
