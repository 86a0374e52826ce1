"""A broker on real sockets, and clients for it that share no code with it.

Four kinds of client, since a fault that the broker and its own codec have in common could hide from
a client built on that codec: raw streams (plain bytes), the libraries trio-websocket and
`websockets` (its sans-IO protocol, over trio's sockets), and a WebSocket written out by hand, for
what no library would ever send.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import attrs
import trio
import trio_websocket
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.frames import Opcode as LibraryOpcode
from websockets.protocol import State
from websockets.uri import parse_uri
from wsproto.frame_protocol import FrameProtocol, Opcode

from broker.core.authentication import hash_token
from broker.core.peer import Peer
from broker.core.settings import (
    LimitSettings,
    ListenerSettings,
    Settings,
    TimingSettings,
    TokenSettings,
)
from broker.server import Server

__all__ = [
    "DOORS",
    "EVENT",
    "STREAM_DOORS",
    "TOKEN",
    "WEBSOCKET_DOORS",
    "Broker",
    "Client",
    "End",
    "HandmadeWebSocket",
    "LibraryWebSocket",
    "RawStream",
    "TrioWebSocket",
    "compact",
    "masked_frame",
    "properties",
    "until",
]

TOKEN: Final = "correct horse battery staple"

# The original's numbers, as its page gives them.
EVENT, IDENTIFY, DISCONNECT, PING, PONG, REPLY = range(6)

STREAM_DOORS: Final = ("tcp", "unix")
WEBSOCKET_DOORS: Final = ("trio-websocket", "websockets", "websocket over unix")
DOORS: Final = STREAM_DOORS + WEBSOCKET_DOORS

_RECEIVE_SIZE: Final = 65536


def compact(value: object) -> bytes:
    """Write JSON as `JSON.stringify` does."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def properties(message: bytes) -> dict[str, str]:
    """Split a JSON object into its properties, each value as the text that stands there."""
    text = message.decode()
    decoder = json.JSONDecoder()
    found: dict[str, str] = {}
    position = text.index("{") + 1
    while match := re.compile(r'[\s,]*(?=")').match(text, position):
        name, position = decoder.raw_decode(text, match.end())
        start = re.compile(r"\s*:\s*").match(text, position)
        assert start is not None
        _, position = decoder.raw_decode(text, start.end())
        assert name not in found, f"{name} stands twice in {text}"
        found[name] = text[start.end() : position]
    assert re.fullmatch(r"\s*\}\s*", text[position:]), text
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until something has come about."""
    while not condition():
        await trio.lowlevel.checkpoint()


@attrs.frozen
class End:
    """How a connection ended.

    Attributes:
        before: the messages that came before the DISCONNECT.
        reason: the `data` of the DISCONNECT; None where there was none.
        message: the text in its `error`.
        code: the close code, where a close frame came.
        text: the reason in the close frame.
        clean: the stream ended; it was not reset.
    """

    before: list[bytes]
    reason: str | None
    message: str | None
    code: int | None
    text: str | None
    clean: bool


class Client(ABC):
    """One connection to the broker.

    Attributes:
        id: the connection id, once identified.
        close_code: of the close frame that came, if any.
        close_text: the reason in it.
        was_reset: the connection broke, instead of ending.
    """

    def __init__(self) -> None:
        self.id = ""
        self.close_code: int | None = None
        self.close_text: str | None = None
        self.was_reset = False

    @abstractmethod
    async def send(self, message: bytes) -> None:
        """Send one message, framed as this kind of client does it."""

    @abstractmethod
    async def receive(self) -> bytes | None:
        """Return the next message; None at the end of the connection."""

    @abstractmethod
    async def hang_up(self) -> None:
        """Be gone, without a word."""

    async def identify(self, group: str = "demo", **said: object) -> Any:
        """Say who is there; return the `data` of the answer."""
        data = {"token": TOKEN, "group": group, **said}
        await self.send(compact({"op": IDENTIFY, "data": data}))
        answer = await self.receive_json()
        assert answer["op"] == IDENTIFY, answer
        self.id = answer["data"]["id"]
        return answer["data"]

    async def receive_json(self) -> Any:
        """Return the next message, parsed."""
        message = await self.receive()
        assert message is not None, f"the connection ended with {self.close_code}"
        return json.loads(message)

    async def receive_end(self) -> End:
        """Receive all that comes until the connection ends, and close this side of it too."""
        messages = []
        while (message := await self.receive()) is not None:
            messages.append(message)
        await self.hang_up()
        last = json.loads(messages[-1]) if messages else {}
        if last.get("op") == DISCONNECT:
            messages.pop()
        else:
            last = {}
        return End(
            messages,
            last.get("data"),
            last.get("error", {}).get("message"),
            self.close_code,
            self.close_text,
            not self.was_reset,
        )


class _StreamClient(Client):
    """A client that reads a socket itself."""

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__()
        self.stream = stream
        self._received = bytearray()

    async def send_bytes(self, data: bytes) -> None:
        """Send anything at all. That the broker may have hung up by then is no fault here."""
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError:
            self.was_reset = True

    async def receive_bytes(self) -> bytes:
        """Return what comes next; empty at the end."""
        try:
            return bytes(await self.stream.receive_some(_RECEIVE_SIZE))
        except trio.BrokenResourceError:
            self.was_reset = True
            return b""

    async def hang_up(self) -> None:
        await trio.aclose_forcefully(self.stream)


class RawStream(_StreamClient):
    """The original's Node client: writes objects with nothing between them, reads lines."""

    async def send(self, message: bytes) -> None:
        await self.send_bytes(message)

    async def receive(self) -> bytes | None:
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            data = await self.receive_bytes()
            if not data:
                assert not self._received, f"the stream ended within {bytes(self._received)!r}"
                return None
            self._received += data
        message = bytes(self._received[:end])
        del self._received[: end + 1]
        return message


