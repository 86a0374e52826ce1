"""JSON from strangers."""

from __future__ import annotations

import pytest

from services.gateways.json_text import NotJsonError, is_unicode, read_json, write_json
from tests.gateways.hostile import NOT_JSON


@pytest.mark.parametrize("case", NOT_JSON)
def test_what_is_no_json_is_one_error(case: str) -> None:
    with pytest.raises(NotJsonError):
        read_json(NOT_JSON[case])


def test_what_is_written_can_be_read_and_is_ascii() -> None:
    value = {"a": ["\ud800", "\u05d0", 1, None, True]}
    assert write_json(value).isascii()
    assert read_json(write_json(value)) == value


def test_half_a_surrogate_pair_is_no_unicode() -> None:
    assert is_unicode("\U0001f600 \u0000")
    assert not is_unicode("a\udc00")
