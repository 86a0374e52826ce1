"""The broker's own reactor, over sockets in memory.

Nothing of what it decides is done anew here: reading, dispatching, writing, holding up fast
senders, taking leave. Only what it asks "who is ready?" is another poller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from broker.core.dispatcher import Dispatcher
from broker.core.settings import Settings
from broker.transport.faults import Faults
from broker.transport.poller import READABLE, WRITABLE
from broker.transport.reactor import Reactor
from services.testing.links import MemorySocket

__all__ = ["MemoryPoller", "MemoryReactor"]


class MemoryPoller:
    """A `broker.transport.poller.Poller` of sockets in memory.

    Only sockets that something has happened to are looked at, so a poll costs nothing for the
    others.
    """

    def __init__(self) -> None:
        self._sockets: dict[int, MemorySocket] = {}
        self._watched: dict[int, int] = {}
        self._touched: dict[int, None] = {}

    def introduce(self, sock: MemorySocket) -> None:
        """Say which socket a number stands for. Before it is registered."""
        self._sockets[sock.fileno()] = sock

    def touch(self, fd: int) -> None:
        """Note that something has happened to a socket."""
        if fd in self._watched:
            self._touched[fd] = None

    def fileno(self) -> int:
        """There is none: nobody waits for this poller, since `touch` tells when to poll."""
        raise OSError("sockets in memory have no file number to wait for")

    def register(self, fd: int, events: int) -> None:
        """Begin to watch a socket."""
        self._watched[fd] = events
        self._touched[fd] = None

    def modify(self, fd: int, events: int) -> None:
        """Change what a socket is watched for."""
        self.register(fd, events)

    def unregister(self, fd: int) -> None:
        """Stop watching a socket."""
        del self._sockets[fd]
        del self._watched[fd]
        self._touched.pop(fd, None)

    def poll(self, timeout: float) -> Sequence[tuple[int, int]]:
        """Return the sockets that are ready. It never waits."""
        ready: list[tuple[int, int]] = []
        for fd in list(self._touched):
            sock = self._sockets[fd]
            now = (READABLE if sock.readable else 0) | (WRITABLE if sock.writable else 0)
            events = now & self._watched[fd]
            if events:
                ready.append((fd, events))
            else:
                del self._touched[fd]
        return ready

    def close(self) -> None:
        """There is nothing to give back."""


class _Unforgiving(Faults):
    """A broker in service lives on with a fault of its own; a test is to fail of it."""

    def report(self, error: Exception, doing: str) -> NoReturn:
        """Raise it again."""
        raise error


class MemoryReactor(Reactor):
    """The reactor, on any event loop: its `run` is replaced by whoever calls `tick` and `turn`.

    Args:
        dispatcher: decides what happens to the messages.
        settings: for the time a leaving connection may take.
        clock: returns the time in seconds.
        poller: knows which sockets are ready.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        settings: Settings,
        clock: Callable[[], float],
        poller: MemoryPoller,
    ) -> None:
        super().__init__(dispatcher, settings, clock, poller)
        self.faults = _Unforgiving(dispatcher.counters, self.log)
        # The output of a test is its own.
        self.lives = None

    def turn(self, now: float) -> None:
        """Handle everything that is ready, and what has fallen due."""
        if self._alarm.time <= now:
            self.tick(now)
        while self.poll_once(now):
            pass

    def abandon(self) -> None:
        """Close every connection, as the end of the process would."""
        self._abandon_all()
