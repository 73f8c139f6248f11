"""The framer and the decoder of the OVSDB connection."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuage_appliance.base.json_pieces import decode
from nuage_appliance.clients.ovsdb import Framer

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.lists(st.dictionaries(st.text(), _values), min_size=1, max_size=4), st.integers(1, 7))
def test_messages_come_out_whole_however_the_stream_is_cut(messages, size):
    stream = b"".join(
        json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if _clean(message)
        else json.dumps(message).encode()
        for message in messages
    )
    framer, found = Framer(), []
    for start in range(0, len(stream), size):
        found += list(framer.feed(stream[start : start + size]))
    assert [json.loads(text) for text in found] == messages


def _clean(message):
    try:
        json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def test_a_bracket_that_closes_nothing_is_refused():
    with pytest.raises(ValueError):
        list(Framer().feed(b"}{"))


@pytest.mark.parametrize("rows", [1, 3000])
def test_a_large_message_is_decoded_as_the_standard_library_would_with_pauses(rows):
    message = json.dumps(
        {
            "id": None,
            "method": "update",
            "params": [
                "t",
                {
                    "Interface": {
                        f"u{n}": {
                            "old": {},
                            "new": {
                                "name": f"nln{n:x}-1",
                                "error": ["set", []],
                                "ids": ["map", [["a", 'é "quoted" \\ ,']]],
                            },
                        }
                        for n in range(rows)
                    }
                },
            ],
        },
        ensure_ascii=False,
    ).encode()
    pauses = []
    assert decode(message, lambda: pauses.append(1)) == json.loads(message)
    assert bool(pauses) == (rows == 3000)
