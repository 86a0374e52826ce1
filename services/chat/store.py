"""Where the chat keeps what must not be lost: the interface of all stores.

A store knows no rules but those that hold between its own records: names are unique, messages of a
room are counted without gaps, an ephemeral room goes away with the last session in it. Who may do
what is the service's business. Every method is one transaction: it happens whole or not at all,
and what has been returned is as durable as the store is. Several instances may use one store.

Any text can be stored, a NUL and all, and asked for; so can any id, where one that no record can
have (beyond 63 bits) is that of no record.

All times are milliseconds since 1970. `tests/chat/store_contract.py` holds for every store.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Protocol

import attrs

from services.chat.messages import SyncSessions
from services.chat.model import Message, Room, RoomKind, User
from services.chat.pages import MAX_PAGE_BYTES

__all__ = [
    "Claim",
    "Crowd",
    "Departure",
    "Entry",
    "Holder",
    "MessageQuery",
    "Moves",
    "NameTakenError",
    "NewRoom",
    "NoRecordError",
    "Page",
    "Store",
    "StoreCounts",
    "StoreDownError",
    "StoreError",
    "UnusableStoreError",
    "name_key",
]


class StoreError(Exception):
    """The root of what a store raises."""


class NameTakenError(StoreError):
    """A user or a room of that name is there already, or the name is in use."""


class NoRecordError(StoreError):
    """The user or the room that is spoken of is not there."""


class StoreDownError(StoreError):
    """The store cannot be reached now. Nothing has been changed, or all of it has."""


class UnusableStoreError(StoreError):
    """The store cannot be used at all: wrong address, no access, made by a later version."""


def name_key(name: str) -> str:
    """Return what two names must not share: alike to the eye is the same.

    Compatibility forms and case are folded (Unicode Standard Annex 15; chapter 3.13), and what
    cannot be seen is left out: format characters and variation selectors.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    seen = "".join(sign for sign in folded if not _is_unseen(sign))
    return unicodedata.normalize("NFKC", seen)


def _is_unseen(sign: str) -> bool:
    return unicodedata.category(sign) == "Cf" or "\ufe00" <= sign <= "\ufe0f"


@attrs.frozen
class Holder:
    """A session, and the gateway whose it is.

    Attributes:
        gateway: the connection id of the gateway in the mesh.
        session: the gateway's own name for its client.
    """

    gateway: str
    session: str


@attrs.frozen
class NewRoom:
    """A room to be made."""

    name: str
    kind: RoomKind
    created: int
    description: str = ""
    ephemeral: bool = False
    creator_id: int | None = None
    password_hash: str | None = attrs.field(default=None, repr=False)


@attrs.frozen
class Entry:
    """What came of entering a room.

    Attributes:
        created: the room was made by it.
        arrived: the user is in the room now and was not before.
    """

    room: Room
    user_id: int
    created: bool
    arrived: bool


@attrs.frozen
class Crowd:
    """Who is in a room.

    Attributes:
        total: how many there are.
        changes: the room's count at that time; see `Room.changes`.
    """

    users: tuple[User, ...]
    total: int
    changes: int


@attrs.frozen
class Departure:
    """What came of leaving a room.

    Attributes:
        gone: the user is not in the room any more, by no other session either.
        removed: the room has gone away by it.
    """

    room: Room
    user_id: int
    gone: bool
    removed: bool


@attrs.frozen
class Claim:
    """What came of giving a session a name.

    Attributes:
        created: the user is a new one.
        departures, entries: where the session's rooms have somebody else in them by it.
    """

    user: User
    created: bool
    departures: tuple[Departure, ...] = ()
    entries: tuple[Entry, ...] = ()


@attrs.frozen
class Moves:
    """What came of putting sessions in place of others.

    Attributes:
        gone: the ids of rooms that were spoken of, and are not there.
    """

    departures: tuple[Departure, ...]
    entries: tuple[Entry, ...]
    gone: tuple[int, ...]


@attrs.frozen
class MessageQuery:
    """Which messages.

    Attributes:
        room_id: of one room; None for all public ones.
        user_id: of one author.
        after: only with a greater number.
        max_bytes: stop before the page comes to more than this as JSON, but give at least one.
    """

    room_id: int | None = None
    user_id: int | None = None
    after: int | None = None
    offset: int = 0
    limit: int = 1000
    newest_first: bool = False
    max_bytes: int = MAX_PAGE_BYTES


@attrs.frozen
class Page:
    """Some messages, and how many there are in all that were asked for."""

    messages: tuple[Message, ...]
    total: int


@attrs.frozen
class StoreCounts:
    """What there is, in numbers."""

    users: int
    accounts: int
    online: int
    rooms: int
    messages: int
    visits_today: int
    visits: int


