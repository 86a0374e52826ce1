"""What clients of the Redis chat send, read and checked."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import attrs

from services.chat.messages import MAX_TEXT_BYTES
from services.gateways.json_text import NotJsonError, is_unicode, read_json, write_json
from services.gateways.redis_chat.codes import ErrorCode, RefusedError

__all__ = ["DEFAULT_LIMIT", "MAX_LIMIT", "Credentials", "Request", "RequestType", "read_request"]

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 99

# Far above any name or key, so that the chat says itself what is wrong with it; but far below what
# a frame of the mesh can hold.
_MAX_LENGTH: Final = 4096

_MAX_OFFSET: Final = 2**31 - 1
_SHOWN_LENGTH: Final = 80


class RequestType(StrEnum):
    """What clients may ask for."""

    SIGN_IN = "signIn"
    SIGN_UP = "signUp"
    SIGN_OUT = "signOut"
    USERS = "users"
    CHANNEL_JOIN = "channelJoin"
    CHANNEL_MESSAGE = "channelMessage"
    CHANNEL_MESSAGES = "channelMessages"
    CHANNEL_LEAVE = "channelLeave"


# Where the data of a request stands: under its type, and under what else it is called.
_OTHER_NAMES: Final = {RequestType.SIGN_IN: "signId"}


@attrs.frozen
class Credentials:
    """Who the client says that it is. Both are empty where it has none to say yet."""

    user_uuid: str
    access_key: str = attrs.field(repr=False)


@attrs.frozen
class Request:
    """A request.

    Attributes:
        type: what is asked for.
    """

    type: RequestType
    _properties: dict[str, object] = attrs.field(repr=False)

    def credentials(self) -> Credentials:
        """Return who asks.

        Raises:
            RefusedError: something is missing, or no string.
        """
        key = "userAccessKey" if "userAccessKey" in self._properties else "accessKey"
        if key not in self._properties:
            raise RefusedError(ErrorCode.BAD_REQUEST, "userAccessKey is missing")
        return Credentials(
            _string(self._properties, "userUUID"),
            _string(self._properties, key),
        )

    def username(self) -> str:
        """Return the name of who signs in or up. Raises as `credentials`."""
        return _string(self._data(), "username")

    def password(self) -> str:
        """Return the password of who signs in or up. Raises as `credentials`."""
        return _string(self._data(), "password")

    def recipient(self) -> str:
        """Return the UUID that names a channel; empty for the public one.

        Raises:
            RefusedError: it is no UUID.
        """
        value = self._data().get("recipientUUID")
        # Not `value in (...)`: False is equal to 0 in Python.
        if value is None or value == "" or value == "0" or (type(value) is int and value == 0):
            return ""
        if not isinstance(value, str):
            raise RefusedError(ErrorCode.BAD_REQUEST, "recipientUUID must be a string")
        return _checked("recipientUUID", value, _MAX_LENGTH).lower()

    def message(self) -> str:
        """Return the text of a message. Raises as `credentials`."""
        return _string(self._data(), "message", MAX_TEXT_BYTES, ErrorCode.TOO_LONG)

    def page(self) -> tuple[int, int]:
        """Return the offset and the limit of a page of messages.

        Raises:
            RefusedError: one of them is out of its range.
        """
        offset = self._number("offset")
        if offset > _MAX_OFFSET:
            raise RefusedError(ErrorCode.BAD_REQUEST, f"offset must not be above {_MAX_OFFSET}")
        # A limit of 0 is what clients send that have set none.
        limit = self._number("limit") or DEFAULT_LIMIT
        if limit > MAX_LIMIT:
            raise RefusedError(ErrorCode.BAD_REQUEST, f"limit must not be above {MAX_LIMIT}")
        return offset, limit

    def _number(self, name: str) -> int:
        value = self._data().get(name, 0)
        if type(value) is not int or value < 0:
            raise RefusedError(ErrorCode.BAD_REQUEST, f"{name} must be an integer, and not below 0")
        return value

    def _data(self) -> dict[str, object]:
        names = [self.type.value, _OTHER_NAMES.get(self.type, self.type.value)]
        name = next((name for name in names if name in self._properties), None)
        if name is None:
            raise RefusedError(ErrorCode.BAD_REQUEST, f"{self.type} is missing")
        data = self._properties[name]
        if not isinstance(data, dict):
            raise RefusedError(ErrorCode.BAD_REQUEST, f"{name} must be an object")
        return data


def _string(
    properties: dict[str, object],
    name: str,
    longest: int = _MAX_LENGTH,
    code: ErrorCode = ErrorCode.BAD_REQUEST,
) -> str:
    if name not in properties:
        raise RefusedError(ErrorCode.BAD_REQUEST, f"{name} is missing")
    value = properties[name]
    if not isinstance(value, str):
        raise RefusedError(ErrorCode.BAD_REQUEST, f"{name} must be a string")
    return _checked(name, value, longest, code)


def _checked(name: str, value: str, longest: int, code: ErrorCode = ErrorCode.BAD_REQUEST) -> str:
    if len(value) > longest:
        raise RefusedError(code, f"{name} is too long: it may have {longest} characters")
    if not is_unicode(value):
        raise RefusedError(ErrorCode.BAD_REQUEST, f"{name} has half a surrogate pair in it")
    return value


def read_request(message: str | bytes) -> Request:
    """Read what a client has sent.

    Raises:
        RefusedError: it is no request.
    """
    try:
        value = read_json(message)
    except NotJsonError as error:
        raise RefusedError(ErrorCode.NOT_JSON, str(error)) from error
    if not isinstance(value, dict):
        raise RefusedError(ErrorCode.NOT_JSON, "the message is not a JSON object")
    if "type" not in value:
        raise RefusedError(ErrorCode.BAD_REQUEST, "type is missing")
    kind = value["type"]
    try:
        return Request(RequestType(kind if isinstance(kind, str) else ""), value)
    except ValueError:
        shown = write_json(kind)[:_SHOWN_LENGTH] if isinstance(kind, str) else "that is no string"
        known = ", ".join(RequestType)
        raise RefusedError(
            ErrorCode.UNKNOWN_TYPE, f"unknown type {shown}: there are {known}"
        ) from None
