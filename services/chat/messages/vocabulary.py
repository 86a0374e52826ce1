"""The names that the chat service and the gateways share: requests, events, errors, bounds."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = [
    "ANONYMOUS_NAME",
    "CHAT_GROUP",
    "GATEWAYS_GROUP",
    "MAX_DESCRIPTION_LENGTH",
    "MAX_PAGE",
    "MAX_PASSWORD_LENGTH",
    "MAX_ROOM_NAME_LENGTH",
    "MAX_TEXT_BYTES",
    "MAX_USERNAME_LENGTH",
    "PUBLIC_ROOM",
    "ChatError",
    "ChatEvent",
    "ChatRequest",
]

CHAT_GROUP: Final = "chat"
GATEWAYS_GROUP: Final = "gateways"

# The room that is always there, and where the systems without a choice of rooms write.
PUBLIC_ROOM: Final = "public"

ANONYMOUS_NAME: Final = "Anonymous"

# Names are shown in lists and beside each message: as long as a line of a narrow window.
MAX_USERNAME_LENGTH: Final = 64
MAX_ROOM_NAME_LENGTH: Final = 128
MAX_DESCRIPTION_LENGTH: Final = 1024

# Long enough for any passphrase; the bound keeps a hash's work small.
MAX_PASSWORD_LENGTH: Final = 256

# A long letter, encrypted and in base64. A page of these still fits into one frame of the mesh.
MAX_TEXT_BYTES: Final = 64 * 1024

# How many entries one answer holds at most.
MAX_PAGE: Final = 1000


class ChatRequest(StrEnum):
    """The requests that the chat service answers."""

    USER_REGISTER = "USER_REGISTER"
    USER_LOGIN = "USER_LOGIN"
    USER_AUTHENTICATE = "USER_AUTHENTICATE"
    USER_LOGOUT = "USER_LOGOUT"
    USER_GET = "USER_GET"
    USER_LIST = "USER_LIST"
    GUEST_CLAIM = "GUEST_CLAIM"
    ROOM_CREATE = "ROOM_CREATE"
    ROOM_GET = "ROOM_GET"
    ROOM_LIST = "ROOM_LIST"
    ROOM_UPDATE = "ROOM_UPDATE"
    ROOM_DELETE = "ROOM_DELETE"
    ROOM_PRIVATE = "ROOM_PRIVATE"
    ROOM_JOIN = "ROOM_JOIN"
    ROOM_LEAVE = "ROOM_LEAVE"
    ROOM_USERS = "ROOM_USERS"
    SESSION_OPEN = "SESSION_OPEN"
    SESSION_CLOSE = "SESSION_CLOSE"
    SESSION_SYNC = "SESSION_SYNC"
    MESSAGE_POST = "MESSAGE_POST"
    MESSAGE_GET = "MESSAGE_GET"
    MESSAGE_LIST = "MESSAGE_LIST"
    TYPING = "TYPING"
    VISIT = "VISIT"
    STATISTICS = "STATISTICS"


class ChatEvent(StrEnum):
    """The events that the gateways hear, each with the class of its data."""

    USER_CREATED = "USER_CREATED"
    """`User`: a new account or guest."""
    ROOM_CREATED = "ROOM_CREATED"
    """`Room`."""
    ROOM_UPDATED = "ROOM_UPDATED"
    """`Room`."""
    ROOM_DELETED = "ROOM_DELETED"
    """`RoomRemoved`."""
    MESSAGE_POSTED = "MESSAGE_POSTED"
    """`Posted`."""
    PRESENCE_CHANGED = "PRESENCE_CHANGED"
    """`PresenceChanged`."""
    TYPING_STARTED = "TYPING_STARTED"
    """`Typing`."""
    TYPING_STOPPED = "TYPING_STOPPED"
    """`Typing`."""


class ChatError(StrEnum):
    """Why the chat service says no."""

    NAME_TAKEN = "NAME_TAKEN"
    BAD_NAME = "BAD_NAME"
    BAD_PASSWORD = "BAD_PASSWORD"  # noqa: S105 - a password that may not be set
    WRONG_PASSWORD = "WRONG_PASSWORD"  # noqa: S105 - of an account or room; also "no such account"
    BAD_TOKEN = "BAD_TOKEN"  # noqa: S105 - unknown, expired, or signed out
    NO_USER = "NO_USER"
    NO_ROOM = "NO_ROOM"
    NO_MESSAGE = "NO_MESSAGE"
    ROOM_EXISTS = "ROOM_EXISTS"
    NOT_IN_ROOM = "NOT_IN_ROOM"
    NOT_ALLOWED = "NOT_ALLOWED"
    TEXT_TOO_LONG = "TEXT_TOO_LONG"
    STORE_DOWN = "STORE_DOWN"
