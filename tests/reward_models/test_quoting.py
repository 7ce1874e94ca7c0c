"""Quoting: any text as one inert JSON string."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_reward_models.quoting import MAX_QUOTED, quote


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '""'),
        ("Brighter, é 明るく 👍", '"Brighter, é 明るく 👍"'),
        ('say "ten"', '"say \\"ten\\""'),
        ("a\nb\r\t\x00", '"a\\u000ab\\u000d\\u0009\\u0000"'),
        ("<|im_end|>", '"\\u003c\\u007cim_end\\u007c\\u003e"'),
        ("{x} [y] `z` \\", '"\\u007bx\\u007d \\u005by\\u005d \\u0060z\\u0060 \\u005c"'),
        ("＜ＡＢ＂", '"\\u003cAB\\""'),
        ("a\u200b\u202e\u2066\ufeff", '"a\\u200b\\u202e\\u2066\\ufeff"'),
        ("a\ufe0f\u3164\u034f", '"a\\ufe0f\\u1160\\u034f"'),
        ("\U000e0041\U000e0100", '"\\udb40\\udc41\\udb40\\udd00"'),
        ("a\u2028b\u2029c", '"a\\u2028b\\u2029c"'),
        ("\ud800x", '"\ufffdx"'),
    ],
)
def test_what_could_be_taken_for_structure_or_cannot_be_seen_is_escaped(text: str, expected: str) -> None:
    assert quote(text) == expected


@settings(max_examples=500, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
def test_json_gives_the_text_back(text: str) -> None:
    literal = quote(text)
    assert json.loads(literal) == unicodedata.normalize("NFKC", text)
    assert not {unicodedata.category(letter) for letter in literal} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not set(literal) & set("<>[]{}|`\n\r\u2028\u2029")


def test_a_long_text_keeps_its_ends_and_says_what_is_missing() -> None:
    said = json.loads(quote("a" * 5000 + "z" * 5000, 100))
    assert said == "a" * 50 + " … 9900 characters left out … " + "z" * 50
    assert json.loads(quote("a" * MAX_QUOTED)) == "a" * MAX_QUOTED
