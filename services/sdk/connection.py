"""One connection: identify, read, write, heartbeat, say goodbye.

`Connection.run` is the connection's whole life in one task with two helpers. The reader alone takes
bytes in and handles what they say at once, without waiting for anyone: it answers heartbeats and
hands events and replies to the `Receiver`, which may not block. The writer puts bytes out, all that
has gathered in one piece (see `outbox`). A watch finds a broker that has fallen silent.

How a connection ends is said once: the first reason stays, whoever else notices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from typing import Final

import anyio
from anyio.abc import ByteStream
from msgspec import Raw

from broker.protocol.codec import Envelope, Message, Refusal, encode
from broker.protocol.errors import Reason
from broker.protocol.frames import OpCode
from broker.protocol.identify import Welcome
from broker.protocol.wire import Wire
from services.sdk.errors import ConnectionLost, MeshClosed, MeshError, MessageTooBig
from services.sdk.event_loop import EventLoop
from services.sdk.outbox import LIMIT_BYTES, Outbox
from services.sdk.parting import error_from_disconnect
from services.sdk.receiver import Receiver
from services.sdk.sockets import PlainStream

__all__ = ["NETWORK_ERRORS", "RECEIVE_BYTES", "Connection"]

# Some hundred ordinary messages a system call. Python allocates as much beforehand; for 128 KiB and
# more, the C library would map and unmap memory each time.
RECEIVE_BYTES: Final = 120 * 1024

# How long the end of a connection may take: to write what is left, say goodbye, and see the broker
# close its side. A healthy broker needs a round trip.
_GOODBYE_SECONDS: Final = 2.0

_EVENT, _REPLY, _PING = int(OpCode.EVENT), int(OpCode.REPLY), int(OpCode.PING)
NETWORK_ERRORS: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class _State(Enum):
    OPEN = "open"
    CLOSING = "closing"
    ENDED = "ended"


class Connection:
    """A connection that has been identified. Made by `open_connection`; lives while `run` does.

    Attributes:
        welcome: what the broker said of it.
        url: where it goes.
        sent: messages that were handed to the outbox.
        received: messages that came in.
        discarded: answers that found no room even past the outbox's limit.
    """

    def __init__(
        self,
        stream: ByteStream,
        wire: Wire,
        receiver: Receiver,
        *,
        url: str,
        welcome: Welcome,
        early: list[Message],
    ) -> None:
        self.welcome = welcome
        self.url = url
        self.sent = 0
        self.received = 0
        self.discarded = 0
        self._loop = EventLoop.running()
        self._limit = welcome.message_bytes
        self._stream = stream
        self._wire = wire
        self._early = early
        self._outbox = Outbox(stream.send_nowait if isinstance(stream, PlainStream) else None)
        self._lone = False
        self._state = _State.OPEN
        self._why: Callable[[], MeshError] | None = None
        self._receiver = receiver
        self._scope = anyio.CancelScope(shield=True)
        self._done = anyio.Event()
        self._last_heard = 0.0

    # Sending.

    @property
    def unsent(self) -> int:
        """Bytes that wait to be written."""
        return self._outbox.size

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._why is None

    def check(self) -> None:
        """Raise what ended the connection, if it has ended."""
        if self._why is not None:
            raise self._why()

    def error(self) -> MeshError:
        """Return what ended the connection."""
        return MeshError("it has not ended") if self._why is None else self._why()

    def written(self, ticket: int) -> bool:
        """Tell whether a message has been written, and so may have arrived."""
        return self._outbox.written >= ticket

    def put(self, message: bytes, id: str | None = None) -> int | None:
        """Put a message on its way, unless too much is on its way already.

        Args:
            message: the message.
            id: of an event that awaits no answer: what it is reported by if it is not written.

        Returns:
            Its ticket, for `written`; None where it has to wait (see `room`).

        Raises:
            MessageTooBig: the broker would end the connection for it.
            ConnectionLost, MeshClosed: there is no connection any more.
        """
        self.check()
        if len(message) > self._limit:
            raise MessageTooBig(
                f"the message has {len(message)} bytes; the broker takes at most {self._limit}"
            )
        if self._outbox.full:
            return None
        self.sent += 1
        # What came last came alone, so this is likely to go alone: an answer, or the next request.
        post = self._outbox.push if self._lone else self._outbox.append
        self._lone = False
        return post(self._wire.frame(message), id)

    async def room(self) -> None:
        """Wait until there may be room for a message, or the connection has ended."""
        await self._outbox.room()

    def send_nowait(self, message: bytes) -> None:
        """Put a small answer on its way; past the limit or the end, discard and count it."""
        if self._why is not None or self._outbox.size > LIMIT_BYTES:
            self.discarded += 1
            return
        self._outbox.append(self._wire.frame(message))
        self.sent += 1

    # Life.

    async def run(self) -> None:
        """Read, write and watch until the connection ends. What the network does raises nothing.

        It is shielded: from outside it is ended by `close` alone, so that a cancelled program still
        says goodbye.
        """
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    self._last_heard = anyio.current_time()
                    tasks.start_soon(self._write)
                    tasks.start_soon(self._watch)
                    await self._read()
                    tasks.cancel_scope.cancel()
        finally:
            self._end(lambda: ConnectionLost("the connection was abandoned"))
            self._state = _State.ENDED
            if unsent := self._outbox.unwritten:
                self._receiver.on_unsent(unsent)
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(self._stream)
            self._done.set()

    async def wait_ended(self) -> None:
        """Wait until the connection has ended."""
        await self._done.wait()

    async def close(self) -> None:
        """Write what is left, say goodbye, and end the connection. Takes two seconds at most.

        The socket is not just closed: with something unread in it, the system would reset the
        connection, and the broker might lose what was sent last.
        """
        if self._why is None:
            self._end(lambda: MeshClosed("the mesh is closed"))
            self._state = _State.CLOSING
            farewell = Envelope(op=OpCode.DISCONNECT, data=Raw(encode(Reason.NO_REASON)))
            self._outbox.append(self._wire.frame(encode(farewell)))
            goodbye = self._wire.goodbye(Reason.NO_REASON.close_code, "")
            if goodbye:
                self._outbox.append(goodbye)
            self._outbox.finish()
            with anyio.move_on_after(_GOODBYE_SECONDS):
                await self._done.wait()
        self._scope.cancel()
        # Only an event loop that is being torn down lets `run` never come to its end.
        with anyio.move_on_after(_GOODBYE_SECONDS):
            await self._done.wait()

    async def abandon(self) -> None:
        """End one that has not run, without a word."""
        await anyio.aclose_forcefully(self._stream)

    def _end(self, why: Callable[[], MeshError]) -> None:
        """Note why it ended; the first reason stays."""
        if self._why is None:
            self._why = why
            self._outbox.wake_all()
            self._receiver.on_end(why)

    def _lose(self, text: str, cause: BaseException | None = None) -> None:
        def make() -> MeshError:
            error = ConnectionLost(f"the connection to {self.url} broke: {text}")
            error.__cause__ = cause
            return error

        self._end(make)

    # The three loops.

    async def _read(self) -> None:
        wire = self._wire
        self._handle(self._early, self._last_heard)
        while self._why is None or self._state is _State.CLOSING:
            try:
                data = await self._stream.receive(RECEIVE_BYTES)
            except anyio.EndOfStream:
                self._lose("the broker hung up without a word")
                return
            except NETWORK_ERRORS as error:
                self._lose(str(error) or type(error).__name__, error)
                return
            messages = wire.receive(data)
            if messages:
                self._last_heard = self._loop.now()
                self._lone = len(messages) == 1
                self._handle(messages, self._last_heard)
            if replies := wire.take_replies():
                self._outbox.prepend(replies)
            if wire.failure is not None:
                self._lose(f"what came is not of the protocol: {wire.failure}", wire.failure)
            elif wire.finished:
                self._lose("the broker closed the WebSocket without a word")

    def _handle(self, messages: Iterable[Message], now: float) -> None:
        receiver = self._receiver
        if self._state is not _State.OPEN:
            return
        for message in messages:
            self.received += 1
            op = message.op
            if isinstance(message, Refusal):
                receiver.on_refusal(message)
            elif op == _EVENT:
                receiver.on_event(message, now)
            elif op == _REPLY:
                receiver.on_reply(message)
            elif op == _PING:
                pong = Envelope(op=OpCode.PONG, id=message.id)
                self._outbox.prepend(self._wire.frame(encode(pong)))
            elif op == OpCode.DISCONNECT:
                self._end(partial(error_from_disconnect, message, identified=True))
                return

    async def _write(self) -> None:
        try:
            while data := await self._outbox.take():
                await self._stream.send(data)
            await self._stream.send_eof()
        except NETWORK_ERRORS as error:
            # The broker may have said why before it hung up, and the reader is about to read it.
            with anyio.move_on_after(_GOODBYE_SECONDS):
                await anyio.sleep_forever()
            self._lose(str(error) or type(error).__name__, error)
            self._scope.cancel()

    async def _watch(self) -> None:
        """Ping a silent broker; give it up when it stays silent as long again."""
        interval = self.welcome.ping / 1000
        ping = self._wire.frame(encode(Envelope(op=OpCode.PING)))
        while True:
            heard = self._last_heard
            await anyio.sleep_until(heard + interval)
            if self._last_heard > heard:
                continue
            self._outbox.prepend(ping)
            deadline = max(heard + interval, anyio.current_time()) + interval
            await anyio.sleep_until(deadline)
            # Woken late, this program itself was busy (or the machine asleep), and what the broker
            # has said may lie unread: it gets another round.
            on_time = anyio.current_time() < deadline + interval / 2
            if self._last_heard <= heard and on_time:
                silent = math.floor(anyio.current_time() - heard)
                self._lose(f"the broker has been silent for {silent} s, and not answered a PING")
                self._scope.cancel()
                return
