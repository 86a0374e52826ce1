"""Mirage's protocol: what its clients ask, and what they are told."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import attrs

from services.chat.messages import (
    ChatError,
    CreateRoom,
    JoinRoom,
    ListMessages,
    ListRooms,
    Posted,
    RoomRemoved,
)
from services.chat.model import Room, RoomKind, User
from services.gateways.history import all_rooms, newest_messages
from services.gateways.hub import Audience, Hub
from services.gateways.mirage.data import (
    CreateRoomData,
    DecryptionErrorData,
    EnterRoomData,
    LeaveRoomData,
    NewMessagesData,
    RoomData,
    RoomsData,
    SendMessageData,
    message_object,
)
from services.gateways.mirage.decryption_errors import DecryptionErrors
from services.gateways.refusals import BAD_REQUEST, Refusal, refusal
from services.gateways.socket_io.arguments import BadArgumentError, read_argument, refuse_event
from services.gateways.socket_io.server import Conversation, SocketIoServer
from services.sdk import Mesh, MeshError, ServiceError

__all__ = ["ENDPOINTS", "MirageGateway"]

_LOG: Final = logging.getLogger(__name__)

# One event has to hold them. Their clients take at most four megabytes at once.
_MAX_HISTORY: Final = 10_000
_MAX_HISTORY_BYTES: Final = 2 * 1024 * 1024
_MAX_ROOMS: Final = 50_000

Arguments = Sequence[Any]


@attrs.frozen
class _Name:
    """The name that a client goes by: as it was given, and whose it is."""

    given: str
    user: User


class MirageGateway(Audience, Conversation):
    """Mirage, on a mesh.

    Args:
        mesh: connected, in the group of the gateways.
        origins: as for `SocketIoServer`.
    """

    def __init__(self, mesh: Mesh, origins: Sequence[str] = ()) -> None:
        self._hub = Hub(mesh, self)
        self._clients = SocketIoServer(self, origins)
        self._names: dict[str, _Name] = {}
        self._decryption_errors = DecryptionErrors()

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve for the body of an `async with`.

        Args:
            host: the address to listen on.
            port: 0 lets the system choose.

        Yields:
            The port that it listens on.

        Raises:
            ProgramError: it cannot listen there.
            MeshError: the mesh has ended for good.
        """
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._hub.run)
            async with self._clients.serving(host, port) as bound:
                yield bound
            tasks.cancel_scope.cancel()

    # From the chat.

    def on_posted(self, posted: Posted) -> None:
        """Send a new message to those who are in its room."""
        data = {"room_name": posted.room.name, **message_object(posted.message)}
        self._clients.emit_to(self._hub.sessions_in(posted.room.id), "new_message", data)

    def on_room_removed(self, room: RoomRemoved) -> None:
        """Drop what is kept of a room that has gone away."""
        self._decryption_errors.forget(room.id)

    # From clients.

    async def opened(self, sid: str) -> None:
        """Count a visit: that is what Mirage's metrics are about."""
        try:
            await self._hub.chat.visit()
        except MeshError as error:
            _LOG.debug("a visit has not been counted: %s", error)

    async def closed(self, sid: str) -> None:
        """End a client's session."""
        self._names.pop(sid, None)
        await self._hub.close(sid)

    async def said(self, sid: str, event: str, arguments: Arguments) -> None:
        """Do what a client asks; tell it where that is not possible."""
        refused = refuse_event(event, ENDPOINTS)
        if refused is None:
            try:
                await ENDPOINTS[event](self, sid, arguments)
            except BadArgumentError as error:
                refused = Refusal(BAD_REQUEST, f"{event}: {error}")
            except MeshError as error:
                refused = refusal(error)
        if refused is not None:
            self._clients.emit(sid, "error", {"error": refused.text, "code": refused.code})

    # Rooms.

    async def _get_rooms(self, sid: str, arguments: Arguments) -> None:
        data = RoomsData()
        if arguments and arguments[0] is not None:
            data = read_argument(arguments, RoomsData)
        name = self._names.get(sid)
        # Who has not said yet who they are is in no room, and comes to see which ones there are.
        own = None if name is None or data.all else name.user.id
        rooms, _ = await all_rooms(self._hub.chat, ListRooms(of_user_id=own), _MAX_ROOMS)
        self._clients.emit(sid, "room_list", [room.name for room in rooms])

    async def _create_room(self, sid: str, arguments: Arguments) -> None:
        data = read_argument(arguments, CreateRoomData)
        user = await self._go_by(sid, data.username)
        password = data.password or None
        room = await self._hub.chat.create_room(
            CreateRoom(data.room_name, password=password, creator_id=user.id)
        )
        await self._hub.join(JoinRoom(sid, user.id, id=room.id, password=password))
        said = {"message": "Room created", "room_name": room.name}
        self._clients.emit(sid, "room_created", said)

    async def _join_room(self, sid: str, arguments: Arguments) -> None:
        data = read_argument(arguments, EnterRoomData)
        user = await self._go_by(sid, data.username)
        joined = await self._hub.join(
            JoinRoom(sid, user.id, name=data.room_name, password=data.password)
        )
        said = {"message": "Joined room", "room_name": joined.room.name}
        self._clients.emit(sid, "joined_room", said)

    async def _leave_room(self, sid: str, arguments: Arguments) -> None:
        data = read_argument(arguments, LeaveRoomData)
        name = self._names.get(sid)
        if name is not None and data.username not in {name.given, name.user.username}:
            raise ServiceError(ChatError.NOT_ALLOWED.value, f"this connection is {name.given!r}'s")
        room = await self._hub.chat.room(name=data.room_name)
        await self._hub.leave(sid, room.id)
        said = {"message": "Left room", "room_name": room.name}
        self._clients.emit(sid, "left_room", said)

    async def _get_users_in_room(self, sid: str, arguments: Arguments) -> None:
        data = read_argument(arguments, RoomData)
        room = await self._hub.chat.room(name=data.room_name)
        crowd = await self._hub.chat.room_users(room.id)
        self._clients.emit(sid, "room_users", [user.username for user in crowd.users])

    # Messages.

    async def _send_message(self, sid: str, arguments: Arguments) -> None:
        data = read_argument(arguments, SendMessageData)
        user = await self._go_by(sid, data.username)
        room = await self._readable(sid, data.room_name)
        message = await self._hub.chat.post(room.id, user.id, data.message)
        said = {
            "message": "Message sent successfully",
            "room_name": room.name,
            "id": message.number,
        }
        self._clients.emit(sid, "message_sent", said)

    async def _get_new_messages(self, sid: str, arguments: Arguments) -> None:
        data = read_argument(arguments, NewMessagesData)
        room = await self._readable(sid, data.room_name)
        page = await self._hub.chat.messages(
            ListMessages(room.id, reader_id=self._user_id(sid), after=data.last_message_id)
        )
        said = {
            "messages": [message_object(message) for message in page.messages],
            "errors": self._decryption_errors.after(room.id, data.last_message_id),
        }
        self._clients.emit(sid, "new_messages", said)

    async def _get_all_messages(self, sid: str, arguments: Arguments) -> None:
        data = read_argument(arguments, RoomData)
        room = await self._readable(sid, data.room_name)
        history = await newest_messages(
            self._hub.chat,
            ListMessages(room.id, reader_id=self._user_id(sid)),
            _MAX_HISTORY,
            _MAX_HISTORY_BYTES,
        )
        said = [message_object(message) for message in history.messages]
        self._clients.emit(sid, "all_messages", said)

    async def _decryption_error(self, sid: str, arguments: Arguments) -> None:
        data = read_argument(arguments, DecryptionErrorData)
        room = await self._hub.chat.room(name=data.room_name)
        if room.id in self._hub.rooms_of(sid):
            self._decryption_errors.add(room.id, data)

    # The rest.

    async def _get_metrics(self, sid: str, _arguments: Arguments) -> None:
        visits = (await self._hub.chat.statistics()).visits
        said = {"today": visits.today, "total": visits.total}
        self._clients.emit(sid, "metrics", said)

    async def _go_by(self, sid: str, username: str) -> User:
        """Let a client have the name that it gives, if it does not have it already."""
        name = self._names.get(sid)
        if name is None or name.given != username:
            user = await self._hub.claim_guest(sid, username)
            name = self._names[sid] = _Name(username, user)
        return name.user

    def _user_id(self, sid: str) -> int | None:
        name = self._names.get(sid)
        return None if name is None else name.user.id

    async def _readable(self, sid: str, room_name: str) -> Room:
        """Return a room that a client may read and write in.

        A name is no proof of anything here. So into a protected room this connection must have
        come with the password; it is not enough that one of the same name has.
        """
        room = await self._hub.chat.room(name=room_name)
        if room.kind is RoomKind.PROTECTED and room.id not in self._hub.rooms_of(sid):
            raise ServiceError(ChatError.NOT_IN_ROOM.value, f"join {room_name[:64]!r} first")
        return room


ENDPOINTS: Final[Mapping[str, Callable[[MirageGateway, str, Arguments], Awaitable[None]]]] = {
    "get_rooms": MirageGateway._get_rooms,
    "create_room": MirageGateway._create_room,
    "join_room_route": MirageGateway._join_room,
    "join_room": MirageGateway._join_room,
    "leave_room_route": MirageGateway._leave_room,
    "leave_room": MirageGateway._leave_room,
    "get_users_in_room_route": MirageGateway._get_users_in_room,
    "get_users_in_room": MirageGateway._get_users_in_room,
    "send_message": MirageGateway._send_message,
    "get_new_messages": MirageGateway._get_new_messages,
    "get_all_messages": MirageGateway._get_all_messages,
    "get_metrics": MirageGateway._get_metrics,
    "decryption_error": MirageGateway._decryption_error,
}
"""What clients send, by the names of the document, and what is done then."""
