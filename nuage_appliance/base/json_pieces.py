"""Decodes long JSON in pieces: the standard library's decoder holds the interpreter to its end.

Owns nothing. A long message is decoded member by member, with a pause between batches in which
other greenlets may run.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

_WHOLE_BYTES = 256 << 10
_BATCH = 200
_whole = json.JSONDecoder().raw_decode
_blank = re.compile(r"[ \t\r\n]*")


def decode(message: bytes, pause: Callable[[], None], depth: int = 4) -> Any:
    """Decode one JSON text; a long one member by member down to `depth`, pausing between batches.

    `depth` counts the levels of arrays and objects that are taken apart; what lies deeper is
    decoded at once. Raises ValueError for what is not JSON. Switches greenlets if `pause` does.
    """
    text = message.decode("utf-8")
    if len(message) <= _WHOLE_BYTES:
        return json.loads(text)
    pause()
    try:
        value, end = _decode_at(text, _skip(text, 0), depth, pause, itertools.count(1))
    except IndexError:
        raise ValueError("the JSON text ends too early") from None
    if _skip(text, end) != len(text):
        raise ValueError("something follows the JSON text")
    return value


def _skip(text: str, position: int) -> int:
    """The first position from `position` on that holds no blank."""
    blank = _blank.match(text, position)
    assert blank is not None  # the pattern matches the empty text everywhere
    return blank.end()


def _decode_at(
    text: str, position: int, depth: int, pause: Callable[[], None], counter: Iterator[int]
) -> tuple[Any, int]:
    """The value that begins at `position`, and the position after it. IndexError: it has no end."""
    if next(counter) % _BATCH == 0:
        pause()
    opening = text[position]
    if depth == 0 or opening not in "{[":
        return _whole(text, position)
    closing = "}" if opening == "{" else "]"
    members: dict[str, Any] = {}
    items: list[Any] = []
    position = _skip(text, position + 1)
    while text[position] != closing:
        if opening == "{":
            key, position = _whole(text, position)
            position = _skip(text, position)
            if text[position] != ":":
                raise ValueError("a colon is missing")
            position = _skip(text, position + 1)
        value, position = _decode_at(text, position, depth - 1, pause, counter)
        if opening == "{":
            members[key] = value
        else:
            items.append(value)
        position = _skip(text, position)
        if text[position] == ",":
            position = _skip(text, position + 1)
        elif text[position] != closing:
            raise ValueError("a comma is missing")
    return (members if opening == "{" else items), position + 1
