"""A client of python-socketio that remembers what it hears."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import socketio  # type: ignore[import-untyped]

__all__ = ["Ears", "connected"]


class Ears:
    """A connection, and the events that have come on it.

    Attributes:
        heard: those that nobody has asked for yet, in order: name and arguments.
    """

    def __init__(self, client: socketio.AsyncClient) -> None:
        self.client = client
        self.heard: list[tuple[str, tuple[Any, ...]]] = []
        self._news = anyio.Event()
        client.on("*", self._hear)

    async def _hear(self, event: str, *arguments: Any) -> None:
        self.heard.append((event, arguments))
        self._news.set()

    async def say(self, event: str, *arguments: Any) -> None:
        """Send an event."""
        await self.client.emit(event, arguments)

    async def next(self, *events: str) -> Any:
        """Wait for the next event of one of these names; return what came with it."""
        return (await self.next_of(*events))[1]

    async def next_of(self, *events: str) -> tuple[str, Any]:
        """Wait for the next event of one of these names."""
        with anyio.fail_after(20):
            while True:
                for index, (event, arguments) in enumerate(self.heard):
                    if event in events:
                        del self.heard[index]
                        return event, arguments[0] if arguments else None
                self._news = anyio.Event()
                await self._news.wait()

    async def ask(self, event: str, *arguments: Any, answers: tuple[str, ...]) -> tuple[str, Any]:
        """Send an event, and wait for the next one of some names."""
        await self.say(event, *arguments)
        return await self.next_of(*answers)

    @property
    def is_connected(self) -> bool:
        """Whether it has not been disconnected."""
        return bool(self.client.connected)


async def read_whole(
    request: aiohttp.ClientRequest, handle: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Read the answers to posts, which the library leaves lying about."""
    answer = await handle(request)
    if request.method == "POST":
        await answer.read()
    return answer


@asynccontextmanager
async def connected(port: int, transports: tuple[str, ...] = ("websocket",)) -> AsyncIterator[Ears]:
    """Connect for the body of an `async with`. It never connects again by itself."""
    async with aiohttp.ClientSession(middlewares=[read_whole]) as session:
        client = socketio.AsyncClient(reconnection=False, http_session=session)
        ears = Ears(client)
        await client.connect(f"http://127.0.0.1:{port}", transports=list(transports))
        try:
            yield ears
        finally:
            await client.disconnect()
            # Until the last long poll has been answered.
            await client.eio.wait()
            await client.shutdown()
