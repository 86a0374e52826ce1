"""Room ids, which are strings or integers, and the names that the rooms have in the chat.

An integer n is the room `#n`. So that the string "#n" is another one, it gets one more `#` in
front, and so does every string that looks like it; every other string is the name itself. That way
each id has a name of its own, and each name, whoever has given it, an id of its own.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["RoomId", "to_name", "to_room_id"]

RoomId = str | int

_INTEGER: Final = r"(?:0|-?[1-9][0-9]*)"
_LIKE_AN_INTEGER: Final = re.compile(rf"#+{_INTEGER}")


def to_name(room_id: RoomId) -> str:
    """Return the name of the room with this id."""
    if isinstance(room_id, int):
        return f"#{room_id}"
    return f"#{room_id}" if _LIKE_AN_INTEGER.fullmatch(room_id) else room_id


def to_room_id(name: str) -> RoomId:
    """Return the id of the room with this name."""
    if not _LIKE_AN_INTEGER.fullmatch(name):
        return name
    return name[1:] if name.startswith("##") else int(name[1:])
