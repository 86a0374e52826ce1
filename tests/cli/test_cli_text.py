"""Text from the wire does nothing to a terminal, and stays JSON where it was JSON."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.text import compact_json, plain, pretty_json
from tests.cli.commands import HOSTILE

TEXTS = st.text(st.characters(codec="utf-8"))


@pytest.mark.parametrize("text", ["", "billing", "a b", "Grüße", "請求書", "[bold]x[/]", "\\u001b"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "\\u001b[31m"),
        ("a\nb", "a\\u000ab"),
        ("\x9b2J", "\\u009b2J"),
        ("\u202etxt", "\\u202etxt"),
        ("\u2066a\u2069", "\\u2066a\\u2069"),
        ("a\u200bb", "a\\u200bb"),
        ("a\u2028b", "a\\u2028b"),
        ("\U000e0041", "\\udb40\\udc41"),
        ("\x7f", "\\u007f"),
    ],
)
def test_what_is_not_printable_becomes_an_escape(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(TEXTS)
def test_nothing_unprintable_is_left(text: str) -> None:
    assert plain(text).isprintable()


@given(st.recursive(st.none() | st.integers(-(2**53), 2**53) | TEXTS, st.lists, max_leaves=5))
def test_json_means_the_same_afterwards(value: object) -> None:
    data = msgspec.json.encode(value)
    assert json.loads(compact_json(data)) == value
    assert json.loads(pretty_json(data)) == value
    assert compact_json(data).isprintable()
    assert all(line.isprintable() for line in pretty_json(data).split("\n"))


def test_json_keeps_numbers_doubled_keys_and_order() -> None:
    data = b'{"b": 1.000, "a": 1e999,\r\n "b": 12345678901234567890123}'
    assert compact_json(data) == '{"b":1.000,"a":1e999,"b":12345678901234567890123}'


def test_a_hostile_text_in_json_is_harmless() -> None:
    shown = compact_json(json.dumps({"x": HOSTILE}, ensure_ascii=False).encode())
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert json.loads(shown) == {"x": HOSTILE}
