"""A connection on which events go to and fro over Socket.IO."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import socketio  # type: ignore[import-untyped]
from socketio.exceptions import SocketIOError  # type: ignore[import-untyped]

from services.demo.talkers.talker import TalkError

__all__ = ["Emit", "open_socket_io"]

# Its own patience of a second is short for a busy machine.
_CONNECT_SECONDS: Final = 20

Emit = Callable[[str, Any], Awaitable[None]]


@asynccontextmanager
async def open_socket_io(
    url: str, take: Callable[[str, Any], None], hung_up: Callable[[], None]
) -> AsyncIterator[Emit]:
    """Connect for the body of an `async with`.

    Args:
        url: where the system is.
        take: is called with every event that comes, in order: its name, and what came with it.
        hung_up: is called when no more will come.

    Yields:
        Sends an event.

    Raises:
        TalkError: nobody is there.
    """
    # By itself it would take Ctrl-C away from the program that it is part of.
    client = socketio.AsyncClient(reconnection=False, handle_sigint=False)

    async def on_event(event: str, *data: object) -> None:
        take(event, data[0] if data else None)

    async def on_disconnect(*_reason: object) -> None:
        hung_up()

    async def emit(event: str, data: Any) -> None:  # noqa: ANN401 - JSON
        try:
            await client.emit(event, data)
        except SocketIOError as error:
            raise TalkError("the connection is lost") from error

    client.on("*", on_event)
    client.on("disconnect", on_disconnect)
    try:
        try:
            await client.connect(url, transports=["websocket"], wait_timeout=_CONNECT_SECONDS)
        except SocketIOError as error:
            raise TalkError(f"cannot connect to {url}: {error}") from error
        yield emit
    finally:
        await client.disconnect()
        await client.shutdown()
