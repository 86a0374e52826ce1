"""Everything that is asked for, page by page, within bounds."""

from __future__ import annotations

import attrs
import msgspec

from services.chat.client import ChatClient
from services.chat.messages import MAX_PAGE, ListMessages, ListRooms
from services.chat.model import Message, Room

__all__ = ["History", "all_rooms", "newest_messages"]


@attrs.frozen
class History:
    """The newest messages, oldest of them first, and how many there are in all."""

    messages: list[Message]
    total: int


async def newest_messages(
    chat: ChatClient, which: ListMessages, limit: int, max_bytes: int
) -> History:
    """Return the newest messages that were asked for.

    Args:
        chat: is asked.
        which: whose, and where. Its `offset` leaves out so many of the newest.
        limit: how many at most.
        max_bytes: how large they are at most, as JSON; but one is always returned.

    Raises:
        MeshError: as `ChatClient.messages`.
    """
    found: list[Message] = []
    size = total = 0
    offset = which.offset
    while len(found) < limit:
        page = await chat.messages(
            attrs.evolve(which, offset=offset, limit=MAX_PAGE, newest_first=True)
        )
        total = page.total
        for message in page.messages:
            offset += 1
            # What has been written meanwhile moves the others along: those have been seen.
            if found and message.id >= found[-1].id:
                continue
            size += len(msgspec.json.encode(message))
            if len(found) == limit or (found and size > max_bytes):
                return History(found[::-1], total)
            found.append(message)
        if not page.messages or offset >= total:
            break
    return History(found[::-1], total)


async def all_rooms(chat: ChatClient, which: ListRooms, limit: int) -> tuple[list[Room], int]:
    """Return the rooms that were asked for, by id, and how many there are in all.

    Args:
        chat: is asked.
        which: which ones, from its `offset` on.
        limit: how many at most.

    Raises:
        MeshError: as `ChatClient.rooms`.
    """
    found: list[Room] = []
    while True:
        page = await chat.rooms(
            attrs.evolve(
                which,
                offset=which.offset + len(found),
                limit=min(MAX_PAGE, limit - len(found)),
            )
        )
        found += page.rooms
        if not page.rooms or len(found) >= limit or which.offset + len(found) >= page.total:
            return found, page.total
