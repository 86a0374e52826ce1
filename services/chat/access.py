"""Who may read and write in a room."""

from __future__ import annotations

from services.chat.messages import ChatError
from services.chat.model import Room, RoomKind
from services.chat.rules import refuse
from services.chat.store import Store

__all__ = ["check_access", "require_room"]


async def require_room(store: Store, id: int | None, name: str | None = None) -> Room:
    """Return a room, which must be there.

    Raises:
        ServiceError: NO_ROOM.
    """
    room = None
    if id is not None or name is not None:
        room = await store.room(id=id, name=name)
    if room is None:
        raise refuse(ChatError.NO_ROOM, "there is no such room")
    return room


async def check_access(store: Store, room: Room, user_id: int | None) -> None:
    """See whether somebody may read and write in a room.

    Everybody may in a public one, the participants in a private one, and in a protected one
    whoever is in it, since the password is asked for at the entrance.

    Raises:
        ServiceError: NOT_ALLOWED, NOT_IN_ROOM.
    """
    if room.kind is RoomKind.PRIVATE and user_id not in (room.participants or ()):
        raise refuse(ChatError.NOT_ALLOWED, "the room is between two others")
    if room.kind is RoomKind.PROTECTED and (
        user_id is None or not await store.is_present(room.id, user_id)
    ):
        raise refuse(ChatError.NOT_IN_ROOM, f"join {room.name!r} first")
