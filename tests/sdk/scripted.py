"""A broker that says what a test tells it to say, over a stream in memory."""

from __future__ import annotations

import math
from typing import Any

import anyio
from anyio.abc import ByteStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from broker.protocol.codec import Envelope, decode, encode_frame, to_frame
from broker.protocol.frames import Error, Frame, Intent, OpCode, Source, Target
from services.sdk import Mesh, connect
from services.sdk.urls import Address

MESH_ID = "c0ffee"
PEER = Source("abc123", "billing")


def welcome(ping: int = 30_000, message_bytes: int = 1024) -> bytes:
    data = {"id": MESH_ID, "group": "web", "ping": ping, "message_bytes": message_bytes}
    return encode_frame(Frame(op=OpCode.IDENTIFY, data=data)) + b"\n"


class MemoryStream(ByteStream):
    """The client's end. It has no bound, unless the test sets one."""

    def __init__(
        self,
        incoming: MemoryObjectReceiveStream[bytes],
        outgoing: MemoryObjectSendStream[bytes],
        *,
        hang_up: MemoryObjectSendStream[bytes] | None,
    ) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._hang_up = hang_up
        self.receives = 0
        self.sends = 0

    async def receive(self, max_bytes: int = 65536) -> bytes:
        self.receives += 1
        return await self._incoming.receive()

    async def send(self, item: bytes) -> None:
        self.sends += 1
        await self._outgoing.send(item)

    async def send_eof(self) -> None:
        self._outgoing.close()
        if self._hang_up is not None:
            self._hang_up.close()

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        self._outgoing.close()
        self._incoming.close()


class ScriptedBroker:
    """The other end. It lets everyone in, unless it is given other first words.

    Args:
        ping: milliseconds, as the welcome says.
        message_bytes: the largest message, as the welcome says.
        first: what it says in place of a welcome.
        room: how many writes of the client it takes in before it reads.
        polite: whether it hangs up when the client does.
    """

    def __init__(
        self,
        *,
        ping: int = 30_000,
        message_bytes: int = 1024,
        first: bytes | None = None,
        room: float = math.inf,
        polite: bool = True,
    ) -> None:
        self._to_client, incoming = anyio.create_memory_object_stream[bytes](math.inf)
        outgoing, self._from_client = anyio.create_memory_object_stream[bytes](room)
        hang_up = self._to_client if polite else None
        self.stream = MemoryStream(incoming, outgoing, hang_up=hang_up)
        self._lines: list[bytes] = []
        self.first = welcome(ping, message_bytes) if first is None else first

    async def dial(self, address: Address) -> ByteStream:
        self._to_client.send_nowait(self.first)
        return self.stream

    def connect(self, **options: Any) -> Mesh:
        options.setdefault("reconnect", None)
        return connect("tcp://broker", group="web", token="t", dial=self.dial, **options)

    async def receive(self) -> Frame:
        while not self._lines:
            self._lines = (await self._from_client.receive()).splitlines()
        envelope = decode(self._lines.pop(0))
        assert isinstance(envelope, Envelope)
        return to_frame(envelope)

    async def receive_until(self, op: OpCode) -> Frame:
        while (frame := await self.receive()).op is not op:
            pass
        return frame

    def send(self, *frames: Frame) -> None:
        """Say all of it in one piece."""
        self.send_bytes(b"".join(encode_frame(frame) + b"\n" for frame in frames))

    def send_bytes(self, data: bytes) -> None:
        self._to_client.send_nowait(data)

    def hang_up(self) -> None:
        self._to_client.close()

    def close(self) -> None:
        """Give everything back; what is left unread does not matter."""
        self._to_client.close()
        self._from_client.close()
        self.stream.close()

    def __enter__(self) -> ScriptedBroker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def event(name: str, data: object = None, **properties: Any) -> Frame:
    """An EVENT as it comes from the broker."""
    properties.setdefault("id", f"id-of-{name}")
    return Frame(
        op=OpCode.EVENT,
        event=name,
        data=data,
        intent=Intent(Target.DIRECT, MESH_ID),
        source=PEER,
        **properties,
    )


def request(name: str, data: object = None, **properties: Any) -> Frame:
    """An EVENT that awaits a reply."""
    return event(name, data, timeout=2000, **properties)


def reply(to: Frame, data: object = None, *, error: Error | None = None) -> Frame:
    """The REPLY to a request of the client's."""
    return Frame(op=OpCode.REPLY, id=to.id, event=to.event, data=data, error=error, source=PEER)
