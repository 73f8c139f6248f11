"""Owns the filter language of X-Nuage-Filter: a text becomes a predicate over one object (vsd §4).

Never sees a store; the caller uses `equalities` to find candidates through its indexes.
"""

import fnmatch
import operator as op
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .errors import ApiError, malformed
from .model import Resource
from .patterns import Pattern

Values = Mapping[str, Any]  # attributes of an object
Predicate = Callable[[Values], bool]
Test = Callable[[Any], bool]  # of the value of one attribute
Equalities = dict[str, str]
Path = tuple[str, Callable[[Values], Any]]  # an attribute as written, and how to read it

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
          |(?P<op>==|!=|<=|>=|\|\||&&|[=<>!()])
          |(?P<word>[^\s"'=<>!()&|]+))""",
    re.VERBOSE,
)
_OPERATORS = {
    "==": "==",
    "=": "==",
    "IS": "==",
    "!=": "!=",
    "ISNOT": "!=",
    "<": "<",
    ">": ">",
    "<=": "<=",
    ">=": ">=",
    "BEGINSWITH": "BEGINSWITH",
    "ENDSWITH": "ENDSWITH",
    "CONTAINS": "CONTAINS",
    "LIKE": "LIKE",
    "MATCHES": "MATCHES",
    "IN": "IN",
}
_MAX_DEPTH = 100
_NUMBER = re.compile(r"-?\d+(\.\d+)?\Z")


class UnknownAttribute(Exception):
    """The filter names an attribute that does not exist or cannot be filtered on."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Filter:
    """A parsed filter: `matches(values)`, and the equalities that every match fulfils."""

    def __init__(self, matches: Predicate, equalities: Equalities) -> None:
        self.matches = matches
        self.equalities = equalities


def parse(text: str, resource: Resource) -> Filter:
    """Parse a predicate filter for a resource.

    Raises ApiError 400 for bad syntax, UnknownAttribute for a bad name.
    """
    parser = _Parser(text, resource)
    matches, equalities = parser.disjunction()
    parser.expect_end()
    return Filter(matches, equalities)


def plain(text: str, resource: Resource) -> Filter:
    """Return the filter for objects with a text attribute that contains `text`, in any case."""
    wanted = text.strip().strip("\"'").lower()
    names = [field.name for field in resource.fields.values() if field.is_filterable]

    def matches(values: Values) -> bool:
        return any(
            wanted in str(values[name]).lower() for name in names if values.get(name) is not None
        )

    return Filter(matches, {})


class _Parser:
    """Recursive descent; every level returns (predicate, equalities that its matches fulfil)."""

    def __init__(self, text: str, resource: Resource) -> None:
        self._resource = resource
        self._text = text
        self._depth = 0
        self._tokens = list(_tokens(text))
        self._at = 0

    def disjunction(self) -> tuple[Predicate, Equalities]:
        """Parse terms joined by OR."""
        terms = [self._conjunction()]
        while self._take("OR", "||"):
            terms.append(self._conjunction())
        if len(terms) == 1:
            return terms[0]
        predicates = [predicate for predicate, _ in terms]
        return (lambda values: any(p(values) for p in predicates)), {}

    def _conjunction(self) -> tuple[Predicate, Equalities]:
        terms = [self._negation()]
        while self._take("AND", "&&"):
            terms.append(self._negation())
        if len(terms) == 1:
            return terms[0]
        predicates = [predicate for predicate, _ in terms]
        equalities: Equalities = {}
        for _, found in terms:
            equalities.update(found)
        return (lambda values: all(p(values) for p in predicates)), equalities

    def _negation(self) -> tuple[Predicate, Equalities]:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error(f"it is nested more than {_MAX_DEPTH} deep")
        found = self._nested()
        self._depth -= 1
        return found

    def _nested(self) -> tuple[Predicate, Equalities]:
        if self._take("NOT", "!"):
            predicate, _ = self._negation()
            return (lambda values: not predicate(values)), {}
        if self._take("("):
            inner = self.disjunction()
            if not self._take(")"):
                raise self._error("a closing parenthesis is missing")
            return inner
        return self._comparison()

    def _comparison(self) -> tuple[Predicate, Equalities]:
        kind, left = self._next()
        if kind == "op":
            raise self._error(f"unexpected {left!r}")
        is_reversed = kind == "string" or _NUMBER.match(left)
        _, word = self._next()
        operator = _OPERATORS.get(word.upper())
        if operator is None:
            raise self._error(f"{word!r} is not an operator")
        if operator == "==" and word.upper() == "IS" and self._take("NOT"):
            operator = "!="
        if is_reversed:
            if operator != "IN":
                raise self._error("an attribute name must stand on the left")
            return _member_test(left, *self._path()), {}
        return self._attribute_test(self._resolve(left), operator)

    def _attribute_test(self, path: Path, operator: str) -> tuple[Predicate, Equalities]:
        kind, text = self._next()
        if kind == "op":
            raise self._error(f"a value must follow {operator}")
        value = None if kind == "word" and text.lower() == "null" else text
        name, read = path
        test = _test(operator, value)
        equalities = (
            {name: value} if operator == "==" and value is not None and "." not in name else {}
        )
        return (lambda values: test(read(values))), equalities

    def _path(self) -> Path:
        kind, word = self._next()
        if kind != "word":
            raise self._error("an attribute name is missing")
        return self._resolve(word)

    def _resolve(self, word: str) -> Path:
        name, *rest = word.split(".")
        field = self._resource.fields.get(name)
        if field is None or not field.is_filterable or field.is_hidden:
            raise UnknownAttribute(name)
        if not rest:
            return word, lambda values: values.get(name)

        def read(values: Values) -> Any:
            found = values.get(name)
            for part in rest:
                found = found.get(part) if isinstance(found, dict) else None
            return found

        return word, read

    def _take(self, *words: str) -> bool:
        if self._at < len(self._tokens):
            kind, text = self._tokens[self._at]
            if kind != "string" and text.upper() in words:
                self._at += 1
                return True
        return False

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise self._error("it ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def expect_end(self) -> None:
        """Raise the 400 if something is left over."""
        if self._at < len(self._tokens):
            raise self._error(f"unexpected {self._tokens[self._at][1]!r}")

    def _error(self, problem: str) -> ApiError:
        return malformed(f"The filter {self._text!r} cannot be parsed: {problem}.")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            raise malformed(f"The filter {text!r} cannot be parsed at position {position}.")
        kind = str(found.lastgroup)
        token = found[kind]
        if kind == "string":
            token = re.sub(r"\\(.)", r"\1", token[1:-1])
        yield kind, token
        position = found.end()


def _member_test(wanted: str, _name: str, read: Callable[[Values], Any]) -> Predicate:
    def matches(values: Values) -> bool:
        found = read(values)
        return wanted in found if isinstance(found, list) else found == wanted

    return matches


def _test(operator: str, wanted: str | None) -> Test:
    if operator == "==":
        return lambda actual: _equal(actual, wanted)
    if operator == "!=":
        return lambda actual: not _equal(actual, wanted)
    if wanted is None:
        raise malformed(f"null cannot be used with {operator}.")
    if operator in ("<", ">", "<=", ">="):
        return _ordering_test(operator, wanted)
    if operator == "MATCHES":
        pattern = Pattern(wanted)
        return lambda actual: actual is not None and pattern.fullmatch(_text(actual))
    if operator == "LIKE":
        return lambda actual: actual is not None and fnmatch.fnmatchcase(_text(actual), wanted)
    if operator == "BEGINSWITH":
        return lambda actual: actual is not None and _text(actual).startswith(wanted)
    if operator == "ENDSWITH":
        return lambda actual: actual is not None and _text(actual).endswith(wanted)
    return lambda actual: (
        actual is not None
        and (wanted in actual if isinstance(actual, list) else wanted in _text(actual))
    )


def _ordering_test(operator: str, wanted: str) -> Test:
    compare: Callable[[Any, Any], bool] = {
        "<": op.lt,
        ">": op.gt,
        "<=": op.le,
        ">=": op.ge,
    }[operator]
    number = float(wanted) if _NUMBER.match(wanted) else None

    def test(actual: Any) -> bool:
        if actual is None:
            return False
        if isinstance(actual, (int, float)) and not isinstance(actual, bool):
            return number is not None and compare(actual, number)
        return compare(_text(actual), wanted)

    return test


def _equal(actual: Any, wanted: str | None) -> bool:
    if actual is None or wanted is None:
        return actual is wanted
    if isinstance(actual, bool):
        return wanted.lower() == _text(actual)
    if isinstance(actual, (int, float)):
        return bool(_NUMBER.match(wanted)) and float(wanted) == actual
    return bool(actual == wanted)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)
