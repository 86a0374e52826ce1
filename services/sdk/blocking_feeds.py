"""What the mesh without an event loop hands out to be iterated over."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import anyio

from broker.protocol.frames import Source
from services.sdk.collecting import Missing, Reply
from services.sdk.errors import MeshClosed
from services.sdk.gathering import Replies
from services.sdk.loop_thread import LoopThread
from services.sdk.mesh import Mesh

__all__ = ["SyncFeed", "SyncReplies"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Iterable:
    """Something that is entered, iterated over and left in the mesh's thread.

    Args:
        loop: that thread.
        inner: what is entered there.
    """

    def __init__(self, loop: LoopThread[Mesh], inner: AbstractAsyncContextManager[object]) -> None:
        self._loop = loop
        self._inner = inner

    def __enter__(self) -> Self:
        self._loop.call(self._inner.__aenter__)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # It ends with the mesh anyway, and may have ended with it.
        with suppress(MeshClosed):
            self._loop.call(partial(self._inner.__aexit__, kind, error, traceback))

    def __iter__(self) -> Self:
        return self


class SyncReplies(_Iterable, Generic[T]):
    """The answers to a gather, as they come. Made by `SyncMesh.gather`; see `Replies`."""

    def __init__(self, loop: LoopThread[Mesh], replies: Replies[T]) -> None:
        super().__init__(loop, replies)
        self._replies = replies

    def __next__(self) -> Reply[T]:
        reply = self._loop.call(self._take)
        if reply is None:
            raise StopIteration
        return reply

    @property
    def members(self) -> tuple[Source, ...]:
        """Everyone who was asked, in the broker's word."""
        return self._replies.members

    @property
    def waiting(self) -> tuple[Source, ...]:
        """Those of the members from whom nothing has come yet."""
        return self._replies.waiting

    @property
    def missing(self) -> tuple[Missing, ...]:
        """Those who gave no answer, and why. It is complete when iterating has ended."""
        return self._replies.missing

    async def _take(self) -> Reply[T] | None:
        # A task cannot end with StopAsyncIteration.
        return await anext(self._replies, None)


class _Feed(Protocol[T_co]):
    """A `Listener` or a `Watch`."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    async def receive(self) -> T_co: ...


class SyncFeed(_Iterable, Generic[T]):
    """Things as they come, to be iterated over inside its `with`. One thread may iterate.

    Made by `SyncMesh.listen` and `SyncMesh.watch`. Iterating ends after as long a silence as its
    timeout says, and otherwise with an error that says why, as that of a `Listener` does.
    """

    def __init__(self, loop: LoopThread[Mesh], feed: _Feed[T], timeout: float | None) -> None:
        super().__init__(loop, feed)
        self._feed = feed
        self._timeout = timeout

    def __next__(self) -> T:
        try:
            return self.receive(self._timeout)
        except TimeoutError:
            raise StopIteration from None

    def receive(self, timeout: float | None = None) -> T:
        """Wait for the next one.

        Raises:
            TimeoutError: nothing came in `timeout` seconds. Without one, it waits for ever.
            ListenerOverflow: this one was too slow, and has delivered all that it held.
            ConnectionLost, MeshClosed: nothing will come any more.
        """

        async def take() -> T:
            with anyio.fail_after(timeout):
                return await self._feed.receive()

        return self._loop.call(take)
