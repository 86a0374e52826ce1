"""Faults on demand: what each of them does, to the byte and to the second."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from broker.core.settings import LimitSettings, Settings
from broker.protocol.errors import Reason
from services.sdk import ConnectionLost, Expired, NoRoute, PeerGone
from services.testing import Direction, Framing, TestMesh, virtual_time
from tests.testing.contracts import Work, begin
from tests.testing.worlds import Backend

Story = Callable[[TestMesh], Awaitable[None]]


def in_all_ways(story: Story) -> Callable[[Framing, Backend], None]:
    """Run a story over both framings, on both event loops, in virtual time."""

    @pytest.mark.parametrize("backend", ["trio", "asyncio"])
    @pytest.mark.parametrize("framing", ["stream", "websocket"])
    def run(framing: Framing, backend: Backend) -> None:
        async def main() -> None:
            # What would never end, ends after a day of virtual time.
            with anyio.fail_after(86_400):
                async with TestMesh(framing=framing) as mesh:
                    await story(mesh)

        anyio.run(main, backend=backend, backend_options=virtual_time(backend))

    run.__module__ = story.__module__
    return run


async def lost(mesh: Any) -> str:
    with pytest.raises(ConnectionLost) as caught:
        await mesh.wait_lost()
    return str(caught.value)


@in_all_ways
async def test_a_dropped_connection(mesh: TestMesh) -> None:
    work = Work()
    service, client = await mesh.run(work.service), await mesh.client()
    outcomes: list[Any] = []
    async with anyio.create_task_group() as tasks:
        begin(tasks, client.request("WAIT", group="work"), outcomes)
        await work.wait_begun()
        await mesh.drop(service)
        assert [member.group for member in mesh.services()] == ["tests"]
    assert outcomes == ["PEER_GONE"]
    work.finish.set()


@in_all_ways
async def test_a_client_that_was_dropped(mesh: TestMesh) -> None:
    first, second = await mesh.client(), await mesh.client()
    await mesh.drop(first)
    assert "hung up" in await lost(first)
    await mesh.drop(second, reset=True)
    assert "reset" in await lost(second)
    assert mesh.services() == []
    assert mesh.statistics().closed == {Reason.NO_REASON: 2}


@in_all_ways
async def test_death_at_the_nth_event(mesh: TestMesh) -> None:
    work = Work()
    service, client = await mesh.run(work.service), await mesh.client()
    victim = service.id
    mesh.kill_on_event(service, 3)
    for number in range(2):
        assert await client.request("ADD", [number], group="work") == number
    async with service.listen("*") as heard:
        with pytest.raises(PeerGone):
            await client.request("ADD", [2], group="work")
        assert (await heard.receive()).data == [2]
    with pytest.raises(NoRoute):
        await client.request("ADD", [3], to=victim)


@in_all_ways
async def test_death_among_events_that_come_together(mesh: TestMesh) -> None:
    """Not one more than asked for arrives, though all of them come in one piece."""
    receiver, sender = await mesh.client("far"), await mesh.client()
    mesh.kill_on_event(receiver, 5, event="COUNTED")
    async with receiver.listen("*") as heard:
        for number in range(20):
            name = "COUNTED" if number % 2 else "PASSED"
            await sender.emit(name, {"}": "}" * number}, to=receiver.id)
        names = [(await heard.receive()).data for _ in range(10)]
        assert names == [{"}": "}" * number} for number in range(10)]
        await mesh.settle()
        assert heard.received == 10


@in_all_ways
async def test_events_of_the_broker_do_not_count(mesh: TestMesh) -> None:
    watcher = await mesh.client()
    async with watcher.listen("$up") as told, watcher.listen("NEWS") as heard:
        await watcher.request("WATCH", to="$broker")
        victim = watcher.id
        mesh.kill_on_event(watcher)
        other = await mesh.client("other")
        assert (await told.receive()).name == "$up"
        for _ in range(2):
            await other.emit("NEWS", to=victim)
        assert (await heard.receive()).name == "NEWS"
        await mesh.settle()
        assert heard.received == 1
    assert mesh.statistics().closed == {Reason.NO_REASON: 1}


@in_all_ways
async def test_delay(mesh: TestMesh) -> None:
    work = Work()
    service, client = await mesh.run(work.service), await mesh.client()
    start = anyio.current_time()
    for member, direction in (
        (service, Direction.TO_BROKER),
        (service, Direction.FROM_BROKER),
        (client, Direction.BOTH),
    ):
        mesh.heal()
        mesh.delay(member, 2.0, direction)
        await client.request("ADD", [1], group="work")
        elapsed, start = anyio.current_time() - start, anyio.current_time()
        assert elapsed == pytest.approx(4.0 if direction is Direction.BOTH else 2.0)
    mesh.heal()
    await client.request("ADD", [1], group="work")
    assert anyio.current_time() == start


@in_all_ways
async def test_nothing_overtakes(mesh: TestMesh) -> None:
    sender, receiver = await mesh.client(), await mesh.client()
    async with receiver.listen("*") as heard:
        for number, seconds in enumerate((5.0, 1.0, 0.0)):
            mesh.delay(receiver, seconds)
            await sender.emit("COUNT", number, to=receiver.id)
            await mesh.settle()
        assert [(await heard.receive()).data for _ in range(3)] == [0, 1, 2]


@in_all_ways
async def test_too_late(mesh: TestMesh) -> None:
    work = Work()
    service, client = await mesh.run(work.service), await mesh.client()
    mesh.delay(service, 3.0, Direction.TO_BROKER)
    with pytest.raises(Expired):
        await client.request("ADD", [1], group="work", timeout=2)
    mesh.heal()
    assert await client.request("ADD", [2], group="work") == 2
    await anyio.sleep(2)
    assert mesh.statistics().late_replies == 1


@in_all_ways
async def test_partition(mesh: TestMesh) -> None:
    """What was sent meanwhile, either way, is there afterwards, and in order."""
    one, other = await mesh.client("one"), await mesh.client("other")
    async with one.listen("*") as at_one, other.listen("*") as at_other:
        mesh.partition(one)
        for number in range(3):
            await one.emit("OUT", number, group="other")
            await other.emit("IN", number, group="one")
        await mesh.settle()
        assert (at_one.received, at_other.received) == (0, 0)
        assert len(mesh.services()) == 2
        mesh.heal(one)
        assert [(await at_one.receive()).data for _ in range(3)] == [0, 1, 2]
        assert [(await at_other.receive()).data for _ in range(3)] == [0, 1, 2]


@in_all_ways
async def test_a_partition_that_lasts(mesh: TestMesh) -> None:
    work = Work()
    service, client = await mesh.run(work.service), await mesh.client()
    start = anyio.current_time()
    mesh.partition(service)
    with pytest.raises(PeerGone):
        await client.request("ADD", [1], group="work", timeout=600)
    assert 60 <= anyio.current_time() - start < 60.1
    assert mesh.statistics().closed == {Reason.PING_TIMEOUT: 1}
    assert "silent for 60 s" in await lost(service)


@in_all_ways
async def test_a_frozen_client_is_cut_by_the_heartbeat(mesh: TestMesh) -> None:
    client, frozen = await mesh.client(), await mesh.client("frozen")
    start = anyio.current_time()
    async with client.listen("$down") as gone:
        await client.request("WATCH", to="$broker")
        mesh.freeze(frozen)
        event = await gone.receive()
    assert (event.data["id"], event.data["reason"]) == (frozen.id, "PING_TIMEOUT")
    assert 60 <= anyio.current_time() - start < 60.1
    assert client.id in [member.id for member in mesh.services()]


@in_all_ways
async def test_a_freeze_that_ends_in_time(mesh: TestMesh) -> None:
    work = Work()
    service, client = await mesh.run(work.service), await mesh.client()
    mesh.freeze(service)
    outcomes: list[Any] = []
    async with anyio.create_task_group() as tasks:
        begin(tasks, client.request("ADD", [1], group="work"), outcomes)
        await anyio.sleep(20)
        assert outcomes == []
        mesh.heal(service)
    assert outcomes == [1]


@in_all_ways
async def test_a_frozen_client_sends_nothing_more(mesh: TestMesh) -> None:
    receiver, frozen = await mesh.client(), await mesh.client()
    async with receiver.listen("*") as heard:
        mesh.freeze(frozen)
        await frozen.emit("LATER", to=receiver.id)
        await mesh.settle()
        assert heard.received == 0
        mesh.heal()
        assert (await heard.receive()).name == "LATER"


@in_all_ways
async def test_a_silent_service(mesh: TestMesh) -> None:
    work = Work()
    await mesh.run(work.service)
    client = await mesh.client()
    start = anyio.current_time()
    with pytest.raises(Expired):
        await client.request("WAIT", group="work", timeout=30)
    assert 30 <= anyio.current_time() - start < 30.1
    work.finish.set()


@in_all_ways
async def test_dialing_during_a_fault(mesh: TestMesh) -> None:
    mesh.kill_broker()
    with pytest.raises(ConnectionLost, match="no broker is running"):
        await mesh.client()
    mesh.start_broker()
    assert (await mesh.client()).id


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_slow_consumer(backend: Backend) -> None:
    """The broker's own flow control: it holds back the sender, then cuts the receiver."""
    limits = LimitSettings(message_bytes=100_000, outbox_high_bytes=100_000, outbox_bytes=1_000_000)

    async def main() -> None:
        async with TestMesh(Settings(limits=limits)) as mesh:
            sender, receiver = await mesh.client(), await mesh.client("slow")
            start = anyio.current_time()
            mesh.freeze(receiver)
            while len(mesh.services("slow")):
                await sender.emit("MUCH", "x" * 10_000, to=receiver.id)
                await anyio.sleep(0.001)
            assert mesh.statistics().closed == {Reason.SLOW_CONSUMER: 1}
            assert anyio.current_time() - start < 10

    anyio.run(main, backend=backend, backend_options=virtual_time(backend))


@in_all_ways
async def test_what_cannot_be(mesh: TestMesh) -> None:
    client = await mesh.client()
    with pytest.raises(ValueError, match="zero or more"):
        mesh.delay(client, -1)
    with pytest.raises(ValueError, match="counted from 1"):
        mesh.kill_on_event(client, 0)
    await mesh.stop(client)
    with pytest.raises(ValueError, match="no member"):
        mesh.freeze(client)
