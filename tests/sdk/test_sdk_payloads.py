from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import attrs
import pytest
from msgspec import UNSET, Raw

from services.sdk import PayloadError
from services.sdk.payloads import dump, load


class Colour(Enum):
    RED = "red"


@attrs.frozen
class Line:
    name: str
    count: int = attrs.field(validator=attrs.validators.ge(1))
    colour: Colour = Colour.RED


@attrs.frozen
class Order:
    id: UUID
    lines: list[Line]
    at: datetime | None = None


ORDER = Order(UUID(int=7), [Line("tea", 2)], datetime(2026, 1, 2, tzinfo=UTC))


def test_round_trip() -> None:
    assert load(dump(ORDER), Order) == ORDER


def test_without_a_type() -> None:
    raw = dump(ORDER)
    assert load(raw)["lines"] == [{"name": "tea", "count": 2, "colour": "red"}]


def test_none_is_left_out_and_read_back() -> None:
    assert dump(None) is UNSET
    assert load(UNSET) is None
    assert load(UNSET, int | None) is None


@pytest.mark.parametrize(
    ("data", "kind", "problem"),
    [
        (b'{"id":"x","lines":[]}', Order, r"at `\$\.id`"),
        (b'{"lines":[]}', Order, "missing required field `id`"),
        (
            b'{"id":"00000000-0000-0000-0000-000000000007","lines":[{"name":"tea","count":"2"}]}',
            Order,
            r"Expected `int`, got `str` - at `\$\.lines\[0\]\.count`",
        ),
        (b'{"name":"tea","count":0}', Line, "'count' must be >= 1: 0"),
        (b'"7"', int, "Expected `int`, got `str`"),
        (b"null", int, "Expected `int`, got `null`"),
        (b"[1,2,null]", list[int], r"at `\$\[2\]`"),
    ],
)
def test_what_does_not_fit(data: bytes, kind: object, problem: str) -> None:
    with pytest.raises(PayloadError, match=problem):
        load(Raw(data), kind)


def nested() -> list[Any]:
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    return value


@pytest.mark.parametrize("value", [object(), {1, object()}, nested(), {(1, 2): 3}])
def test_what_has_no_form(value: object) -> None:
    with pytest.raises(PayloadError, match="not to be written as JSON"):
        dump(value)
