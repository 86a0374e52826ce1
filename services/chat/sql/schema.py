"""The tables, and the version of them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    insert,
    inspect,
    select,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from services.chat.store import UnusableStoreError

__all__ = [
    "METADATA",
    "SCHEMA_VERSION",
    "make_schema",
    "messages",
    "presence",
    "rooms",
    "sessions",
    "tokens",
    "users",
    "visits",
]

# Goes up with every change to the tables; `make_schema` is where older ones are brought up to it.
SCHEMA_VERSION: Final = 1

METADATA: Final = MetaData()


_MAX_ID: Final = 2**63 - 1


class _Number(TypeDecorator[int]):
    """An id. One that no row can have is asked for as -1, which no row has either."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[int]:
        """SQLite counts rows up by itself only in a column of the type INTEGER."""
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else BigInteger())

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        """Make it one that the database can take."""
        return value if value is None or 0 <= value <= _MAX_ID else -1


class _AnyText(TypeDecorator[str]):
    """Text with any characters in it: PostgreSQL's own has no NUL, so one is escaped there."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Escape."""
        if value is None or dialect.name != "postgresql":
            return value
        return value.replace(_ESCAPE, _ESCAPE + "e").replace("\0", _ESCAPE + "0")

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Undo it."""
        if value is None or dialect.name != "postgresql":
            return value
        return value.replace(_ESCAPE + "0", "\0").replace(_ESCAPE + "e", _ESCAPE)


# "Data link escape". Which character it is makes no difference but to the length of texts with it.
_ESCAPE: Final = "\x10"

_ID: Final = _Number()
_TEXT: Final = _AnyText()

_version: Final = Table("schema_version", METADATA, Column("version", Integer, nullable=False))

users: Final = Table(
    "users",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("uuid", _TEXT, nullable=False, unique=True),
    Column("username", _TEXT, nullable=False),
    Column("name_key", _TEXT, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("password_hash", _TEXT),
    Column("created", BigInteger, nullable=False),
    UniqueConstraint("name_key", "kind", name="users_name"),
)

tokens: Final = Table(
    "tokens",
    METADATA,
    Column("digest", _TEXT, primary_key=True),
    Column("user_id", _ID, ForeignKey("users.id"), nullable=False),
    Column("expires", BigInteger, nullable=False, index=True),
)

rooms: Final = Table(
    "rooms",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _TEXT, nullable=False, unique=True),
    Column("description", _TEXT, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("ephemeral", Boolean, nullable=False),
    Column("creator_id", _ID, ForeignKey("users.id")),
    Column("created", BigInteger, nullable=False),
    Column("password_hash", _TEXT),
    # Of a private room, the lesser id first: so there is one room for each pair.
    Column("first_id", _ID, ForeignKey("users.id")),
    Column("second_id", _ID, ForeignKey("users.id")),
    Column("messages", Integer, nullable=False),
    Column("changes", Integer, nullable=False),
    UniqueConstraint("first_id", "second_id", name="rooms_pair"),
    # A number that has been a room is never another one, or what is late would go astray.
    sqlite_autoincrement=True,
)

messages: Final = Table(
    "messages",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("room_id", _ID, ForeignKey("rooms.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("user_id", _ID, ForeignKey("users.id"), nullable=False, index=True),
    Column("username", _TEXT, nullable=False),
    Column("text", _TEXT, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("key", _TEXT, nullable=False, unique=True),
    UniqueConstraint("room_id", "number", name="messages_number"),
    sqlite_autoincrement=True,
)

sessions: Final = Table(
    "sessions",
    METADATA,
    Column("gateway", _TEXT, primary_key=True),
    Column("session", _TEXT, primary_key=True),
    Column("user_id", _ID, ForeignKey("users.id"), nullable=False, index=True),
    Column("exclusive", Boolean, nullable=False),
)

presence: Final = Table(
    "presence",
    METADATA,
    Column("gateway", _TEXT, primary_key=True),
    Column("session", _TEXT, primary_key=True),
    Column("room_id", _ID, ForeignKey("rooms.id"), primary_key=True),
    ForeignKeyConstraint(["gateway", "session"], ["sessions.gateway", "sessions.session"]),
    Index("presence_room", "room_id"),
)

visits: Final = Table(
    "visits",
    METADATA,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
)


def make_schema(connection: Connection) -> None:
    """Make the tables where there are none, and check their version where there are.

    Raises:
        UnusableStoreError: they were made by a later version of this program, or by another one.
    """
    there = METADATA.tables.keys() & set(inspect(connection).get_table_names())
    if _version.name not in there:
        if there:
            raise UnusableStoreError(
                f"the database has tables of another program ({', '.join(sorted(there))}): use one "
                "of the chat's own"
            )
        METADATA.create_all(connection)
        connection.execute(insert(_version).values(version=SCHEMA_VERSION))
        return
    found = connection.execute(select(_version.c.version)).scalar()
    if found != SCHEMA_VERSION:
        raise UnusableStoreError(
            f"the database has version {found} of the chat's tables, and this program knows "
            f"version {SCHEMA_VERSION}: use the program that made them, or another database"
        )
