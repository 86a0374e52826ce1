"""A client of the Redis chat: JSON over a plain WebSocket, and an account."""

from __future__ import annotations

import secrets
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from services.demo.talkers.talker import Answers, Talker, TalkError
from services.demo.talkers.web_socket import WebSocketTalker, web_socket_talker

__all__ = ["redis_chat_talker"]

# The recipient that stands for the public channel.
_EVERYBODY: Final = "0"


class _RedisChatTalker(WebSocketTalker):
    def __init__(self, name: str, answers: Answers) -> None:
        super().__init__(name, answers)
        self._user: dict[str, str] = {}
        self._session = ""

    async def _enter(self) -> None:
        self._session = (await self._expect("ready"))["sessionUUID"]
        # With a password that nobody knows.
        await self._ask("signUp", {"username": self.name, "password": secrets.token_urlsafe()})
        authorized = await self._expect("authorized")
        self._user = {
            "userUUID": authorized["userUUID"],
            "userAccessKey": authorized["accessKey"],
        }
        await self._ask("channelJoin", {"recipientUUID": _EVERYBODY})
        await self._expect("channelJoin")

    def take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "channelMessage":
                said = message["channelMessage"]
                self._hear(said["Sender"]["Username"], said["message"])
                # One's own, where everybody sees it, is the acknowledgement as well.
                if said["senderUUID"] == self._user.get("userUUID"):
                    self._answers.put(message)
            case "sys":
                pass  # Who has come.
            case _:
                self._answers.put(message)

    async def _post(self, text: str) -> None:
        await self._ask("channelMessage", {"recipientUUID": _EVERYBODY, "message": text})
        # One that was refused may come late all the same.
        while (await self._expect("channelMessage"))["message"] != text:
            pass

    async def _ask(self, kind: str, data: dict[str, str]) -> None:
        await self._say({"SUUID": self._session, "type": kind, **self._user, kind: data})

    async def _expect(self, kind: str) -> Any:  # noqa: ANN401 - JSON
        while True:
            answer = await self._answers.next()
            if answer["type"] == "error":
                raise TalkError(answer["error"]["message"])
            if answer["type"] == kind:
                return answer[kind]


def redis_chat_talker(url: str, name: str) -> AbstractAsyncContextManager[Talker]:
    """Be in the public channel for the body of an `async with`.

    Args:
        url: of the system.
        name: of the account that is made; it must be a new one.

    Raises:
        TalkError: there is no way in.
    """
    return web_socket_talker(_RedisChatTalker, f"{url}/ws", name)
