"""Clients of a WebSocket gateway: the `websockets` library, in threads beside the test's loop."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

import trio
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

__all__ = ["PATIENCE", "Talker", "closing_code", "in_thread", "talker"]

# Nothing here takes as long, unless it is broken.
PATIENCE: Final = 30.0

# As many clients as a test may have, each with a thread that waits.
_THREADS: Final = trio.CapacityLimiter(500)

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(call, limiter=_THREADS)


class Talker:
    """One client."""

    def __init__(self, connection: ClientConnection, stack: ExitStack) -> None:
        self.connection = connection
        self._stack = stack

    async def say(self, message: Any) -> None:
        """Send a value, as JSON."""
        await self.say_raw(json.dumps(message))

    async def say_raw(self, message: str | bytes) -> None:
        await in_thread(partial(self.connection.send, message))

    async def hear_raw(self) -> str:
        message = await in_thread(partial(self.connection.recv, timeout=PATIENCE))
        assert isinstance(message, str)
        return message

    async def hear(self) -> Any:
        return json.loads(await self.hear_raw())

    async def ask(self, message: Any) -> Any:
        """Say something, and return what is heard next."""
        await self.say(message)
        return await self.hear()

    async def ask_raw(self, message: str | bytes) -> Any:
        await self.say_raw(message)
        return await self.hear()

    async def hear_until(self, wanted: Callable[[Any], bool]) -> Any:
        """Return the first message that is wanted; the others are dropped."""
        while True:
            message = await self.hear()
            if wanted(message):
                return message

    async def close(self) -> None:
        await in_thread(self._stack.close)


async def open_talker(port: int, path: str) -> Talker:
    stack = ExitStack()
    context = partial(
        connect,
        f"ws://127.0.0.1:{port}{path}",
        proxy=None,
        max_size=None,
        max_queue=None,
        ping_interval=None,
        open_timeout=PATIENCE,
        close_timeout=PATIENCE,
    )
    connection = await in_thread(lambda: stack.enter_context(context()))
    return Talker(connection, stack)


@asynccontextmanager
async def talker(port: int, path: str) -> AsyncIterator[Talker]:
    """A client for the body of an `async with`."""
    async with AsyncExitStack() as stack:
        opened = await open_talker(port, path)
        stack.push_async_callback(opened.close)
        yield opened


async def closing_code(talker: Talker) -> int:
    """Read to the end; return the code of the end: 1006 is one without a word."""
    while True:
        try:
            await talker.hear_raw()
        except ConnectionClosed as error:
            return 1006 if error.rcvd is None else error.rcvd.code
