"""A connection of a benchmark: no more than the SDK's framing, a reader and a writer.

Messages are handed over in the reader, one after another, and what they give rise to is written
with one call: so little is between the broker and what is measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

import anyio
import trio
from anyio.abc import ByteStream
from msgspec import Raw

from broker.protocol.codec import Envelope, Message, Refusal, encode
from broker.protocol.frames import OpCode
from broker.protocol.identify import Identification, Welcome
from broker.protocol.wire import Wire
from services.sdk import CannotConnect, ConnectionLost, MeshError
from services.sdk.dialing import Dial, open_wire
from services.sdk.parting import error_from_disconnect
from services.sdk.payloads import PayloadError, load
from services.sdk.urls import Address

__all__ = ["Line", "Listener", "open_line"]

_RECEIVE_BYTES: Final = 120 * 1024

_NETWORK_ERRORS: Final = (
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    OSError,
)

_EVENT, _REPLY, _PING = int(OpCode.EVENT), int(OpCode.REPLY), int(OpCode.PING)


class Listener(Protocol):
    """Who is told what comes in. None of these may block or raise."""

    def on_event(self, event: Envelope) -> None:
        """An EVENT came."""

    def on_reply(self, reply: Envelope) -> None:
        """A REPLY came."""

    def on_trouble(self, text: str) -> None:
        """The broker sent something that is wrong, or the connection has ended."""


class Line:
    """A connection that has been identified.

    Attributes:
        id: the connection id.
        message_bytes: the largest message that the broker takes.
        listener: who is told what comes in.
    """

    def __init__(
        self, stream: ByteStream, wire: Wire, welcome: Welcome, early: list[Message]
    ) -> None:
        self.id = welcome.id
        self.message_bytes = welcome.message_bytes
        self.listener: Listener
        self._stream = stream
        self._wire = wire
        self._early = early
        self._frame = wire.frame
        self._waiting: list[bytes] = []
        self._wake = trio.Event()

    def send(self, message: bytes) -> None:
        """Put a message on its way; the windows of the traffic bound what waits."""
        if not self._waiting:
            self._wake.set()
        self._waiting.append(self._frame(message))

    async def run(self) -> None:
        """Read and write until cancelled, or until the connection has ended."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await anyio.aclose_forcefully(self._stream)

    async def _read(self) -> None:
        wire = self._wire
        self._handle(self._early)
        try:
            while wire.failure is None and not wire.finished:
                self._handle(wire.receive(await self._stream.receive(_RECEIVE_BYTES)))
                if replies := wire.take_replies():
                    self._waiting.append(replies)
                    self._wake.set()
        except _NETWORK_ERRORS as error:
            self.listener.on_trouble(f"the connection broke: {str(error) or type(error).__name__}")
        else:
            self.listener.on_trouble(f"the connection ended: {wire.failure or 'without a word'}")

    def _handle(self, messages: Iterable[Message]) -> None:
        listener = self.listener
        for message in messages:
            op = message.op
            if isinstance(message, Refusal):
                listener.on_trouble(message.message)
            elif op == _EVENT:
                listener.on_event(message)
            elif op == _REPLY:
                listener.on_reply(message)
            elif op == _PING:
                self.send(encode(Envelope(OpCode.PONG, message.id)))
            elif op == OpCode.DISCONNECT:
                listener.on_trouble(str(error_from_disconnect(message, identified=True)))

    async def _write(self) -> None:
        try:
            while True:
                if not self._waiting:
                    self._wake = trio.Event()
                    await self._wake.wait()
                waiting, self._waiting = self._waiting, []
                await self._stream.send(b"".join(waiting))
        except _NETWORK_ERRORS:
            pass  # The reader says it.


async def open_line(
    address: Address, identification: Identification, *, dial: Dial, timeout: float
) -> Line:
    """Connect and identify.

    Raises:
        CannotConnect: there is no broker, or it did not answer in time.
        IdentifyFailed: it did not let this client in.
    """
    try:
        with trio.fail_after(timeout):
            stream = await dial(address)
            try:
                return await _identify(stream, address, identification)
            except BaseException:
                await anyio.aclose_forcefully(stream)
                raise
    except trio.TooSlowError:
        raise CannotConnect(f"{address.url} did not answer within {timeout:g} s") from None
    except _NETWORK_ERRORS as error:
        raise CannotConnect(f"{address.url}: the connection broke: {error}") from None


async def _identify(stream: ByteStream, address: Address, identification: Identification) -> Line:
    wire, data = await open_wire(stream, address)
    question = Envelope(OpCode.IDENTIFY, data=Raw(encode(identification)))
    await stream.send(wire.frame(encode(question)))
    while True:
        messages = wire.receive(data)
        for number, message in enumerate(messages, start=1):
            if isinstance(message, Refusal):
                raise ConnectionLost(f"{address.url}: {message.message}")
            if message.op == OpCode.DISCONNECT:
                raise error_from_disconnect(message, identified=False)
            if message.op == OpCode.IDENTIFY:
                return Line(stream, wire, _welcome(message, address), messages[number:])
        if wire.failure is not None or wire.finished:
            raise CannotConnect(f"{address.url} does not speak the protocol: {wire.failure}")
        data = await stream.receive(_RECEIVE_BYTES)


def _welcome(message: Envelope, address: Address) -> Welcome:
    try:
        welcome: Welcome = load(message.data, Welcome)
    except PayloadError as error:
        raise MeshError(f"{address.url} does not speak the protocol: {error}") from None
    return welcome
