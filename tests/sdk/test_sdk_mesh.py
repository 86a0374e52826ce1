"""What a client sends, asks and hears."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import attrs
import pytest

from broker.protocol.frames import Error, Frame, Intent, OpCode, Pick, Target
from services.sdk import (
    Expired,
    InvalidReply,
    Mesh,
    MeshError,
    MessageTooBig,
    NoRoute,
    PayloadError,
    RequestError,
    ServiceError,
)
from services.sdk.outbox import HIGH_BYTES
from tests.sdk.loops import on_both_loops, on_trio, run_on_trio
from tests.sdk.scripted import MESH_ID, PEER, ScriptedBroker, event, reply, request


@attrs.frozen
class Invoice:
    total: int


async def answer(broker: ScriptedBroker, how: Callable[[Frame], Frame], count: int = 1) -> None:
    for _ in range(count):
        asked = await broker.receive_until(OpCode.EVENT)
        broker.send(how(asked))


# Emitting.


@pytest.mark.parametrize(
    ("arguments", "intent"),
    [
        ({}, Intent(Target.GLOBAL)),
        ({"group": "a"}, Intent(Target.GROUP, "a")),
        ({"group": "a", "pick": "ONE"}, Intent(Target.GROUP, "a", pick=Pick.ONE)),
        ({"group": "a", "key": "k"}, Intent(Target.GROUP, "a", pick=Pick.ONE, key="k")),
        ({"to": "b"}, Intent(Target.DIRECT, "b")),
    ],
)
def test_emit(arguments: dict[str, Any], intent: Intent) -> None:
    async def run() -> None:
        with ScriptedBroker() as broker:
            async with broker.connect() as mesh:
                made = await mesh.emit("NEWS", {"x": [1, None]}, **arguments)
                frame = await broker.receive_until(OpCode.EVENT)
                assert frame == Frame(
                    op=OpCode.EVENT, id=made, event="NEWS", data={"x": [1, None]}, intent=intent
                )

    run_on_trio(run)


@on_both_loops
async def test_emit_under_an_id_of_one_s_own() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh:
            assert await mesh.emit("NEWS", id="7") == "7"
            assert (await broker.receive_until(OpCode.EVENT)).id == "7"


@on_both_loops
async def test_ids_differ() -> None:
    with ScriptedBroker() as one, ScriptedBroker() as other:
        async with one.connect() as left, other.connect() as right:
            ids = [await mesh.emit("NEWS") for mesh in (left, left, right, right)]
    assert len(set(ids)) == 4
    assert all(len(made) <= 64 for made in ids)


@on_both_loops
async def test_all_that_is_emitted_in_a_row_is_written_at_once() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh:
            await anyio.wait_all_tasks_blocked()
            writes = broker.stream.sends
            for number in range(100):
                await mesh.emit("NEWS", number)
            await anyio.wait_all_tasks_blocked()
            assert broker.stream.sends == writes + 1
            received = [(await broker.receive_until(OpCode.EVENT)).data for _ in range(100)]
            assert received == list(range(100))


@on_both_loops
async def test_emitting_waits_while_too_much_is_on_its_way() -> None:
    emitted = 0
    with ScriptedBroker(message_bytes=2**20, room=1) as broker:
        async with broker.connect() as mesh, anyio.create_task_group() as tasks:

            async def flood() -> None:
                nonlocal emitted
                while True:
                    await mesh.emit("NEWS", "x" * 2**16)
                    emitted += 1

            tasks.start_soon(flood)
            await anyio.wait_all_tasks_blocked()
            before = emitted
            assert HIGH_BYTES < mesh.statistics().unsent < HIGH_BYTES + 2**17
            for _ in range(before):
                await broker.receive_until(OpCode.EVENT)
            await anyio.wait_all_tasks_blocked()
            assert emitted > before
            tasks.cancel_scope.cancel()
            broker.close()


@on_both_loops
async def test_a_message_that_is_too_big_is_not_sent() -> None:
    with ScriptedBroker(message_bytes=1000) as broker:
        async with broker.connect() as mesh:
            with pytest.raises(MessageTooBig, match="the broker takes at most 1000"):
                await mesh.emit("NEWS", "x" * 1000)
            with pytest.raises(MessageTooBig):
                await mesh.request("NEWS", "x" * 1000, group="a")
            await mesh.emit("SMALL")
            assert (await broker.receive_until(OpCode.EVENT)).event == "SMALL"
            assert mesh.statistics().pending == 0


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda mesh: mesh.emit(""), ValueError),
        (lambda mesh: mesh.emit("E" * 129), ValueError),
        (lambda mesh: mesh.emit("E", id=""), ValueError),
        (lambda mesh: mesh.emit("E", id="i" * 65), ValueError),
        (lambda mesh: mesh.emit("E", group="a", to="b"), ValueError),
        (lambda mesh: mesh.emit("E", object()), PayloadError),
        (lambda mesh: mesh.request("E"), ValueError),
        (lambda mesh: mesh.request("E", group="a", to="b"), ValueError),
        (lambda mesh: mesh.request("E", group="a", timeout=0), ValueError),
        (lambda mesh: mesh.request("E", object(), group="a"), PayloadError),
        (lambda mesh: mesh.send(Frame(op=OpCode.EVENT, data=object())), PayloadError),
    ],
)
def test_what_makes_no_sense_is_told_at_once(
    call: Callable[[Mesh], Awaitable[object]], error: type[Exception]
) -> None:
    async def run() -> None:
        with ScriptedBroker() as broker:
            async with broker.connect() as mesh:
                with pytest.raises(error):
                    await call(mesh)
                assert mesh.statistics().sent == 0

    run_on_trio(run)


@on_both_loops
async def test_an_emit_that_reached_nobody_is_reported() -> None:
    errors: list[MeshError] = []
    with ScriptedBroker() as broker:
        async with broker.connect(on_error=errors.append) as mesh:
            made = await mesh.emit("NEWS", group="nobody")
            asked = await broker.receive_until(OpCode.EVENT)
            broker.send(reply(asked, error=Error("NO_ROUTE", "there is no member")))
            await anyio.wait_all_tasks_blocked()
            (error,) = errors
            assert isinstance(error, NoRoute)
            assert str(error) == (f"NEWS to group nobody (id {made}): NO_ROUTE: there is no member")
            assert mesh.statistics().failed_emits == 1


def test_without_a_callback_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        with ScriptedBroker() as broker:
            async with broker.connect() as mesh:
                await mesh.emit("NEWS", group="nobody")
                asked = await broker.receive_until(OpCode.EVENT)
                broker.send(reply(asked, error=Error("NO_ROUTE", "there is no member")))
                await anyio.wait_all_tasks_blocked()

    with caplog.at_level(logging.WARNING):
        run_on_trio(run)
    (record,) = caplog.records
    assert "NEWS to group nobody" in record.getMessage()
    assert record.name.startswith("services.sdk")


def test_a_callback_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail(error: MeshError) -> None:
        raise KeyError("mine")

    async def run() -> None:
        with ScriptedBroker() as broker:
            async with broker.connect(on_error=fail) as mesh:
                await mesh.emit("NEWS", group="nobody")
                asked = await broker.receive_until(OpCode.EVENT)
                broker.send(reply(asked, error=Error("NO_ROUTE", "")))
                await anyio.wait_all_tasks_blocked()
                await mesh.emit("STILL_THERE")

    run_on_trio(run)
    (record,) = caplog.records
    assert "the on_error callback failed" in record.getMessage()


# Requests.


@on_both_loops
async def test_a_request_and_its_reply() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, anyio.create_task_group() as tasks:
            tasks.start_soon(answer, broker, lambda asked: reply(asked, asked.data * 2))
            assert await mesh.request("DOUBLE", 21, group="maths", timeout=1.5) == 42
            assert mesh.statistics().pending == 0


@on_both_loops
async def test_what_a_request_says() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, anyio.create_task_group() as tasks:
            seen: list[Frame] = []

            def note(asked: Frame) -> Frame:
                seen.append(asked)
                return reply(asked)

            tasks.start_soon(answer, broker, note, 3)
            assert await mesh.request("A", group="maths", timeout=1.5) is None
            assert await mesh.request("B", to="b") is None
            assert await mesh.request("C", group="maths", key="k") is None
            assert [(frame.intent, frame.timeout) for frame in seen] == [
                (Intent(Target.GROUP, "maths", pick=Pick.ONE), 1500),
                (Intent(Target.DIRECT, "b"), 30_000),
                (Intent(Target.GROUP, "maths", pick=Pick.ONE, key="k"), 30_000),
            ]


@on_both_loops
async def test_replies_in_another_order() -> None:
    results: dict[int, int] = {}
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, anyio.create_task_group() as tasks:

            async def ask(number: int) -> None:
                results[number] = await mesh.request("ECHO", number, group="a", returns=int)

            for number in range(50):
                tasks.start_soon(ask, number)
            asked = [await broker.receive_until(OpCode.EVENT) for _ in range(50)]
            broker.send(*(reply(one, one.data) for one in reversed(asked)))
    assert results == {number: number for number in range(50)}


@on_both_loops
async def test_a_typed_reply() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, anyio.create_task_group() as tasks:
            tasks.start_soon(answer, broker, lambda asked: reply(asked, {"total": 7}), 2)
            assert await mesh.request("BILL", group="a", returns=Invoice) == Invoice(7)
            with pytest.raises(InvalidReply, match=r"BILL to group a \(id .*\): .* Expected `int`"):
                await mesh.request("BILL", group="a", returns=int)


@on_both_loops
async def test_error_replies() -> None:
    def refuse(asked: Frame) -> Frame:
        return reply(asked, error=Error(asked.data, "why", {"item": 7}))

    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, anyio.create_task_group() as tasks:
            tasks.start_soon(answer, broker, refuse, 2)
            with pytest.raises(NoRoute, match=r"BUY to group shop \(id .+\): NO_ROUTE: why"):
                await mesh.request("BUY", "NO_ROUTE", group="shop")
            with pytest.raises(ServiceError, match="BUY to connection b") as caught:
                await mesh.request("BUY", "OUT_OF_STOCK", to="b")
            assert (caught.value.code, caught.value.details) == ("OUT_OF_STOCK", {"item": 7})


@on_trio
async def test_a_request_ends_by_itself_when_even_the_broker_is_silent() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh:
            before = anyio.current_time()
            with pytest.raises(Expired, match=r"SUM to group a \(id .*\): EXPIRED: no reply"):
                await mesh.request("SUM", group="a", timeout=2)
            assert anyio.current_time() - before == 2.5
            assert mesh.statistics().pending == 0


@on_trio
async def test_a_late_reply_is_counted_and_goes_nowhere() -> None:
    errors: list[MeshError] = []
    with ScriptedBroker() as broker:
        async with broker.connect(on_error=errors.append) as mesh:
            with pytest.raises(Expired):
                await mesh.request("SUM", group="a", timeout=2)
            asked = await broker.receive_until(OpCode.EVENT)
            broker.send(reply(asked, 7), reply(asked, error=Error("EXPIRED", "")))
            await anyio.wait_all_tasks_blocked()
            assert mesh.statistics().late_replies == 2
            assert errors == []


@on_both_loops
async def test_the_first_reply_counts() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, anyio.create_task_group() as tasks:

            async def answer_twice() -> None:
                asked = await broker.receive_until(OpCode.EVENT)
                broker.send(reply(asked, 1), reply(asked, 2))

            tasks.start_soon(answer_twice)
            assert await mesh.request("SUM", group="a") == 1
            assert mesh.statistics().late_replies == 1


@on_both_loops
async def test_a_cancelled_request_is_forgotten() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh:
            async with anyio.create_task_group() as tasks:

                async def ask() -> None:
                    await mesh.request("SUM", group="a")

                tasks.start_soon(ask)
                asked = await broker.receive_until(OpCode.EVENT)
                tasks.cancel_scope.cancel()
            assert mesh.statistics().pending == 0
            broker.send(reply(asked, 1))
            await anyio.wait_all_tasks_blocked()
            assert mesh.statistics().late_replies == 1


@on_trio
async def test_the_deadline_counts_while_the_request_waits_to_be_sent() -> None:
    with ScriptedBroker(message_bytes=2**21, room=1) as broker:
        async with broker.connect() as mesh:
            await anyio.wait_all_tasks_blocked()
            for _ in range(4):
                await mesh.emit("NEWS", "x" * HIGH_BYTES)
                await anyio.wait_all_tasks_blocked()
                if mesh.statistics().unsent > HIGH_BYTES:
                    break
            before = anyio.current_time()
            with pytest.raises(Expired):
                await mesh.request("SUM", group="a", timeout=2)
            assert anyio.current_time() - before == 2.5
            broker.close()


# Hearing.


@on_both_loops
async def test_an_event_as_a_listener_sees_it() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, mesh.listen("BILL*") as events:
            sent = event("BILLED", {"total": 7}, timeout=1500, trace="00-1-2-01")
            broker.send(event("OTHER"), sent)
            heard = await events.receive()
            assert (heard.name, heard.id) == ("BILLED", "id-of-BILLED")
            assert heard.data == {"total": 7}
            assert heard.parse(Invoice) == Invoice(7)
            assert (heard.source, heard.timeout, heard.trace) == (PEER, 1.5, "00-1-2-01")
            assert heard.frame == sent
            assert repr(heard) == "<Event BILLED from billing/abc123, id id-of-BILLED>"
            with pytest.raises(PayloadError):
                heard.parse(int)


@on_both_loops
async def test_replying_to_what_was_heard() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, mesh.listen("*") as events:
            broker.send(request("SUM", [1, 2]))
            heard = await events.receive()
            await mesh.reply(heard, sum(heard.data))
            sent = await broker.receive_until(OpCode.REPLY)
            assert (sent.id, sent.data) == ("id-of-SUM", 3)
            assert sent.intent == Intent(Target.DIRECT, PEER.id)
            await mesh.reply(heard, error=ServiceError("TIRED", "not today"))
            assert (await broker.receive_until(OpCode.REPLY)).error == Error("TIRED", "not today")


@on_both_loops
async def test_a_request_that_nobody_here_hears_is_refused_at_once() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh:
            broker.send(event("NEWS"), request("SUM"))
            refusal = await broker.receive_until(OpCode.REPLY)
            assert refusal.id == "id-of-SUM"
            assert refusal.error == Error("UNKNOWN_EVENT", "nothing here handles SUM")
            assert mesh.statistics().ignored_events == 2


@on_both_loops
async def test_every_frame_as_it_is() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, mesh.frames() as frames:
            unasked = Frame(op=OpCode.REPLY, id="7", data=1, source=PEER)
            broker.send(event("NEWS"), Frame(op=OpCode.PING), unasked)
            assert await frames.receive() == event("NEWS")
            assert await frames.receive() == unasked
            assert mesh.statistics().unsolicited_replies == 1


@on_both_loops
async def test_data_that_has_no_form_in_python() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, mesh.listen("*") as events, mesh.frames() as frames:
            broker.send_bytes(b'{"op":0,"id":"1","event":"E","data":1e999}\n')
            broker.send(event("NEXT"))
            heard = await events.receive()
            for read in (lambda: heard.data, lambda: heard.parse(float), lambda: heard.frame):
                with pytest.raises(PayloadError, match="out of range"):
                    read()
            with pytest.raises(PayloadError, match=r"E \(id 1\): .*out of range"):
                await frames.receive()
            assert (await frames.receive()).event == "NEXT"


@on_both_loops
async def test_a_frame_as_it_is() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh:
            frame = Frame(
                op=OpCode.EVENT, id="7", event="E", intent=Intent(Target.DIRECT, MESH_ID), timeout=5
            )
            await mesh.send(frame)
            assert await broker.receive_until(OpCode.EVENT) == frame


@on_both_loops
async def test_an_error_for_a_frame_of_one_s_own_is_reported() -> None:
    errors: list[MeshError] = []
    with ScriptedBroker() as broker:
        async with broker.connect(on_error=errors.append) as mesh:
            await mesh.send(Frame(op=OpCode.EVENT, id="7", event="E"))
            asked = await broker.receive_until(OpCode.EVENT)
            broker.send(reply(asked, error=Error("INVALID_INTENT", "say whom it is for")))
            await anyio.wait_all_tasks_blocked()
            (error,) = errors
            assert isinstance(error, RequestError)
            assert str(error).startswith("E to ? (id 7): INVALID_INTENT")
