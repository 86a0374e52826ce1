"""What clients of the rooms send, read and checked; and what they are sent.

An answer has the request in it as it came, to the letter. So a request is kept as its text, and put
into the answer as that: what a number or a repeated property would turn into on the way through a
parser does not matter then.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import attrs

from services.gateways.json_text import NotJsonError, is_unicode, read_json, write_json
from services.gateways.rooms.room_ids import RoomId

__all__ = ["Action", "BadActionError", "Request", "get_message", "read_request"]

# Far above any name, so that the chat says itself what is wrong with it; but far below what a
# frame of the mesh can hold.
_MAX_NAME_LENGTH: Final = 4096

_SHOWN_LENGTH: Final = 80


class Action(StrEnum):
    """What clients may ask for."""

    LOGIN_NICK = "LOGIN NICK"
    JOIN_ROOM = "JOIN ROOM"
    LEFT_ROOM = "LEFT ROOM"
    SEND_MESSAGE = "SEND MESSAGE"


class BadActionError(Exception):
    """A request that cannot be carried out, and why."""


@attrs.frozen
class Request:
    """What a client has sent.

    Attributes:
        echo: the request, as JSON.
        properties: None where it is no object; `problem` says so.
    """

    echo: str
    properties: dict[str, object] | None
    problem: str = ""

    def action(self) -> Action:
        """Return what is asked for.

        Raises:
            BadActionError: nothing, or nothing that there is.
        """
        if self.properties is None:
            raise BadActionError(self.problem)
        if "action" not in self.properties:
            raise BadActionError("'action' is missing")
        action = self.properties["action"]
        try:
            return Action(str(action) if isinstance(action, str) else "")
        except ValueError:
            known = ", ".join(f"'{known}'" for known in Action)
            raise BadActionError(
                f"Unknown action {write_json(action)[:_SHOWN_LENGTH]}: there are {known}"
            ) from None

    def text(self, name: str, longest: int | None = None) -> str:
        """Return a property that is a string.

        Raises:
            BadActionError: it is missing, or something else, or longer than `longest` characters.
        """
        value = self._property(name)
        if not isinstance(value, str):
            raise BadActionError(f"'{name}' must be a string")
        return _checked(name, value, longest or _MAX_NAME_LENGTH)

    def room_id(self) -> RoomId:
        """Return the room's id.

        Raises:
            BadActionError: it is missing, or neither a string nor an integer.
        """
        value = self._property("room_id")
        if isinstance(value, str):
            return _checked("room_id", value, _MAX_NAME_LENGTH)
        # True is an integer in Python, and 1.0 is equal to one; in JSON they are neither.
        if type(value) is not int:
            raise BadActionError("'room_id' must be a string or an integer")
        return value

    def _property(self, name: str) -> object:
        if self.properties is None or name not in self.properties:
            raise BadActionError(f"'{name}' is missing")
        return self.properties[name]

    def response(self, message: str = "OK") -> str:
        """Write the answer to a request that has been carried out."""
        return self._answer("RESPONSE", message)

    def error(self, message: str) -> str:
        """Write the answer to a request that has not been."""
        return self._answer("ERROR", message)

    def _answer(self, action: str, message: str) -> str:
        return f'{{"action":"{action}","request":{self.echo},"message":{write_json(message)}}}'


def _checked(name: str, value: str, longest: int) -> str:
    if len(value) > longest:
        raise BadActionError(f"'{name}' is too long")
    if not is_unicode(value):
        raise BadActionError(f"'{name}' has half a surrogate pair in it")
    return value


def read_request(message: str | bytes) -> Request:
    """Read what a client has sent; there is always a request to be answered.

    What is no JSON is echoed as a string, and what is no text either, as null.
    """
    try:
        value = read_json(message)
    except NotJsonError as error:
        problem = str(error)
        return Request(_as_string(message), None, problem[0].upper() + problem[1:])
    if not isinstance(value, dict):
        return Request(str(message), None, "The message is not a JSON object")
    return Request(str(message), value)


def _as_string(message: str | bytes) -> str:
    if isinstance(message, str):
        return write_json(message)
    try:
        return write_json(message.decode())
    except UnicodeDecodeError:
        return "null"


def get_message(room_id: RoomId, author: str, text: str) -> str:
    """Write what the clients in a room get for a message."""
    return write_json({"action": "GET MESSAGE", "room_id": room_id, "author": author, "text": text})
