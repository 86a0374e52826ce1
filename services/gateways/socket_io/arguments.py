"""What comes with an event, read into a type."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Annotated, Any, Final, TypeVar

import attrs
import msgspec

from services.chat.messages import ChatError
from services.gateways.refusals import BAD_REQUEST, Refusal
from services.gateways.socket_io.packets import MALFORMED, MAX_EVENT_LENGTH, TOO_LARGE

__all__ = ["MAX_ID", "BadArgumentError", "Id", "read_argument", "refuse_event", "require_text"]

T = TypeVar("T", bound=attrs.AttrsInstance)

MAX_ID: Final = 2**63 - 1

# Of a name that nobody knows.
_MAX_SHOWN: Final = 64

Id = Annotated[int, msgspec.Meta(ge=1, le=MAX_ID)]
"""A number that a store may have given."""


class BadArgumentError(ValueError):
    """The argument of an event is missing, or is not what it should be. The text is for people."""


def read_argument(arguments: Sequence[Any], kind: type[T]) -> T:
    """Return the first argument of an event as an attrs class. What else there is, is ignored.

    Args:
        arguments: all that came.
        kind: what it is to be. Its texts hold no lone surrogates.

    Raises:
        BadArgumentError: there is none, or something in it is missing or of another type.
    """
    names = ", ".join(field.name for field in attrs.fields(kind))
    if not arguments:
        raise BadArgumentError(f"this takes an object with: {names}")
    try:
        data = msgspec.convert(arguments[0], kind)
    except msgspec.ValidationError as error:
        raise BadArgumentError(f"{error}; this takes an object with: {names}") from None
    for name, value in attrs.asdict(data).items():
        if isinstance(value, str):
            require_text(name, value)
    return data


def require_text(name: str, text: str) -> None:
    """See to it that a text can be written down.

    JSON can name half of a character, which no store and no other protocol takes.

    Raises:
        BadArgumentError: it holds a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadArgumentError(f"`{name}` holds half of a character (a lone surrogate)") from None


def refuse_event(event: str, known: Container[str]) -> Refusal | None:
    """Say why an event cannot be handled, if so.

    Args:
        event: its name.
        known: the names of those that can.
    """
    if event == TOO_LARGE:
        return Refusal(
            ChatError.TEXT_TOO_LONG.value, f"an event has at most {MAX_EVENT_LENGTH} characters"
        )
    if event == MALFORMED:
        return Refusal(BAD_REQUEST, "that was no event: it takes a name, and an object as JSON")
    if event not in known:
        return Refusal("UNKNOWN_EVENT", f"there is no event {event[:_MAX_SHOWN]!r}")
    return None
