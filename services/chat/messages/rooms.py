"""What is said about rooms."""

from __future__ import annotations

import attrs

from services.chat.messages.vocabulary import MAX_PAGE
from services.chat.model import Room, RoomKind

__all__ = [
    "CreateRoom",
    "FindRoom",
    "ListRooms",
    "OpenPrivateRoom",
    "RemoveRoom",
    "Rooms",
    "UpdateRoom",
]


@attrs.frozen
class CreateRoom:
    """ROOM_CREATE: the result is a `Room`. Errors: ROOM_EXISTS, BAD_NAME, BAD_PASSWORD, NO_USER.

    Attributes:
        password: makes the room a protected one.
        creator_id: a user's.
    """

    name: str
    description: str = ""
    password: str | None = attrs.field(default=None, repr=False)
    creator_id: int | None = None


@attrs.frozen
class FindRoom:
    """ROOM_GET, by one of the two; the result is a `Room`. Errors: NO_ROOM.

    A private room is found by its participants alone.

    Attributes:
        reader_id: the user who asks.
    """

    id: int | None = None
    name: str | None = None
    reader_id: int | None = None


@attrs.frozen
class ListRooms:
    """ROOM_LIST, by id; the result is `Rooms`.

    Attributes:
        of_user_id: only the rooms that this user is in.
        kinds: which ones. Who asks for private ones must not show them to others than their
            participants.
        limit: up to `MAX_PAGE`. A page of rooms with long descriptions may hold fewer, so go on
            from the last one that came.
    """

    offset: int = 0
    limit: int = MAX_PAGE
    of_user_id: int | None = None
    kinds: tuple[RoomKind, ...] = (RoomKind.PUBLIC, RoomKind.PROTECTED)


@attrs.frozen
class Rooms:
    """Some rooms, and how many there are in all."""

    rooms: tuple[Room, ...]
    total: int


@attrs.frozen
class UpdateRoom:
    """ROOM_UPDATE: the result is a `Room`. What is None stays as it is.

    Only its creator may change a room; the room `public`, nobody.

    Errors: NO_ROOM, ROOM_EXISTS, BAD_NAME, NOT_ALLOWED.
    """

    id: int
    user_id: int
    name: str | None = None
    description: str | None = None


@attrs.frozen
class RemoveRoom:
    """ROOM_DELETE: the room goes away with its messages; no result. Errors: NO_ROOM, NOT_ALLOWED.

    Only its creator may; the room `public` stays.
    """

    id: int
    user_id: int


@attrs.frozen
class OpenPrivateRoom:
    """ROOM_PRIVATE: the room between two users, made where there is none; the result is a `Room`.

    Errors: NO_USER, NOT_ALLOWED (with oneself).
    """

    user_id: int
    other_id: int
