"""The requests about who is where, and how they are answered."""

from __future__ import annotations

from services.chat.access import require_room
from services.chat.messages import (
    MAX_PAGE,
    ChatError,
    ChatEvent,
    ChatRequest,
    CloseSession,
    Joined,
    JoinRoom,
    LeaveRoom,
    OpenSession,
    RoomUsers,
    Synced,
    SyncSessions,
    Typing,
    Users,
)
from services.chat.model import Room, RoomKind
from services.chat.requests import Requests
from services.chat.rules import check_room_name, refuse
from services.chat.store import Holder, NameTakenError, NewRoom, NoRecordError
from services.sdk import Event, Mesh
from services.sdk.handlers import HandlerFunction

__all__ = ["PresenceRequests"]


class PresenceRequests(Requests):
    """Answers what is asked about presence."""

    def handlers(self) -> dict[ChatRequest, HandlerFunction]:
        """The handler of each request."""
        return {
            ChatRequest.ROOM_JOIN: self._join,
            ChatRequest.ROOM_LEAVE: self._leave,
            ChatRequest.ROOM_USERS: self._list,
            ChatRequest.SESSION_OPEN: self._open,
            ChatRequest.SESSION_CLOSE: self._close,
            ChatRequest.SESSION_SYNC: self._sync,
            ChatRequest.TYPING: self._type,
        }

    async def _join(self, data: JoinRoom, event: Event, mesh: Mesh) -> Joined:
        room = await self._look_up(data)
        new = None
        if room is None:
            new = self._new_room(data)
        else:
            await self._check_entrance(room, data)
        holder = Holder(event.source.id, data.session)
        room_id = None if room is None else room.id
        try:
            entry = await self._store.enter(holder, data.user_id, room_id, new)
        except NoRecordError:
            if await self._store.user(id=data.user_id) is None:
                raise refuse(ChatError.NO_USER, f"there is no user {data.user_id}") from None
            raise refuse(ChatError.NO_ROOM, "there is no such room") from None
        except NameTakenError:
            raise refuse(ChatError.NOT_ALLOWED, "the session is another user's") from None
        await self._announcer.arrived(mesh, [entry])
        crowd = await self._store.present(entry.room.id, MAX_PAGE)
        return Joined(entry.room, crowd.users, entry.created)

    async def _look_up(self, data: JoinRoom) -> Room | None:
        if data.create and data.id is None and data.name is not None:
            return await self._store.room(name=data.name)
        return await require_room(self._store, data.id, data.name)

    def _new_room(self, data: JoinRoom) -> NewRoom:
        name = data.name or ""
        check_room_name(name)
        return NewRoom(
            name,
            RoomKind.PUBLIC,
            self._clock(),
            ephemeral=data.ephemeral,
            creator_id=data.user_id,
        )

    async def _check_entrance(self, room: Room, data: JoinRoom) -> None:
        if room.participants is not None and data.user_id not in room.participants:
            # That it is there is nobody else's business.
            raise refuse(ChatError.NO_ROOM, "there is no such room")
        if room.kind is RoomKind.PROTECTED:
            stored = await self._store.room_password_hash(room.id)
            if not await self._passwords.verify(stored, data.password or ""):
                raise refuse(ChatError.WRONG_PASSWORD, f"wrong password for {room.name!r}")

    async def _leave(self, data: LeaveRoom, event: Event, mesh: Mesh) -> None:
        departure = await self._store.leave(Holder(event.source.id, data.session), data.id)
        if departure is None:
            await require_room(self._store, data.id)
            raise refuse(ChatError.NOT_IN_ROOM, "the session is not in that room")
        await self._announcer.departed(mesh, [departure])

    async def _list(self, data: RoomUsers) -> Users:
        room = await require_room(self._store, data.id)
        if room.participants is not None and data.reader_id not in room.participants:
            raise refuse(ChatError.NOT_ALLOWED, "the room is between two others")
        crowd = await self._store.present(room.id, MAX_PAGE)
        return Users(crowd.users, crowd.total)

    async def _open(self, data: OpenSession, event: Event, mesh: Mesh) -> None:
        holder = Holder(event.source.id, data.session)
        try:
            departures = await self._store.open_session(holder, data.user_id)
        except NoRecordError:
            raise refuse(ChatError.NO_USER, f"there is no user {data.user_id}") from None
        await self._announcer.departed(mesh, departures)

    async def _close(self, data: CloseSession, event: Event, mesh: Mesh) -> None:
        departures = await self._store.close_session(Holder(event.source.id, data.session))
        await self._announcer.departed(mesh, departures)

    async def _sync(self, data: SyncSessions, event: Event, mesh: Mesh) -> Synced:
        moves = await self._store.sync_gateway(event.source.id, data)
        await self._announcer.arrived(mesh, moves.entries)
        await self._announcer.departed(mesh, moves.departures)
        return Synced(moves.gone)

    async def _type(self, data: Typing, mesh: Mesh) -> None:
        room = await require_room(self._store, data.room_id)
        if not await self._store.is_present(room.id, data.user_id):
            raise refuse(ChatError.NOT_IN_ROOM, "only who is in a room types in it")
        which = ChatEvent.TYPING_STARTED if data.started else ChatEvent.TYPING_STOPPED
        await self._announcer.tell(mesh, which, data)

    # Gateways that have gone.

    async def close_gateway(self, gateway: str, mesh: Mesh) -> None:
        """End all sessions of a gateway that is not there any more."""
        await self._announcer.departed(mesh, await self._store.close_gateway(gateway))
