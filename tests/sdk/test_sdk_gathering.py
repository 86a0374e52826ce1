"""One question to many: with the real broker, and with one that says what a test tells it to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest
import trio

from broker.protocol.frames import Error, Frame, Intent, OpCode, Source, Target
from broker.server import Server
from services.sdk import (
    ConnectionLost,
    Expired,
    InvalidReply,
    Mesh,
    MeshClosed,
    NoRoute,
    Overloaded,
    PayloadError,
    PeerGone,
    Service,
    ServiceError,
)
from tests.sdk.loops import on_both_loops, on_trio
from tests.sdk.real_broker import TOKEN, broker, join
from tests.sdk.scripted import ScriptedBroker, reply

BROKER = Source("$broker", "$broker")


class Shard:
    """A member of the group `shards` that does what it is told."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.begun = trio.Event()
        self.cancelled = trio.Event()
        self.service = Service("shards")
        self.service.on("STATS")(self.stats)
        self.service.on("HANG")(self.hang)
        self.service.on("TAKE_TURNS")(self.take_turns)

    async def stats(self, add: int | None) -> int:
        return self.number + (add or 0)

    async def hang(self) -> None:
        self.begun.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()

    async def take_turns(self) -> int:
        match self.number:
            case 0:
                return 0
            case 1:
                raise ServiceError("TIRED", "not today")
            case _:
                await self.hang()
                raise AssertionError("it hangs")


@asynccontextmanager
async def shards(server: Server, count: int) -> AsyncIterator[tuple[list[Shard], list[Mesh]]]:
    async with AsyncExitStack() as stack:
        members = [Shard(number) for number in range(count)]
        meshes = [
            await stack.enter_async_context(
                member.service.serve(server.addresses[0], token=TOKEN, grace=0)
            )
            for member in members
        ]
        yield members, meshes


async def test_all_answer() -> None:
    async with broker() as server, shards(server, 5) as (_, members), join(server) as mesh:
        async with mesh.gather("STATS", 10, group="shards", timeout=20) as replies:
            assert {source.id for source in replies.members} == {one.id for one in members}
            assert len(replies.waiting) == 5
            answers = {reply.source.id: reply.data async for reply in replies}
        assert answers == {one.id: 10 + number for number, one in enumerate(members)}
        assert [*replies.missing, *replies.waiting] == []
        assert mesh.statistics().pending == 0


async def test_who_is_lost_is_named_with_the_reason() -> None:
    async with (
        broker() as server,
        join(server) as mesh,
        shards(server, 2) as (_, members),
        AsyncExitStack() as leaving,
    ):
        third = Shard(2)
        url = server.addresses[0]
        lost = await leaving.enter_async_context(third.service.serve(url, token=TOKEN, grace=0))
        async with mesh.gather("TAKE_TURNS", group="shards", timeout=20, returns=int) as replies:
            assert (await anext(replies)).data == 0
            await third.begun.wait()
            await leaving.aclose()
            assert [reply async for reply in replies] == []
        missing = {one.source.id: one for one in replies.missing}
        assert {id: one.code for id, one in missing.items()} == {
            members[1].id: "TIRED",
            lost.id: "PEER_GONE",
        }
        last = missing[lost.id]
        assert isinstance(last.error, PeerGone)
        assert str(last) == f"shards {lost.id}: PEER_GONE"
        assert "TAKE_TURNS to group shards" in str(last.error)


async def test_who_is_too_slow_is_named() -> None:
    async with broker() as server, shards(server, 2) as (workers, _), join(server) as mesh:
        async with mesh.gather("HANG", group="shards", timeout=0.05) as replies:
            assert [reply async for reply in replies] == []
        assert [one.code for one in replies.missing] == ["EXPIRED", "EXPIRED"]
        for worker in workers:
            await worker.cancelled.wait()


async def test_leaving_early_lets_the_others_stop() -> None:
    async with broker() as server, shards(server, 3) as (workers, _), join(server) as mesh:
        async with mesh.gather("TAKE_TURNS", group="shards", timeout=20) as replies:
            await workers[2].begun.wait()
            async for answer in replies:
                assert answer.data == 0
                break
        await workers[2].cancelled.wait()
        assert len(replies.waiting) == 1
        assert mesh.statistics().pending == 0
        with pytest.raises(MeshClosed, match="this gather was left"):
            async for _ in replies:
                pass