class LibraryWebSocket(_StreamClient):
    """The client of the `websockets` library."""

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self.protocol = ClientProtocol(parse_uri("ws://broker.test/"), max_size=None)
        self._frames: list[Frame] = []

    async def shake_hands(self) -> None:
        self.protocol.send_request(self.protocol.connect())
        while self.protocol.state is State.CONNECTING:
            assert await self._exchange(), self.protocol.handshake_exc

    async def send(self, message: bytes) -> None:
        self.protocol.send_text(message)
        await self._send_all()

    async def receive(self) -> bytes | None:
        while True:
            while self._frames:
                frame = self._frames.pop(0)
                if frame.opcode is LibraryOpcode.TEXT:
                    assert frame.fin
                    return bytes(frame.data)
            if not await self._exchange():
                received = self.protocol.close_rcvd
                if received is not None:
                    self.close_code, self.close_text = received.code, received.reason
                return None

    async def receive_frames(self) -> list[Frame]:
        """Return the frames that come next, of whatever kind; none at the end."""
        while not self._frames:
            if not await self._exchange():
                return []
        frames, self._frames = self._frames, []
        return frames

    async def _exchange(self) -> bool:
        await self._send_all()
        data = await self.receive_bytes()
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        for event in self.protocol.events_received():
            if isinstance(event, Frame):
                self._frames.append(event)
        await self._send_all()
        return bool(data)

    async def _send_all(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                await self.send_bytes(data)


class TrioWebSocket(Client):
    """The client of trio-websocket."""

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        super().__init__()
        self.connection = connection

    async def send(self, message: bytes) -> None:
        await self.connection.send_message(message.decode())

    async def receive(self) -> bytes | None:
        try:
            message = await self.connection.get_message()
        except trio_websocket.ConnectionClosed as closed:
            if closed.reason is not None:
                self.close_code, self.close_text = closed.reason.code, closed.reason.reason
            return None
        assert isinstance(message, str)
        return message.encode()

    async def hang_up(self) -> None:
        await trio.aclose_forcefully(self.connection._stream)


_KEY: Final = base64.b64encode(b"sixteen bytes...")
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_REQUEST: Final = (
    b"GET / HTTP/1.1\r\nHost: broker.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + _KEY + b"\r\n\r\n"
)


def masked_frame(
    payload: bytes, *, first: int = 0x81, mask: bytes = b"mask", length: bytes | None = None
) -> bytes:
    """Build a frame as a client does, or nearly so.

    Args:
        payload: unmasked.
        first: the first byte: FIN, reserved bits, opcode.
        mask: the masking key; empty for a frame that is not masked.
        length: the second byte and the extended length, where they are not to be the right ones.
    """
    if length is None:
        size = len(payload)
        bit = 0x80 if mask else 0
        if size < 126:
            length = bytes([bit | size])
        elif size < 1 << 16:
            length = bytes([bit | 126]) + size.to_bytes(2, "big")
        else:
            length = bytes([bit | 127]) + size.to_bytes(8, "big")
    if mask:
        keys = (mask * (len(payload) // 4 + 1))[: len(payload)]
        number = int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")
        payload = number.to_bytes(len(payload), "big")
    return bytes([first]) + length + mask + payload


class HandmadeWebSocket(_StreamClient):
    """A client that can send any bytes; what comes in is read by wsproto.

    Attributes:
        pongs: the payloads of the pongs that came.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self.pongs: list[bytes] = []
        self._frames = FrameProtocol(client=True, extensions=[])
        self._messages: list[bytes] = []

    async def shake_hands(self, behind: bytes = b"") -> None:
        """Open the WebSocket, with more bytes right behind the request."""
        await self.send_bytes(_REQUEST + behind)
        answer = bytearray()
        while b"\r\n\r\n" not in answer:
            data = await self.receive_bytes()
            assert data, bytes(answer)
            answer += data
        head, _, rest = bytes(answer).partition(b"\r\n\r\n")
        accept = base64.b64encode(hashlib.sha1(_KEY + _GUID).digest())
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert b"Sec-WebSocket-Accept: " + accept in head.split(b"\r\n")
        self._read(rest)

    async def send(self, message: bytes) -> None:
        await self.send_bytes(masked_frame(message, mask=os.urandom(4)))

    async def receive(self) -> bytes | None:
        while not self._messages:
            data = await self.receive_bytes()
            if not data:
                return None
            self._read(data)
        return self._messages.pop(0)

    def _read(self, data: bytes) -> None:
        self._frames.receive_bytes(data)
        for frame in self._frames.received_frames():
            assert self.close_code is None, f"{frame} came behind a close frame"
            if frame.opcode is Opcode.TEXT:
                assert frame.message_finished
                assert isinstance(frame.payload, str)
                self._messages.append(frame.payload.encode())
            elif frame.opcode is Opcode.CLOSE:
                assert isinstance(frame.payload, tuple)
                self.close_code, self.close_text = int(frame.payload[0]), frame.payload[1]
            else:
                assert frame.opcode is Opcode.PONG, frame
                assert isinstance(frame.payload, bytes | bytearray)
                self.pongs.append(bytes(frame.payload))


class Broker:
    """A running broker.

    Attributes:
        server: its very self, to look inside.
        port: of its TCP listener.
        path: of its Unix socket.
    """

    def __init__(
        self, server: Server, path: str, nursery: trio.Nursery, stack: AsyncExitStack
    ) -> None:
        self.server = server
        self.path = path
        self._nursery = nursery
        self._stack = stack

    @property
    def port(self) -> int:
        (address,) = (text for text in self.server.addresses if text.startswith("tcp:"))
        return int(address.rpartition(":")[2])

    async def connect_stream(self, *, unix: bool = False) -> trio.SocketStream:
        """Return a connected socket that nothing has been sent on. It is closed at the end."""
        if unix:
            stream = await trio.open_unix_socket(self.path)
        else:
            sock = trio.socket.socket()
            # Set before connecting, this keeps the system from making room for megabytes. A client
            # that does not read can be told from one that does the sooner.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_SIZE)
            await sock.connect(("127.0.0.1", self.port))
            stream = trio.SocketStream(sock)
        self._stack.push_async_callback(trio.aclose_forcefully, stream)
        return stream

    async def raw(self, *, unix: bool = False) -> RawStream:
        """Return a raw stream that has said nothing yet."""
        return RawStream(await self.connect_stream(unix=unix))

    async def handmade(self, *, unix: bool = False) -> HandmadeWebSocket:
        """Return a WebSocket that can send anything; its opening handshake is done."""
        client = HandmadeWebSocket(await self.connect_stream(unix=unix))
        await client.shake_hands()
        return client

    async def connect(self, door: str) -> Client:
        """Connect in one of the ways of `DOORS`; a WebSocket's handshake is done."""
        if door == "tcp":
            return await self.raw()
        if door == "unix":
            return await self.raw(unix=True)
        if door == "websockets":
            client = LibraryWebSocket(await self.connect_stream())
            await client.shake_hands()
            return client
        stream = await self.connect_stream(unix=door == "websocket over unix")
        return TrioWebSocket(
            await trio_websocket.wrap_client_stream(self._nursery, stream, "broker.test", "/")
        )

    async def join(self, door: str, group: str = "demo", **said: object) -> Client:
        """Connect and identify."""
        client = await self.connect(door)
        await client.identify(group, **said)
        return client

    def peer(self, client: Client) -> Peer:
        """Return what the broker knows a client as."""
        return self.server.dispatcher.registry.by_id[client.id]

    def connections(self) -> int:
        """Return how many connections the broker has taken in and not let go of."""
        return len(self.server._reactor)

    def guests(self) -> int:
        """Return how many connections are still at the door."""
        return self.server._reactor.guests


def make_settings(
    path: str,
    timing: TimingSettings | None = None,
    limits: LimitSettings | None = None,
    tokens: tuple[TokenSettings, ...] | None = None,
) -> Settings:
    """Settings with a TCP and a Unix listener, and one token for every group."""
    return Settings(
        listeners=(ListenerSettings("tcp://127.0.0.1:0"), ListenerSettings(f"unix://{path}")),
        tokens=(TokenSettings(hash_token(TOKEN), "test"),) if tokens is None else tokens,
        timing=timing or TimingSettings(),
        limits=limits or LimitSettings(),
    )
