"""The chat's store in Redis.

Each method is one call of a script (in `redis/lua/`), which Redis runs alone: so all of it is one
transaction. What is acknowledged is as durable as the server's persistence is set to make it. The
script makes up its keys as it goes, which a cluster of Redis servers would not take.
"""

from __future__ import annotations

import re
import time
import uuid as uuid_module
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec
from anyio import EndOfStream
from coredis import Redis
from coredis.commands.script import Script
from coredis.exceptions import AuthenticationError, RedisError
from coredis.retry import NoRetryPolicy

from services.chat.messages import ANONYMOUS_NAME, PUBLIC_ROOM, SyncSessions
from services.chat.model import Message, Room, RoomKind, User
from services.chat.pages import fit_page
from services.chat.redis.scripts import (
    load_script,
    read_departures,
    read_entries,
    read_entry,
    read_message,
    read_room,
    read_user,
)
from services.chat.store import (
    Claim,
    Crowd,
    Departure,
    Entry,
    Holder,
    MessageQuery,
    Moves,
    NameTakenError,
    NewRoom,
    NoRecordError,
    Page,
    StoreCounts,
    StoreDownError,
    UnusableStoreError,
    name_key,
)

__all__ = ["RedisStore"]

# All keys begin with it, so that the database can be shared.
_PREFIX: Final = "switchboard:chat:"

# Goes up with every change to what the keys hold.
_SCHEMA_VERSION: Final = "1"

# For one call, and for a connection, in seconds: less than the five that a gateway waits.
_TIMEOUT_SECONDS: Final = 4

_CONNECTIONS: Final = 8

_DOWN: Final = (RedisError, OSError, EndOfStream, TimeoutError)


