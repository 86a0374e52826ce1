"""How to test a service: `pytest examples/test_service.py`.

The broker is the real one, in memory. The clock is trio's `MockClock`: half a minute passes in no
time. docs/testing.md tells the whole story.
"""

import anyio
import pytest
from trio.testing import MockClock

from examples.service import Invoice, Order, billing
from services.sdk import BadRequest, Expired, PeerGone, Service
from services.testing import TestMesh

pytestmark = pytest.mark.trio


async def test_an_invoice(switchboard_mesh: TestMesh) -> None:
    await switchboard_mesh.run(billing)
    client = await switchboard_mesh.client(group="web")
    invoice = await client.request(
        "INVOICE_CREATE", Order("tea", 3), group="billing", returns=Invoice
    )
    assert invoice == Invoice("3 x tea", 28.5)


async def test_an_order_of_nothing(switchboard_mesh: TestMesh) -> None:
    await switchboard_mesh.run(billing)
    client = await switchboard_mesh.client(group="web")
    with pytest.raises(BadRequest, match="count"):
        await client.request("INVOICE_CREATE", {"item": "tea", "count": 0}, group="billing")


async def test_the_service_dies_at_work(switchboard_mesh: TestMesh) -> None:
    service = await switchboard_mesh.run(billing)
    client = await switchboard_mesh.client(group="web")
    switchboard_mesh.kill_on_event(service, event="INVOICE_CREATE")
    with pytest.raises(PeerGone):
        await client.request("INVOICE_CREATE", Order("tea", 3), group="billing")


async def test_a_silent_service(autojump_clock: MockClock, switchboard_mesh: TestMesh) -> None:
    silent = Service("billing")

    @silent.on("INVOICE_CREATE")
    async def say_nothing() -> None:
        await anyio.sleep_forever()

    await switchboard_mesh.run(silent)
    client = await switchboard_mesh.client(group="web")
    with pytest.raises(Expired):
        await client.request("INVOICE_CREATE", Order("tea", 3), group="billing", timeout=30)
    assert 30 <= autojump_clock.current_time() < 31
