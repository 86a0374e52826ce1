"""Keeps from Engine.IO what it would fail at."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

__all__ = ["PATH", "Guard"]

_LOG: Final = logging.getLogger(__name__)

PATH: Final = "/socket.io/"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_DIGITS: Final = frozenset("0123456")
_MESSAGE: Final = "4"

# Of a packet that is no message: a ping, say, with a word in it.
_MAX_CONTROL_LENGTH: Final = 64


class Guard:
    """An ASGI application in front of python-socketio's.

    A WebSocket message that is no Engine.IO packet ends its connection, as if the client had closed
    it. Engine.IO itself would fail at it, and take the client to be there for a while longer.
    """

    def __init__(self, inner: Application) -> None:
        self._inner = inner

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] != "websocket":
            await self._inner(scope, receive, send)
        elif f"{scope['path']}/".startswith(PATH):
            await self._inner(scope, lambda: _receive_packet(receive), send)
        else:
            await send({"type": "websocket.close"})


async def _receive_packet(receive: Receive) -> Message:
    message = await receive()
    text = message.get("text")
    if message["type"] == "websocket.receive" and text is not None and not _is_packet(text):
        _LOG.debug("a client that does not speak Engine.IO")
        return {"type": "websocket.disconnect", "code": 1002}
    return message


def _is_packet(text: str) -> bool:
    if text[:1] == _MESSAGE:
        return text[1:2] in _DIGITS
    return text[:1] in _DIGITS and len(text) <= _MAX_CONTROL_LENGTH
