"""What is said about users, names and tokens."""

from __future__ import annotations

import attrs

from services.chat.messages.vocabulary import MAX_PAGE
from services.chat.model import User

__all__ = [
    "ClaimGuest",
    "FindUser",
    "ListUsers",
    "LogIn",
    "LoggedIn",
    "RegisterUser",
    "TokenHolder",
    "Users",
]


@attrs.frozen
class RegisterUser:
    """USER_REGISTER: makes an account; the result is a `LoggedIn`.

    Errors: NAME_TAKEN, BAD_NAME, BAD_PASSWORD.
    """

    username: str
    password: str = attrs.field(repr=False)


@attrs.frozen
class LogIn:
    """USER_LOGIN: the result is a `LoggedIn`. Errors: WRONG_PASSWORD, for an unknown name too."""

    username: str
    password: str = attrs.field(repr=False)


@attrs.frozen
class LoggedIn:
    """A user, and a new token of theirs.

    Attributes:
        expires: when the token ends, in milliseconds since 1970.
    """

    user: User
    token: str = attrs.field(repr=False)
    expires: int


@attrs.frozen
class TokenHolder:
    """USER_AUTHENTICATE: the result is a `User`. USER_LOGOUT: ends the token, no result.

    Errors: BAD_TOKEN.
    """

    token: str = attrs.field(repr=False)


@attrs.frozen
class FindUser:
    """USER_GET, by one of the three; the result is a `User`. By name an account comes first.

    Errors: NO_USER.
    """

    id: int | None = None
    uuid: str | None = None
    username: str | None = None


@attrs.frozen
class ListUsers:
    """USER_LIST, by id; the result is `Users`.

    Attributes:
        accounts_only: leave out guests.
        limit: up to `MAX_PAGE`.
    """

    offset: int = 0
    limit: int = MAX_PAGE
    accounts_only: bool = False


@attrs.frozen
class Users:
    """Some users, and how many there are in all."""

    users: tuple[User, ...]
    total: int


@attrs.frozen
class ClaimGuest:
    """GUEST_CLAIM: takes a name without a password, for a session; the result is a `User`.

    A session has one name: the one that it had before is free again. The name of an account is
    refused, and so is one that another session has for itself.

    Errors: NAME_TAKEN, BAD_NAME.

    Attributes:
        session: the gateway's client.
        username: None for `ANONYMOUS_NAME`, which all may have at the same time.
        exclusive: for this session alone: a name that any other session holds is refused.
    """

    session: str
    username: str | None
    exclusive: bool = False
