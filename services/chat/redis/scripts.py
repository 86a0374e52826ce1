"""The script that works on the store, and how what it returns is read."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Final

from services.chat.model import Message, Room, RoomKind, User, UserKind
from services.chat.store import Departure, Entry

__all__ = [
    "load_script",
    "read_departures",
    "read_entries",
    "read_entry",
    "read_message",
    "read_room",
    "read_user",
]

_FILES: Final = ("base", "users", "rooms", "presence", "messages", "dispatch")


@cache
def load_script() -> str:
    """Put the script together of its files."""
    folder = resources.files("services.chat.redis") / "lua"
    return "\n".join((folder / f"{name}.lua").read_text("utf-8") for name in _FILES)


def read_user(row: Any) -> User:  # noqa: ANN401 - this and those below: what Redis returns
    """Make a user of `user_row`."""
    id, uuid, username, kind, created, online = row
    return User(int(id), uuid, username, UserKind(kind), int(created), online=bool(online))


def read_room(row: Any) -> Room:  # noqa: ANN401
    """Make a room of `room_row`."""
    id, name, text, kind, ephemeral, creator, created, first, second, messages, changes = row
    return Room(
        int(id),
        name,
        text,
        RoomKind(kind),
        ephemeral == "1",
        int(creator) if creator else None,
        int(created),
        (int(first), int(second)) if first else None,
        int(messages),
        int(changes),
    )


def read_message(row: Any) -> Message:  # noqa: ANN401
    """Make a message of `message_row`."""
    id, room, number, user, username, text, time = row
    return Message(int(id), int(room), int(number), int(user), username, text, int(time))


def read_entry(row: Any) -> Entry:  # noqa: ANN401
    """Make one of `entry`."""
    room, user, created, arrived = row
    return Entry(read_room(room), int(user), bool(created), bool(arrived))


def read_entries(rows: Any) -> list[Entry]:  # noqa: ANN401
    """Make several."""
    return [read_entry(row) for row in rows]


def read_departures(rows: Any) -> list[Departure]:  # noqa: ANN401
    """Make some of `departure`."""
    return [
        Departure(read_room(room), int(user), bool(gone), bool(removed))
        for room, user, gone, removed in rows
    ]
