"""Bounds the bodies of requests."""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.chat.messages import ChatError

__all__ = ["BodyLimit"]

MAX_BODY_BYTES: Final = 1024 * 1024

# More than that is not even read, to be dropped: the connection ends.
_MAX_DROPPED_BYTES: Final = 16 * 1024 * 1024


class BodyLimit:
    """An ASGI application in front of another one, which refuses what is too large with 413.

    Args:
        inner: the other one. It gets the body in one piece.
    """

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        body, size = bytearray(), 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            chunk = message.get("body", b"")
            size += len(chunk)
            if size <= MAX_BODY_BYTES:
                body += chunk
            if not message.get("more_body", False) or size > _MAX_DROPPED_BYTES:
                break
        if size > MAX_BODY_BYTES:
            text = f"a request has at most {MAX_BODY_BYTES} bytes"
            problem = {"error": text, "code": ChatError.TEXT_TOO_LONG.value}
            await JSONResponse(problem, 413, {"Connection": "close"})(scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def receive_whole() -> Message:
            return whole.pop() if whole else await receive()

        await self._inner(scope, receive_whole, send)
