"""A connection on which JSON goes to and fro over a plain WebSocket."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from services.demo.talkers.talker import Answers, Talker, TalkError, coming_in, open_answers
from services.sdk.tasks import BackgroundTasks

__all__ = ["Say", "WebSocketTalker", "web_socket_talker"]

Say = Callable[[dict[str, Any]], Awaitable[None]]


class WebSocketTalker(Talker):
    """Somebody on a system of this kind.

    Args:
        name: as of `Talker`.
        answers: what comes for the request that is under way.
    """

    def __init__(self, name: str, answers: Answers) -> None:
        super().__init__(name)
        self._answers = answers
        self._say: Say

    async def enter(self, say: Say) -> None:
        """Come into the room.

        Raises:
            TalkError: there is no way in.
        """
        self._say = say
        await self._enter()

    def hung_up(self) -> None:
        """Nothing more will come."""
        self._answers.hang_up()
        self._lose()

    @abstractmethod
    def take(self, message: dict[str, Any]) -> None:
        """Take in what has come."""

    @abstractmethod
    async def _enter(self) -> None:
        """Come into the room, now that something can be said."""


@asynccontextmanager
async def web_socket_talker(
    make: Callable[[str, Answers], WebSocketTalker], url: str, name: str
) -> AsyncIterator[Talker]:
    """Be in the room for the body of an `async with`.

    Args:
        make: makes the talker.
        url: where the system is: ws:// or http://.
        name: of who comes.

    Raises:
        TalkError: there is no way in.
    """
    with open_answers() as answers:
        talker = make(name, answers)
        async with _open_web_socket(url, talker.take, talker.hung_up) as say:
            with coming_in():
                await talker.enter(say)
            yield talker


@asynccontextmanager
async def _open_web_socket(
    url: str, take: Callable[[dict[str, Any]], None], hung_up: Callable[[], None]
) -> AsyncIterator[Say]:
    """Connect for the body of an `async with`.

    Args:
        url: where the system is: ws:// or http://.
        take: is called with everything that comes, in order.
        hung_up: is called when no more will come.

    Yields:
        Sends an object.

    Raises:
        TalkError: nobody is there.
    """
    try:
        # A proxy of the environment is for the outside world.
        connection = await connect(url.replace("http", "ws", 1), proxy=None, max_size=None)
    except (OSError, InvalidHandshake, TimeoutError) as error:
        raise TalkError(f"cannot connect to {url}: {error}") from error

    async def read() -> None:
        # It ends without an error when the connection does, in whatever way.
        try:
            async for message in connection:
                take(json.loads(message))
        except ConnectionClosed:
            pass
        hung_up()

    async def say(message: dict[str, Any]) -> None:
        try:
            await connection.send(json.dumps(message))
        except ConnectionClosed as error:
            raise TalkError("the connection is lost") from error

    async with connection, BackgroundTasks() as tasks:
        tasks.start_soon(read)
        yield say
