"""How connections end: said goodbye, broken, silent, cancelled."""

from __future__ import annotations

import anyio
import pytest

from broker.protocol.frames import Frame, OpCode
from services.sdk import ConnectionLost, Disconnected, MeshClosed, NoRoute
from tests.sdk.loops import on_both_loops, on_trio, run_on_trio
from tests.sdk.scripted import ScriptedBroker, event


@on_both_loops
async def test_leaving_sends_what_is_left_and_says_goodbye() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh:
            await mesh.emit("LAST")
        assert [(await broker.receive()).op for _ in range(2)] == [OpCode.IDENTIFY, OpCode.EVENT]
        goodbye = await broker.receive()
        assert (goodbye.op, goodbye.data) == (OpCode.DISCONNECT, "NO_REASON")
        with pytest.raises(anyio.EndOfStream):
            await broker.receive()


@on_both_loops
async def test_after_leaving_it_is_closed() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, mesh.listen("*") as events:
            pass
        with pytest.raises(MeshClosed, match="the mesh is closed"):
            await mesh.emit("HELLO")
        with pytest.raises(MeshClosed, match="the mesh is closed"):
            await mesh.request("HELLO", group="a")
        with pytest.raises(MeshClosed, match="the mesh is closed"):
            await mesh.wait_lost()
        with pytest.raises(MeshClosed):
            await events.receive()


@on_both_loops
async def test_closing_ends_what_other_tasks_wait_for() -> None:
    with ScriptedBroker() as broker:
        async with anyio.create_task_group() as tasks, broker.connect() as mesh:

            async def ask() -> None:
                with pytest.raises(MeshClosed) as caught:
                    await mesh.request("SUM", group="a")
                assert "SUM to group a" in caught.value.__notes__[0]

            async def hear() -> None:
                async with mesh.listen("*") as events:
                    with pytest.raises(MeshClosed):
                        await events.receive()

            tasks.start_soon(ask)
            tasks.start_soon(hear)
            await anyio.wait_all_tasks_blocked()


@on_both_loops
async def test_an_error_of_the_body_comes_out_as_it_is() -> None:
    with ScriptedBroker() as broker:
        with pytest.raises(KeyError, match="mine"):
            async with broker.connect():
                raise KeyError("mine")
        assert (await broker.receive_until(OpCode.DISCONNECT)).data == "NO_REASON"


@on_both_loops
async def test_a_cancelled_program_still_says_goodbye() -> None:
    with ScriptedBroker() as broker:
        with anyio.CancelScope() as scope:
            async with broker.connect() as mesh:
                await mesh.emit("LAST")
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert (await broker.receive_until(OpCode.EVENT)).event == "LAST"
        assert (await broker.receive_until(OpCode.DISCONNECT)).data == "NO_REASON"


@on_trio
async def test_a_broker_that_does_not_hang_up_is_left_anyway() -> None:
    with ScriptedBroker(polite=False) as broker:
        async with broker.connect():
            before = anyio.current_time()
        assert anyio.current_time() - before == 2


@on_trio
async def test_a_broker_that_does_not_read_is_left_anyway() -> None:
    with ScriptedBroker(room=1) as broker:
        async with broker.connect() as mesh:
            for _ in range(100):
                await mesh.emit("HELLO")
                await anyio.wait_all_tasks_blocked()
            before = anyio.current_time()
        assert anyio.current_time() - before == 2


@on_both_loops
async def test_hanging_up_in_the_middle() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, mesh.listen("*") as events:
            async with anyio.create_task_group() as tasks:

                async def ask() -> None:
                    with pytest.raises(ConnectionLost, match="hung up") as caught:
                        await mesh.request("SUM", group="a")
                    assert "whether it was carried out is not known" in caught.value.__notes__[0]

                tasks.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                broker.send(event("LAST"))
                broker.hang_up()
            assert (await events.receive()).name == "LAST"
            with pytest.raises(ConnectionLost, match=r"tcp://broker broke: .* hung up"):
                await events.receive()
            with pytest.raises(ConnectionLost, match="hung up"):
                await mesh.emit("HELLO")
            with pytest.raises(ConnectionLost, match="hung up"):
                await mesh.wait_lost()


