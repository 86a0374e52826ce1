"""The codes of errors."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from services.chat.messages import ChatError
from services.gateways.refusals import AWAY, BAD_REQUEST, refusal
from services.sdk import MeshError

__all__ = ["ErrorCode", "RefusedError", "refused"]


class ErrorCode(IntEnum):
    """What an error is about."""

    NOT_JSON = 1
    """The message is not a JSON object in a text frame."""
    UNKNOWN_TYPE = 2
    """There is no such `type`."""
    BAD_REQUEST = 3
    """A property is missing, or has the wrong type."""
    WRONG_PASSWORD = 4
    """signIn: the password is not that of the user."""
    NAME_TAKEN = 5
    """signUp: there is such a user; signIn: somebody is there under that name as a guest."""
    NOT_SIGNED_IN = 6
    """The access key is unknown, has expired, or is not that of the user."""
    BAD_NAME = 7
    """The username cannot be one."""
    BAD_PASSWORD = 8
    """The password cannot be one."""
    NO_USER = 9
    """There is no such recipient."""
    NOT_IN_CHANNEL = 10
    """channelLeave: the channel has not been joined."""
    PUBLIC_CHANNEL = 11
    """channelLeave: nobody can leave the public channel."""
    TOO_LONG = 12
    """The message is too long."""
    NOT_ALLOWED = 13
    """A private channel is between two users."""
    AWAY = 14
    """The chat cannot be reached at the moment."""


_CODES: Final[dict[str, ErrorCode]] = {
    ChatError.NAME_TAKEN: ErrorCode.NAME_TAKEN,
    ChatError.BAD_NAME: ErrorCode.BAD_NAME,
    ChatError.BAD_PASSWORD: ErrorCode.BAD_PASSWORD,
    ChatError.WRONG_PASSWORD: ErrorCode.WRONG_PASSWORD,
    ChatError.BAD_TOKEN: ErrorCode.NOT_SIGNED_IN,
    ChatError.NO_USER: ErrorCode.NO_USER,
    ChatError.NOT_IN_ROOM: ErrorCode.NOT_IN_CHANNEL,
    ChatError.TEXT_TOO_LONG: ErrorCode.TOO_LONG,
    AWAY: ErrorCode.AWAY,
    BAD_REQUEST: ErrorCode.BAD_REQUEST,
}


class RefusedError(Exception):
    """A request that is not carried out.

    Args:
        code: what it is about.
        message: for people.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def refused(error: MeshError) -> RefusedError:
    """Say what it means here that the chat has not done something."""
    why = refusal(error)
    return RefusedError(_CODES.get(why.code, ErrorCode.NOT_ALLOWED), why.text)
