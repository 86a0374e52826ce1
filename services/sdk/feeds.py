"""Feeds: what comes in, to be iterated over, each with a bounded buffer of its own.

The one reader of a connection answers heartbeats and hands replies to their requests, so it must
not wait for anyone: while it waits, every request on the connection waits, and in the end the
broker takes the client for dead. So a full buffer can neither hold the reader up nor grow. The feed
*ends* instead, with `ListenerOverflow`, after delivering what it holds: its program learns that it
has missed something, and where.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from services.sdk.errors import ListenerOverflow, MeshClosed, MeshError
from services.sdk.event_loop import EventLoop

__all__ = ["Feed"]

T = TypeVar("T")


class Feed(Generic[T]):
    """Things as they come. One task at a time may iterate.

    Iterating never ends by itself but with an error that says why; what came before is delivered
    first.

    Args:
        about: what it feeds, in words, for its errors.
        buffer: how many things it holds for a slow consumer.
        convert: makes out of what came in what is delivered; runs in the consumer's task.

    Attributes:
        buffer: see above.
        received: how many things have come, in all.

    Raises:
        ValueError: a buffer without room.
    """

    def __init__(self, about: str, buffer: int, convert: Callable[[Any], T]) -> None:
        if buffer < 1:
            raise ValueError("a buffer needs room for one event at least")
        self.buffer = buffer
        self.received = 0
        self._about = about
        self._convert = convert
        self._waiting: deque[Any] = deque()
        self._ended: Callable[[], MeshError] | None = _not_entered
        self._wake: anyio.Event | None = None
        self._checkpoint_if_cancelled: Callable[[], Awaitable[None]] = checkpoint_if_cancelled

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[T]:
        return self.receive()

    async def receive(self) -> T:
        """Wait for the next one.

        Taking what has come already is no task switch: the buffer is bounded, so a consumer that
        never waits otherwise still comes to wait here.

        Raises:
            ListenerOverflow: this one was too slow, and has delivered all that it held.
            ConnectionLost: there is no connection any more, and will be none.
            MeshClosed: the mesh, or this one, was closed.
        """
        await self._checkpoint_if_cancelled()
        while not self._waiting:
            if self._ended is not None:
                raise self._ended()
            if self._wake is not None:
                raise anyio.BusyResourceError(self._about)
            self._wake = anyio.Event()
            try:
                await self._wake.wait()
            finally:
                self._wake = None
        return self._convert(self._waiting.popleft())

    def begin(self, ended: Callable[[], MeshError] | None) -> None:
        """Be open from now on, or ended if that is what it is told."""
        self._ended = ended
        self._checkpoint_if_cancelled = EventLoop.running().checkpoint_if_cancelled

    def deliver(self, item: object) -> None:
        """Take something in; never waits."""
        self.received += 1
        if len(self._waiting) < self.buffer:
            self._waiting.append(item)
            if self._wake is not None:
                self._wake.set()
        else:
            self.leave()
            self.end(self._overflow)

    def end(self, why: Callable[[], MeshError]) -> None:
        """Let iterating end, once all is delivered; the first reason stays."""
        if self._ended is None:
            self._ended = why
        if self._wake is not None:
            self._wake.set()

    def leave(self) -> None:
        """Let nothing more be delivered."""

    def close(self) -> None:
        """Leave, and forget what was not delivered yet: its consumer has gone."""
        self.leave()
        self._waiting.clear()
        self.end(_left)

    def _overflow(self) -> MeshError:
        return ListenerOverflow(
            f"{self._about} was {self.buffer} events behind when one more came; "
            "take them faster, or give it a larger buffer="
        )


def _left() -> MeshError:
    return MeshClosed("this listener was left")


def _not_entered() -> MeshError:
    return MeshClosed("a listener hears from `async with` on")
