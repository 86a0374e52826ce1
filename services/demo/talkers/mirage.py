"""A client of Mirage: Socket.IO, and a name without a password."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from services.demo.talkers.socket_io import Emit, open_socket_io
from services.demo.talkers.talker import PUBLIC, Answers, Talker, TalkError, coming_in, open_answers

__all__ = ["mirage_talker"]


class _MirageTalker(Talker):
    def __init__(self, name: str, answers: Answers) -> None:
        super().__init__(name)
        self._answers = answers
        self._emit: Emit

    async def enter(self, emit: Emit) -> None:
        self._emit = emit
        await self._ask("join_room_route", {"username": self.name, "room_name": PUBLIC})

    def take(self, event: str, data: Any) -> None:  # noqa: ANN401 - JSON
        if event == "new_message":
            if data["room_name"] == PUBLIC:
                self._hear(data["username"], data["message"])
        else:
            self._answers.put((event, data))

    def hung_up(self) -> None:
        self._answers.hang_up()
        self._lose()

    async def _post(self, text: str) -> None:
        await self._ask(
            "send_message", {"username": self.name, "room_name": PUBLIC, "message": text}
        )

    async def _ask(self, event: str, data: dict[str, str]) -> None:
        await self._emit(event, data)
        answer, said = await self._answers.next()
        if answer == "error":
            raise TalkError(said["error"])


@asynccontextmanager
async def mirage_talker(url: str, name: str) -> AsyncIterator[Talker]:
    """Be in the room for the body of an `async with`.

    Raises:
        TalkError: there is no way in.
    """
    with open_answers() as answers:
        talker = _MirageTalker(name, answers)
        async with open_socket_io(url, talker.take, talker.hung_up) as emit:
            with coming_in():
                await talker.enter(emit)
            yield talker