class RedisStore:
    """A store on Redis, 6.2 or later.

    Args:
        url: `redis://HOST:PORT/NUMBER`, with a password `redis://:PASSWORD@HOST`, with TLS
            `rediss://`; or `unix:///PATH?db=NUMBER`.

    Raises:
        UnusableStoreError: the URL is none of these.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._redis = Redis.from_url(
                url,
                decode_responses=True,
                max_connections=_CONNECTIONS,
                pool_timeout=_TIMEOUT_SECONDS,
                connect_timeout=_TIMEOUT_SECONDS,
                stream_timeout=_TIMEOUT_SECONDS,
                # What has been called may have been done: only its caller knows about trying again.
                retry_policy=NoRetryPolicy(),
            )
        except (ValueError, TypeError, RuntimeError) as error:
            raise UnusableStoreError(f"not the URL of a Redis database: {error}") from error
        if self._redis.connection_pool.location is None:
            raise UnusableStoreError("not the URL of a Redis database: redis://HOST:PORT/NUMBER is")
        self._script = Script(self._redis, load_script())
        self._stack = AsyncExitStack()

    @property
    def name(self) -> str:
        """See `Store.name`."""
        return re.sub("//[^/]*@", "//***@", self._url)

    async def open(self) -> None:
        """See `Store.open`."""
        try:
            await self._stack.enter_async_context(self._redis)
            version = await self._call(
                "prepare",
                _SCHEMA_VERSION,
                time.time_ns() // 1_000_000,
                ANONYMOUS_NAME,
                name_key(ANONYMOUS_NAME),
                uuid_module.uuid4(),
                PUBLIC_ROOM,
            )
        except (StoreDownError, *_DOWN) as error:
            raise UnusableStoreError(f"{self.name}: {error}") from error
        if version != _SCHEMA_VERSION:
            raise UnusableStoreError(
                f"the database has version {version} of the chat's keys, and this program knows "
                f"version {_SCHEMA_VERSION}: use the program that made them, or another database"
            )

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        await self._stack.aclose()

    async def _call(self, command: str, *args: object) -> Any:  # noqa: ANN401 - see scripts.py
        """Call the script.

        Raises:
            NameTakenError, NoRecordError: it says so.
            StoreDownError: it cannot be called.
        """
        try:
            answer: Any = await self._script(keys=[_PREFIX], args=[command, *map(str, args)])
        except AuthenticationError as error:
            raise StoreDownError(f"Redis does not let the chat in: {error}") from error
        except _DOWN as error:
            cause = str(error) or type(error).__name__
            raise StoreDownError(f"Redis does not answer: {cause}") from error
        if answer == "TAKEN":
            raise NameTakenError(command)
        if answer == "ABSENT":
            raise NoRecordError(command)
        return answer

    # Users.

    async def add_account(self, username: str, password_hash: str, now: int) -> User:
        """See `Store.add_account`."""
        key, uuid = name_key(username), uuid_module.uuid4()
        return read_user(await self._call("add_account", username, key, uuid, now, password_hash))

    async def claim_guest(
        self, holder: Holder, username: str, now: int, *, exclusive: bool
    ) -> Claim:
        """See `Store.claim_guest`."""
        key, uuid = name_key(username), uuid_module.uuid4()
        return _read_claim(
            await self._call(
                "claim_guest", *_split(holder), username, key, uuid, now, int(exclusive)
            )
        )

    async def claim_anonymous(self, holder: Holder) -> Claim:
        """See `Store.claim_anonymous`."""
        key = name_key(ANONYMOUS_NAME)
        return _read_claim(await self._call("claim_anonymous", *_split(holder), key))

    async def user(
        self, *, id: int | None = None, uuid: str | None = None, username: str | None = None
    ) -> User | None:
        """See `Store.user`."""
        if id is not None:
            row = await self._call("user_by_id", id)
        elif uuid is not None:
            row = await self._call("user_by_uuid", uuid)
        else:
            row = await self._call("user_by_name", name_key(username or ""))
        return None if row is None else read_user(row)

    async def password_hash(self, username: str) -> tuple[User, str] | None:
        """See `Store.password_hash`."""
        found = await self._call("password_hash", name_key(username))
        return None if found is None else (read_user(found[0]), found[1])

    async def users(
        self, offset: int, limit: int, *, accounts_only: bool
    ) -> tuple[tuple[User, ...], int]:
        """See `Store.users`."""
        which = "accounts" if accounts_only else "users"
        rows, total = await self._call("users", which, offset, limit)
        return tuple(map(read_user, rows)), total

    async def add_token(self, digest: str, user_id: int, expires: int, now: int) -> None:
        """See `Store.add_token`."""
        await self._call("add_token", digest, user_id, expires, now)

    async def token_user(self, digest: str, now: int) -> User | None:
        """See `Store.token_user`."""
        row = await self._call("token_user", digest, now)
        return None if row is None else read_user(row)

    async def remove_token(self, digest: str) -> bool:
        """See `Store.remove_token`."""
        return bool(await self._call("remove_token", digest))

    # Rooms.

    async def add_room(self, room: NewRoom) -> Room:
        """See `Store.add_room`."""
        return read_room(await self._call("add_room", *_written(room)))

    async def private_room(self, user_id: int, other_id: int, now: int) -> tuple[Room, bool]:
        """See `Store.private_room`."""
        first, second = min(user_id, other_id), max(user_id, other_id)
        name = f"private-{uuid_module.uuid4()}"
        row, made = await self._call("private_room", first, second, user_id, name, now)
        return read_room(row), bool(made)

    async def room(self, *, id: int | None = None, name: str | None = None) -> Room | None:
        """See `Store.room`."""
        if id is not None:
            row = await self._call("room_by_id", id)
        else:
            row = await self._call("room_by_name", name or "")
        return None if row is None else read_room(row)

    async def room_password_hash(self, id: int) -> str | None:
        """See `Store.room_password_hash`."""
        return await self._call("room_password", id) or None

    async def rooms(
        self, offset: int, limit: int, kinds: Sequence[RoomKind], of_user_id: int | None
    ) -> tuple[tuple[Room, ...], int]:
        """See `Store.rooms`."""
        wanted = dict.fromkeys(kind.value for kind in kinds)
        rows, total = await self._call("rooms", offset, limit, _or_empty(of_user_id), *wanted)
        return tuple(map(read_room, rows)), total

    async def update_room(self, id: int, name: str | None, description: str | None) -> Room:
        """See `Store.update_room`."""
        row = await self._call(
            "update_room",
            id,
            int(name is not None),
            name or "",
            int(description is not None),
            description or "",
        )
        return read_room(row)

    async def remove_room(self, id: int) -> Room | None:
        """See `Store.remove_room`."""
        row = await self._call("remove_room", id)
        return None if row is None else read_room(row)

    # Presence.

    async def open_session(self, holder: Holder, user_id: int) -> list[Departure]:
        """See `Store.open_session`."""
        return read_departures(await self._call("open_session", *_split(holder), user_id))

    async def enter(
        self, holder: Holder, user_id: int, room_id: int | None, new: NewRoom | None
    ) -> Entry:
        """See `Store.enter`."""
        made = () if new is None or room_id is not None else _written(new)
        name, *rest = made or ("",)
        return read_entry(
            await self._call("enter", *_split(holder), user_id, _or_empty(room_id), name, *rest)
        )

    async def leave(self, holder: Holder, room_id: int) -> Departure | None:
        """See `Store.leave`."""
        row = await self._call("leave", *_split(holder), room_id)
        return None if row is None else read_departures([row])[0]

    async def close_session(self, holder: Holder) -> list[Departure]:
        """See `Store.close_session`."""
        return read_departures(await self._call("close_session", *_split(holder)))

    async def close_gateway(self, gateway: str) -> list[Departure]:
        """See `Store.close_gateway`."""
        return read_departures(await self._call("close_gateway", gateway))

    async def sync_gateway(self, gateway: str, told: SyncSessions) -> Moves:
        """See `Store.sync_gateway`."""
        # Ids as strings: to Lua, large numbers are not exact, and keys are made of strings.
        said = [
            (one.session, str(one.user_id), str(int(one.exclusive)), [*map(str, one.rooms)])
            for one in told.sessions
        ]
        departures, entries, gone = await self._call(
            "sync_gateway",
            gateway,
            _or_empty(told.previous),
            msgspec.json.encode(said).decode(),
            msgspec.json.encode(told.kept).decode(),
            int(told.more),
        )
        return Moves(
            tuple(one for one in read_departures(departures) if one.gone),
            tuple(one for one in read_entries(entries) if one.arrived),
            tuple(sorted(set(map(int, gone)))),
        )

    async def gateways(self) -> frozenset[str]:
        """See `Store.gateways`."""
        return frozenset(await self._call("gateways"))

    async def present(self, room_id: int, limit: int) -> Crowd:
        """See `Store.present`."""
        rows, total, changes = await self._call("present", room_id, limit)
        return Crowd(tuple(map(read_user, rows)), total, int(changes))

    async def is_present(self, room_id: int, user_id: int) -> bool:
        """See `Store.is_present`."""
        return bool(await self._call("is_present", room_id, user_id))

    # Messages.

    async def add_message(
        self, room_id: int, user_id: int, text: str, key: str, now: int
    ) -> tuple[Message, bool]:
        """See `Store.add_message`."""
        row, new = await self._call("add_message", room_id, user_id, text, key, now)
        return read_message(row), bool(new)

    async def message(self, id: int) -> Message | None:
        """See `Store.message`."""
        row = await self._call("message", id)
        return None if row is None else read_message(row)

    async def messages(self, query: MessageQuery) -> Page:
        """See `Store.messages`."""
        rows, total = await self._call(
            "messages",
            _or_empty(query.room_id),
            _or_empty(query.user_id),
            _or_empty(query.after),
            query.offset,
            query.limit,
            int(query.newest_first),
            query.max_bytes,
        )
        return Page(fit_page(map(read_message, rows), query.max_bytes), total)

    # Counting.

    async def add_visit(self, day: int) -> tuple[int, int]:
        """See `Store.add_visit`."""
        today, total = await self._call("add_visit", day)
        return int(today), int(total)

    async def counts(self, day: int) -> StoreCounts:
        """See `Store.counts`."""
        return StoreCounts(*map(int, await self._call("counts", day)))


def _split(holder: Holder) -> tuple[str, str]:
    return holder.gateway, holder.session


def _or_empty(value: object) -> object:
    return "" if value is None else value


def _written(room: NewRoom) -> tuple[object, ...]:
    """What the script's `add_room` takes."""
    return (
        room.name,
        room.description,
        room.kind.value,
        int(room.ephemeral),
        _or_empty(room.creator_id),
        room.created,
        room.password_hash or "",
    )


def _read_claim(row: Any) -> Claim:  # noqa: ANN401 - what Redis returns
    user, created, departures, entries = row
    return Claim(
        read_user(user),
        bool(created),
        tuple(read_departures(departures)),
        tuple(read_entries(entries)),
    )
