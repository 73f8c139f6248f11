"""Decodes long JSON in pieces, because the standard library's decoder holds the interpreter until it is through.

Owns nothing. A long message is decoded member by member, with a pause between batches in which others may run.
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
    """Decode one JSON text; a long one member by member down to `depth`, with `pause()` between batches.

    Raises ValueError for what is not JSON. Switches greenlets if `pause` does.
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
    return _blank.match(text, position).end()


def _decode_at(
    text: str, position: int, depth: int, pause: Callable[[], None], counter: Iterator[int]
) -> tuple[Any, int]:
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
