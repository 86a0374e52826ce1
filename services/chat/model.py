"""What the chat is about: users, rooms, messages. All times are milliseconds since 1970."""

from __future__ import annotations

from enum import StrEnum

import attrs

__all__ = ["Message", "Room", "RoomKind", "User", "UserKind"]


class UserKind(StrEnum):
    """How a user is known."""

    ACCOUNT = "account"
    """By a password."""
    GUEST = "guest"
    """By a name alone, for as long as somebody is connected under it."""
    ANONYMOUS = "anonymous"
    """Not at all: one user stands for all of them."""


class RoomKind(StrEnum):
    """Who may enter a room."""

    PUBLIC = "public"
    """Everybody."""
    PROTECTED = "protected"
    """Whoever knows its password."""
    PRIVATE = "private"
    """The two users that it is between."""


@attrs.frozen
class User:
    """Someone who writes.

    Attributes:
        id: counts from 1.
        uuid: the same user, for protocols that name users by a UUID.
        created: when the user was first seen.
        online: whether a session of theirs is open anywhere.
    """

    id: int
    uuid: str
    username: str
    kind: UserKind
    created: int
    online: bool = False


@attrs.frozen
class Room:
    """Where messages go; also called a channel.

    Attributes:
        id: counts from 1; 1 is the room `public`, which is always there.
        name: unique, exactly as written. A private room's is made up.
        ephemeral: the room goes away, with its messages, when the last session has left it.
        creator_id: None for the room that the chat itself made, and for anonymous creators.
        participants: the ids of the two users that a private room is between, else None.
        messages: how many it has; what the next one will be counted as.
        changes: how often somebody has come in or gone, so that of two lists of who is in the room
            the later one can be told.
    """

    id: int
    name: str
    description: str
    kind: RoomKind
    ephemeral: bool
    creator_id: int | None
    created: int
    participants: tuple[int, int] | None = None
    messages: int = 0
    changes: int = 0


@attrs.frozen
class Message:
    """One message. It never changes.

    Attributes:
        id: counts from 1 over all rooms.
        number: counts from 0 in its room, without gaps: the order that all see.
        username: the author's name at the time.
        text: as it came; it may be encrypted.
    """

    id: int
    room_id: int
    number: int
    user_id: int
    username: str
    text: str
    time: int
