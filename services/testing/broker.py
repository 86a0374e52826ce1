"""The broker in memory: all its parts but the sockets, and the task that keeps it going."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

import anyio
from anyio.abc import TaskGroup

from broker.core.dispatcher import Dispatcher
from broker.core.draining import GOODBYE_STEP, goodbyes_at_a_time
from broker.core.settings import Settings
from broker.protocol.errors import Reason
from services.testing.door import MemoryDoor, Watch
from services.testing.links import Link
from services.testing.reactor import MemoryPoller, MemoryReactor

__all__ = ["MemoryBroker", "Network"]

# 2000-01-01T00:00:00Z, when every mesh in memory begins, so that times are the same in every run.
_EPOCH: Final = 946_684_800


class MemoryBroker:
    """One life of a broker, from its start to its stop.

    Args:
        settings: the operator's.
        new_id: makes ids.
        clock: returns the time in seconds.
        epoch: what the clock says at the beginning of the mesh.

    Attributes:
        dispatcher: the broker without its sockets.
        poller: knows which connections are ready.
        accepting: whether it takes new connections.
    """

    def __init__(
        self,
        settings: Settings,
        new_id: Callable[[], str],
        clock: Callable[[], float],
        epoch: float,
    ) -> None:
        self.dispatcher = Dispatcher(settings, _EPOCH - epoch, new_id)
        self.poller = MemoryPoller()
        self._clock = clock
        self._settings = settings
        self._reactor = MemoryReactor(self.dispatcher, settings, clock, self.poller)
        self._door = MemoryDoor(self.dispatcher, self._reactor, settings, clock, self.poller)
        self.accepting = True
        self._leaving: anyio.Event | None = None
        self._admissions: set[anyio.CancelScope] = set()
        self._turned = anyio.Event()

    @property
    def next(self) -> float:
        """When something falls due, in seconds."""
        return self.dispatcher.alarm.time

    def turn(self) -> None:
        """Do all there is to do now."""
        self._reactor.turn(self._clock())
        turned, self._turned = self._turned, anyio.Event()
        turned.set()

    async def admit(self, link: Link, watch: Watch) -> None:
        """Take in one connection; hang up where the broker is about to stop."""
        if not self.accepting:
            link.socket.close()
            return
        with anyio.CancelScope() as scope:
            self._admissions.add(scope)
            try:
                await self._door.admit_link(link, watch)
            finally:
                self._admissions.discard(scope)

    async def take_leave(self) -> None:
        """Stop in good order, as `broker.server.Server` does at SIGTERM. Can be said twice."""
        if self._leaving is not None:
            await self._leaving.wait()
            return
        self._leaving = anyio.Event()
        timing = self._settings.timing
        await anyio.sleep(timing.grace_ms / 1000)
        self._end_admissions()
        self._door.close()
        drain = timing.drain_ms / 1000
        with anyio.move_on_after(drain):
            self.dispatcher.drain()
            with anyio.move_on_after(drain / 2):
                while len(self.dispatcher.requests.ledger):
                    await self._turned.wait()
            self.dispatcher.end_requests()
            await self._say_goodbyes(drain / 4)
            while len(self._reactor):
                await self._turned.wait()
        self.accepting = False
        self._leaving.set()

    async def _say_goodbyes(self, seconds: float) -> None:
        accepts = self._settings.limits.accepts_per_second
        most = goodbyes_at_a_time(len(self._reactor), seconds, accepts)
        while True:
            left = self.dispatcher.close_some(
                most, Reason.SERVER_RESTART, "the broker is going down"
            )
            self._reactor.flush()
            if not left:
                return
            await anyio.sleep(GOODBYE_STEP)

    def abandon(self) -> None:
        """Close every connection, as the end of the process would."""
        self.accepting = False
        self._end_admissions()
        self._reactor.abandon()

    def _end_admissions(self) -> None:
        for scope in self._admissions:
            scope.cancel()


class Network:
    """The connections of a mesh in memory, and the broker at their other end.

    Args:
        tasks: where its task runs, and a task for each connection that is being opened.
        clock: returns the time in seconds.

    Attributes:
        broker: None while there is none running.
    """

    def __init__(self, tasks: TaskGroup, clock: Callable[[], float]) -> None:
        self.broker: MemoryBroker | None = None
        self._tasks = tasks
        self._clock = clock
        self._links: dict[int, Link] = {}
        self._numbers = 0
        self._wake = anyio.Event()

    def connect(self, watch: Watch) -> Link | None:
        """Open a connection; None where nobody listens."""
        broker = self.broker
        if broker is None or not broker.accepting:
            return None
        self._numbers += 1
        link = Link(self._clock, self._numbers, self._changed)
        self._links[link.number] = link
        self._tasks.start_soon(broker.admit, link, watch)
        return link

    async def run(self) -> None:
        """Let bytes arrive and the broker do its work, whenever there is any; until cancelled."""
        while True:
            self._wake = anyio.Event()
            now = self._clock()
            for link in self._open_links():
                for lane in link.lanes:
                    lane.advance(now)
            if self.broker is not None:
                self.broker.turn()
            with anyio.CancelScope(deadline=self._next()):
                await self._wake.wait()

    def _next(self) -> float:
        soonest = math.inf if self.broker is None else self.broker.next
        for link in self._links.values():
            for lane in link.lanes:
                soonest = min(soonest, lane.next)
        return soonest

    def _open_links(self) -> Iterator[Link]:
        for link in list(self._links.values()):
            if not link.open:
                del self._links[link.number]
            yield link

    def _changed(self, number: int) -> None:
        if self.broker is not None:
            self.broker.poller.touch(number)
        self._wake.set()