class Store(Protocol):
    """A store. Every method may raise `StoreDownError`."""

    @property
    def name(self) -> str:
        """The URL, without the password in it."""

    async def open(self) -> None:
        """Connect, and make or check the schema and the records that are always there.

        A store is opened and closed in the same task, like an `async with`: see `open_store` in
        `services.chat.stores`.

        These are the anonymous user and the room `public`, with the id 1.

        Raises:
            UnusableStoreError: it cannot be used at all.
        """

    async def aclose(self) -> None:
        """Let go of everything. Can be called more than once."""

    # Users.

    async def add_account(self, username: str, password_hash: str, now: int) -> User:
        """Make an account.

        Raises:
            NameTakenError: an account has the name, or a session holds it as a guest.
        """

    async def claim_guest(
        self, holder: Holder, username: str, now: int, *, exclusive: bool
    ) -> Claim:
        """Give a session a guest's name; its rooms stay the session's.

        Raises:
            NameTakenError: an account has it; another session has it for itself; or, where it is to
                be `exclusive`, another session has it at all.
        """

    async def claim_anonymous(self, holder: Holder) -> Claim:
        """Let a session be anonymous; its rooms stay the session's."""

    async def user(
        self, *, id: int | None = None, uuid: str | None = None, username: str | None = None
    ) -> User | None:
        """Return one user; by name, an account before a guest."""

    async def password_hash(self, username: str) -> tuple[User, str] | None:
        """Return an account and its password's hash."""

    async def users(
        self, offset: int, limit: int, *, accounts_only: bool
    ) -> tuple[tuple[User, ...], int]:
        """Return some users by id, and how many there are. The anonymous one is not listed."""

    async def add_token(self, digest: str, user_id: int, expires: int, now: int) -> None:
        """Keep a token's hash; drop those that have expired.

        Raises:
            NoRecordError: there is no such user.
        """

    async def token_user(self, digest: str, now: int) -> User | None:
        """Return whose token it is, while it has not expired."""

    async def remove_token(self, digest: str) -> bool:
        """Forget a token; return whether there was one."""

    # Rooms.

    async def add_room(self, room: NewRoom) -> Room:
        """Make a room.

        Raises:
            NameTakenError: there is one of that name.
        """

    async def private_room(self, user_id: int, other_id: int, now: int) -> tuple[Room, bool]:
        """Return the room between two users, and whether it was made for this.

        Raises:
            NoRecordError: one of them is not there.
        """

    async def room(self, *, id: int | None = None, name: str | None = None) -> Room | None:
        """Return one room."""

    async def room_password_hash(self, id: int) -> str | None:
        """Return the hash of a protected room's password."""

    async def rooms(
        self, offset: int, limit: int, kinds: Sequence[RoomKind], of_user_id: int | None
    ) -> tuple[tuple[Room, ...], int]:
        """Return some rooms by id, and how many there are that were asked for."""

    async def update_room(self, id: int, name: str | None, description: str | None) -> Room:
        """Change a room.

        Raises:
            NoRecordError: it is not there.
            NameTakenError: another one has the name.
        """

    async def remove_room(self, id: int) -> Room | None:
        """Remove a room with its messages; everybody leaves it. None where it was not there."""

    # Presence.

    async def open_session(self, holder: Holder, user_id: int) -> list[Departure]:
        """Let a user be online by a session; one of another user leaves its rooms by it.

        Raises:
            NoRecordError: there is no such user.
        """

    async def enter(
        self, holder: Holder, user_id: int, room_id: int | None, new: NewRoom | None
    ) -> Entry:
        """Let a session enter a room, by id, or by the name of `new`, which is made if need be.

        Raises:
            NoRecordError: the room or the user is not there.
            NameTakenError: the session is another user's.
        """

    async def leave(self, holder: Holder, room_id: int) -> Departure | None:
        """Let a session leave a room. None where it was not in it."""

    async def close_session(self, holder: Holder) -> list[Departure]:
        """Let a session leave all its rooms, and give up its name."""

    async def close_gateway(self, gateway: str) -> list[Departure]:
        """End all sessions of a gateway."""

    async def sync_gateway(self, gateway: str, told: SyncSessions) -> Moves:
        """Put these sessions in place of what is known of a gateway, and of its former self.

        Users and rooms that are not there are left out. The departures and entries are those that
        make a difference to others: who was in a room before and still is makes none.
        """

    async def gateways(self) -> frozenset[str]:
        """Return the gateways that have sessions."""

    async def present(self, room_id: int, limit: int) -> Crowd:
        """Return the users who are in a room, by id."""

    async def is_present(self, room_id: int, user_id: int) -> bool:
        """Whether a user is in a room."""

    # Messages.

    async def add_message(
        self, room_id: int, user_id: int, text: str, key: str, now: int
    ) -> tuple[Message, bool]:
        """Store a message as its room's next one; return it, and whether it is new.

        With the key of a message of the same author and room, that message is returned.

        Raises:
            NoRecordError: the room or the user is not there.
            NameTakenError: the key is another message's.
        """

    async def message(self, id: int) -> Message | None:
        """Return one message."""

    async def messages(self, query: MessageQuery) -> Page:
        """Return some messages, by number, or by id where they are of several rooms."""

    # Counting.

    async def add_visit(self, day: int) -> tuple[int, int]:
        """Count a visit on a day (days since 1970); return that day's count, and all."""

    async def counts(self, day: int) -> StoreCounts:
        """Return what there is, in numbers."""
