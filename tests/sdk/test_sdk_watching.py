"""Who is there, and who comes and goes: with the real broker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio

from broker.protocol.frames import Frame, OpCode
from services.sdk import (
    ConnectionLost,
    Down,
    ListenerOverflow,
    Mesh,
    PayloadError,
    ServiceInfo,
    Snapshot,
    Up,
    Watch,
)
from tests.sdk.real_broker import broker, join
from tests.sdk.scripted import ScriptedBroker


async def first(changes: Watch) -> dict[str, ServiceInfo]:
    change = await changes.receive()
    assert isinstance(change, Snapshot)
    return {service.id: service for service in change.services}


async def is_watching(mesh: Mesh) -> bool:
    """Ask the broker; whoever asks does not watch any more afterwards."""
    return bool((await mesh.request("UNWATCH", to="$broker"))["watched"])


async def test_services() -> None:
    async with (
        broker() as server,
        join(server, "billing", name="left", meta={"region": "eu"}, concurrency=5) as billing,
        join(server) as mesh,
    ):
        services = {service.id: service for service in await mesh.services()}
        assert services.keys() == {billing.id, mesh.id}
        found = services[billing.id]
        assert found == ServiceInfo(
            id=billing.id,
            group="billing",
            name="left",
            meta={"region": "eu"},
            since=found.since,
            in_flight=0,
            concurrency=5,
        )
        assert abs(datetime.now(UTC) - found.since) < timedelta(hours=1)
        assert await billing.whoami() == found
        assert (await mesh.whoami()).name is None


async def test_first_who_is_there_and_then_every_change() -> None:
    async with broker() as server, join(server) as mesh, mesh.watch() as changes:
        assert (await first(changes)).keys() == {mesh.id}
        async with join(server, "billing", name="left") as billing:
            change = await changes.receive()
            assert isinstance(change, Up)
            assert (change.service.id, change.service.name) == (billing.id, "left")
        assert await changes.receive() == Down(change.service, "NO_REASON")


async def test_two_watches_see_the_same_and_the_last_one_ends_it() -> None:
    async with broker() as server, join(server) as mesh:
        async with mesh.watch() as one:
            async with join(server, "early") as early, mesh.watch() as other:
                assert (await first(one)).keys() == {mesh.id}
                assert (await first(other)).keys() == {mesh.id, early.id}
                async with join(server, "late") as late:
                    up = await other.receive()
                    assert isinstance(up, Up)
                    assert up.service.id == late.id
            # The other one has been left; this one goes on.
            seen = [type(await one.receive()).__name__ for _ in range(4)]
            assert seen == ["Up", "Up", "Down", "Down"]
        assert not await is_watching(mesh)
        async with mesh.watch() as again:
            assert (await first(again)).keys() == {mesh.id}
            assert await is_watching(mesh)


async def test_no_gap_and_nothing_twice() -> None:
    """A watch that begins amid much coming and going sees each of them come or go once."""
    async with broker() as server, join(server) as mesh:

        async def come_and_go() -> None:
            for number in range(10):
                async with join(server, f"group-{number}"):
                    pass

        for _ in range(5):
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(come_and_go)
                async with mesh.watch() as changes:
                    known = await first(changes)
                    async with join(server, "last") as last:
                        while last.id not in known:
                            match await changes.receive():
                                case Up(service):
                                    assert service.id not in known
                                    known[service.id] = service
                                case Down(service):
                                    del known[service.id]


async def test_a_watch_that_is_too_slow() -> None:
    async with broker() as server, join(server) as mesh, mesh.watch(buffer=2) as changes:
        for _ in range(2):
            async with join(server, "billing"):
                pass
        # The answer comes behind the changes.
        await mesh.services()
        assert isinstance(await changes.receive(), Snapshot)
        assert isinstance(await changes.receive(), Up)
        with pytest.raises(ListenerOverflow, match="the watch was 2 events behind"):
            await changes.receive()
        # It was the only one, so the broker need not go on telling.
        assert not await is_watching(mesh)


async def test_giving_up_while_it_begins() -> None:
    async with broker() as server, join(server) as mesh:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with mesh.watch():
                raise AssertionError("entered")
        assert not await is_watching(mesh)
        assert mesh.statistics().pending == 0


async def test_the_broker_goes() -> None:
    async with broker() as server, join(server) as mesh, mesh.watch() as changes:
        await first(changes)
        server.stop()
        with pytest.raises(ConnectionLost):
            await changes.receive()
        with pytest.raises(ConnectionLost):
            await mesh.services()
        with pytest.raises(ConnectionLost):
            async with mesh.watch():
                raise AssertionError("entered")


async def test_the_broker_s_own_events_are_for_those_who_ask_for_them() -> None:
    async with (
        broker() as server,
        join(server) as mesh,
        mesh.listen("*") as everything,
        mesh.listen("$*") as own,
        mesh.watch() as changes,
    ):
        async with join(server, "billing") as billing:
            await billing.emit("NEWS", to=mesh.id)
            assert (await everything.receive()).name == "NEWS"
            assert (await own.receive()).name == "$up"
        await changes.receive()
        assert mesh.statistics().ignored_events == 0


async def test_an_answer_that_makes_no_sense() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh, trio.open_nursery() as nursery:

            async def play() -> None:
                asked = await scripted.receive_until(OpCode.EVENT)
                scripted.send(Frame(op=OpCode.REPLY, id=asked.id, data={"services": 7}))

            nursery.start_soon(play)
            async with mesh.watch() as changes:
                with pytest.raises(PayloadError, match="services"):
                    await changes.receive()
