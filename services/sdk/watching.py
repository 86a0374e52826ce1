"""Watching who comes and goes.

A connection has one WATCH with the broker, however many watches this program has: each asks anew
for its own list, and the events that follow are for all of them. The broker writes the answer and
the changes after it in one order, and a watch is opened by the reader at the very place where its
answer stands: what the list does not show comes as an event, and nothing comes twice. After a
new connection they are all handed a new list.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Self

from msgspec import UNSET

from broker.protocol.codec import Envelope
from services.sdk.errors import MeshError
from services.sdk.feeds import Feed
from services.sdk.registry import Change, read_change

__all__ = ["Watch", "Watches"]


class Watch(Feed[Change]):
    """Who is connected, and then every change. Made by `Mesh.watch`; one task may iterate.

    First comes a `Snapshot`, then an `Up` or a `Down` for each service that comes or goes.
    """

    def __init__(self, watches: Watches, buffer: int) -> None:
        super().__init__("the watch", buffer, read_change)
        self._watches = watches

    async def __aenter__(self) -> Self:
        await self._watches.enter(self)
        return self

    def leave(self) -> None:
        """Watch no more."""
        self._watches.discard(self)


class Watches:
    """All watches of a mesh.

    Args:
        ask: sends WATCH and waits for the answer, which it hands to its argument while what comes
            behind it is not read yet.
        stop: sends UNWATCH, without waiting.
    """

    def __init__(
        self,
        ask: Callable[[Callable[[Envelope], None]], Awaitable[None]],
        stop: Callable[[], None],
    ) -> None:
        self._ask = ask
        self._stop = stop
        self._watches: dict[Watch, None] = {}
        self._open: dict[Watch, None] = {}
        self._ended: Callable[[], MeshError] | None = None

    def __bool__(self) -> bool:
        return bool(self._open)

    def renew(self, answer: Envelope) -> None:
        """Hand the list to all: there is a new connection, and what they knew is void."""
        if answer.error is UNSET:
            self.deliver(answer)

    async def enter(self, watch: Watch) -> None:
        """Ask the broker for its list; open the watch where the answer stands.

        Raises:
            RequestError, ConnectionLost, MeshClosed: as for any request.
        """

        def begin(answer: Envelope) -> None:
            if answer.error is UNSET:
                self._open[watch] = None
                watch.begin(self._ended)
                watch.deliver(answer)

        self._watches[watch] = None
        try:
            await self._ask(begin)
        except BaseException:
            self.discard(watch)
            raise

    def discard(self, watch: Watch) -> None:
        """Let a watch see no more; with the last one the broker stops to tell."""
        self._open.pop(watch, None)
        if watch in self._watches:
            del self._watches[watch]
            if not self._watches:
                self._stop()

    def deliver(self, change: Envelope) -> None:
        """Hand a change to all."""
        for watch in list(self._open):
            watch.deliver(change)

    def end(self, why: Callable[[], MeshError]) -> None:
        """Let all of them end."""
        self._ended = why
        for watch in list(self._open):
            watch.end(why)
