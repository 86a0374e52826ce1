"""What is said about messages, typing, and what is counted."""

from __future__ import annotations

import attrs

from services.chat.messages.vocabulary import MAX_PAGE
from services.chat.model import Message

__all__ = [
    "GetMessage",
    "ListMessages",
    "Messages",
    "PostMessage",
    "Statistics",
    "Typing",
    "Visits",
]


@attrs.frozen
class PostMessage:
    """MESSAGE_POST: the result is a `Message`, once it is stored for good.

    Everybody may write into a public room; into others, whoever is in it.

    Errors: NO_ROOM, NO_USER, NOT_IN_ROOM, NOT_ALLOWED, TEXT_TOO_LONG.

    Attributes:
        key: the gateway's own, one a message: what is posted again with the same key is the same
            message, so that a gateway may repeat a post whose answer was lost.
    """

    room_id: int
    user_id: int
    text: str
    key: str


@attrs.frozen
class GetMessage:
    """MESSAGE_GET: the result is a `Message`. Errors: NO_MESSAGE, for one not to be read too."""

    id: int
    reader_id: int | None = None


@attrs.frozen
class ListMessages:
    """MESSAGE_LIST: the result is `Messages`. Errors: NO_ROOM, NOT_IN_ROOM, NOT_ALLOWED.

    Without a room: of all public ones.

    Attributes:
        reader_id: the user who asks; needed for rooms that are not public.
        trusted: a gateway asks for itself, and sees to it who gets to see what.
        user_id: only messages of this author.
        after: only messages with a greater number; needs a room.
        limit: up to `MAX_PAGE`. A page of very long messages may hold fewer, so go on from the last
            one that came.
        newest_first: in place of oldest first.
    """

    room_id: int | None = None
    reader_id: int | None = None
    user_id: int | None = None
    after: int | None = None
    offset: int = 0
    limit: int = MAX_PAGE
    newest_first: bool = False
    trusted: bool = False


@attrs.frozen
class Messages:
    """Some messages, and how many there are in all that were asked for."""

    messages: tuple[Message, ...]
    total: int


@attrs.frozen
class Typing:
    """TYPING: somebody has begun or stopped to type; no result. Also the data of the two events.

    Errors: NO_ROOM, NOT_IN_ROOM.
    """

    room_id: int
    user_id: int
    started: bool = True


@attrs.frozen
class Visits:
    """VISIT: counts one connection to a gateway; the result is how many there were.

    Attributes:
        today: since midnight, UTC.
    """

    today: int
    total: int


@attrs.frozen
class Statistics:
    """STATISTICS: what there is, in numbers; no data goes with the request."""

    users: int
    accounts: int
    online: int
    rooms: int
    messages: int
    visits: Visits
