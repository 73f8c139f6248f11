"""Figures beside their targets: what a part hands over, and how it is printed."""

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass, field


@dataclass
class Figure:
    """One measured value. `best` says which side of the target is good; without a target it only
    informs.
    """

    part: str
    name: str
    unit: str
    value: float
    target: float | None = None
    best: str = "low"
    rounds: list = field(default_factory=list)
    note: str = ""

    @property
    def verdict(self):
        """ok, MISSED, or an empty text without a target."""
        if self.target is None:
            return ""
        return (
            "ok"
            if (self.value <= self.target if self.best == "low" else self.value >= self.target)
            else "MISSED"
        )

    def line(self):
        """One line of the table."""
        relation = "≤" if self.best == "low" else "≥"
        wanted = f"{relation} {self.target:g}" if self.target is not None else "–"
        spread = f"{min(self.rounds):.4g} … {max(self.rounds):.4g}" if len(self.rounds) > 1 else ""
        return (
            f"{self.name:64} {self.value:9.4g} {self.unit:8} {wanted:>8}  {self.verdict:6}  "
            f"{spread:20} {self.note}"
        ).rstrip()


def over_rounds(part, name, unit, values, target=None, best="low", note=""):
    """The median of what the rounds gave, with each round's value kept."""
    return Figure(
        part,
        name,
        unit,
        statistics.median(values),
        target,
        best,
        [round(value, 3) for value in values],
        note,
    )


def percentile(values, percent):
    """A percentile by rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


HEADING = f"{'':64} {'value':>9} {'unit':8} {'target':>8}  {'':6}  {'rounds':20}"


def say(text):
    """Progress, to standard error."""
    print(text, file=sys.stderr, flush=True)


def hand_over(measure, **options):
    """The main of a part: measure, and write the figures to `--json` or print them. Options become
    --flags.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    chosen = vars(parser.parse_args())
    path = chosen.pop("json")
    figures = measure(**chosen)
    if path:
        with open(path, "w", encoding="utf-8") as stream:
            json.dump([asdict(figure) for figure in figures], stream)
    else:
        print(HEADING, *(figure.line() for figure in figures), sep="\n")
