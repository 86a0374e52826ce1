"""The requests about rooms, and how they are answered."""

from __future__ import annotations

from services.chat.access import require_room
from services.chat.messages import (
    MAX_PAGE,
    PUBLIC_ROOM,
    ChatError,
    ChatEvent,
    ChatRequest,
    CreateRoom,
    FindRoom,
    ListRooms,
    OpenPrivateRoom,
    RemoveRoom,
    Rooms,
    UpdateRoom,
)
from services.chat.model import Room, RoomKind
from services.chat.pages import fit_page
from services.chat.requests import Requests
from services.chat.rules import (
    bounded,
    check_description,
    check_password,
    check_room_name,
    refuse,
)
from services.chat.store import NameTakenError, NewRoom, NoRecordError
from services.sdk import Mesh
from services.sdk.handlers import HandlerFunction

__all__ = ["RoomRequests"]


class RoomRequests(Requests):
    """Answers what is asked about rooms."""

    def handlers(self) -> dict[ChatRequest, HandlerFunction]:
        """The handler of each request."""
        return {
            ChatRequest.ROOM_CREATE: self._create,
            ChatRequest.ROOM_GET: self._find,
            ChatRequest.ROOM_LIST: self._list,
            ChatRequest.ROOM_UPDATE: self._update,
            ChatRequest.ROOM_DELETE: self._remove,
            ChatRequest.ROOM_PRIVATE: self._private,
        }

    async def _create(self, data: CreateRoom, mesh: Mesh) -> Room:
        check_room_name(data.name)
        check_description(data.description)
        hashed = None
        if data.password is not None:
            check_password(data.password)
            hashed = await self._passwords.hash(data.password)
        await self._require_users(data.creator_id)
        new = NewRoom(
            data.name,
            RoomKind.PUBLIC if hashed is None else RoomKind.PROTECTED,
            self._clock(),
            description=data.description,
            creator_id=data.creator_id,
            password_hash=hashed,
        )
        try:
            room = await self._store.add_room(new)
        except NameTakenError:
            raise refuse(ChatError.ROOM_EXISTS, f"there is a room {data.name!r}") from None
        await self._announcer.tell(mesh, ChatEvent.ROOM_CREATED, room)
        return room

    async def _require_users(self, *ids: int | None) -> None:
        for id in ids:
            if id is not None and await self._store.user(id=id) is None:
                raise refuse(ChatError.NO_USER, f"there is no user {id}")

    async def _find(self, data: FindRoom) -> Room:
        room = await require_room(self._store, data.id, data.name)
        if room.participants is not None and data.reader_id not in room.participants:
            raise refuse(ChatError.NO_ROOM, "there is no such room")
        return room

    async def _list(self, data: ListRooms) -> Rooms:
        limit = min(bounded(data.limit), MAX_PAGE)
        rooms, total = await self._store.rooms(
            bounded(data.offset), limit, data.kinds, data.of_user_id
        )
        return Rooms(fit_page(rooms), total)

    async def _update(self, data: UpdateRoom, mesh: Mesh) -> Room:
        if data.name is not None:
            check_room_name(data.name)
        check_description(data.description or "")
        await self._require_own(data.id, data.user_id)
        try:
            room = await self._store.update_room(data.id, data.name, data.description)
        except NameTakenError:
            raise refuse(ChatError.ROOM_EXISTS, f"there is a room {data.name!r}") from None
        except NoRecordError:
            raise refuse(ChatError.NO_ROOM, "there is no such room") from None
        await self._announcer.tell(mesh, ChatEvent.ROOM_UPDATED, room)
        return room

    async def _remove(self, data: RemoveRoom, mesh: Mesh) -> None:
        await self._require_own(data.id, data.user_id)
        room = await self._store.remove_room(data.id)
        if room is None:
            raise refuse(ChatError.NO_ROOM, "there is no such room")
        await self._announcer.room_removed(mesh, room)

    async def _require_own(self, id: int, user_id: int) -> None:
        room = await require_room(self._store, id)
        if room.name == PUBLIC_ROOM and room.creator_id is None:
            raise refuse(ChatError.NOT_ALLOWED, f"the room {PUBLIC_ROOM!r} stays as it is")
        if room.creator_id != user_id or room.kind is RoomKind.PRIVATE:
            raise refuse(ChatError.NOT_ALLOWED, "only who has made a room may change it")

    async def _private(self, data: OpenPrivateRoom, mesh: Mesh) -> Room:
        if data.user_id == data.other_id:
            raise refuse(ChatError.NOT_ALLOWED, "a private room is between two users")
        try:
            room, created = await self._store.private_room(
                data.user_id, data.other_id, self._clock()
            )
        except NoRecordError:
            raise refuse(ChatError.NO_USER, "there is no such user") from None
        if created:
            await self._announcer.tell(mesh, ChatEvent.ROOM_CREATED, room)
        return room
