"""Users and tokens in SQL."""

from __future__ import annotations

import uuid as uuid_module
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, func, insert, select
from sqlalchemy.exc import IntegrityError

from services.chat.model import User, UserKind
from services.chat.sql.schema import sessions, tokens, users
from services.chat.store import NameTakenError, NoRecordError, name_key

__all__ = [
    "add_account",
    "add_token",
    "find_user",
    "get_or_add_user",
    "list_users",
    "password_hash",
    "read_user",
    "remove_token",
    "require_user",
    "select_users",
    "token_user",
]


def select_users() -> Any:  # noqa: ANN401 - SQLAlchemy's own type has the columns in it
    """Select users as `read_user` reads them."""
    online = exists().where(sessions.c.user_id == users.c.id)
    return select(
        users.c.id,
        users.c.uuid,
        users.c.username,
        users.c.kind,
        users.c.created,
        online.label("online"),
    )


def read_user(row: Row[*tuple[Any, ...]]) -> User:
    """Make a user of a row of `select_users`."""
    return User(
        row.id, row.uuid, row.username, UserKind(row.kind), row.created, online=bool(row.online)
    )


def find_user(connection: Connection, condition: ColumnElement[bool]) -> User | None:
    """Return one user; of several, an account."""
    # "account" comes before "anonymous" and "guest".
    statement = select_users().where(condition).order_by(users.c.kind).limit(1)
    row = connection.execute(statement).first()
    return None if row is None else read_user(row)


def require_user(connection: Connection, id: int) -> User:
    """Return a user, who must be there.

    Raises:
        NoRecordError: is not.
    """
    user = find_user(connection, users.c.id == id)
    if user is None:
        raise NoRecordError(f"user {id}")
    return user


def add_account(connection: Connection, username: str, password: str, now: int) -> User:
    """See `Store.add_account`."""
    key = name_key(username)
    guest = find_user(
        connection, and_(users.c.name_key == key, users.c.kind == UserKind.GUEST.value)
    )
    if guest is not None and guest.online:
        raise NameTakenError(username)
    return _add(connection, username, UserKind.ACCOUNT, password, now)


def get_or_add_user(
    connection: Connection, username: str, kind: UserKind, now: int
) -> tuple[User, bool]:
    """Return the guest or anonymous user of a name, and whether it is new."""
    found = find_user(
        connection, and_(users.c.name_key == name_key(username), users.c.kind == kind.value)
    )
    if found is not None:
        return found, False
    return _add(connection, username, kind, None, now), True


def _add(
    connection: Connection, username: str, kind: UserKind, password: str | None, now: int
) -> User:
    uuid = str(uuid_module.uuid4())
    statement = insert(users).values(
        uuid=uuid,
        username=username,
        name_key=name_key(username),
        kind=kind.value,
        password_hash=password,
        created=now,
    )
    try:
        id = connection.execute(statement.returning(users.c.id)).scalar_one()
    except IntegrityError as error:
        raise NameTakenError(username) from error
    return User(id, uuid, username, kind, now)


def password_hash(connection: Connection, username: str) -> tuple[User, str] | None:
    """See `Store.password_hash`."""
    condition = and_(users.c.name_key == name_key(username), users.c.kind == UserKind.ACCOUNT.value)
    user = find_user(connection, condition)
    if user is None:
        return None
    statement = select(users.c.password_hash).where(users.c.id == user.id)
    return user, connection.execute(statement).scalar_one()


def list_users(
    connection: Connection, offset: int, limit: int, accounts_only: bool
) -> tuple[tuple[User, ...], int]:
    """See `Store.users`."""
    kinds = [UserKind.ACCOUNT.value] if accounts_only else ["account", "guest"]
    condition = users.c.kind.in_(kinds)
    total = connection.execute(
        select(func.count()).select_from(users).where(condition)
    ).scalar_one()
    statement = select_users().where(condition).order_by(users.c.id).offset(offset).limit(limit)
    return tuple(read_user(row) for row in connection.execute(statement)), total


def add_token(connection: Connection, digest: str, user_id: int, expires: int, now: int) -> None:
    """See `Store.add_token`."""
    require_user(connection, user_id)
    connection.execute(delete(tokens).where(tokens.c.expires <= now))
    connection.execute(insert(tokens).values(digest=digest, user_id=user_id, expires=expires))


def token_user(connection: Connection, digest: str, now: int) -> User | None:
    """See `Store.token_user`."""
    holder = (
        select(tokens.c.user_id)
        .where(tokens.c.digest == digest, tokens.c.expires > now)
        .scalar_subquery()
    )
    return find_user(connection, users.c.id == holder)


def remove_token(connection: Connection, digest: str) -> bool:
    """See `Store.remove_token`."""
    return connection.execute(delete(tokens).where(tokens.c.digest == digest)).rowcount > 0
