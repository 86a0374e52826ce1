"""A client of Rooms: JSON over a plain WebSocket, and a nickname."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from services.demo.talkers.talker import PUBLIC, Talker, TalkError
from services.demo.talkers.web_socket import WebSocketTalker, web_socket_talker

__all__ = ["rooms_talker"]


class _RoomsTalker(WebSocketTalker):
    async def _enter(self) -> None:
        await self._ask(action="LOGIN NICK", nickname=self.name)
        await self._ask(action="JOIN ROOM", room_id=PUBLIC)

    def take(self, message: dict[str, Any]) -> None:
        if message["action"] == "GET MESSAGE":
            self._hear(message["author"], message["text"])
        else:
            self._answers.put(message)

    async def _post(self, text: str) -> None:
        await self._ask(action="SEND MESSAGE", room_id=PUBLIC, text=text)

    async def _ask(self, **request: str) -> None:
        await self._say(request)
        answer = await self._answers.next()
        if answer["action"] == "ERROR":
            raise TalkError(answer["message"])


def rooms_talker(url: str, name: str) -> AbstractAsyncContextManager[Talker]:
    """Be in the room for the body of an `async with`.

    Raises:
        TalkError: there is no way in.
    """
    return web_socket_talker(_RoomsTalker, f"{url}/chat", name)