@on_both_loops
async def test_the_end_wakes_senders_that_wait_for_room() -> None:
    with ScriptedBroker(message_bytes=2**20, room=1) as broker:
        async with broker.connect() as mesh, anyio.create_task_group() as tasks:

            async def flood() -> None:
                while True:
                    await mesh.emit("FLOOD", "x" * 2**18)

            async def flood_to_the_end() -> None:
                with pytest.raises(Disconnected, match="SLOW_CONSUMER"):
                    await flood()

            for _ in range(3):
                tasks.start_soon(flood_to_the_end)
            await anyio.wait_all_tasks_blocked()
            broker.send(Frame(op=OpCode.DISCONNECT, data="SLOW_CONSUMER"))


@on_both_loops
async def test_the_end_ends_listening_to_frames() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, mesh.frames() as frames:
            broker.send(Frame(op=OpCode.DISCONNECT, data="SLOW_CONSUMER"))
            with pytest.raises(Disconnected, match="SLOW_CONSUMER"):
                await frames.receive()


@on_both_loops
async def test_the_first_reason_stays() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh:
            broker.send(Frame(op=OpCode.DISCONNECT, data="SLOW_CONSUMER"))
            broker.hang_up()
            with pytest.raises(Disconnected, match="SLOW_CONSUMER"):
                await mesh.wait_lost()


@on_trio
async def test_a_writer_that_fails_leaves_the_last_word_to_the_broker() -> None:
    with ScriptedBroker(polite=False) as broker:
        async with broker.connect() as mesh:
            broker._from_client.close()
            await mesh.emit("INTO_THE_VOID")
            await anyio.wait_all_tasks_blocked()
            broker.send(Frame(op=OpCode.DISCONNECT, data="SLOW_CONSUMER"))
            with pytest.raises(Disconnected, match="SLOW_CONSUMER"):
                await mesh.wait_lost()


@on_trio
async def test_a_writer_that_fails_without_a_last_word() -> None:
    with ScriptedBroker(polite=False) as broker:
        async with broker.connect() as mesh:
            broker._from_client.close()
            await mesh.emit("INTO_THE_VOID")
            with pytest.raises(ConnectionLost, match="BrokenResourceError"):
                await mesh.wait_lost()


@on_both_loops
async def test_bytes_that_are_no_frame() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, mesh.listen("*") as events:
            broker.send(event("BEFORE"))
            broker.send_bytes(b"this is not JSON\n")
            assert (await events.receive()).name == "BEFORE"
            with pytest.raises(ConnectionLost, match="not of the protocol"):
                await events.receive()


@on_both_loops
async def test_nothing_is_handed_on_behind_a_disconnect() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect() as mesh, mesh.listen("*") as events:
            broker.send(
                event("BEFORE"), Frame(op=OpCode.DISCONNECT, data="NO_REASON"), event("BEHIND")
            )
            assert (await events.receive()).name == "BEFORE"
            with pytest.raises(Disconnected):
                await events.receive()


# Heartbeat.


@on_both_loops
async def test_a_ping_is_answered() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect():
            broker.send(Frame(op=OpCode.PING, id="7"))
            pong = await broker.receive_until(OpCode.PONG)
            assert pong.id == "7"


@on_both_loops
async def test_a_ping_is_answered_while_listeners_are_full_and_senders_wait() -> None:
    with ScriptedBroker(message_bytes=2**20, room=1) as broker:
        async with broker.connect() as mesh, mesh.listen("*", buffer=1):
            broker.send(*(event("FLOOD") for _ in range(100)))
            async with anyio.create_task_group() as tasks:

                async def flood() -> None:
                    while True:
                        await mesh.emit("FLOOD", "x" * 2**17)

                tasks.start_soon(flood)
                await anyio.wait_all_tasks_blocked()
                broker.send(Frame(op=OpCode.PING, id="7"))
                await anyio.wait_all_tasks_blocked()
                assert (await broker.receive()).op is OpCode.IDENTIFY
                # What the writer had in hand before the PING came is still ahead of the answer.
                events = 0
                while (frame := await broker.receive()).op is OpCode.EVENT:
                    events += 1
                assert frame.op is OpCode.PONG
                assert events <= 9
                tasks.cancel_scope.cancel()
            broker.close()


