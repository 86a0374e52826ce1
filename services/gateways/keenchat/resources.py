"""Keenchat's resources, as they go over the wire."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.types import JsonValue

from services.chat.messages import (
    MAX_DESCRIPTION_LENGTH,
    MAX_PASSWORD_LENGTH,
    MAX_ROOM_NAME_LENGTH,
    MAX_USERNAME_LENGTH,
)
from services.chat.model import Message, Room, User
from services.gateways.socket_io.arguments import require_text

__all__ = [
    "ChannelChange",
    "ChannelResource",
    "Credentials",
    "MessageResource",
    "NewChannel",
    "NewMessage",
    "NewUser",
    "Problem",
    "TokenResource",
    "UserResource",
]


class Problem(BaseModel):
    """Why something has not been done: for people, and for programs."""

    error: str
    code: str


class UserResource(BaseModel):
    """A user. The password stays here."""

    id: int
    username: str

    @classmethod
    def of(cls, user: User) -> UserResource:
        """Make one."""
        return cls(id=user.id, username=user.username)


class ChannelResource(BaseModel):
    """A channel."""

    id: int
    title: str
    description: str

    @classmethod
    def of(cls, room: Room) -> ChannelResource:
        """Make one of a public room."""
        return cls(id=room.id, title=room.name, description=room.description)


class MessageResource(BaseModel):
    """A message."""

    id: int
    channel_id: int
    user_id: int
    message_text: str
    time: int = Field(description="Milliseconds since 1970.")

    @classmethod
    def of(cls, message: Message) -> MessageResource:
        """Make one."""
        return cls(
            id=message.id,
            channel_id=message.room_id,
            user_id=message.user_id,
            message_text=message.text,
            time=message.time,
        )


class TokenResource(BaseModel):
    """A token, and whose it is."""

    token_value: str
    user_id: int


def _whole(text: str) -> str:
    require_text("this", text)
    return text


def _described(least: int, most: int) -> dict[str, JsonValue]:
    # The chat service itself says what is wrong with a name; this is for the pages about the API.
    return {"minLength": least, "maxLength": most}


_Text = Annotated[str, AfterValidator(_whole)]
_Username = Annotated[_Text, Field(json_schema_extra=_described(1, MAX_USERNAME_LENGTH))]
_Password = Annotated[
    _Text, Field(repr=False, json_schema_extra=_described(1, MAX_PASSWORD_LENGTH))
]
_Title = Annotated[_Text, Field(json_schema_extra=_described(1, MAX_ROOM_NAME_LENGTH))]
_Description = Annotated[_Text, Field(json_schema_extra=_described(0, MAX_DESCRIPTION_LENGTH))]


class _Body(BaseModel):
    # Text is not taken for a number. Clients may send whole resources: what else they hold, such
    # as the id, is ignored.
    model_config = ConfigDict(strict=True)


class Credentials(_Body):
    """Who wants a token."""

    username: _Username
    password: _Password


class NewUser(Credentials):
    """A user to be made."""


class NewChannel(_Body):
    """A channel to be made."""

    title: _Title
    description: _Description = ""


class ChannelChange(_Body):
    """What is to be changed. What is left out stays as it is."""

    title: _Title | None = None
    description: _Description | None = None


class NewMessage(_Body):
    """A message to be written. The author is whose token it comes with."""

    channel_id: int
    message_text: _Text = Field(min_length=1, repr=False)
    user_id: int | None = None
