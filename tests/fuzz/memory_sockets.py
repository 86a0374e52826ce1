"""Sockets and a poller in memory, for the real reactor: a step is a call, and nothing waits."""

from __future__ import annotations

from collections.abc import Sequence

from broker.transport.poller import READABLE, WRITABLE

__all__ = ["MemoryPoller", "MemorySocket"]


class MemorySocket:
    """The broker's end of a connection.

    Attributes:
        inbox: what has come and was not read yet.
        ended: the other side sends nothing more.
        broken: the connection is reset.
        room: how many bytes the system still takes.
        sent: what the broker has sent, and the other side has not looked at yet.
        shut: the broker has ended its own side.
        closed: the broker has let go of it.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self.inbox = bytearray()
        self.ended = self.broken = False
        self.room = 1 << 30
        self.sent = bytearray()
        self.shut = self.closed = False

    def fileno(self) -> int:
        return self._number

    def recv(self, size: int, /) -> bytes:
        assert not self.closed
        if self.broken:
            raise ConnectionResetError
        if not self.inbox and not self.ended:
            raise BlockingIOError
        data = bytes(self.inbox[:size])
        del self.inbox[:size]
        return data

    def send(self, data: bytes, /) -> int:
        assert data
        assert not self.closed
        assert not self.shut
        if self.broken:
            raise BrokenPipeError
        if not self.room:
            raise BlockingIOError
        taken = data[: self.room]
        self.room -= len(taken)
        self.sent += taken
        return len(taken)

    def shutdown(self, how: int, /) -> None:
        self.shut = True

    def close(self) -> None:
        assert not self.closed
        self.closed = True

    def ready_for(self, events: int) -> int:
        """What of the events it is ready for; of an error the system tells unasked."""
        if self.broken:
            return READABLE
        ready = READABLE if self.inbox or self.ended else 0
        return events & (ready | (WRITABLE if self.room else 0))


class MemoryPoller:
    """Knows which of the sockets are ready."""

    def __init__(self, sockets: dict[int, MemorySocket]) -> None:
        self._sockets = sockets
        self.watched: dict[int, int] = {}

    def fileno(self) -> int:
        return -1

    def register(self, fd: int, events: int) -> None:
        assert fd not in self.watched
        self.watched[fd] = events

    def modify(self, fd: int, events: int) -> None:
        assert fd in self.watched
        self.watched[fd] = events

    def unregister(self, fd: int) -> None:
        assert not self._sockets[fd].closed
        del self.watched[fd]

    def poll(self, timeout: float) -> Sequence[tuple[int, int]]:
        ready = [(fd, self._sockets[fd].ready_for(events)) for fd, events in self.watched.items()]
        return [(fd, events) for fd, events in ready if events]

    def close(self) -> None:
        self.watched.clear()
