"""What people are told when the chat cannot do what they ask."""

from __future__ import annotations

from typing import Final

import attrs

from services.chat.messages import MAX_TEXT_BYTES, ChatError
from services.sdk import BadRequest, MeshError, MessageTooBig, ServiceError

__all__ = ["AWAY", "BAD_REQUEST", "Refusal", "refusal"]

AWAY: Final = "AWAY"
"""The chat cannot be asked at the moment."""

BAD_REQUEST: Final = "BAD_REQUEST"
"""Something is missing, or has the wrong type."""


@attrs.frozen
class Refusal:
    """Why not.

    Attributes:
        code: one of `ChatError`, `AWAY` or `BAD_REQUEST`.
        text: for people; it says what to do.
    """

    code: str
    text: str


def refusal(error: MeshError) -> Refusal:
    """Say in the words of a gateway why the chat has not done something."""
    match error:
        case ServiceError(code=ChatError.STORE_DOWN):
            return Refusal(AWAY, error.message)
        case ServiceError():
            return Refusal(error.code, error.message)
        case MessageTooBig():
            return Refusal(
                ChatError.TEXT_TOO_LONG.value, f"a message has at most {MAX_TEXT_BYTES} bytes"
            )
        case BadRequest():
            return Refusal(BAD_REQUEST, error.message)
        case _:
            return Refusal(AWAY, "the chat is away at the moment; try again in a moment")
