from __future__ import annotations

import anyio
import pytest
from anyio.abc import ByteStream

from broker.protocol.codec import encode_frame
from broker.protocol.errors import Reason
from broker.protocol.frames import Error, Frame, OpCode
from broker.protocol.handshake import ServerHandshake
from broker.protocol.websocket import frame_text
from services.sdk import (
    CannotConnect,
    Disconnected,
    IdentifyFailed,
    MeshClosed,
    MeshError,
    connect,
)
from services.sdk.urls import Address
from tests.sdk.loops import on_both_loops, on_trio, run_on_trio
from tests.sdk.scripted import MESH_ID, ScriptedBroker, event, welcome


@on_both_loops
async def test_it_says_who_it_is() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect(
            name="left", meta={"region": "eu"}, echo=False, concurrency=5
        ) as mesh:
            said = await broker.receive()
            assert said.op is OpCode.IDENTIFY
            assert said.data == {
                "token": "t",
                "group": "web",
                "name": "left",
                "meta": {"region": "eu"},
                "echo": False,
                "concurrency": 5,
            }
            assert (mesh.id, mesh.group) == (MESH_ID, "web")


@on_both_loops
async def test_what_is_not_said_is_left_out() -> None:
    with ScriptedBroker() as broker:
        async with broker.connect():
            assert (await broker.receive()).data == {"token": "t", "group": "web"}


@on_both_loops
async def test_what_comes_close_behind_the_welcome_is_not_lost() -> None:
    with ScriptedBroker() as broker:
        broker.first += encode_frame(event("EARLY")) + b"\n"
        async with broker.connect() as mesh, mesh.listen("*") as events:
            assert (await events.receive()).name == "EARLY"


def disconnect(reason: str, message: str = "") -> bytes:
    error = Error(reason, message) if message else None
    return encode_frame(Frame(op=OpCode.DISCONNECT, data=reason, error=error)) + b"\n"


@pytest.mark.parametrize(
    ("first", "error", "text"),
    [
        (
            disconnect("IDENTIFY_FAILED", "data.token: is not known here"),
            IdentifyFailed,
            "did not let this client in: IDENTIFY_FAILED: data.token: is not known here",
        ),
        (disconnect("UNAUTHORIZED"), IdentifyFailed, "UNAUTHORIZED"),
        (b'{"op":2}\n', IdentifyFailed, "NO_REASON"),
        (disconnect("TRY_AGAIN_LATER", "full"), Disconnected, "TRY_AGAIN_LATER: full"),
        (disconnect("SERVER_RESTART"), Disconnected, "SERVER_RESTART"),
        (b"HTTP/1.1 400 Bad Request\r\n", CannotConnect, "does not speak the protocol"),
        (b'{"op":1,"data":{"id":7}}\n', CannotConnect, "does not speak the protocol"),
        (b'{"op":1}\n', CannotConnect, "does not speak the protocol"),
    ],
)
def test_not_let_in(first: bytes, error: type[MeshError], text: str) -> None:
    async def run() -> None:
        with ScriptedBroker(first=first) as broker:
            with pytest.raises(error, match=text) as caught:
                async with broker.connect():
                    raise AssertionError("entered")
            assert type(caught.value) is error

    run_on_trio(run)


@on_both_loops
async def test_frames_that_mean_nothing_yet_are_passed_over() -> None:
    with ScriptedBroker(first=b'{"op":3}\n{"op":0,"id":7}\n' + welcome()) as broker:
        async with broker.connect() as mesh:
            assert mesh.id == MESH_ID


@on_both_loops
async def test_hanging_up_without_a_word() -> None:
    with ScriptedBroker(first=b"") as broker:

        async def dial(address: Address) -> ByteStream:
            stream = await broker.dial(address)
            broker.hang_up()
            return stream

        with pytest.raises(CannotConnect, match="tcp://broker hung up without a word"):
            async with connect("tcp://broker", group="web", token="t", dial=dial):
                raise AssertionError("entered")


class WebSocketDoor(ByteStream):
    """Answers the opening handshake, and says goodbye in the same breath."""

    def __init__(self) -> None:
        self._handshake = ServerHandshake()
        self._answer = b""

    async def send(self, item: bytes) -> None:
        self._handshake.receive(item)
        if answer := self._handshake.data_to_send():
            self._answer = answer + frame_text(disconnect("IDENTIFY_FAILED", "too slow"))

    async def receive(self, max_bytes: int = 65536) -> bytes:
        answer, self._answer = self._answer, b""
        if not answer:
            raise anyio.EndOfStream
        return answer

    async def send_eof(self) -> None: ...

    async def aclose(self) -> None: ...


@on_both_loops
async def test_what_comes_close_behind_the_handshake_is_not_lost() -> None:
    async def dial(address: Address) -> ByteStream:
        assert address.authority == "broker:8420"
        return WebSocketDoor()

    with pytest.raises(IdentifyFailed, match="IDENTIFY_FAILED: too slow"):
        async with connect("ws://broker", group="web", token="t", dial=dial):
            raise AssertionError("entered")


@on_trio
async def test_no_answer_in_time() -> None:
    before = anyio.current_time()
    said = pytest.raises(CannotConnect, match="tcp://broker did not answer within 3 s")
    with ScriptedBroker(first=b"") as broker, said:
        async with broker.connect(timeout=3):
            raise AssertionError("entered")
    assert anyio.current_time() - before == 3


@on_both_loops
async def test_nobody_there() -> None:
    with pytest.raises(CannotConnect, match=r"cannot connect to tcp://127\.0\.0\.1:1"):
        async with connect("tcp://127.0.0.1:1", group="web", token="t"):
            raise AssertionError("entered")


@on_both_loops
async def test_no_socket_there() -> None:
    with pytest.raises(CannotConnect, match="cannot connect to unix:///nonexistent/socket"):
        async with connect("unix:///nonexistent/socket", group="web", token="t"):
            raise AssertionError("entered")


def test_a_wrong_url_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="is no address of a broker"):
        connect("http://broker", group="web", token="t")


@on_both_loops
async def test_before_it_is_entered() -> None:
    mesh = connect("tcp://broker", group="web", token="t")
    with pytest.raises(MeshClosed, match="not connected yet"):
        await mesh.emit("HELLO")


@on_both_loops
async def test_it_is_entered_once() -> None:
    with ScriptedBroker() as broker:
        mesh = broker.connect()
        async with mesh:
            with pytest.raises(RuntimeError, match="entered once"):
                await mesh.__aenter__()


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_in_the_middle(reason: Reason) -> None:
    async def run() -> None:
        with ScriptedBroker() as broker:
            async with broker.connect() as mesh:
                broker.send_bytes(disconnect(reason, "because"))
                with pytest.raises(Disconnected, match=f"{reason}: because") as caught:
                    await mesh.wait_lost()
                assert type(caught.value) is Disconnected
                assert caught.value.reason == reason

    run_on_trio(run)
