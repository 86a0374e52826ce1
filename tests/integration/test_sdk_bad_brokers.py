"""Those who listen where a broker should be, and are none, or one that has gone wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import attrs
import pytest
from anyio.abc import ByteStream, SocketAttribute

from broker.protocol.codec import Envelope, Message, encode_frame
from broker.protocol.errors import Reason
from broker.protocol.frames import Frame, OpCode
from broker.protocol.handshake import HandshakeState, ServerHandshake
from broker.protocol.json_stream import JsonStream
from broker.protocol.websocket import Role, WebSocketWire
from broker.protocol.wire import Wire
from services.sdk import (
    Backoff,
    CannotConnect,
    ConnectionLost,
    Disconnected,
    State,
    connect,
)

# Where a test waits for it to pass, and long enough for everything else.
SHORT: Final = 0.2
LONG: Final = 20.0

QUICK: Final = Backoff(first=0.01, longest=0.01)

Script = Callable[["Guest"], Awaitable[None]]


@attrs.define
class Guest:
    """The connection of an SDK client, as whoever listens sees it."""

    stream: ByteStream
    wire: Wire = attrs.field(factory=lambda: JsonStream(2**20))
    pings: int = 0

    async def say(self, data: bytes) -> None:
        await self.stream.send(data)

    async def shake_hands(self) -> None:
        """Open a WebSocket if it asks for one."""
        handshake = ServerHandshake()
        while handshake.state is HandshakeState.PENDING:
            handshake.receive(await self.stream.receive())
        await self.stream.send(handshake.data_to_send())
        self.wire = WebSocketWire(Role.SERVER, 2**20)

    async def let_in(self, ping: int = 30_000) -> None:
        """Read the IDENTIFY, and welcome it."""
        await self.receive()
        data = {"id": "guest", "group": "web", "ping": ping, "message_bytes": 2**20}
        await self.say_frame(Frame(op=OpCode.IDENTIFY, data=data))

    async def say_frame(self, frame: Frame) -> None:
        await self.stream.send(self.wire.frame(encode_frame(frame)))

    async def receive(self) -> list[Message]:
        while not (messages := self.wire.receive(await self.stream.receive())):
            pass
        return messages

    async def listen_in_silence(self) -> None:
        """Read what comes until the other side hangs up, and say nothing."""
        try:
            while True:
                for message in await self.receive():
                    if isinstance(message, Envelope) and message.op == OpCode.PING:
                        self.pings += 1
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return


@asynccontextmanager
async def listening(script: Script, scheme: str = "tcp") -> AsyncIterator[str]:
    """Somebody who does as the script says with whoever comes; over WebSocket after the handshake.

    The scheme "http" is WebSocket too, but the handshake is the script's own business.
    """

    async def serve(stream: ByteStream) -> None:
        guest = Guest(stream)
        async with stream:
            try:
                if scheme == "ws":
                    await guest.shake_hands()
                await script(guest)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        port = listener.extra(SocketAttribute.local_port)
        yield f"{'tcp' if scheme == 'tcp' else 'ws'}://127.0.0.1:{port}"
        tasks.cancel_scope.cancel()


async def nothing(guest: Guest) -> None:
    await guest.listen_in_silence()


async def hang_up(guest: Guest) -> None:
    await guest.stream.receive()


async def half_a_frame_and_hang_up(guest: Guest) -> None:
    await guest.receive()
    frame = guest.wire.frame(encode_frame(Frame(op=OpCode.IDENTIFY, data={"id": "x"})))
    await guest.say(frame[: len(frame) // 2])


async def half_a_frame_and_nothing(guest: Guest) -> None:
    await half_a_frame_and_hang_up(guest)
    await guest.listen_in_silence()


def says(data: bytes) -> Script:
    async def script(guest: Guest) -> None:
        await guest.stream.receive()
        await guest.say(data)
        await guest.listen_in_silence()

    return script


NOT_FOUND = says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 8\r\n\r\nnot here")
MOVED = says(
    b"HTTP/1.1 301 Moved Permanently\r\nLocation: wss://elsewhere.test/\r\n"
    b"Content-Length: 0\r\n\r\n"
)
WEB_PAGE = says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
WANTS_HTTP = says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
GARBAGE = says(b"\x00\xff\xfe garbage \r\n\r\n")
MAIL = says(b"220 mail.test ESMTP\r\n")
ANSWERS_WITHOUT_END = says(b"HTTP/1.1 101 Switching" + b"x" * 100_000)
HALF_AN_ANSWER = says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: web")
TLS_ALERT = says(b"\x15\x03\x03\x00\x02\x02\x46")

IN_TIME = f"did not answer within {SHORT:g} s; a broker that is only slow needs a longer"


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize(
    ("script", "scheme", "timeout", "text"),
    [
        (nothing, "tcp", SHORT, IN_TIME),
        (nothing, "http", SHORT, IN_TIME),
        (nothing, "ws", SHORT, IN_TIME),
        (hang_up, "tcp", LONG, "hung up without a word"),
        (hang_up, "http", LONG, "opens no WebSocket: the server closed the connection"),
        (hang_up, "ws", LONG, "hung up without a word"),
        (half_a_frame_and_hang_up, "tcp", LONG, "hung up"),
        (half_a_frame_and_hang_up, "ws", LONG, "hung up"),
        (half_a_frame_and_nothing, "tcp", SHORT, IN_TIME),
        (half_a_frame_and_nothing, "ws", SHORT, IN_TIME),
        (GARBAGE, "tcp", LONG, "does not speak the protocol"),
        (GARBAGE, "http", LONG, "opens no WebSocket: the response is not HTTP"),
        (GARBAGE, "ws", LONG, "does not speak the protocol"),
        (MAIL, "tcp", LONG, "does not speak the protocol"),
        (WANTS_HTTP, "tcp", LONG, "does not speak the protocol"),
        (NOT_FOUND, "http", LONG, "opens no WebSocket: HTTP 404: not here"),
        (MOVED, "http", LONG, "opens no WebSocket: HTTP 301; a redirect is not followed"),
        (WEB_PAGE, "http", LONG, "opens no WebSocket: HTTP 200: hi"),
        (ANSWERS_WITHOUT_END, "http", LONG, "opens no WebSocket: the response has more than"),
        (HALF_AN_ANSWER, "http", SHORT, IN_TIME),
        (TLS_ALERT, "tcp", LONG, "TLS"),
        (TLS_ALERT, "http", LONG, "TLS"),
    ],
)
def test_whoever_listens_is_no_broker(
    script: Script, scheme: str, timeout: float, text: str, backend: str
) -> None:
    async def run() -> None:
        with anyio.fail_after(LONG):
            async with listening(script, scheme) as url:
                with pytest.raises(CannotConnect, match=text) as caught:
                    async with connect(url, group="web", token="t", timeout=timeout):
                        raise AssertionError("entered")
                # It says where, in the words of the program's own configuration.
                assert url in str(caught.value)

    anyio.run(run, backend=backend)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("url", ["tcp://no-such-host.invalid:8420", "ws://no-such-host.invalid"])
def test_a_name_that_nobody_has(url: str, backend: str) -> None:
    async def run() -> None:
        with anyio.fail_after(LONG), pytest.raises(CannotConnect, match=r"no-such-host\.invalid"):
            # Where the network has no name server, the system may take its time to say so.
            async with connect(url, group="web", token="t", timeout=5):
                raise AssertionError("entered")

    anyio.run(run, backend=backend)


# A broker that goes wrong after it has let the client in, and with a request in its hands.


async def let_in_and_be_asked(guest: Guest, ping: int = 30_000) -> None:
    await guest.let_in(ping)
    await guest.receive()


async def silence(guest: Guest) -> None:
    await let_in_and_be_asked(guest, ping=100)
    await guest.listen_in_silence()
    assert guest.pings == 1


async def not_even_reading(guest: Guest) -> None:
    await let_in_and_be_asked(guest, ping=100)
    await anyio.sleep_forever()


async def only_the_websocket_lives(guest: Guest) -> None:
    """As a proxy may do it for a broker that is dead."""
    await let_in_and_be_asked(guest, ping=200)
    while True:
        await guest.say(b"\x89\x00")
        await anyio.sleep(0.05)


async def half_a_frame_and_silence(guest: Guest) -> None:
    await let_in_and_be_asked(guest, ping=100)
    await guest.say(guest.wire.frame(encode_frame(Frame(op=OpCode.PING)))[:-4])
    await guest.listen_in_silence()


async def half_a_frame(guest: Guest) -> None:
    await let_in_and_be_asked(guest)
    await guest.say(guest.wire.frame(encode_frame(Frame(op=OpCode.PING)))[:-4])


async def garbage(guest: Guest) -> None:
    await let_in_and_be_asked(guest)
    await guest.say(b"\xff garbage \r\n")
    await guest.listen_in_silence()


async def gone(guest: Guest) -> None:
    await let_in_and_be_asked(guest)


async def sent_away(guest: Guest) -> None:
    await let_in_and_be_asked(guest)
    await guest.say_frame(Frame(op=OpCode.DISCONNECT, data=Reason.SERVER_RESTART))


SILENT = "has been silent for .* s, and not answered a PING"


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize(
    ("script", "scheme", "text"),
    [
        (silence, "tcp", SILENT),
        (silence, "ws", SILENT),
        (not_even_reading, "tcp", SILENT),
        (not_even_reading, "ws", SILENT),
        (only_the_websocket_lives, "ws", SILENT),
        (half_a_frame_and_silence, "tcp", SILENT),
        (half_a_frame_and_silence, "ws", SILENT),
        (half_a_frame, "tcp", "hung up without a word"),
        (half_a_frame, "ws", "hung up without a word"),
        (garbage, "tcp", "not of the protocol"),
        (garbage, "ws", "not of the protocol"),
        (gone, "tcp", "hung up without a word"),
        (gone, "ws", "hung up without a word"),
        (sent_away, "tcp", "SERVER_RESTART"),
        (sent_away, "ws", "SERVER_RESTART"),
    ],
)
def test_a_broker_goes_wrong(script: Script, scheme: str, text: str, backend: str) -> None:
    """What is under way ends, and the next broker is taken, which has been there all the time."""

    async def in_order(guest: Guest) -> None:
        await guest.let_in()
        await guest.listen_in_silence()

    async def run() -> None:
        with anyio.fail_after(LONG):
            async with (
                listening(script, scheme) as bad,
                listening(in_order, scheme) as good,
                connect([bad, good], group="web", token="t", reconnect=QUICK) as mesh,
                mesh.states() as states,
            ):
                first = await anext(states)
                assert (first.state, first.url) == (State.CONNECTED, bad)
                with pytest.raises(ConnectionLost, match=text) as caught:
                    await mesh.request("ASK", group="anybody", timeout=600)
                assert bad in str(caught.value) or isinstance(caught.value, Disconnected)
                assert caught.value.may_have_arrived
                async for change in states:
                    if change.state is State.CONNECTED:
                        break
                assert change.url == good
                await mesh.emit("NEWS", patience=0)

    anyio.run(run, backend=backend)
