"""What a mesh's connection is up to, and who wants to know."""

from __future__ import annotations

from enum import Enum
from typing import Self

import attrs

from services.sdk.errors import MeshError
from services.sdk.feeds import Feed

__all__ = ["State", "StateChange", "States", "StatesFeed"]


class State(Enum):
    """Whether there is a connection."""

    CONNECTING = "connecting"
    """There is none at present; one is being made, or will be after a pause."""

    CONNECTED = "connected"
    """There is one."""

    CLOSED = "closed"
    """There will be none any more: this program closed the mesh, or coming back is of no use."""


@attrs.frozen
class StateChange:
    """A state, and how it came about.

    Attributes:
        state: the state from now on.
        url: where the connection goes or went; None where there has been none.
        error: with CONNECTING, why there is no connection any more, or why the last attempt failed;
            with CLOSED, why it is for good.
        retry_in: with CONNECTING, seconds until the next attempt; None while it is under way.
    """

    state: State
    url: str | None = None
    error: MeshError | None = None
    retry_in: float | None = None


class StatesFeed(Feed[StateChange]):
    """The state as it is, and then every change. Made by `Mesh.states`.

    Iterating ends after CLOSED. One task at a time may iterate.
    """

    def __init__(self, states: States, buffer: int) -> None:
        super().__init__("the listener to states", buffer, lambda change: change)
        self._states = states
        self._over = False

    async def __aenter__(self) -> Self:
        self.begin(None)
        self._states.add(self)
        return self

    async def __anext__(self) -> StateChange:
        if self._over:
            raise StopAsyncIteration
        change = await self.receive()
        self._over = change.state is State.CLOSED
        return change

    def leave(self) -> None:
        """Hear no more."""
        self._states.discard(self)


class States:
    """The state, and all who listen to it.

    Attributes:
        last: how it is at present.
    """

    def __init__(self) -> None:
        self.last = StateChange(State.CONNECTING)
        self._feeds: dict[StatesFeed, None] = {}

    def add(self, feed: StatesFeed) -> None:
        """Tell a feed how it is, and of every change from now on."""
        self._feeds[feed] = None
        feed.deliver(self.last)

    def discard(self, feed: StatesFeed) -> None:
        """Tell a feed no more."""
        self._feeds.pop(feed, None)

    def change(self, change: StateChange) -> None:
        """Tell everyone. Synchronous: it happens between two steps of the connection."""
        self.last = change
        for feed in list(self._feeds):
            feed.deliver(change)
