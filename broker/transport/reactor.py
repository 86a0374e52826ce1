"""The data plane: one task, one poller, batch in, batch out.

All sockets, once the door has found out what is spoken over them, are served here. A single trio
task waits until any is ready; then `poll_once` handles every ready one in a tight synchronous loop:
receive, split into messages, dispatch each, and at the end write each peer whose outbox grew, once.
That is where the speed comes from: at a high load the cost of a system call is shared by hundreds
of messages, and no message costs a task switch.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import trio

from broker.core.deadlines import Deadlines
from broker.core.dispatcher import Dispatcher
from broker.core.peer import Peer, PeerState
from broker.core.settings import Settings
from broker.transport.connection import Connection
from broker.transport.poller import READABLE, WRITABLE, open_poller

__all__ = ["Reactor"]

T = TypeVar("T")

# Looked at for every piece of input, so looked up once.
_CLOSED: Final = PeerState.CLOSED

# What one receive takes at most. A sender with more waiting gets its next turn after all others.
# Python sets this much memory aside before it asks the system; from 128 KiB on, the C library maps
# and unmaps it each time, which takes 17 µs in place of 2.
_RECEIVE_SIZE: Final = 120 * 1024

# How long the reactor stays at work, in seconds, before trio's other tasks (new connections, ops)
# have their turn. A pass through trio costs some 30 µs, so this keeps its share under one percent.
_TURN: Final = 0.005

# While messages flow, wait this long for the next ones in the poller, in seconds, before going back
# to trio: an answer often comes within some ten microseconds of the question, and a pass through
# trio for each message of a lone pair would cost a third of its speed. A millisecond is the least
# that epoll knows. While the door has anyone to let in there is no waiting: each of its steps would
# be held up by that long.
_LINGER: Final = 0.001


class Reactor:
    """Moves the bytes of all connections.

    Attributes:
        guests: connections that the door is busy with.

    Args:
        dispatcher: decides what happens to the messages.
        settings: for the time a leaving connection may take.
        clock: returns the time in seconds, monotonic; trio's own where it is left out.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        settings: Settings,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.guests = 0
        self._dispatcher = dispatcher
        self._goodbye = settings.timing.goodbye_ms / 1000
        # Asking the clock itself takes half as long as asking trio for the time.
        self._clock = clock or trio.lowlevel.current_clock().current_time
        self._poller = open_poller()
        self._connections: dict[int, Connection] = {}
        self._by_peer: dict[object, Connection] = {}
        self._alarm = dispatcher.alarm
        self._leaving: Deadlines[Connection] = Deadlines(self._alarm)
        self._timer = trio.CancelScope()
        self._timer_deadline = math.inf
        self._empty: trio.Event | None = None

    def __len__(self) -> int:
        return len(self._connections)

    # What the door and the server ask for.

    def adopt(self, connection: Connection, received: bytes) -> None:
        """Serve a connection from here on.

        Args:
            connection: its socket must be non-blocking and unused by others.
            received: bytes that have been read from it already.
        """
        self._connections[connection.fd] = connection
        self._by_peer[connection.peer] = connection
        connection.watched = READABLE
        self._poller.register(connection.fd, READABLE)
        if received:
            self._handle(connection, received, self._clock())
        self.flush()

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_timer)
                fd = self._poller.fileno()
                while True:
                    await trio.lowlevel.wait_readable(fd)
                    self._take_turn()
        finally:
            self._abandon_all()

    async def wait_empty(self) -> None:
        """Wait until no connection is left."""
        if self._connections:
            self._empty = trio.Event()
            await self._empty.wait()
        else:
            await trio.lowlevel.checkpoint()

    # One turn.

    def _take_turn(self) -> None:
        now = self._clock()
        end = now + _TURN
        while self.poll_once(now) or (not self.guests and self.poll_once(now, _LINGER)):
            now = self._clock()
            if now > end:
                break

    def poll_once(self, now: float, timeout: float = 0.0) -> bool:
        """Handle every socket that is ready, and write what came of it.

        Args:
            now: seconds.
            timeout: how long to wait for a socket to become ready, in seconds.

        Returns:
            Whether there was anything to do.
        """
        ready = self._poller.poll(timeout)
        connections = self._connections
        found = False
        for fd, events in ready:
            found = True
            connection = connections.get(fd)
            if connection is None:
                continue  # Closed earlier in this batch.
            if events & ~WRITABLE:
                self._read(connection, now)
            if events & WRITABLE and connections.get(fd) is connection:
                self._write(connection)
        if found:
            self.flush()
        return found

    def tick(self, now: float) -> None:
        """Do what has fallen due."""
        # After a pause of the whole process (a suspended machine, a debugger) the answers to our
        # pings may be waiting to be read. They count.
        self.poll_once(now)
        self._dispatcher.tick(now)
        for connection in self._leaving.due(now):
            self._drop(connection)
        self._alarm.time = min(self._alarm.time, self._leaving.next)
        self.flush()

    def flush(self) -> None:
        """Carry out the dispatcher's effects: write, pause, resume, close."""
        effects = self._dispatcher.effects
        self._write_all(effects.to_flush)
        if effects.overfull:
            self._dispatcher.settle()
        # Closing tells others, and what they are told has to be written too.
        while effects.to_close:
            self._say_goodbyes()
            self._write_all(effects.to_flush)
        if effects.to_pause or effects.to_resume:
            self._pause_and_resume()
        if self._alarm.time < self._timer_deadline:
            self._arm_timer()

    def _write_all(self, to_flush: list[Peer]) -> None:
        # Writing may find a connection broken, and so lead to more being written.
        for peer in to_flush:
            connection = self._by_peer.get(peer)
            if connection is not None and peer.outbox:
                self._write(connection)
        to_flush.clear()

    def _say_goodbyes(self) -> None:
        for peer in _take(self._dispatcher.effects.to_close):
            connection = self._by_peer.get(peer)
            if connection is not None:
                connection.say_goodbye()
                self._watch(connection, READABLE)
                self._write(connection)

    def _pause_and_resume(self) -> None:
        effects = self._dispatcher.effects
        for peer in _take(effects.to_pause) + _take(effects.to_resume):
            connection = self._by_peer.get(peer)
            if connection is not None and not connection.closing:
                wanted = 0 if peer.stalls else READABLE
                self._watch(connection, connection.watched & WRITABLE | wanted)

    # One connection.

    def _read(self, connection: Connection, now: float) -> None:
        try:
            data = connection.sock.recv(_RECEIVE_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._drop(connection)
            return
        if not data:
            self._end_of_file(connection)
        elif not connection.closing:
            self._handle(connection, data, now)

    def _handle(self, connection: Connection, data: bytes, now: float) -> None:
        wire, peer = connection.wire, connection.peer
        messages = wire.receive(data)
        if messages:
            self._dispatcher.receive(peer, messages, now)
        if peer.state is _CLOSED:
            return  # What the framing still owes the other side comes behind the DISCONNECT.
        replies = wire.take_replies()
        if replies:
            self._dispatcher.effects.send(peer, replies)
        if wire.failure is not None:
            self._dispatcher.fail(peer, wire.failure)
        elif wire.finished:
            # Both sides have said goodbye: the answer to the close frame is in the outbox.
            self._dispatcher.lost(peer)
            connection.closing = True
            self._begin_leaving(connection)

    def _write(self, connection: Connection) -> None:
        peer = connection.peer
        try:
            written = connection.write()
        except OSError:
            self._drop(connection)
            return
        if peer.congested and peer.outbox_bytes < self._dispatcher.flow.low:
            self._dispatcher.flow.relieve(peer)
        if not written:
            self._watch(connection, connection.watched | WRITABLE)
        elif connection.watched & WRITABLE:
            self._watch(connection, connection.watched & ~WRITABLE)
        if connection.closing and connection not in self._leaving:
            self._begin_leaving(connection)
        if connection.closing and written:
            # Only our side is shut. Closing both while bytes of theirs are unread would make the
            # system reset the connection, and the goodbye might never be seen.
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_WR)

    def _begin_leaving(self, connection: Connection) -> None:
        now = self._clock()
        self._leaving.add(connection, now + self._goodbye, now)

    def _end_of_file(self, connection: Connection) -> None:
        """The other side will send nothing more. What is unsent gets a last chance."""
        if not connection.closing:
            with suppress(OSError):
                connection.write()
        self._drop(connection)

    def _watch(self, connection: Connection, events: int) -> None:
        if connection.watched != events:
            connection.watched = events
            self._poller.modify(connection.fd, events)

    def _drop(self, connection: Connection) -> None:
        """Let go of a connection."""
        # Unregister before closing: file numbers are used again at once.
        del self._connections[connection.fd]
        del self._by_peer[connection.peer]
        self._leaving.discard(connection)
        self._poller.unregister(connection.fd)
        connection.sock.close()
        self._dispatcher.lost(connection.peer, self._clock())
        if self._empty is not None and not self._connections:
            self._empty.set()

    def _abandon_all(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._poller.close()

    # Time.

    async def _run_timer(self) -> None:
        while True:
            self._timer = trio.CancelScope()
            self._arm_timer()
            with self._timer:
                await trio.sleep_forever()
            self.tick(self._clock())

    def _arm_timer(self) -> None:
        self._timer_deadline = self._alarm.time
        self._timer.deadline = self._timer_deadline


def _take(items: list[T]) -> list[T]:
    """Return what stands in a list, and empty it."""
    taken = items[:]
    items.clear()
    return taken
