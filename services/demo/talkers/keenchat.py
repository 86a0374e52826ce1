"""A client of Keenchat: an account, REST to write, Socket.IO to hear."""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

import anyio
import httpx
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from services.demo.talkers.socket_io import Emit, open_socket_io
from services.demo.talkers.talker import PUBLIC, Answers, Talker, TalkError, coming_in, open_answers
from services.sdk.tasks import BackgroundTasks

__all__ = ["keenchat_talker"]

_TIMEOUT_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.1


class _Rest:
    """The REST API, of a user once they have signed up."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._token = ""

    async def sign_up(self, name: str) -> tuple[int, str]:
        """Make an account with a password that nobody knows; return its id, and a token."""
        credentials = {"username": name, "password": secrets.token_urlsafe()}
        user_id = (await self._call("POST", "/user", json=credentials))["id"]
        self._token = (await self._call("POST", "/auth", json=credentials))["token_value"]
        return user_id, self._token

    async def channel_id(self, title: str) -> int:
        channels = await self._call("GET", "/channel")
        return next(int(one["id"]) for one in channels if one["title"] == title)

    async def username(self, user_id: int) -> str:
        return str((await self._call("GET", f"/user/{user_id}"))["username"])

    async def post(self, channel_id: int, text: str) -> None:
        message = {"channel_id": channel_id, "message_text": text}
        await self._call("POST", "/message", params={"auth": self._token}, json=message)

    async def _call(self, method: str, path: str, **more: Any) -> Any:  # noqa: ANN401 - JSON
        try:
            answer = await self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise TalkError(f"{method} {path}: {why}") from error
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            raise TalkError(answer.json()["error"])
        return answer.json()


class _KeenchatTalker(Talker):
    """Somebody on Keenchat.

    Args:
        name: as of `Talker`.
        rest: to write with.
        answers: what comes until the user is in the room.
        to_name: messages, whose authors the system tells by number.
    """

    def __init__(
        self,
        name: str,
        rest: _Rest,
        answers: Answers,
        to_name: MemoryObjectSendStream[dict[str, Any]],
    ) -> None:
        super().__init__(name)
        self._rest = rest
        self._answers = answers
        self._to_name = to_name
        self._channel_id = 0
        self._inside = False

    async def enter(self, emit: Emit) -> None:
        """Sign up, and go to the room."""
        self._channel_id = await self._rest.channel_id(PUBLIC)
        user_id, token = await self._rest.sign_up(self.name)
        await emit("identify", token)
        await self._expect("identified")
        await emit("change channel", {"id": self._channel_id})
        while user_id not in (await self._expect("channel movement"))["users"]:
            pass
        self._inside = True

    async def _expect(self, wanted: str) -> Any:  # noqa: ANN401 - JSON
        while True:
            event, data = await self._answers.next()
            if event in {"error", "identity failure"}:
                raise TalkError(data["error"])
            if event == wanted:
                return data

    def take(self, event: str, data: Any) -> None:  # noqa: ANN401 - JSON
        if event == "post message":
            if self._inside and data["channel_id"] == self._channel_id:
                self._to_name.send_nowait(data)
        elif not self._inside:
            self._answers.put((event, data))

    def hung_up(self) -> None:
        self._answers.hang_up()
        self._lose()

    async def name_authors(self, posted: MemoryObjectReceiveStream[dict[str, Any]]) -> None:
        """Hear messages, in order, with the names of their authors. Until it is cancelled."""
        names: dict[int, str] = {}
        async for message in posted:
            author = message["user_id"]
            while author not in names:
                try:
                    names[author] = await self._rest.username(author)
                except TalkError:
                    # The message waits, and those behind it, until the chat can be asked again.
                    await anyio.sleep(_PAUSE_SECONDS)
            self._hear(names[author], message["message_text"])

    async def _post(self, text: str) -> None:
        await self._rest.post(self._channel_id, text)


@asynccontextmanager
async def keenchat_talker(url: str, events_url: str, name: str) -> AsyncIterator[Talker]:
    """Be in the room for the body of an `async with`.

    Args:
        url: of the REST API.
        events_url: of Socket.IO.
        name: of the account that is made; it must be a new one.

    Raises:
        TalkError: there is no way in.
    """
    send, receive = anyio.create_memory_object_stream[dict[str, Any]](math.inf)
    # A proxy of the environment is for the outside world.
    http = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_SECONDS, trust_env=False)
    with open_answers() as answers, send, receive:
        async with http:
            talker = _KeenchatTalker(name, _Rest(http), answers, send)
            async with (
                open_socket_io(events_url, talker.take, talker.hung_up) as emit,
                BackgroundTasks() as tasks,
            ):
                tasks.start_soon(talker.name_authors, receive)
                with coming_in():
                    await talker.enter(emit)
                yield talker
