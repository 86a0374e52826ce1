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
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import trio

from broker.core.deadlines import Deadlines
from broker.core.dispatcher import Dispatcher
from broker.core.metrics import POLL_SAMPLE, kind_of
from broker.core.peer import Peer, PeerState
from broker.core.settings import Settings
from broker.protocol.errors import Reason
from broker.transport.connection import Connection
from broker.transport.faults import Faults
from broker.transport.limited_log import LimitedLog
from broker.transport.lives import Lives
from broker.transport.poller import READABLE, WRITABLE, Poller, open_poller

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

# While somebody at the ops port waits for an answer, a turn is so short, in seconds, for so long.
# An HTTP request takes some twenty passes through trio, and a probe is not to wait for a turn each.
_SHORT_TURN: Final = 0.0005
_HURRY: Final = 0.05

# What has fallen due, and could not be done for a fault of ours, is tried again after so long, in
# seconds.
_TRY_AGAIN: Final = 1.0

_FAULT: Final = "a fault in the broker, which its log tells of; come back"


class Reactor:
    """Moves the bytes of all connections.

    Attributes:
        guests: connections that the door is busy with.
        log: for what could come in floods.
        faults: where mistakes of the broker itself are reported.
        lives: where the ends of connections are told; None for nowhere.

    Args:
        dispatcher: decides what happens to the messages.
        settings: for the time a leaving connection may take.
        clock: returns the time in seconds, monotonic; trio's own where it is left out.
        poller: knows which sockets are ready; the system's best where it is left out.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        settings: Settings,
        clock: Callable[[], float] | None = None,
        poller: Poller | None = None,
    ) -> None:
        self.guests = 0
        self._dispatcher = dispatcher
        self.reload(settings)
        # Asking the clock itself takes half as long as asking trio for the time.
        self._clock = clock or trio.lowlevel.current_clock().current_time
        self.log = LimitedLog(self._clock)
        self.faults = Faults(dispatcher.counters, self.log)
        self.lives: Lives | None = Lives(self.log)
        self._poller = poller or open_poller()
        self._connections: dict[int, Connection] = {}
        self._by_peer: dict[object, Connection] = {}
        self._metrics = dispatcher.metrics
        # Polls until the next one that is sampled; whether that is the first of its turn.
        self._polls_left = POLL_SAMPLE
        self._first = False
        self._sampling = False
        # How long the turn has waited in the poller, in seconds.
        self._waited = 0.0
        self._hurried_until = -math.inf
        self._alarm = dispatcher.alarm
        self._backlog = dispatcher.effects.backlog
        dispatcher.effects.write_early = self._write_and_settle
        self._leaving: Deadlines[Connection] = Deadlines(self._alarm)
        self._timer = trio.CancelScope()
        self._timer_deadline = math.inf
        self._empty: trio.Event | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def reload(self, settings: Settings) -> None:
        """Go by other settings from now on."""
        self._goodbye = settings.timing.goodbye_ms / 1000

    # What the door and the server ask for.

    def adopt(self, connection: Connection, received: bytes) -> None:
        """Serve a connection from here on.

        Args:
            connection: its socket must be non-blocking and unused by others.
            received: bytes that have been read from it already.
        """
        self._connections[connection.fd] = connection
        self._by_peer[connection.peer] = connection
        connection.since = self._clock()
        connection.bytes_in = len(received)
        connection.watched = READABLE
        self._poller.register(connection.fd, READABLE)
        if received:
            self._sampling = self._metrics.enabled
            try:
                self._handle(connection, received, self._clock())
            except Exception as error:  # noqa: BLE001 - see `_contain`
                self._contain(connection, error)
        self.flush()
        self._sampling = False

    def evict(self, connection: Connection, reason: Reason, message: str) -> None:
        """End a connection at once. What it is told, it is told if the system takes it at once."""
        try:
            self._dispatcher.close(connection.peer, reason, message, discard=True)
        except Exception as error:  # noqa: BLE001 - see `_contain`
            self._contain(connection, error)
        self.flush()
        if self._connections.get(connection.fd) is connection:
            self._drop(connection)

    def hurry(self) -> None:
        """Let other tasks have their turn soon, for a moment: somebody waits for an answer."""
        self._hurried_until = self._clock() + _HURRY

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_timer)
                nursery.start_soon(self.log.run)
                fd = self._poller.fileno()
                while True:
                    await trio.lowlevel.wait_readable(fd)
                    self._take_turn()
        finally:
            self._abandon_all()
            self.log.tell_withheld()

    async def wait_empty(self) -> None:
        """Wait until no connection is left."""
        if self._connections:
            self._empty = trio.Event()
            await self._empty.wait()
        else:
            await trio.lowlevel.checkpoint()

    # One turn.

    def _take_turn(self) -> None:
        now = begun = self._clock()
        hurried = now < self._hurried_until
        end = now + (_SHORT_TURN if hurried else _TURN)
        linger = not hurried and not self.guests
        self._waited = 0.0
        self._polls_left = 1
        self._first = True
        while self.poll_once(now) or (linger and self.poll_once(now, _LINGER)):
            now = self._clock()
            if now > end:
                break
        now = self._clock()
        self._metrics.busy += now - begun - self._waited
        self._metrics.look(self._dispatcher.requests.ledger.opened, now)

    def poll_once(self, now: float, timeout: float = 0.0) -> bool:
        """Handle every socket that is ready, and write what came of it.

        Args:
            now: seconds.
            timeout: how long to wait for a socket to become ready, in seconds.

        Returns:
            Whether there was anything to do.
        """
        ready = self._poller.poll(timeout)
        if timeout:
            woken = self._clock()
            self._waited += woken - now
            now = woken
        if not ready:
            return False
        self._polls_left -= 1
        if self._polls_left:
            self._serve(ready, now)
        else:
            self._serve_sampled(ready, now)
        return True

    def _serve_sampled(self, ready: Sequence[tuple[int, int]], now: float) -> None:
        """Serve, and measure how long it takes and what comes: see `broker.core.metrics`."""
        weight = 1 if self._first else POLL_SAMPLE
        self._first = False
        self._polls_left = POLL_SAMPLE
        self._sampling = self._metrics.enabled
        counters = self._dispatcher.counters
        messages, begun = counters.frames_in, self._clock()
        self._serve(ready, now)
        if self._sampling:
            took = self._clock() - begun
            self._metrics.end_poll(weight, took, counters.frames_in - messages)
            self._sampling = False

    def _serve(self, ready: Sequence[tuple[int, int]], now: float) -> None:
        connections = self._connections
        for fd, events in ready:
            connection = connections.get(fd)
            if connection is None:
                continue  # Closed earlier in this batch.
            try:
                if events & ~WRITABLE:
                    self._read(connection, now)
                if events & WRITABLE and connections.get(fd) is connection:
                    self._write(connection)
            except Exception as error:  # noqa: BLE001 - see `_contain`
                self._contain(connection, error)
        self.flush()

    def tick(self, now: float) -> None:
        """Do what has fallen due."""
        # After a pause of the whole process (a suspended machine, a debugger) the answers to our
        # pings may be waiting to be read. They count.
        self.poll_once(now)
        try:
            self._dispatcher.tick(now)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end everybody
            self.faults.report(error, "doing what had fallen due")
            # What it left undone is due still. Not at once, or nothing else would ever be done.
            self._alarm.time = now + _TRY_AGAIN
        for connection in self._leaving.due(now):
            self._drop(connection)
        self._alarm.time = min(self._alarm.time, self._leaving.next)
        self.flush()

    def flush(self) -> None:
        """Carry out the dispatcher's effects: write, pause, resume, close."""
        effects = self._dispatcher.effects
        self._write_and_settle()
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
                try:
                    self._write(connection)
                except Exception as error:  # noqa: BLE001 - see `_contain`
                    self._contain(connection, error)
        to_flush.clear()

    def _write_and_settle(self) -> None:
        effects = self._dispatcher.effects
        self._write_all(effects.to_flush)
        if effects.overfull or self._backlog.bytes > self._backlog.budget:
            try:
                self._dispatcher.settle()
            except Exception as error:  # noqa: BLE001 - a fault of ours must not end everybody
                self.faults.report(error, "cutting slow receivers")
            self._drop_evicted()

    def _drop_evicted(self) -> None:
        for peer in _take(self._dispatcher.effects.to_drop):
            connection = self._by_peer.get(peer)
            if connection is not None:
                self._drop(connection)

    def _say_goodbyes(self) -> None:
        for peer in _take(self._dispatcher.effects.to_close):
            connection = self._by_peer.get(peer)
            if connection is None:
                continue
            try:
                connection.say_goodbye()
                self._watch(connection, READABLE)
                self._write(connection)
            except Exception as error:  # noqa: BLE001 - see `_contain`
                connection.closing = True
                self._contain(connection, error)

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
        except OSError as error:
            self._break(connection, error)
            return
        connection.bytes_in += len(data)
        if not data:
            self._end_of_file(connection)
        elif not connection.closing:
            self._handle(connection, data, now)

    def _handle(self, connection: Connection, data: bytes, now: float) -> None:
        wire, peer = connection.wire, connection.peer
        messages = wire.receive(data)
        if messages:
            if self._sampling:
                connection.kind = kind_of(messages[0])
                self._note_bytes_in(connection)
            self._dispatcher.receive(peer, messages, now)
        if peer.state is _CLOSED:
            return  # What the framing still owes the other side comes behind the DISCONNECT.
        replies = wire.take_replies()
        if replies and wire.finished:
            # There is a close frame at the end of it, behind which nothing may come.
            self._dispatcher.effects.send(peer, replies)
        elif replies:
            self._dispatcher.effects.send_ahead(peer, replies)
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
        except OSError as error:
            self._break(connection, error)
            return
        if self._sampling:
            self._note_bytes_out(connection)
        if peer.congested and peer.outbox_bytes < self._dispatcher.flow.low:
            self._dispatcher.flow.relieve(peer)
        if not written:
            self._backlog.hold(peer)
            self._watch(connection, connection.watched | WRITABLE)
        elif connection.watched & WRITABLE:
            self._backlog.release(peer)
            self._watch(connection, connection.watched & ~WRITABLE)
        if connection.closing and connection not in self._leaving:
            self._begin_leaving(connection)
        if connection.closing and written:
            # Only our side is shut. Closing both while bytes of theirs are unread would make the
            # system reset the connection, and the goodbye might never be seen.
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_WR)

    def _note_bytes_in(self, connection: Connection) -> None:
        """Count what has come since the last time."""
        self._metrics.bytes_in[connection.kind] += connection.bytes_in - connection.noted_in
        connection.noted_in = connection.bytes_in

    def _note_bytes_out(self, connection: Connection) -> None:
        """Count what has gone since the last time."""
        self._metrics.bytes_out += connection.bytes_out - connection.noted_out
        connection.noted_out = connection.bytes_out

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

    def _break(self, connection: Connection, error: OSError) -> None:
        connection.broken = error.strerror or str(error)
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        """Let go of a connection."""
        # Unregister before closing: file numbers are used again at once.
        del self._connections[connection.fd]
        del self._by_peer[connection.peer]
        self._leaving.discard(connection)
        self._poller.unregister(connection.fd)
        connection.sock.close()
        self._note_bytes_in(connection)
        self._note_bytes_out(connection)
        self._backlog.release(connection.peer)
        try:
            if connection.on_drop is not None:
                connection.on_drop()
            now = self._clock()
            self._dispatcher.lost(connection.peer, now)
            if self.lives is not None:
                self.lives.ended(connection, now)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end everybody
            self.faults.report(error, f"letting go of connection {connection.peer.id}")
        if self._empty is not None and not self._connections:
            self._empty.set()

    def _contain(self, connection: Connection, error: Exception) -> None:
        """End a connection in the midst of which the broker itself has failed.

        A fault of ours must not end everybody. What it has left half done is not known; so whoever
        was served at the moment is taken out of everything, and its requests end.
        """
        peer = connection.peer
        self.faults.report(error, f"serving connection {peer.id}")
        try:
            self._dispatcher.close(peer, Reason.UNKNOWN_ERROR, _FAULT)
        except Exception as another:  # noqa: BLE001 - likewise
            self.faults.report(another, f"closing connection {peer.id}")
        told = peer.farewell is not None and not connection.closing
        if not told and self._connections.get(connection.fd) is connection:
            # It was taking leave already, or there is nothing to say: no more is tried.
            self._drop(connection)

    def _abandon_all(self) -> None:
        for connection in list(self._connections.values()):
            connection.broken = "the broker was ended at once"
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
