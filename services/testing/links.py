"""A connection in memory: two lanes, a socket at the broker's end, a stream at the client's."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import anyio
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from services.testing.lanes import Lane

__all__ = ["ClientStream", "Link", "MemorySocket"]


class Link:
    """A connection.

    Args:
        clock: returns the time in seconds.
        number: stands for the file number of the broker's socket.
        changed: is called when the broker's end may be able to go on, or the time of `next` has
            changed.

    Attributes:
        to_broker: what the client sends.
        to_client: what the broker sends.
        socket: the broker's end.
        stream: the client's end.
    """

    def __init__(
        self, clock: Callable[[], float], number: int, changed: Callable[[int], None]
    ) -> None:
        self.number = number
        self._tell = changed
        self._wake: anyio.Event | None = None
        self.to_broker = Lane(clock, self._changed)
        self.to_client = Lane(clock, self._changed)
        self.to_client.on_cut = self.reset
        self.socket = MemorySocket(self)
        self.stream = ClientStream(self)

    @property
    def lanes(self) -> Iterator[Lane]:
        """Both directions."""
        yield self.to_broker
        yield self.to_client

    @property
    def open(self) -> bool:
        """Whether either end still has it open."""
        return not (self.socket.closed and self.stream.closed)

    async def change(self) -> None:
        """Wait until something has happened here."""
        if self._wake is None:
            self._wake = anyio.Event()
        await self._wake.wait()

    def end(self) -> None:
        """End both directions in good order, as a proxy in between would that is shut down."""
        for lane in self.lanes:
            lane.cut()

    def reset(self) -> None:
        """Break it. Of what was on its way, the client may read what had arrived."""
        self.to_broker.break_off(lose_arrived=True)
        self.to_client.break_off(lose_arrived=False)

    def _changed(self) -> None:
        if self._wake is not None:
            self._wake.set()
            self._wake = None
        self._tell(self.number)


class MemorySocket:
    """The broker's end: the part of a non-blocking `socket.socket` that the reactor uses."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.closed = False

    def fileno(self) -> int:
        """A number that no other link of this mesh has or had."""
        return self.link.number

    @property
    def readable(self) -> bool:
        """Whether `recv` has something to say."""
        return self.link.to_broker.readable

    @property
    def writable(self) -> bool:
        """Whether `send` takes something."""
        return self.link.to_client.writable

    def recv(self, size: int) -> bytes:
        """Take bytes out; nothing means the end.

        Raises:
            BlockingIOError: there are none yet.
            ConnectionResetError: the connection is broken.
        """
        if not self.readable:
            raise BlockingIOError
        return self.link.to_broker.read(size)

    def send(self, data: bytes) -> int:
        """Put bytes in, as many as there is room for; return how many.

        Raises:
            BlockingIOError: there is no room at all.
            ConnectionResetError: the connection is broken.
        """
        if not self.writable:
            raise BlockingIOError
        return self.link.to_client.write(data)

    def shutdown(self, how: int) -> None:
        """Send nothing more; for `SHUT_WR` only."""
        if how != socket.SHUT_WR:
            raise ValueError("the reactor shuts its own side only")
        self.link.to_client.finish()

    def close(self) -> None:
        """Send nothing more, and read nothing more."""
        self.closed = True
        self.link.to_client.finish()
        self.link.to_broker.abandon()


class ClientStream(ByteStream):
    """The client's end."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.closed = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Wait for bytes.

        Raises:
            EndOfStream: there will be no more.
            BrokenResourceError: the connection is broken.
            ClosedResourceError: this end is closed.
        """
        lane = self._link.to_client
        await checkpoint()
        while True:
            if self.closed:
                raise anyio.ClosedResourceError
            if lane.readable:
                break
            await self._link.change()
        try:
            data = lane.read(max_bytes)
        except ConnectionResetError as error:
            raise anyio.BrokenResourceError(str(error)) from error
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """Put all of it on its way; wait while there is no room.

        Raises:
            BrokenResourceError: the connection is broken.
            ClosedResourceError: this end is closed.
        """
        lane = self._link.to_broker
        await checkpoint()
        while item:
            if self.closed:
                raise anyio.ClosedResourceError
            if lane.writable:
                try:
                    item = item[lane.write(item) :]
                except ConnectionResetError as error:
                    raise anyio.BrokenResourceError(str(error)) from error
            else:
                await self._link.change()

    async def send_eof(self) -> None:
        """Send nothing more."""
        self._link.to_broker.finish()
        await checkpoint()

    async def aclose(self) -> None:
        """Send nothing more, and read nothing more."""
        self.closed = True
        self._link.to_broker.finish()
        self._link.to_client.abandon()
        await checkpoint()
