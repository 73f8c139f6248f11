"""Owns the faults that tests order: which request is to be hurt, and how often (vsd-contract §18 item 10).

Never performs a fault; the WSGI boundary does.
"""

import itertools
import random
import re

from gevent.event import Event

ACTIONS = frozenset(
    "delay 401 409 500 503 503html reset reset_after hang malformed empty lose repeat 300".split()
)  # fmt: skip


class Fault:
    """One rule; `count` 0 means for ever. `is_cleared` is set when it was taken back: what hangs by it ends then."""

    def __init__(self, number, wanted):
        unknown = set(wanted) - {"method", "path", "count", "probability", "action", "code", "seconds"}
        if unknown:
            raise ValueError(f"unknown keys {sorted(unknown)}")
        self.id = number
        self.method = str(wanted.get("method", "*")).upper()
        self.path = str(wanted.get("path", ""))
        self.count = int(wanted.get("count", 1))
        self.probability = float(wanted.get("probability", 1.0))
        self.action = str(wanted.get("action", ""))
        self.code = wanted.get("code")
        self.seconds = None if wanted.get("seconds") is None else float(wanted["seconds"])
        self.hits = 0
        self.is_cleared = Event()
        if self.action not in ACTIONS:
            raise ValueError(f"action must be one of {', '.join(sorted(ACTIONS))}, not {self.action!r}")
        try:
            self._pattern = re.compile(self.path)
        except re.error as problem:
            raise ValueError(f"path is no regular expression: {problem}") from problem

    def fits(self, method, paths):
        """Tell whether the rule is still in force for a request known by several spellings of its path."""
        if self.count and self.hits >= self.count:
            return False
        return self.method in ("*", method) and any(self._pattern.search(path) for path in paths)

    def as_dict(self):
        """Return the rule as the admin interface shows it."""
        return {
            "id": self.id, "method": self.method, "path": self.path, "count": self.count, "action": self.action,
            "probability": self.probability, "code": self.code, "seconds": self.seconds, "hits": self.hits,
        }  # fmt: skip


class Faults:
    """The rules in the order they were made; the first that fits wins."""

    def __init__(self, chooser=None):
        self._rules = []
        self._numbers = itertools.count(1)
        self._chooser = chooser or random.Random()

    def add(self, wanted):
        """Add a rule and return its number; raises ValueError if it makes no sense."""
        fault = Fault(next(self._numbers), wanted)
        self._rules.append(fault)
        return fault.id

    def clear(self):
        """Remove all rules."""
        for fault in self._rules:
            fault.is_cleared.set()
        self._rules.clear()

    def list(self):
        """Return all rules with their hits."""
        return [fault.as_dict() for fault in self._rules]

    def pick(self, method, paths):
        """Return the rule to apply to a request and count it, or None."""
        for fault in self._rules:
            if fault.fits(method, paths) and (fault.probability >= 1 or self._chooser.random() < fault.probability):
                fault.hits += 1
                return fault
        return None
