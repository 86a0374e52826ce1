"""What clients of the Redis chat get.

The document and the public browser client spell properties in different ways, so objects have them
in both.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs

from services.chat.model import Message, User
from services.gateways.json_text import write_json
from services.gateways.redis_chat.codes import RefusedError

__all__ = [
    "Person",
    "Written",
    "envelope",
    "error",
    "person_of",
    "user_object",
    "user_objects",
    "written_object",
]

# Messages have numbers in the chat; each has the same UUID wherever it is shown.
_MESSAGES: Final = uuid.UUID("6f0a4a9c-6d0c-4a0e-9d5a-3f9f1f1f6a55")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@attrs.frozen
class Person:
    """A user, as others see them."""

    uuid: str
    username: str


@attrs.frozen
class Written:
    """A message, with who has written it and to whom.

    Attributes:
        recipient: None for the public channel.
    """

    message: Message
    sender: Person
    recipient: Person | None


def person_of(user: User) -> Person:
    """Return a user as others see them."""
    return Person(user.uuid, user.username)


def envelope(type: str, data: Any, **more: Any) -> str:  # noqa: A002, ANN401 - as on the wire
    """Write a message to a client: its data stand under its type."""
    return write_json({"type": type, type: data, **more})


def error(why: RefusedError) -> str:
    """Write an error."""
    return envelope("error", {"code": int(why.code), "message": why.message})


def user_object(user: User) -> dict[str, object]:
    """Make the object of a user, which has no password in it."""
    return {**_names(person_of(user)), "OnLine": user.online}


def written_object(written: Written) -> dict[str, object]:
    """Make the object of a message."""
    message = written.message
    sender, recipient = written.sender.uuid, written.recipient.uuid if written.recipient else ""
    created = _to_text(message.time)
    made: dict[str, object] = {
        "UUID": str(uuid.uuid5(_MESSAGES, str(message.id))),
        "senderUUID": sender,
        "recipientUUID": recipient,
        "message": message.text,
        "created_at": created,
        "createdAt": created,
        "SenderUUID": sender,
        "RecipientUUID": recipient,
        "Message": message.text,
        "CreatedAt": created,
        # By the name that the sender had then.
        "Sender": _names(attrs.evolve(written.sender, username=message.username)),
    }
    if written.recipient is not None:
        made["Recipient"] = _names(written.recipient)
    return made


def user_objects(users: Iterable[User]) -> list[dict[str, object]]:
    """Make the objects of users."""
    return [user_object(user) for user in users]


def _names(person: Person) -> dict[str, object]:
    return {"UUID": person.uuid, "Username": person.username, "username": person.username}


def _to_text(time: int) -> str:
    # By whole numbers: a float would be off by a microsecond now and then.
    at = _EPOCH + timedelta(milliseconds=time)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
