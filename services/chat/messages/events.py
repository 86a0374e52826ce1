"""What the gateways are told."""

from __future__ import annotations

import attrs

from services.chat.model import Message, Room, User

__all__ = ["Posted", "PresenceChanged", "RoomRemoved"]


@attrs.frozen
class Posted:
    """A new message, and the room that it is in."""

    message: Message
    room: Room


@attrs.frozen
class PresenceChanged:
    """Who is in a room now.

    Attributes:
        users: by id; no more than `MAX_PAGE`, however many there are.
        joined, left: the ids of the users that this is about.
        changes: the room's count at that time: what has a lesser one than another is older.
    """

    room_id: int
    users: tuple[User, ...]
    joined: tuple[int, ...] = ()
    left: tuple[int, ...] = ()
    changes: int = 0


@attrs.frozen
class RoomRemoved:
    """A room that has gone away.

    Attributes:
        name: empty where that is not known any more.
    """

    id: int
    name: str
