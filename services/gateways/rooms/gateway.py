"""The rooms' part of the chat: what each client asks for, and what it gets."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from services.chat.messages import MAX_TEXT_BYTES, ChatError, JoinRoom, Posted, RoomRemoved
from services.gateways.following import Following, Place
from services.gateways.hub import Audience, Hub
from services.gateways.refusals import refusal
from services.gateways.rooms.actions import (
    Action,
    BadActionError,
    Request,
    get_message,
    read_request,
)
from services.gateways.rooms.room_ids import RoomId, to_name
from services.gateways.websocket_server import Client
from services.sdk import Mesh, MeshError, ServiceError

__all__ = ["RoomsGateway"]

_LOG: Final = logging.getLogger(__name__)

# For telling the chat that a client has gone; it finds out by itself, later, if it is not told.
_GOODBYE_SECONDS: Final = 2.0

# What the chat's refusals are called here. Of the others, its own words are good enough.
_WORDS: Final[dict[str, str]] = {
    ChatError.NAME_TAKEN: "Nickname already in use",
    ChatError.WRONG_PASSWORD: "The room has a password, for which there is no place here",
}


@attrs.define(eq=False)
class _Person:
    """A client, and who it is.

    Attributes:
        user_id: None until the chat has been asked for the first time.
    """

    client: Client
    user_id: int | None = None


class RoomsGateway(Audience):
    """Lets clients talk.

    Args:
        mesh: connected, in the gateways' group.

    Attributes:
        hub: its side of the mesh.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.hub = Hub(mesh, self)
        self._following: Following[_Person, RoomId] = Following()
        self._handlers: dict[Action, Callable[[_Person, Request], Awaitable[None]]] = {
            Action.LOGIN_NICK: self._log_in,
            Action.JOIN_ROOM: self._join,
            Action.LEFT_ROOM: self._leave,
            Action.SEND_MESSAGE: self._send,
        }

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hear the chat until the mesh is closed. Started when all is in place.

        Raises:
            MeshError: the mesh has ended for good.
        """
        await self.hub.run(task_status=task_status)

    # What happens.

    def on_posted(self, posted: Posted) -> None:
        """There is a new message."""
        for place in self._following.receivers(posted):
            self._show(place, posted)

    def on_room_removed(self, room: RoomRemoved) -> None:
        """A room has gone away."""
        self._following.forget_room(room.id)

    def _show(self, place: Place[_Person, RoomId], posted: Posted) -> None:
        message = posted.message
        place.client.client.send(get_message(place.label, message.username, message.text))

    # What clients ask for.

    async def talk(self, client: Client) -> None:
        """Answer a client until it has gone."""
        person = _Person(client)
        try:
            async for message in client:
                await self._answer(person, read_request(message))
        finally:
            self._following.forget(person)
            with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
                await self.hub.close(client.session)

    async def _answer(self, person: _Person, request: Request) -> None:
        # The answer first, then what follows from it: the sender's own message, say.
        with person.client.hold():
            try:
                await self._handlers[request.action()](person, request)
            except BadActionError as error:
                person.client.answer(request.error(str(error)))
            except MeshError as error:
                _LOG.debug("refused: %s", error)
                person.client.answer(request.error(_explain(error)))

    async def _log_in(self, person: _Person, request: Request) -> None:
        nickname = request.text("nickname")
        user = await self.hub.claim_guest(person.client.session, nickname, exclusive=True)
        person.user_id = user.id
        person.client.answer(request.response())

    async def _join(self, person: _Person, request: Request) -> None:
        room_id = request.room_id()
        if self._following.room_of(person, room_id) is not None:
            raise BadActionError("You are in this room already")
        user_id = await self._user_id(person)
        name = to_name(room_id)
        with self._following.expect(person, name):
            joined = await self.hub.join(
                JoinRoom(person.client.session, user_id, name=name, create=True, ephemeral=True)
            )
            room = joined.room
            kept = self._following.begin(person, room, room_id, room.messages)
        person.client.answer(request.response())
        for posted in kept:
            self._show(Place(person, room_id, room.messages), posted)

    async def _leave(self, person: _Person, request: Request) -> None:
        room_id = request.room_id()
        try:
            await self.hub.leave(person.client.session, self._require_room(person, room_id))
        except ServiceError as error:
            if error.code not in {ChatError.NO_ROOM, ChatError.NOT_IN_ROOM}:
                raise
            # That is what was asked for.
        self._following.leave(person, room_id)
        person.client.answer(request.response())

    async def _send(self, person: _Person, request: Request) -> None:
        room_id = self._require_room(person, request.room_id())
        text = request.text("text", longest=MAX_TEXT_BYTES)
        await self.hub.chat.post(room_id, await self._user_id(person), text)
        person.client.answer(request.response())

    def _require_room(self, person: _Person, room_id: RoomId) -> int:
        found = self._following.room_of(person, room_id)
        if found is None:
            raise BadActionError("You are not in this room: join it first")
        return found

    async def _user_id(self, person: _Person) -> int:
        """Return who the client is: anonymous, until it has a nickname."""
        if person.user_id is None:
            person.user_id = (await self.hub.claim_guest(person.client.session, None)).id
        return person.user_id


def _explain(error: MeshError) -> str:
    why = refusal(error)
    return _WORDS.get(why.code, why.text[:1].upper() + why.text[1:])
