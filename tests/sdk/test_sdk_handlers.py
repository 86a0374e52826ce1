from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

from broker.protocol.codec import Envelope
from services.sdk import BadRequest, Event, Mesh
from services.sdk.handlers import Handler, HandlerFunction, check_async
from services.sdk.payloads import dump

if TYPE_CHECKING:
    from decimal import Decimal


@attrs.frozen
class Order:
    item: str


MESH = cast("Mesh", object())


def bind(function: HandlerFunction, data: object) -> dict[str, Any]:
    handler = Handler.from_function("E", function)
    return handler.bind(Event(Envelope(0, "1", "E", dump(data))), MESH)


async def takes_nothing() -> None: ...


async def takes_anything(data) -> None: ...  # type: ignore[no-untyped-def] # noqa: ANN001


async def takes_any(data: Any) -> None: ...


async def takes_order(order: Order) -> None: ...


async def takes_orders(orders: list[Order] | None) -> None: ...


async def takes_all(mesh: Mesh, order: Order, event: Event) -> None: ...


async def takes_by_keyword(*, order: Order) -> None: ...


ORDER = {"item": "tea"}


@pytest.mark.parametrize(
    ("function", "data", "arguments"),
    [
        (takes_nothing, ORDER, {}),
        (takes_anything, ORDER, {"data": ORDER}),
        (takes_any, ORDER, {"data": ORDER}),
        (takes_any, None, {"data": None}),
        (takes_order, ORDER, {"order": Order("tea")}),
        (takes_orders, [ORDER], {"orders": [Order("tea")]}),
        (takes_orders, None, {"orders": None}),
        (takes_by_keyword, ORDER, {"order": Order("tea")}),
    ],
)
def test_arguments(function: HandlerFunction, data: object, arguments: dict[str, Any]) -> None:
    assert bind(function, data) == arguments


def test_event_and_mesh_by_annotation() -> None:
    arguments = bind(takes_all, ORDER)
    assert arguments["order"] == Order("tea")
    assert arguments["mesh"] is MESH
    assert arguments["event"].name == "E"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "data: Expected `object`, got `null`"),
        ({"item": 7}, "data: Expected `str`, got `int`"),
        ({}, "data: Object missing required field `item`"),
    ],
)
def test_data_that_does_not_fit(data: object, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        bind(takes_order, data)


async def takes_two(first: Order, second: Order) -> None: ...


async def takes_rest(*rest: Order) -> None: ...


async def takes_options(**options: Order) -> None: ...


async def takes_by_position(order: Order, /) -> None: ...


async def takes_unknown(price: Decimal) -> None: ...


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (takes_two, "first and second cannot both be the data"),
        (takes_rest, "rest has no meaning"),
        (takes_options, "options has no meaning"),
        (takes_by_position, "positional only"),
        (takes_unknown, "'Decimal' is not defined.* at the top level"),
    ],
)
def test_no_handlers(function: HandlerFunction, problem: str) -> None:
    with pytest.raises(TypeError, match=f"{function.__name__}: .*{problem}"):
        Handler.from_function("E", function)


def test_a_plain_function_is_none() -> None:
    with pytest.raises(TypeError, match="is not an async function"):
        check_async(lambda data: data)