async def test_a_cancelled_gather_lets_all_stop() -> None:
    async with broker() as server, shards(server, 2) as (workers, _), join(server) as mesh:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                async with mesh.gather("HANG", group="shards") as replies:
                    async for _ in replies:
                        raise AssertionError("they hang")

            nursery.start_soon(ask)
            for worker in workers:
                await worker.begun.wait()
            nursery.cancel_scope.cancel()
        for worker in workers:
            await worker.cancelled.wait()


async def test_everyone_is_asked_where_there_is_no_group() -> None:
    async with (
        broker() as server,
        shards(server, 2) as (_, members),
        join(server, "other", echo=False) as mesh,
        join(server) as silent,
    ):
        async with mesh.gather("STATS", timeout=20) as replies:
            assert sorted([reply.data async for reply in replies]) == [0, 1]
        assert {one.id for one in replies.members} == {*(one.id for one in members), silent.id}
        # Who has no handler for it says so.
        assert [(one.source.id, one.code) for one in replies.missing] == [
            (silent.id, "UNKNOWN_EVENT")
        ]


async def test_an_answer_that_is_not_as_asked_for() -> None:
    async with broker() as server, shards(server, 1), join(server) as mesh:
        async with mesh.gather("STATS", group="shards", returns=list[str]) as replies:
            assert [reply async for reply in replies] == []
        (missing,) = replies.missing
        assert missing.code == "INVALID_REPLY"
        assert isinstance(missing.error, InvalidReply)


async def test_nobody_there() -> None:
    async with broker() as server, join(server) as mesh:
        with pytest.raises(NoRoute, match="STATS to group shards"):
            async with mesh.gather("STATS", group="shards"):
                raise AssertionError("entered")
        assert mesh.statistics().pending == 0


async def test_the_broker_is_lost_in_the_middle() -> None:
    async with (
        broker() as server,
        shards(server, 3) as (workers, _),
        join(server) as mesh,
        mesh.gather("TAKE_TURNS", group="shards", timeout=20) as replies,
    ):
        await workers[2].begun.wait()
        assert (await anext(replies)).data == 0
        server.stop()
        with pytest.raises(ConnectionLost) as caught:
            await anext(replies)
        assert "TAKE_TURNS to group shards" in caught.value.__notes__[0]
        assert caught.value.may_have_arrived
        # Asked again, it says so again.
        with pytest.raises(ConnectionLost):
            await anext(replies)


async def test_many_at_a_time() -> None:
    async with broker() as server, shards(server, 4), join(server) as mesh:
        results: list[int] = []

        async def ask(number: int) -> None:
            async with mesh.gather("STATS", number, group="shards", timeout=20) as replies:
                results.extend([reply.data async for reply in replies])

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(ask, 10 * number)
        assert sorted(results) == [10 * number + one for number in range(100) for one in range(4)]


# A broker that says what no good one says.


def expect(asked: Frame, *members: str) -> Frame:
    data = {"members": [{"id": member, "group": "shards"} for member in members]}
    return Frame(op=OpCode.REPLY, id=asked.id, event="$expect", data=data, source=BROKER)


def answer(asked: Frame, member: str, data: object = None) -> Frame:
    source = Source(member, "shards")
    return Frame(op=OpCode.REPLY, id=asked.id, event=asked.event, data=data, source=source)


@on_trio
async def test_what_a_gather_says() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh, anyio.create_task_group() as tasks:

            async def ask() -> None:
                async with mesh.gather("STATS", {"a": 1}, group="shards", timeout=1.5):
                    pass

            tasks.start_soon(ask)
            asked = await scripted.receive_until(OpCode.EVENT)
            assert asked.intent == Intent(Target.GROUP, "shards")
            assert (asked.event, asked.data, asked.timeout) == ("STATS", {"a": 1}, 1500)
            scripted.send(expect(asked, "one"))
            taken_back = await scripted.receive_until(OpCode.EVENT)
            assert (taken_back.event, taken_back.id) == ("$cancel", asked.id)
            assert taken_back.intent is None


