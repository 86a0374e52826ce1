"""JSON as clients send it: whatever comes, there is a value or one clear error."""

from __future__ import annotations

import json

__all__ = ["NotJsonError", "is_unicode", "read_json", "write_json"]


class NotJsonError(ValueError):
    """A message is no JSON, or none that can be read here."""


def read_json(message: str | bytes) -> object:
    """Read a message.

    Raises:
        NotJsonError: it is a binary one, or no JSON: NaN is none. Or it is nested too deeply, or
            has a number of thousands of digits.
    """
    if isinstance(message, bytes):
        raise NotJsonError("a message is text, not binary")
    try:
        return json.loads(message, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise NotJsonError("the message is not JSON") from error


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def write_json(value: object) -> str:
    """Write a value, in ASCII, so that even half a surrogate pair can be sent back."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def is_unicode(text: str) -> bool:
    """Whether a text can be sent on: half a surrogate pair, which JSON can name, can not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
