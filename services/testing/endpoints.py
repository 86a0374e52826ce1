"""One member's way to the broker, and what can go wrong on it.

A fault belongs to the member, not to a connection: it lasts until it is taken back, for the
connections that the member opens meanwhile as well. `drop` and `kill_on_event` end one connection.
"""

from __future__ import annotations

from enum import Enum

import anyio
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from services.sdk import CannotConnect
from services.sdk.urls import Address
from services.testing.broker import Network
from services.testing.door import Watch
from services.testing.links import Link

__all__ = ["Direction", "Endpoint"]


class Direction(Enum):
    """Which way bytes go."""

    BOTH = "both"
    TO_BROKER = "to the broker"
    FROM_BROKER = "from the broker"


class Endpoint(Watch):
    """One member's way to the broker.

    Args:
        network: where its connections go.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._links: list[Link] = []
        self._to_broker = self._from_broker = 0.0
        self._partitioned = self._frozen = False
        self._passable = anyio.Event()
        self._kill_after = 0
        self._kill_event: str | None = None

    async def dial(self, address: Address) -> ByteStream:
        """Open a connection; during a partition and while frozen, wait for its end.

        Raises:
            CannotConnect: the broker is not running.
        """
        await checkpoint()
        while self._partitioned or self._frozen:
            await self._passable.wait()
        link = self._network.connect(self)
        if link is None:
            raise CannotConnect(f"cannot connect to {address.url}: no broker is running there")
        self._links = [link for link in self._links if link.open]
        self._links.append(link)
        self._apply_delay(link)
        return link.stream

    # Faults that last.

    def delay(self, seconds: float, direction: Direction) -> None:
        """Let what is sent from now on take this long."""
        if seconds < 0:
            raise ValueError("a delay is zero or more seconds")
        if direction is not Direction.FROM_BROKER:
            self._to_broker = seconds
        if direction is not Direction.TO_BROKER:
            self._from_broker = seconds
        for link in self._links:
            self._apply_delay(link)

    def partition(self, *, partitioned: bool) -> None:
        """Let nothing arrive in either direction; or let it all go on."""
        self._partitioned = partitioned
        for link in self._links:
            for lane in link.lanes:
                lane.hold(partitioned)
        self._let_pass()

    def freeze(self, *, frozen: bool) -> None:
        """Let the member neither read nor send; or let it go on."""
        self._frozen = frozen
        for link in self._links:
            link.to_broker.stop(frozen)
            link.to_client.ignore(frozen)
        self._let_pass()

    def heal(self) -> None:
        """Take back every fault that lasts, and one that was yet to come."""
        self.delay(0.0, Direction.BOTH)
        self.partition(partitioned=False)
        self.freeze(frozen=False)
        self._kill_after = 0

    # Faults that end the connection.

    def drop(self, *, reset: bool) -> None:
        """End what is open."""
        for link in self._links:
            if reset:
                link.reset()
            else:
                link.end()

    async def wait_dropped(self) -> None:
        """Wait until the broker has let go of everything that was open."""
        for link in list(self._links):
            while not link.socket.closed:
                await link.change()

    def kill_on_event(self, number: int, event: str | None) -> None:
        """Let the connection vanish right behind an EVENT."""
        if number < 1:
            raise ValueError("events are counted from 1")
        self._kill_after, self._kill_event = number, event

    @property
    def watching(self) -> bool:
        """Whether the connection is to vanish at some EVENT."""
        return self._kill_after > 0

    def met(self, event: str) -> bool:
        """Count an EVENT that arrives; True if it is the one."""
        if self._kill_event not in (None, event):
            return False
        self._kill_after -= 1
        return self._kill_after == 0

    # How it is done.

    def _apply_delay(self, link: Link) -> None:
        link.to_broker.delay(self._to_broker)
        link.to_client.delay(self._from_broker)

    def _let_pass(self) -> None:
        if not (self._partitioned or self._frozen):
            self._passable.set()
            self._passable = anyio.Event()
