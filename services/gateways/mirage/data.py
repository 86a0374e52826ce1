"""What Mirage's clients send with their events, and what a message looks like to them."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import attrs
import msgspec

from services.chat.model import Message
from services.gateways.socket_io.arguments import MAX_ID

__all__ = [
    "CreateRoomData",
    "DecryptionErrorData",
    "EnterRoomData",
    "LeaveRoomData",
    "NewMessagesData",
    "RoomData",
    "RoomsData",
    "SendMessageData",
    "message_object",
]

_NotEmpty = Annotated[str, msgspec.Meta(min_length=1)]

# Numbers count from 0 in each room.
_Number = Annotated[int, msgspec.Meta(ge=-1, le=MAX_ID)]


@attrs.frozen
class RoomsData:
    """`get_rooms`, which may come without any data.

    Attributes:
        all: all rooms that anybody may know of, in place of those that the user is in.
    """

    all: bool = False


@attrs.frozen
class CreateRoomData:
    """`create_room`. An empty password is none."""

    room_name: _NotEmpty
    username: _NotEmpty
    password: str | None = attrs.field(default=None, repr=False)


@attrs.frozen
class EnterRoomData:
    """`join_room_route`."""

    username: _NotEmpty
    room_name: _NotEmpty
    password: str | None = attrs.field(default=None, repr=False)


@attrs.frozen
class LeaveRoomData:
    """`leave_room_route`."""

    username: _NotEmpty
    room_name: _NotEmpty


@attrs.frozen
class RoomData:
    """`get_users_in_room_route` and `get_all_messages`."""

    room_name: _NotEmpty


@attrs.frozen
class SendMessageData:
    """`send_message`."""

    username: _NotEmpty
    room_name: _NotEmpty
    message: _NotEmpty = attrs.field(repr=False)


@attrs.frozen
class NewMessagesData:
    """`get_new_messages`: those after one that the client has seen; -1 before the first."""

    room_name: _NotEmpty
    last_message_id: _Number = -1


@attrs.frozen
class DecryptionErrorData:
    """`decryption_error`: a client has got a message that its key does not open.

    Attributes:
        id: the number that the room's next message will have, as far as the client knows.
        username: the author's, who is to hear of it.
        receiver: whose key does not fit.
    """

    room_name: _NotEmpty
    username: _NotEmpty
    id: _Number
    receiver: str = ""


def message_object(message: Message) -> dict[str, Any]:
    """Return a message as Mirage's clients read it."""
    time = datetime.datetime.fromtimestamp(message.time / 1000, datetime.UTC)
    return {
        "id": message.number,
        "username": message.username,
        "message": message.text,
        "timestamp": time.isoformat(timespec="milliseconds"),
    }