@on_trio
async def test_a_silent_broker_is_pinged_and_then_given_up() -> None:
    with ScriptedBroker(ping=1000) as broker:
        async with broker.connect() as mesh:
            before = anyio.current_time()
            with pytest.raises(ConnectionLost, match="silent for 2 s, and not answered a PING"):
                await mesh.wait_lost()
            assert anyio.current_time() - before == 2
        assert (await broker.receive()).op is OpCode.IDENTIFY
        assert (await broker.receive()).op is OpCode.PING


@on_trio
async def test_whatever_the_broker_says_is_life() -> None:
    with ScriptedBroker(ping=1000) as broker:
        async with broker.connect() as mesh:
            for _ in range(20):
                await anyio.sleep(1.9)
                broker.send(Frame(op=OpCode.PONG))
            await mesh.emit("STILL_THERE")


@on_trio
async def test_a_talking_broker_is_not_pinged() -> None:
    with ScriptedBroker(ping=1000) as broker:
        async with broker.connect() as mesh:
            for _ in range(20):
                await anyio.sleep(0.9)
                broker.send(event("NEWS"))
            await mesh.emit("END")
            assert (await broker.receive()).op is OpCode.IDENTIFY
            assert (await broker.receive()).op is OpCode.EVENT


HOSTILE = [
    b'{"op":5,"error":{"code":"NO_ROUTE","retry_after":1e999}}',
    b'{"op":5,"error":' + b"9" * 5000 + b"}",
    b'{"op":5,"error":' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"op":5,"error":{"code":' + b"[" * 900 + b"]" * 900 + b"}}",
    b'{"op":5,"error":{"code":""}}',
    b'{"op":5,"error":[]}',
    b'{"op":0,"event":"E","data":1e999}',
    b'{"op":0,"event":"E","timeout":1}',
    b'{"op":0,"event":"E","intent":{"target":"GROUP"}}',
    b'{"op":0}',
    b'{"op":1,"data":1e999}',
    b'{"op":4,"data":1e999}',
]


@pytest.mark.parametrize("message", HOSTILE, ids=lambda message: message[:40].decode())
def test_what_a_peer_writes_does_not_end_the_connection(message: bytes) -> None:
    async def run() -> None:
        with ScriptedBroker() as broker:
            async with broker.connect() as mesh, mesh.listen("*") as events:
                broker.send_bytes(message + b"\n")
                broker.send(event("NEXT"))
                while (await events.receive()).name != "NEXT":
                    pass
                await mesh.emit("STILL_THERE")

    run_on_trio(run)


@pytest.mark.parametrize("rest", [b'"data":1e999', b'"error":{"code":1e999}'])
def test_a_disconnect_that_cannot_be_read(rest: bytes) -> None:
    async def run() -> None:
        with ScriptedBroker() as broker:
            async with broker.connect() as mesh:
                broker.send_bytes(b'{"op":2,' + rest + b"}\n")
                with pytest.raises(Disconnected):
                    await mesh.wait_lost()

    run_on_trio(run)


@on_trio
async def test_an_error_reply_to_nothing_does_no_harm() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect(on_error=lambda _error: 1 / 0) as mesh:
            broker.send_bytes(b'{"op":5,"error":7}\n{"op":5}\n{"op":0,"id":7}\n')
            await anyio.wait_all_tasks_blocked()
            assert mesh.statistics().unsolicited_replies == 1
            assert mesh.statistics().failed_emits == 1
            with pytest.raises(NoRoute):
                raise NoRoute
