"""MATCHES of a filter: means what regular expressions mean, and no pattern can hold the
simulator.
"""

import re
import time

import pytest

from nuage_lab.vsd.errors import ApiError
from nuage_lab.vsd.patterns import Pattern

TEXTS = ["", "a", "b", "ab", "ba", "aab", "abab", "1", "a1", "a.b", "x]", "ää"]


@pytest.mark.parametrize(
    "text",
    [
        "a.*",
        "a+b?",
        "(ab)*",
        "[^a]+",
        r"\d",
        r"a\.b",
        "^a$",
        "a|b",
        "a{2}b",
        "(?:ab){1,2}",
        "x]",
        "ä+",
        "",
        "(a+)+$",
    ],
)
def test_a_pattern_matches_the_same_whole_texts_as_the_standard_library_says(text):
    assert [Pattern(text).fullmatch(one) for one in TEXTS] == [
        re.fullmatch(text, one) is not None for one in TEXTS
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("(a", "missing )"),
        ("*a", "no argument for repetition"),
        ("[a", "missing ]"),
        ("[b-a]", "invalid character class range"),
        ("a\\", "trailing"),
        (r"(a)\1", "invalid escape"),
        ("(?=a)", "invalid perl operator"),
        ("a" * 501, "more than 500 characters"),
        ("((a{99}){99}){99}", "repetition"),
    ],
)
def test_a_pattern_that_cannot_be_is_a_400_that_says_why(text, problem, capfd):
    with pytest.raises(ApiError) as refusal:
        Pattern(text)
    assert refusal.value.status == 400 and problem in refusal.value.description
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*b", "a*a*a*a*a*a*a*b", "(a|aa)+$", "(.*a){50}"]
)
def test_no_pattern_holds_the_simulator(root, seed, pattern):
    changed = root.put(
        f"/enterprises/{seed.one('/enterprises', 'Enterprise')['ID']}",
        {"description": "a" * 200 + "!"},
    )
    assert changed[0] in (200, 204)
    began = time.monotonic()
    status, _, _ = root.get("/enterprises", filter=f'description MATCHES "{pattern}"')
    assert status in (200, 400) and time.monotonic() - began < 10, (
        "without a bound it is more than the age of the world"
    )
    assert root.get("/me")[0] == 200