@on_trio
async def test_it_ends_by_itself_when_even_the_broker_is_silent() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh, anyio.create_task_group() as tasks:
            codes: list[str] = []

            async def ask() -> None:
                async with mesh.gather("STATS", group="shards", timeout=1.5) as replies:
                    assert [reply.data async for reply in replies] == [7]
                codes.extend(f"{one.source.id} {one.code}" for one in replies.missing)

            tasks.start_soon(ask)
            asked = await scripted.receive_until(OpCode.EVENT)
            before = anyio.current_time()
            scripted.send(expect(asked, "one", "two", "three"), answer(asked, "two", 7))
            taken_back = await scripted.receive_until(OpCode.EVENT)
            assert taken_back.event == "$cancel"
            assert anyio.current_time() - before == 2.0
        assert codes == ["one EXPIRED", "three EXPIRED"]


@on_trio
async def test_it_is_not_entered_when_the_broker_says_nothing() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh:
            before = anyio.current_time()
            with pytest.raises(Expired, match="no word from the broker"):
                async with mesh.gather("STATS", group="shards", timeout=1.5):
                    raise AssertionError("entered")
            assert anyio.current_time() - before == 2.0
            assert mesh.statistics().pending == 0


@on_both_loops
async def test_a_refusal() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh, anyio.create_task_group() as tasks:

            async def refuse() -> None:
                asked = await scripted.receive_until(OpCode.EVENT)
                error = Error("OVERLOADED", "too many requests")
                scripted.send(Frame(op=OpCode.REPLY, id=asked.id, error=error, source=BROKER))

            tasks.start_soon(refuse)
            with pytest.raises(Overloaded, match="too many requests"):
                async with mesh.gather("STATS"):
                    raise AssertionError("entered")
        # It is over, so there is nothing to take back.
        assert (await scripted.receive()).op is OpCode.DISCONNECT


@on_both_loops
async def test_what_does_not_belong_is_passed_over() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh, anyio.create_task_group() as tasks:

            async def play() -> None:
                asked = await scripted.receive_until(OpCode.EVENT)
                scripted.send(
                    expect(asked, "one", "two"),
                    answer(asked, "stranger", 1),
                    reply(asked, 2),
                    Frame(op=OpCode.REPLY, id=asked.id, data=3),
                    answer(asked, "one", 4),
                    answer(asked, "one", 5),
                    answer(asked, "two", 6),
                    answer(asked, "two", 7),
                )

            tasks.start_soon(play)
            async with mesh.gather("STATS") as replies:
                assert [reply.data async for reply in replies] == [4, 6]
            assert mesh.statistics().late_replies == 1


@pytest.mark.parametrize("data", [{}, {"members": 7}, {"members": [{"id": "a"}]}, None])
async def test_nonsense_in_the_place_of_a_list(data: object) -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh, trio.open_nursery() as nursery:

            async def play() -> None:
                asked = await scripted.receive_until(OpCode.EVENT)
                scripted.send(
                    Frame(op=OpCode.REPLY, id=asked.id, event="$expect", data=data, source=BROKER)
                )

            nursery.start_soon(play)
            with pytest.raises(InvalidReply, match="did not say whom it asked"):
                async with mesh.gather("STATS"):
                    raise AssertionError("entered")


@on_both_loops
async def test_it_is_entered_once() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh, anyio.create_task_group() as tasks:

            async def play() -> None:
                scripted.send(expect(await scripted.receive_until(OpCode.EVENT), "one"))

            tasks.start_soon(play)
            async with mesh.gather("STATS") as replies:
                with pytest.raises(RuntimeError, match="entered once"):
                    await replies.__aenter__()


@on_both_loops
async def test_what_makes_no_sense_is_told_at_once() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh:
            with pytest.raises(ValueError, match="timeout"):
                mesh.gather("STATS", timeout=0)
            with pytest.raises(PayloadError):
                mesh.gather("STATS", object())
            with pytest.raises(ValueError, match="event"):
                mesh.gather("")
