"""A program of a user's, for the type checkers: `test_sdk_typing` has them read it.

What each line says of a type, they must say too.
"""

from __future__ import annotations

import ssl
from typing import Any, assert_type

import attrs

from services.sdk import (
    Change,
    Event,
    Mesh,
    Missing,
    Reply,
    Service,
    ServiceInfo,
    State,
    Tls,
    connect,
    connect_sync,
)


@attrs.frozen
class Order:
    item: str


@attrs.frozen
class Invoice:
    total: float


billing = Service("billing")


@billing.on("INVOICE_CREATE")
async def create_invoice(order: Order, event: Event, mesh: Mesh) -> Invoice:
    assert_type(event.parse(Order), Order)
    assert_type(event.timeout, float | None)
    return Invoice(len(order.item))


async def call_it_directly(event: Event, mesh: Mesh) -> None:
    """A handler stays the function that it was."""
    assert_type(await create_invoice(Order("tea"), event, mesh), Invoice)


async def ask() -> None:
    async with connect("wss://broker", group="web", token="t", tls=Tls(ca="ca.pem")) as mesh:
        assert_type(mesh, Mesh)
        invoice = await mesh.request(
            "INVOICE_CREATE", Order("tea"), group="billing", returns=Invoice, timeout=2
        )
        assert_type(invoice, Invoice)
        assert_type(await mesh.request("PRICES", to="abc", returns=list[int]), list[int])
        assert_type(await mesh.request("PRICES", group="billing"), Any)
        assert_type(await mesh.emit("NEWS", {"id": 7}, group="web", pick="ONE"), str)
        async with mesh.gather("STATS", group="billing", returns=Invoice) as replies:
            async for reply in replies:
                assert_type(reply, Reply[Invoice])
                assert_type(reply.data, Invoice)
        assert_type(replies.missing, tuple[Missing, ...])
        async with mesh.listen("USER_*") as events:
            async for event in events:
                assert_type(event, Event)
        async with mesh.watch() as changes:
            async for change in changes:
                assert_type(change, Change)
        assert_type(await mesh.services(), list[ServiceInfo])
        assert_type(mesh.state, State)


async def serve() -> None:
    context = ssl.create_default_context()
    async with billing.serve("tls://broker", token="t", tls=context, concurrency=5) as mesh:
        assert_type(mesh, Mesh)


def ask_without_a_loop() -> None:
    with connect_sync("ws://broker", group="web", token="t", timeout=5) as mesh:
        invoice = mesh.request("INVOICE_CREATE", Order("tea"), group="billing", returns=Invoice)
        assert_type(invoice, Invoice)
        assert_type(mesh.request("PRICES", group="billing"), Any)
        assert_type(mesh.emit("NEWS", to=mesh.id), str)
        with mesh.gather("STATS", returns=Invoice) as replies:
            for reply in replies:
                assert_type(reply.data, Invoice)
        assert_type(replies.missing, tuple[Missing, ...])
        with mesh.listen("*", timeout=1) as events:
            for event in events:
                assert_type(event, Event)
            assert_type(events.receive(timeout=1), Event)
        with mesh.watch() as changes:
            for change in changes:
                assert_type(change, Change)
        assert_type(mesh.services(), list[ServiceInfo])
