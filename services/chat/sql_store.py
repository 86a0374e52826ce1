"""The chat's store in SQL: SQLite in a file, or PostgreSQL.

SQLAlchemy works with blocking calls, so each transaction runs in a worker thread. SQLite has one
writer at a time, whatever is done about it; here the others wait in line, in this process and by
the database's own lock. With WAL readers need not wait, and with `synchronous=FULL` what has been
acknowledged is on the disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from services.chat.messages import ANONYMOUS_NAME, PUBLIC_ROOM, SyncSessions
from services.chat.model import Message, Room, RoomKind, User, UserKind
from services.chat.sql import messages, presence, rooms, sqlite, users
from services.chat.sql.schema import make_schema
from services.chat.sql.schema import rooms as room_table
from services.chat.sql.schema import users as user_table
from services.chat.store import (
    Claim,
    Crowd,
    Departure,
    Entry,
    Holder,
    MessageQuery,
    Moves,
    NewRoom,
    Page,
    StoreCounts,
    StoreDownError,
    UnusableStoreError,
    name_key,
)

__all__ = ["SqlStore"]

P = ParamSpec("P")
T = TypeVar("T")

# How long a writer waits for another process's transaction, in seconds. Each takes milliseconds,
# and a gateway waits for five seconds: so it still hears what the matter is.
_BUSY_SECONDS: Final = 4

# A number of the chat's own, among all that use PostgreSQL's advisory locks in this database.
_LOCK: Final = "SELECT pg_advisory_xact_lock(7239481135)"

# In seconds, but for `tcp_user_timeout`, in milliseconds: a server that has gone without a word is
# given up about as soon.
_POSTGRESQL: Final = {
    "connect_timeout": _BUSY_SECONDS,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}

# Connections to PostgreSQL, and threads that read SQLite. A chat waits for its database, not for
# its own threads; some more than processors keeps both busy.
_CONNECTIONS: Final = 8


class SqlStore:
    """A store on SQLite or PostgreSQL.

    Args:
        url: `sqlite:///PATH` (an absolute path has four slashes) or `postgresql://USER:PASSWORD@
            HOST/DATABASE`. With `?timeout=SECONDS` SQLite waits for other processes for so long.

    Raises:
        UnusableStoreError: the URL is neither.
    """

    def __init__(self, url: str) -> None:
        self._url = _parse(url)
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        self._patience = _patience_of(self._url)
        self._engine = self._make_engine()
        self._reading = anyio.CapacityLimiter(_CONNECTIONS)
        self._writing = anyio.CapacityLimiter(1 if self._is_sqlite else _CONNECTIONS)

    def _make_engine(self) -> Engine:
        if not self._is_sqlite:
            engine = create_engine(
                self._url, pool_size=_CONNECTIONS, pool_pre_ping=True, connect_args=_POSTGRESQL
            )
            event.listen(engine, "connect", _configure_postgresql)
            return engine
        engine = create_engine(
            self._url, pool_size=_CONNECTIONS + 1, connect_args={"timeout": self._patience}
        )
        event.listen(engine, "connect", sqlite.configure)
        return engine

    @property
    def name(self) -> str:
        """See `Store.name`."""
        return self._url.set(drivername=self._url.get_backend_name()).render_as_string()

    async def open(self) -> None:
        """See `Store.open`."""
        try:
            await self._write(_prepare, _now())
        except StoreDownError as error:
            raise UnusableStoreError(f"{self.name}: {error}") from error
        except ProgrammingError as error:
            raise UnusableStoreError(f"{self.name}: {_cause(error)}") from error

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._engine.dispose)

    async def _read(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._run(self._begin_reading, self._reading, function, *args, **kwargs)

    async def _write(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._run(self._begin_writing, self._writing, function, *args, **kwargs)

    async def _append(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Write what locks what it needs by itself."""
        begin = self._begin_writing if self._is_sqlite else self._begin_reading
        return await self._run(begin, self._writing, function, *args, **kwargs)

    def _begin_reading(self, connection: Connection) -> None:
        if self._is_sqlite:
            connection.exec_driver_sql("BEGIN")

    def _begin_writing(self, connection: Connection) -> None:
        if self._is_sqlite:
            sqlite.begin_writing(connection, self._patience)
        else:
            # A lock of the chat's own makes writers come one after another, as they do on SQLite:
            # so none of them has to reckon with a name or a session that another one makes.
            connection.exec_driver_sql(_LOCK)

    async def _run(
        self,
        begin: Callable[[Connection], None],
        limiter: anyio.CapacityLimiter,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        def transaction() -> T:
            with self._engine.connect() as connection:
                begin(connection)
                result = function(connection, *args, **kwargs)
                connection.commit()
                return result

        try:
            return await anyio.to_thread.run_sync(transaction, limiter=limiter)
        except (IntegrityError, DataError, ProgrammingError):
            raise  # Faults of this program.
        except (DBAPIError, PoolTimeoutError) as error:
            raise StoreDownError(f"the database does not answer: {_cause(error)}") from error

    # Users.

    async def add_account(self, username: str, password_hash: str, now: int) -> User:
        """See `Store.add_account`."""
        return await self._write(users.add_account, username, password_hash, now)

    async def claim_guest(
        self, holder: Holder, username: str, now: int, *, exclusive: bool
    ) -> Claim:
        """See `Store.claim_guest`."""
        return await self._write(presence.claim_guest, holder, username, now, exclusive)

    async def claim_anonymous(self, holder: Holder) -> Claim:
        """See `Store.claim_anonymous`."""
        return await self._write(presence.claim_anonymous, holder)

    async def user(
        self, *, id: int | None = None, uuid: str | None = None, username: str | None = None
    ) -> User | None:
        """See `Store.user`."""
        if id is not None:
            return await self._read(users.find_user, user_table.c.id == id)
        if uuid is not None:
            return await self._read(users.find_user, user_table.c.uuid == uuid)
        return await self._read(users.find_user, user_table.c.name_key == name_key(username or ""))

    async def password_hash(self, username: str) -> tuple[User, str] | None:
        """See `Store.password_hash`."""
        return await self._read(users.password_hash, username)

    async def users(
        self, offset: int, limit: int, *, accounts_only: bool
    ) -> tuple[tuple[User, ...], int]:
        """See `Store.users`."""
        return await self._read(users.list_users, offset, limit, accounts_only)

    async def add_token(self, digest: str, user_id: int, expires: int, now: int) -> None:
        """See `Store.add_token`."""
        await self._write(users.add_token, digest, user_id, expires, now)

    async def token_user(self, digest: str, now: int) -> User | None:
        """See `Store.token_user`."""
        return await self._read(users.token_user, digest, now)

    async def remove_token(self, digest: str) -> bool:
        """See `Store.remove_token`."""
        return await self._write(users.remove_token, digest)

    # Rooms.

    async def add_room(self, room: NewRoom) -> Room:
        """See `Store.add_room`."""
        return await self._write(rooms.add_room, room)

    async def private_room(self, user_id: int, other_id: int, now: int) -> tuple[Room, bool]:
        """See `Store.private_room`."""
        return await self._write(rooms.private_room, user_id, other_id, now)

    async def room(self, *, id: int | None = None, name: str | None = None) -> Room | None:
        """See `Store.room`."""
        condition = room_table.c.name == name if id is None else room_table.c.id == id
        return await self._read(rooms.find_room, condition)

    async def room_password_hash(self, id: int) -> str | None:
        """See `Store.room_password_hash`."""
        return await self._read(rooms.password_hash, id)

    async def rooms(
        self, offset: int, limit: int, kinds: Sequence[RoomKind], of_user_id: int | None
    ) -> tuple[tuple[Room, ...], int]:
        """See `Store.rooms`."""
        return await self._read(rooms.list_rooms, offset, limit, kinds, of_user_id)

    async def update_room(self, id: int, name: str | None, description: str | None) -> Room:
        """See `Store.update_room`."""
        return await self._write(rooms.update_room, id, name, description)

    async def remove_room(self, id: int) -> Room | None:
        """See `Store.remove_room`."""
        return await self._write(rooms.remove_room, id)

    # Presence.

    async def open_session(self, holder: Holder, user_id: int) -> list[Departure]:
        """See `Store.open_session`."""
        return await self._write(presence.open_session, holder, user_id)

    async def enter(
        self, holder: Holder, user_id: int, room_id: int | None, new: NewRoom | None
    ) -> Entry:
        """See `Store.enter`."""
        return await self._write(presence.enter, holder, user_id, room_id, new)

    async def leave(self, holder: Holder, room_id: int) -> Departure | None:
        """See `Store.leave`."""
        return await self._write(presence.leave, holder, room_id)

    async def close_session(self, holder: Holder) -> list[Departure]:
        """See `Store.close_session`."""
        return await self._write(presence.close_session, holder)

    async def close_gateway(self, gateway: str) -> list[Departure]:
        """See `Store.close_gateway`."""
        return await self._write(presence.close_gateway, gateway)

    async def sync_gateway(self, gateway: str, told: SyncSessions) -> Moves:
        """See `Store.sync_gateway`."""
        return await self._write(presence.sync_gateway, gateway, told)

    async def gateways(self) -> frozenset[str]:
        """See `Store.gateways`."""
        return await self._read(presence.list_gateways)

    async def present(self, room_id: int, limit: int) -> Crowd:
        """See `Store.present`."""
        return await self._read(presence.list_present, room_id, limit)

    async def is_present(self, room_id: int, user_id: int) -> bool:
        """See `Store.is_present`."""
        return await self._read(presence.is_present, room_id, user_id)

    # Messages.

    async def add_message(
        self, room_id: int, user_id: int, text: str, key: str, now: int
    ) -> tuple[Message, bool]:
        """See `Store.add_message`."""
        return await self._append(
            messages.add_message, room_id, user_id, text=text, key=key, now=now
        )

    async def message(self, id: int) -> Message | None:
        """See `Store.message`."""
        return await self._read(messages.find_message, id)

    async def messages(self, query: MessageQuery) -> Page:
        """See `Store.messages`."""
        return await self._read(messages.list_messages, query)

    # Counting.

    async def add_visit(self, day: int) -> tuple[int, int]:
        """See `Store.add_visit`."""
        return await self._write(messages.add_visit, day)

    async def counts(self, day: int) -> StoreCounts:
        """See `Store.counts`."""
        return await self._read(messages.count_all, day)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise UnusableStoreError(f"not a database URL: {error}") from error
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise UnusableStoreError(f"no store in SQL for {backend}: use sqlite:/// or postgresql://")
    if parsed.database in {None, "", ":memory:"}:
        # Each connection would have a database of its own.
        raise UnusableStoreError("the chat needs a file: sqlite:///PATH")
    if not Path(parsed.database or "").absolute().parent.is_dir():
        raise UnusableStoreError(f"there is no directory {Path(parsed.database or '').parent}")
    return parsed


def _patience_of(url: URL) -> float:
    try:
        return float(str(url.query.get("timeout", _BUSY_SECONDS)))
    except ValueError as error:
        raise UnusableStoreError(f"timeout is a number of seconds: {error}") from error


def _configure_postgresql(connection: Any, _record: object) -> None:  # noqa: ANN401 - psycopg's
    # An instance that stands still in a transaction must not hold up the others.
    connection.execute(f"SET lock_timeout = '{_BUSY_SECONDS}s'")
    connection.execute(f"SET idle_in_transaction_session_timeout = '{_BUSY_SECONDS}s'")
    connection.commit()


def _cause(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(cause).split())


def _prepare(connection: Connection, now: int) -> None:
    make_schema(connection)
    users.get_or_add_user(connection, ANONYMOUS_NAME, UserKind.ANONYMOUS, now)
    if rooms.find_room(connection, room_table.c.name == PUBLIC_ROOM) is None:
        rooms.add_room(connection, NewRoom(PUBLIC_ROOM, RoomKind.PUBLIC, now))


def _now() -> int:
    return time.time_ns() // 1_000_000
