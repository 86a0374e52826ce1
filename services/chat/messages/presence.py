"""What is said about sessions, and the rooms that they are in."""

from __future__ import annotations

import attrs

from services.chat.model import Room, User

__all__ = [
    "CloseSession",
    "JoinRoom",
    "Joined",
    "LeaveRoom",
    "OpenSession",
    "RoomUsers",
    "Session",
    "SyncSessions",
    "Synced",
]


@attrs.frozen
class JoinRoom:
    """ROOM_JOIN: a session enters a room; the result is a `Joined`. Again is no error.

    Errors: NO_ROOM (for a private room of others too), WRONG_PASSWORD, NOT_ALLOWED (the session is
    another user's), NO_USER, BAD_NAME.

    Attributes:
        session: the gateway's client.
        id, name: the room, by one of the two.
        create: make the room where there is none by that name.
        ephemeral: what is made goes away when the last session has left it.
    """

    session: str
    user_id: int
    id: int | None = None
    name: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    create: bool = False
    ephemeral: bool = False


@attrs.frozen
class Joined:
    """A room, and who is in it.

    Attributes:
        users: by id; no more than `MAX_PAGE`, however many there are.
        created: whether joining has made the room.
    """

    room: Room
    users: tuple[User, ...]
    created: bool = False


@attrs.frozen
class LeaveRoom:
    """ROOM_LEAVE: a session leaves a room; no result. Errors: NO_ROOM, NOT_IN_ROOM."""

    session: str
    id: int


@attrs.frozen
class RoomUsers:
    """ROOM_USERS: who is in a room; the result is `Users`. Errors: NO_ROOM, NOT_ALLOWED.

    Attributes:
        reader_id: the user who asks; needed for a private room.
    """

    id: int
    reader_id: int | None = None


@attrs.frozen
class OpenSession:
    """SESSION_OPEN: a user is online by a session, in no room yet; no result. Errors: NO_USER.

    A session of another user leaves all its rooms by it.
    """

    session: str
    user_id: int


@attrs.frozen
class CloseSession:
    """SESSION_CLOSE: a session leaves all its rooms and gives up its name; no result."""

    session: str


@attrs.frozen
class Session:
    """A client of a gateway, as the gateway knows it.

    Attributes:
        exclusive: whether it has its guest's name for itself.
    """

    session: str
    user_id: int
    rooms: tuple[int, ...]
    exclusive: bool = False


@attrs.frozen
class SyncSessions:
    """SESSION_SYNC: all sessions of a gateway, in place of what is known of it.

    A gateway sends it when it has come back under another connection id. The result is a `Synced`.
    Where there are many sessions, they come in several parts.

    Attributes:
        previous: the gateway's connection id of before, whose sessions end.
        kept: names of sessions that earlier parts have told.
        more: another part follows, so what is not spoken of does not end yet.
    """

    sessions: tuple[Session, ...]
    previous: str | None = None
    kept: tuple[str, ...] = ()
    more: bool = False


@attrs.frozen
class Synced:
    """What came of telling all sessions.

    Attributes:
        gone: the ids of rooms that they were in, and that have gone away meanwhile.
    """

    gone: tuple[int, ...] = ()
