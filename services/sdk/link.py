"""The way to the broker, through as many connections as it takes.

`Link.run` is one task: it runs a connection to its end, decides whether another one is of use,
waits a while (see `backoff`) and makes one, round and round. How it all ends is said once: when
this program closes it, or for a reason that another attempt would only meet again.

A message is sent on one connection and never again on another: whoever sent it learns whether it
may have arrived, and knows best whether it can be said twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Final

import anyio

from services.sdk.backoff import Backoff
from services.sdk.connection import Connection
from services.sdk.errors import ConnectionLost, MeshClosed, MeshError
from services.sdk.event_loop import EventLoop
from services.sdk.inbox import Inbox
from services.sdk.outbox import HIGH_BYTES
from services.sdk.rounds import LinkOptions, Rounds
from services.sdk.sent import Sent
from services.sdk.states import State, StateChange, States

__all__ = ["Link"]

# For `run` to come to its end once it has been cancelled; only a torn-down event loop needs it.
_END_SECONDS: Final = 2.0


class Link:
    """The way to the broker.

    Attributes:
        states: whether there is a connection.
        connection: the present one, or the last; None before the first.
        on_connected: is called with each new connection, before anything of it is read.
        connections: how many there have been.
        loop: the event loop that all of this lives in; there from `open` on.
    """

    loop: EventLoop

    def __init__(self, options: LinkOptions, inbox: Inbox) -> None:
        self.states = States()
        self.connection: Connection | None = None
        self.on_connected: Callable[[Connection], object] = lambda _connection: None
        self.connections = 0
        self._sent = self._received = self._discarded = 0
        self._options = options
        self._inbox = inbox
        self._rounds = Rounds(options, self)
        self._attempt = 0
        self._closing = False
        self._why: Callable[[], MeshError] | None = None
        self._waiting_bytes = 0
        self._changed = anyio.Event()
        # Made by `open`: it needs an event loop, and a mesh can be made before there is one.
        self._scope: anyio.CancelScope
        self._done = anyio.Event()
        # As the receiver of a connection it only cares for its end; the rest goes straight on.
        self.on_event = inbox.on_event
        self.on_reply = inbox.on_reply
        self.on_refusal = inbox.on_refusal
        self.on_unsent = inbox.on_unsent

    # Using it.

    def check(self) -> None:
        """Raise how it ended, if it has ended for good."""
        if self._why is not None:
            raise self._why()

    async def ready(self, patience: float = math.inf, size: int = 0) -> Connection:
        """Return the connection; wait for one where there is none.

        Args:
            patience: seconds to wait, at most.
            size: bytes that wait with the caller. All who wait have a megabyte together.

        Raises:
            ConnectionLost: there was none in time, or too much waits; or there will be none.
            MeshClosed: this program has closed the mesh.
        """
        connection = self.connection
        if connection is not None and connection.alive:
            return connection
        self.check()
        if patience <= 0:
            raise self._absent("there is no connection at present")
        if self._waiting_bytes and self._waiting_bytes + size > HIGH_BYTES:
            raise self._absent(f"there is no connection, and {self._waiting_bytes} bytes wait")
        self._waiting_bytes += size
        try:
            with anyio.move_on_after(patience):
                while self.states.last.state is State.CONNECTING:
                    await self._changed.wait()
        finally:
            self._waiting_bytes -= size
        self.check()
        connection = self.connection
        if connection is None or not connection.alive:
            raise self._absent(f"there was no connection for {patience:g} s")
        return connection

    def put(self, message: bytes, id: str | None = None) -> Sent | None:
        """Put a message on its way; None where that has to wait, for a connection or for room.

        Raises:
            MessageTooBig: the broker does not take messages of that size.
        """
        connection = self.connection
        if connection is None or not connection.alive:
            return None
        ticket = connection.put(message, id)
        return None if ticket is None else Sent(connection, ticket)

    async def send(self, message: bytes, *, patience: float, id: str | None = None) -> Sent:
        """Put a message on its way, on the present connection or, where there is none, the next.

        It is no task switch unless it has to wait. Between the message's entering the outbox and
        the return no other task runs.

        Args:
            message: the message.
            patience: seconds to wait for a connection.
            id: of an event that awaits no answer: what it is reported by if it is not written.

        Raises:
            ConnectionLost, MeshClosed: as for `ready`; the message was not sent.
            MessageTooBig: the broker does not take messages of that size.
        """
        await self.loop.checkpoint_if_cancelled()
        sent = self.put(message, id)
        deadline: float | None = None
        while sent is None:
            connection = self.connection
            if connection is None or not connection.alive:
                now = anyio.current_time()
                deadline = now + patience if deadline is None else deadline
                await self.ready(deadline - now, len(message))
            else:
                await connection.room()
            # A connection that ended while the message waited for room goes on to the next one.
            sent = self.put(message, id)
        return sent

    @property
    def sent(self) -> int:
        """Messages that were handed to the outbox, on all connections."""
        return self._sent + (0 if self.connection is None else self.connection.sent)

    @property
    def received(self) -> int:
        """Messages that came in, on all connections."""
        return self._received + (0 if self.connection is None else self.connection.received)

    @property
    def discarded(self) -> int:
        """Answers that found no room even past the outbox's limit, on all connections."""
        return self._discarded + (0 if self.connection is None else self.connection.discarded)

    async def wait_closed(self) -> None:
        """Wait until it has ended for good."""
        while self._why is None:
            await self._changed.wait()

    # Its life.

    async def open(self) -> None:
        """Make the first connection.

        Raises:
            CannotConnect, Disconnected: there is none to be had, and `insist` was not asked for.
            IdentifyFailed: the broker did not accept this client.
        """
        self.loop = EventLoop.running()
        self._scope = anyio.CancelScope(shield=True)
        while True:
            try:
                self._adopt(await self._rounds.connect())
            except ConnectionLost as error:
                if not self._options.insist or not self._options.heals(error):
                    raise
                await self._pause(error)
            else:
                return

    async def run(self) -> None:
        """Run connection after connection. From outside it is ended by `close` alone."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._inbox.pending.run)
                    connection = self.connection
                    while connection is not None:
                        since = anyio.current_time()
                        # Even one that was closed before this task began has its goodbye to say.
                        await connection.run()
                        connection = await self._reconnect(anyio.current_time() - since)
                    tasks.cancel_scope.cancel()
        finally:
            self._finish(lambda: ConnectionLost("the connection was abandoned"))
            self._done.set()

    async def close(self) -> None:
        """Write what is left, say goodbye, and end. Takes some seconds at most."""
        self._closing = True
        if self.connection is not None:
            if self.connection.alive:
                await self.connection.close()
            else:
                self._finish(lambda: MeshClosed("the mesh is closed"))
                await self.connection.close()
        self._scope.cancel()
        with anyio.move_on_after(_END_SECONDS):
            await self._done.wait()

    def on_end(self, why: Callable[[], MeshError]) -> None:
        """Decide, when a connection ends, whether there will be another one."""
        error = why()
        self._inbox.lose()
        if self._closing or self._options.backoff is None or not self._options.heals(error):
            self._finish(why)
        else:
            self._change(State.CONNECTING, error)

    # How it is done.

    async def _reconnect(self, stood: float) -> Connection | None:
        """Make another connection, however long it takes; None if that is of no use."""
        backoff = self._options.backoff
        if backoff is not None and stood >= backoff.longest:
            self._attempt = 0
        error = self.states.last.error
        while self._why is None:
            await self._pause(error)
            self._change(State.CONNECTING, error)
            try:
                connection = await self._rounds.connect()
            except ConnectionLost as problem:
                error = problem
                if not self._options.heals(problem):
                    self._finish(partial(copy, problem))
            else:
                if self._why is None:
                    self._adopt(connection)
                    return connection
                # Closed in the very moment in which it stood: nobody would ever end it.
                await connection.abandon()
        return None

    async def _pause(self, error: MeshError | None) -> None:
        backoff = self._options.backoff or Backoff()
        pause = backoff.pause(self._attempt)
        self._attempt += 1
        self._change(State.CONNECTING, error, retry_in=pause)
        await anyio.sleep(pause)

    def _adopt(self, connection: Connection) -> None:
        if self.connection is not None:
            self._sent, self._received, self._discarded = self.sent, self.received, self.discarded
        self.connection = connection
        self.connections += 1
        self._inbox.answer = connection.send_nowait
        self.on_connected(connection)
        self._change(State.CONNECTED, None)

    def _finish(self, why: Callable[[], MeshError]) -> None:
        """Note how it ended for good; the first reason stays."""
        if self._why is None:
            self._why = why
            self._inbox.end(why)
            self._change(State.CLOSED, why())

    def _change(self, state: State, error: MeshError | None, retry_in: float | None = None) -> None:
        url = None if self.connection is None else self.connection.url
        self.states.change(StateChange(state, url, error, retry_in))
        self._changed.set()
        self._changed = anyio.Event()

    def _absent(self, text: str) -> ConnectionLost:
        last = self.states.last.error
        error = ConnectionLost(text if last is None else f"{text}: {last}")
        error.__cause__ = last
        return error
