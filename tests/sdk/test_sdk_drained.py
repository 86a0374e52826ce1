"""A service that an operator drains: it ends what it has in hand, and does not come back."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from broker.core.access_settings import PermissionSettings
from broker.core.authentication import hash_token
from broker.core.draining import DRAINED
from broker.core.settings import Settings, TokenSettings
from services.sdk import Backoff, Disconnected, Draining, Service
from services.testing import TestMesh

OPERATOR = TokenSettings(hash_token("operator"), permissions=PermissionSettings(drain=True))


async def test_a_drained_service_ends_its_requests_and_stays_away(
    autojump_clock: MockClock,
) -> None:
    billing = Service("billing")
    proceed = trio.Event()

    @billing.on("INVOICE")
    async def invoice() -> str:
        await proceed.wait()
        return "done"

    async with TestMesh(Settings(tokens=(OPERATOR,))) as mesh:
        service = await mesh.run(billing, reconnect=Backoff())
        client = await mesh.client("web")
        operator = await mesh.client("operators", token="operator")
        answers: list[str] = []

        async def ask() -> None:
            answers.append(await client.request("INVOICE", group="billing", returns=str))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await mesh.settle()
            assert await operator.request("DRAIN", {"group": "billing"}, to="$broker") == {
                "draining": 1
            }
            with pytest.raises(Draining):
                await client.request("INVOICE", group="billing")
            await trio.sleep(1)
            assert len(mesh.services("billing")) == 1
            proceed.set()
        assert answers == ["done"]
        with pytest.raises(Disconnected) as caught:
            await service.wait_closed()
        assert (caught.value.reason, caught.value.message) == ("NO_REASON", DRAINED)
        await trio.sleep(600)
        assert mesh.services("billing") == []


async def test_a_drained_broker_lets_its_clients_come_back(autojump_clock: MockClock) -> None:
    async with TestMesh(Settings(tokens=(OPERATOR,))) as mesh:
        operator = await mesh.client("operators", token="operator", reconnect=Backoff())
        await operator.request("DRAIN", {"broker": True}, to="$broker")
        await trio.sleep(30)
        assert mesh.services() == []
        mesh.start_broker()
        await trio.sleep(60)
        assert [service.group for service in mesh.services()] == ["operators"]
