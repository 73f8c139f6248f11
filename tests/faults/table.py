"""The table: operation × crash point × backend's fault, generated from the list of effects that
each operation has.

The list is kept in effects.json, so that a cell's name means the same tomorrow. A test compares it
with what a run without a death really does; `--faults=learn` writes it anew.
"""

import dataclasses
import json
from pathlib import Path

from tests.faults.backends import FAULTS, SEEN_AS
from tests.faults.operations import OPERATIONS

_FILE = Path(__file__).with_name("effects.json")
SEEN = tuple(sorted(set(SEEN_AS.values())))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row of the table; its name is all that is needed to run it again."""

    operation: str
    when: str
    effect: str
    fault: str

    def __str__(self):
        return f"{self.operation}:{self.when}:{self.effect}:{self.fault}"


def read():
    """Operation -> what it sees of a fault -> the effects it has then; where that makes no
    difference it is left out.
    """
    return json.loads(_FILE.read_text()) if _FILE.exists() else {}


def write(operation, seen, effects):
    """Keep what was learnt."""
    known = read()
    known.setdefault(operation, {})[seen] = effects
    for one in known.values():
        for name in [name for name in one if name != "none" and one[name] == one.get("none")]:
            del one[name]
    lines = [
        f"  {json.dumps(name)}: {{\n"
        + ",\n".join(
            f"    {json.dumps(seen)}: {json.dumps(known[name][seen])}"
            for seen in sorted(known[name])
        )
        + "\n  }"
        for name in OPERATIONS
        if name in known
    ]
    _FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def effects_of(operation, seen):
    """The effects of an operation that sees a fault."""
    known = read().get(operation, {})
    return known.get(seen, known.get("none", []))


def _faults_of(operation):
    """Hurting the VSD's answers makes a difference only where the VSD is told something."""
    writes = any(effect.startswith("vsd.") for effect in effects_of(operation, "none"))
    return [name for name, fault in FAULTS.items() if writes or not fault.during]


def whole():
    """Every cell."""
    return [
        Cell(operation, when, effect, fault)
        for operation in OPERATIONS
        for fault in _faults_of(operation)
        for effect in effects_of(operation, SEEN_AS[fault])
        for when in ("before", "after")
    ]


def sample():
    """A fixed part of it: every effect of every operation once, before and after in turn, with one
    fault after the other.
    """
    cells, count = set(whole()), 0
    chosen = []
    for operation in OPERATIONS:
        faults = _faults_of(operation)
        for effect in effects_of(operation, "none"):
            # Half a step more for every effect, so that neither side of an effect always meets the
            # same faults.
            turn = [
                Cell(
                    operation,
                    ("before", "after")[count % 2],
                    effect,
                    faults[(count + count // 2 + step) % len(faults)],
                )
                for step in range(len(faults))
            ]
            chosen.append(next(cell for cell in turn if cell in cells))
            count += 1
    return chosen


def selected(wanted):
    """The cells for `--faults`: `sample`, `all`, or all whose name contains the given text."""
    if wanted == "sample":
        return sample()
    return [cell for cell in whole() if wanted == "all" or wanted in str(cell)]
