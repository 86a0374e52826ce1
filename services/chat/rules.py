"""What names, passwords and texts may be."""

from __future__ import annotations

import unicodedata
from typing import Final

from services.chat.messages import (
    ANONYMOUS_NAME,
    MAX_DESCRIPTION_LENGTH,
    MAX_PASSWORD_LENGTH,
    MAX_ROOM_NAME_LENGTH,
    MAX_TEXT_BYTES,
    MAX_USERNAME_LENGTH,
    ChatError,
)
from services.chat.store import name_key
from services.sdk import ServiceError

__all__ = [
    "bounded",
    "check_description",
    "check_password",
    "check_room_name",
    "check_text",
    "check_username",
    "refuse",
]

# Unicode's general categories of what cannot be seen or upsets a line: control characters, and
# unassigned and lone surrogate code points; of the format characters, those that turn the
# direction of the text around them.
_UNSEEN: Final = frozenset({"Cc", "Cn", "Cs", "Co", "Zl", "Zp"})
_TURNING: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


_MAX_COUNT: Final = 2**31 - 1


def bounded(number: int, least: int = 0) -> int:
    """Return a number to count with, as every store can take it: `least` to 2^31 - 1."""
    return max(least, min(number, _MAX_COUNT))


def refuse(code: ChatError, message: str) -> ServiceError:
    """Make the error that the service answers with."""
    return ServiceError(code.value, message)


def check_username(name: str) -> None:
    """Check a user's name.

    Raises:
        ServiceError: BAD_NAME.
    """
    _check_name("a username", name, MAX_USERNAME_LENGTH)
    if name_key(name) == name_key(ANONYMOUS_NAME):
        raise refuse(ChatError.NAME_TAKEN, f"{ANONYMOUS_NAME} is everybody without a name")


def check_room_name(name: str) -> None:
    """Check a room's name.

    Raises:
        ServiceError: BAD_NAME.
    """
    _check_name("a room's name", name, MAX_ROOM_NAME_LENGTH)


def _check_name(what: str, name: str, longest: int) -> None:
    if len(name) > longest:
        raise refuse(ChatError.BAD_NAME, f"{what} has at most {longest} characters")
    if not name_key(name).strip():
        raise refuse(ChatError.BAD_NAME, f"{what} must not be empty")
    if name != name.strip():
        raise refuse(ChatError.BAD_NAME, f"{what} has no white space around it")
    if any(unicodedata.category(sign) in _UNSEEN or sign in _TURNING for sign in name):
        raise refuse(ChatError.BAD_NAME, f"{what} has no control characters in it")


def check_description(text: str) -> None:
    """Check a room's description.

    Raises:
        ServiceError: BAD_NAME.
    """
    if len(text) > MAX_DESCRIPTION_LENGTH:
        raise refuse(
            ChatError.BAD_NAME, f"a description has at most {MAX_DESCRIPTION_LENGTH} characters"
        )
    if "\0" in text:
        raise refuse(ChatError.BAD_NAME, "a description has no NUL characters in it")


def check_password(password: str) -> None:
    """Check a password that is to be set.

    Raises:
        ServiceError: BAD_PASSWORD.
    """
    if not password:
        raise refuse(ChatError.BAD_PASSWORD, "a password must not be empty")
    if len(password) > MAX_PASSWORD_LENGTH:
        raise refuse(
            ChatError.BAD_PASSWORD, f"a password has at most {MAX_PASSWORD_LENGTH} characters"
        )


def check_text(text: str) -> None:
    """Check a message's text.

    Raises:
        ServiceError: TEXT_TOO_LONG.
    """
    if len(text) > MAX_TEXT_BYTES or len(text.encode(errors="surrogatepass")) > MAX_TEXT_BYTES:
        raise refuse(ChatError.TEXT_TOO_LONG, f"a message has at most {MAX_TEXT_BYTES} bytes")
