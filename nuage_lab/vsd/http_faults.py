"""Owns the faults that tests order: which request to disturb, and how often (vsd §18 item 10).

Never performs a fault; the WSGI boundary (web.py) does.
"""

import itertools
import random
import re

from gevent.event import Event

ACTIONS = (
    "delay",
    "401",
    "409",
    "500",
    "503",
    "503html",
    "reset",
    "reset_after",
    "hang",
    "malformed",
    "empty",
    "lose",
    "repeat",
    "300",
)
_METHODS = ("*", "GET", "POST", "PUT", "PATCH", "DELETE")
_NUMBERS = {"count": int, "probability": float, "code": int, "seconds": float}
_MOST_S = 86400
FORM = "METHOD PATH ACTION [count=N] [probability=0…1] [code=N] [seconds=S]"


def parse(text):
    """Return the rule of a text like `POST ^/containers 503 count=2`, as `HttpFaults.add` takes it.

    Raises ValueError for a text that is not a rule.
    """
    words = text.split() if isinstance(text, str) else ()
    if len(words) < 3:
        raise ValueError(
            f"{text!r} is not a rule; write {FORM}, as in 'POST ^/containers 503 count=2'"
        )
    wanted = dict(zip(("method", "path", "action"), words[:3], strict=True))
    for word in words[3:]:
        name, has_value, value = word.partition("=")
        if not has_value or name not in _NUMBERS:
            raise ValueError(f"{word!r} is none of {', '.join(f'{one}=…' for one in _NUMBERS)}")
        wanted[name] = value
    return wanted


class HttpFault:
    """One rule; `count` 0 means for ever.

    `is_cleared` is set when the rule is removed, which ends the requests that hang by it.
    """

    def __init__(self, number, wanted):
        unknown = set(wanted) - {"method", "path", "action", *_NUMBERS}
        if unknown:
            known = ", ".join(("method", "path", "action", *_NUMBERS))
            raise ValueError(f"unknown keys {sorted(unknown)}; known are {known}")
        self.id = number
        self.method = _one_of("method", str(wanted.get("method", "*")).upper(), _METHODS)
        self.path = str(wanted.get("path", ""))
        self.action = _one_of("action", str(wanted.get("action", "")), ACTIONS)
        self.count = _number(wanted, "count", 1)
        self.probability = _number(wanted, "probability", 1.0, most=1)
        self.code = _number(wanted, "code", None)
        self.seconds = _number(wanted, "seconds", None)
        self.hits = 0
        self.is_cleared = Event()
        if self.seconds is not None and self.action not in ("delay", "hang"):
            raise ValueError(f"seconds go with the actions delay and hang, not with {self.action}")
        if self.seconds is not None and self.seconds > _MOST_S:
            raise ValueError(f"seconds must be at most {_MOST_S}, a day, not {self.seconds:g}")
        try:
            self._pattern = re.compile(self.path)
        except re.error as problem:
            raise ValueError(
                f"path {self.path!r} is not a regular expression: {problem}"
            ) from problem

    def fits(self, method, paths):
        """Return whether the rule still applies to a request; `paths` are spellings of its path."""
        if self.count and self.hits >= self.count:
            return False
        return self.method in ("*", method) and any(self._pattern.search(path) for path in paths)

    def as_dict(self):
        """Return the rule as the admin interface shows it."""
        return {
            "id": self.id,
            "method": self.method,
            "path": self.path,
            "count": self.count,
            "action": self.action,
            "probability": self.probability,
            "code": self.code,
            "seconds": self.seconds,
            "hits": self.hits,
        }


class HttpFaults:
    """The rules in the order they were made; the first that fits wins."""

    def __init__(self, chooser=None):
        self._rules = []
        self._numbers = itertools.count(1)
        self._chooser = chooser or random.Random()

    def add(self, wanted):
        """Add a rule and return its number; raises ValueError for a bad one.

        `wanted` has the keys of a rule, or only `rule` with a text for `parse`.
        """
        if "rule" in wanted:
            if len(wanted) > 1:
                raise ValueError("rule must be the only key: its text is the whole rule")
            wanted = parse(wanted["rule"])
        fault = HttpFault(next(self._numbers), wanted)
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
            if fault.fits(method, paths) and (
                fault.probability >= 1 or self._chooser.random() < fault.probability
            ):
                fault.hits += 1
                return fault
        return None


def _one_of(name, value, known):
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    return value


def _number(wanted, name, default, most=None):
    value = wanted.get(name)
    if value is None:
        return default
    try:
        number = None if isinstance(value, bool) else _NUMBERS[name](value)
    except (ValueError, TypeError):
        number = None
    if number is None or not 0 <= number < float("inf") or (most is not None and number > most):
        if most is not None:
            limit = f"a number from 0 to {most}"
        elif _NUMBERS[name] is int:
            limit = "a whole number that is not negative"
        else:
            limit = "a number that is not negative"
        raise ValueError(f"{name} must be {limit}, not {value!r}")
    return number
