"""Owns the reading of the field tables in the VSD contract (its Annex A), so that the simulator's
model can be held against them.

Never knows the model.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "contracts" / "vsd.md"

_HEADING = re.compile(r"#### `(\w+)` \(rest name `(\w+)`\)")
_OBJECT = re.compile(r"- on `[^`]*`: (.*?) — mix-ins: (.*)")
_COLLECTION = re.compile(r"- collection under \((\w+), (\w+)\): (.*)")
_CHILD = re.compile(r"(\w+) ([CGUD]+)")
_LONG_ENUM = re.compile(r"`(\w+)\.(\w+)` values: ([\w /]+)\.")
_OLD = re.compile(r"(\w+) \(last in ([\d.]+)\)")
_PLAIN_TYPES = {"integer<integer>": "integer", "integer<long>": "long", "float<double>": "float"}


@dataclass
class FieldRow:
    """One row of a table; `kind` and `choices` are the type, `length` and `range` are (least, most)
    or None.
    """

    name: str
    kind: str
    choices: tuple
    flags: frozenset
    default: str | None
    length: tuple
    range: tuple
    pattern: str | None
    since: str


@dataclass
class ResourceTable:
    """What the annex says about one resource; `relations` holds (parent word, verb letters),
    `children` the other direction.
    """

    word: str
    rest_name: str
    verbs: frozenset = frozenset()
    mixins: frozenset = frozenset()
    relations: list = field(default_factory=list)
    children: list = field(default_factory=list)
    fields: dict = field(default_factory=dict)
    older: dict = field(default_factory=dict)


def read(path=CONTRACT):
    """Return the tables of Annex A by rest name."""
    lines = _unwrapped(path.read_text(encoding="utf-8").partition("\n# Annex A")[2])
    tables, long_enums = (
        {},
        {
            (rest, name): tuple(values.split(" / "))
            for rest, name, values in _LONG_ENUM.findall("\n".join(lines))
        },
    )
    table = None
    for line in lines:
        heading = _HEADING.match(line)
        if heading:
            table = tables[heading[2]] = ResourceTable(heading[1], heading[2])
        elif table is not None:
            _add(table, line, long_enums)
    return tables


def _unwrapped(text):
    """Return the lines of a text with each list item and paragraph joined to one line."""
    lines = [""]
    for line in text.splitlines():
        starts = not line or line.startswith(("|", "#", "- ")) or not lines[-1]
        if starts or lines[-1].startswith(("|", "#")):
            lines.append(line)
        else:
            lines[-1] += " " + line.strip()
    return lines


def _add(table, line, long_enums):
    if found := _OBJECT.match(line):
        table.verbs = frozenset(re.findall("GET|PUT|DELETE", found[1]))
        table.mixins = frozenset(re.findall(r"@\w+", found[2]))
    elif found := _COLLECTION.match(line):
        table.relations += [(word, found[2]) for word in re.findall(r"`\(?(\w+)\)?`", found[3])]
    elif line.startswith("- children: "):
        table.children = _CHILD.findall(line.partition(": ")[2])
    elif line.startswith("Fields that existed in older versions only"):
        table.older = dict(_OLD.findall(line))
    elif line.startswith("| ") and not line.startswith("| field |"):
        row = _row(table.rest_name, line, long_enums)
        table.fields[row.name] = row


def _row(rest_name, line, long_enums):
    name, kind, flags, limits, since = (cell.strip() for cell in line.strip()[1:-1].split("|"))
    kind, _, choices = kind.partition(": ")
    choices = tuple(choices.split(" / ")) if choices else ()
    if kind.endswith("(enum list below)"):
        kind, choices = "enum", long_enums[rest_name, name]
    if kind.startswith("list<"):
        inner = kind[5:-1]
        kind = {"enum": "list", "string": "list(string)"}.get(inner, "list(object)")
    words = set()
    for word in flags.split():
        words |= set(word) if set(word) <= {"F", "O"} else {word}
    limits, _, pattern = limits.partition(", re `regex:")
    default = re.match(r"= ([^,]+)", limits)
    return FieldRow(
        name,
        _PLAIN_TYPES.get(kind, kind),
        choices,
        frozenset(words),
        default[1].strip() if default else None,
        _limit("len", limits),
        _limit("", limits),
        pattern.rstrip("`") or None,
        since,
    )


def _limit(word, text):
    low, high = (re.search(rf"(?:^|[ ,]){word}{sign}(\d+)", text) for sign in (">=", "<="))
    return (int(low[1]) if low else None, int(high[1]) if high else None)
