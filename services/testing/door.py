"""The broker's own door, over connections in memory.

The first byte, the opening handshake, the bounds, and what is said to those who are turned away:
all that is `broker.transport.door`. Here is only what has to do with trio and with real sockets.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, cast

import anyio
import trio

from broker.core.dispatcher import Dispatcher
from broker.core.settings import Settings
from broker.protocol.json_stream import JsonStream
from broker.protocol.websocket import Role, WebSocketWire
from broker.protocol.wire import Wire
from broker.transport.admission import Admission
from broker.transport.door import LAST_WORDS, Door, Guest
from services.testing.links import Link
from services.testing.reactor import MemoryPoller, MemoryReactor
from services.testing.taps import EventTap

__all__ = ["MemoryDoor", "Watch"]

_MESSAGE_LIMIT = 64 * 1024 * 1024


class Watch:
    """Who wants to know of the EVENTs that arrive at a client: nobody."""

    @property
    def watching(self) -> bool:
        """Whether anybody wants to know at present."""
        return False

    def met(self, event: str) -> bool:
        """Take note of an EVENT; True if the connection is to vanish behind it."""
        return False


class MemoryDoor(Door):
    """Takes in connections.

    Args:
        dispatcher: gets a peer for each.
        reactor: serves it from then on.
        settings: for deadlines and limits.
        clock: returns the time in seconds.
        poller: is told which socket is which.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        reactor: MemoryReactor,
        settings: Settings,
        clock: Callable[[], float],
        poller: MemoryPoller,
    ) -> None:
        admission = Admission(settings.limits, dispatcher.counters)
        super().__init__(dispatcher, reactor, settings, admission, clock)
        self._poller = poller

    def close(self) -> None:
        """Let nobody in any more, and say so."""
        self._admission.closed = True

    async def admit_link(self, link: Link, watch: Watch) -> None:
        """Bring one connection as far as the reactor. Nothing a client does raises."""
        stream = _LinkStream(link, watch)
        guest = self._enter(cast("trio.SocketStream", stream), None)
        self._reactor.guests += 1
        try:
            with suppress(trio.BrokenResourceError):
                with anyio.CancelScope(deadline=guest.deadline) as scope:
                    guest.ticket.evict = scope.cancel
                    await self._receive_first(guest)
                if guest.last_words:
                    with anyio.move_on_after(LAST_WORDS):
                        await guest.stream.send_all(guest.last_words)
        finally:
            self._reactor.guests -= 1
            self._part_with(guest)
            if not guest.handed_over:
                link.socket.close()

    def _hand_over(self, guest: Guest, wire: Wire, received: bytes) -> None:
        stream: Any = guest.stream
        link = stream.link
        client: Wire = (
            JsonStream(_MESSAGE_LIMIT)
            if isinstance(wire, JsonStream)
            else WebSocketWire(Role.CLIENT, _MESSAGE_LIMIT)
        )
        lane, watch = link.to_client, stream.watch
        lane.tap = EventTap(
            client, skip=lane.in_transit, watched=lambda: watch.watching, met=watch.met
        )
        self._poller.introduce(link.socket)
        self._adopt(guest, cast("socket.socket", link.socket), "memory", wire, received)

    async def _refuse(self, stream: Any, answer: bytes) -> None:  # noqa: ANN401 - `_LinkStream`
        with anyio.move_on_after(self._timing.goodbye_ms / 1000):
            await stream.send_all(answer)
            stream.link.to_client.finish()
            while await stream.receive_some(4096):
                pass


class _LinkStream:
    """A link while the door is busy with it: the part of a `trio.SocketStream` that it uses."""

    def __init__(self, link: Link, watch: Watch) -> None:
        self.link = link
        self.watch = watch

    @property
    def socket(self) -> NoReturn:
        """There is none, whose address could be asked for."""
        raise OSError("a connection in memory has no address")

    async def receive_some(self, size: int) -> bytes:
        """Wait for bytes; nothing means the end."""
        while not self.link.socket.readable:
            await self.link.change()
        try:
            return self.link.socket.recv(size)
        except ConnectionResetError as error:
            raise trio.BrokenResourceError from error

    async def send_all(self, data: bytes) -> None:
        """Send all of it, waiting while there is no room."""
        while data:
            while not self.link.socket.writable:
                await self.link.change()
            try:
                data = data[self.link.socket.send(data) :]
            except ConnectionResetError as error:
                raise trio.BrokenResourceError from error
