"""A gateway's side of the mesh: what all four have in common.

The hub hears the chat service's events and hands them to the gateway's `Audience`: messages in the
order of their room, each once, whatever was lost or came twice. It keeps the sessions (the
gateway's clients, and the rooms that they are in), and tells them to the chat service anew when
the connection to the broker has been another one meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import attrs
from anyio.abc import TaskStatus

from services.chat.client import ChatClient
from services.chat.messages import (
    CHAT_GROUP,
    MAX_PAGE,
    ChatError,
    ChatEvent,
    Joined,
    JoinRoom,
    ListMessages,
    ListRooms,
    Posted,
    PresenceChanged,
    RoomRemoved,
    Session,
    SyncSessions,
    Typing,
)
from services.chat.model import Room, RoomKind, User
from services.gateways.sequence import Sequencer
from services.gateways.shared_lock import SharedLock
from services.sdk import (
    BadRequest,
    Down,
    Event,
    Mesh,
    MeshError,
    NoRoute,
    PayloadError,
    ServiceError,
    Snapshot,
    Up,
)

__all__ = ["Audience", "Hub"]

_LOG: Final = logging.getLogger(__name__)

# Events that may wait while missed messages are fetched.
_BUFFER: Final = 65_536

# Sessions that one request tells of: a fraction of a second's work for the chat's database.
_TOLD_AT_ONCE: Final = 200

# Before each attempt to catch up: short against the second within which people expect a message,
# long against what an attempt costs.
_PAUSE_SECONDS: Final = 0.1


class Audience:
    """What happens in the chat, as a gateway's clients are to see it. Each method does nothing.

    They must not wait: what a client does not take at once belongs in a bounded queue of its own.
    """

    def on_posted(self, posted: Posted) -> None:
        """There is a new message. They come in the order of their room, each once."""

    def on_presence(self, change: PresenceChanged) -> None:
        """Somebody has entered or left a room."""

    def on_typing(self, typing: Typing) -> None:
        """Somebody has begun or stopped to type."""

    def on_user(self, user: User) -> None:
        """There is a new user."""

    def on_room(self, room: Room) -> None:
        """There is a new room, or it has been changed."""

    def on_room_removed(self, room: RoomRemoved) -> None:
        """A room has gone away. No session is in it any more."""


@attrs.define
class _Client:
    """A session, as the hub keeps it."""

    user_id: int
    exclusive: bool
    rooms: set[int] = attrs.field(factory=set)


class Hub:
    """The mesh, for one gateway.

    Args:
        mesh: connected, in group `GATEWAYS_GROUP`.
        audience: is told what happens.

    Attributes:
        chat: the chat service. Joining, leaving and closing go through the hub's own methods.
    """

    def __init__(self, mesh: Mesh, audience: Audience) -> None:
        self.chat = ChatClient(mesh)
        self._mesh = mesh
        self._audience = audience
        self._clients: dict[str, _Client] = {}
        self._sequencer = Sequencer()
        self._changing = SharedLock()
        self._known_as: str | None = None
        self._told = False
        self._stale = True
        # Until it is known which rooms there are, and where they are, every room would be taken
        # for a new one, and its history for news.
        self._oriented = False
        self._held: list[Posted] = []
        self._crowds: dict[int, PresenceChanged] = {}
        self._gaps: dict[int, Room] = {}
        self._wake = anyio.Event()
        self._handlers: dict[str, tuple[Any, Callable[[Any], None]]] = {
            ChatEvent.USER_CREATED: (User, audience.on_user),
            ChatEvent.ROOM_CREATED: (Room, self._on_room),
            ChatEvent.ROOM_UPDATED: (Room, audience.on_room),
            ChatEvent.ROOM_DELETED: (RoomRemoved, self._on_room_removed),
            ChatEvent.MESSAGE_POSTED: (Posted, self._on_posted),
            ChatEvent.PRESENCE_CHANGED: (PresenceChanged, self._on_presence),
            ChatEvent.TYPING_STARTED: (Typing, audience.on_typing),
            ChatEvent.TYPING_STOPPED: (Typing, audience.on_typing),
        }

    # Sessions.

    async def open(self, session: str, user_id: int) -> None:
        """Let a user be online by a session. Raises as `ChatClient.open_session`.

        A session of another user leaves all its rooms by it.
        """
        async with self._change(session):
            await self.chat.open_session(session, user_id)
            client = self._clients.get(session)
            if client is None or client.user_id != user_id:
                self._clients[session] = _Client(user_id, exclusive=False)

    async def claim_guest(
        self, session: str, username: str | None, *, exclusive: bool = False
    ) -> User:
        """Let a session have a name without a password. Raises as `ChatClient.claim_guest`.

        It stays in its rooms.
        """
        async with self._change(session):
            user = await self.chat.claim_guest(session, username, exclusive=exclusive)
            client = self._clients.setdefault(session, _Client(user.id, exclusive))
            client.user_id, client.exclusive = user.id, exclusive
            return user

    async def join(self, join: JoinRoom) -> Joined:
        """Let a session enter a room. Raises as `ChatClient.join`."""
        async with self._change(join.session):
            joined = await self.chat.join(join)
            client = self._clients.setdefault(join.session, _Client(join.user_id, exclusive=False))
            client.user_id = join.user_id
            client.rooms.add(joined.room.id)
            if self._oriented:
                self._sequencer.know(joined.room.id, joined.room.messages)
            return joined

    async def leave(self, session: str, room_id: int) -> None:
        """Let a session leave a room. Raises as `ChatClient.leave`."""
        async with self._change(session):
            try:
                await self.chat.leave(session, room_id)
            except ServiceError as error:
                if error.code in {ChatError.NO_ROOM, ChatError.NOT_IN_ROOM}:
                    self._forget_place(session, room_id)
                raise
            self._forget_place(session, room_id)

    async def close(self, session: str) -> None:
        """End a session.

        Never raises for the mesh's sake: where the chat service cannot be told now, it learns it
        with the next `SyncSessions`, or by the end of this gateway.
        """
        async with self._changing.shared():
            if self._clients.pop(session, None) is None:
                return
            try:
                await self.chat.close_session(session)
            except BaseException as error:
                # Whoever waits no longer for it, still wants it ended.
                self._tell_anew()
                if not isinstance(error, MeshError):
                    raise

    @asynccontextmanager
    async def _change(self, session: str) -> AsyncIterator[None]:
        """Change a session here and there alike.

        Where it remains unknown whether the chat service has done so, it is told how it is.
        """
        async with self._changing.shared():
            try:
                yield
            except BaseException as error:
                if not _is_refusal(error):
                    _LOG.debug("the chat service may not know of session %s", session)
                    self._tell_anew()
                raise

    def _tell_anew(self) -> None:
        self._told = False
        self._catch_up()

    def _forget_place(self, session: str, room_id: int) -> None:
        client = self._clients.get(session)
        if client is not None:
            client.rooms.discard(room_id)

    def rooms_of(self, session: str) -> frozenset[int]:
        """Return the ids of the rooms that a session is in."""
        client = self._clients.get(session)
        return frozenset() if client is None else frozenset(client.rooms)

    def sessions_in(self, room_id: int) -> Iterator[str]:
        """Return this gateway's sessions that are in a room."""
        return (name for name, client in self._clients.items() if room_id in client.rooms)

    def sessions_of(self, user_id: int) -> Iterator[str]:
        """Return this gateway's sessions of a user."""
        return (name for name, client in self._clients.items() if client.user_id == user_id)

    # What the chat service tells.

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Hear the chat service until the mesh is closed. Started when all is in place.

        Raises:
            MeshError: the mesh has ended for good.
        """
        async with (
            anyio.create_task_group() as tasks,
            self._mesh.listen("*", buffer=_BUFFER) as events,
        ):
            tasks.start_soon(self._watch)
            tasks.start_soon(self._keep_up)
            task_status.started()
            async for event in events:
                self._handle(event)

    def _handle(self, event: Event) -> None:
        known = self._handlers.get(event.name)
        # Whoever else sends such an event into the gateways' group is not the chat service.
        if known is None or event.source.group != CHAT_GROUP:
            return
        kind, handler = known
        try:
            data = event.parse(kind)
        except PayloadError as error:
            _LOG.warning("an event %s that cannot be read: %s", event.name, error)
            return
        handler(data)

    def _on_room(self, room: Room) -> None:
        self._sequencer.know(room.id, 0)
        self._audience.on_room(room)

    def _on_presence(self, change: PresenceChanged) -> None:
        # Of what two instances of the chat service tell, the older may come last.
        known = self._crowds.get(change.room_id)
        if known is not None and known.changes > change.changes:
            change = attrs.evolve(change, users=known.users, changes=known.changes)
        self._crowds[change.room_id] = change
        self._audience.on_presence(change)

    def _on_room_removed(self, removed: RoomRemoved) -> None:
        self._sequencer.forget(removed.id)
        self._crowds.pop(removed.id, None)
        for client in self._clients.values():
            client.rooms.discard(removed.id)
        self._audience.on_room_removed(removed)

    def _on_posted(self, posted: Posted) -> None:
        if not self._oriented:
            self._held.append(posted)
            return
        for following in self._sequencer.take(posted):
            self._audience.on_posted(following)
        if self._sequencer.missing(posted.message.room_id):
            self._gaps[posted.room.id] = posted.room
            self._wake.set()

    # Catching up.

    def _catch_up(self) -> None:
        self._stale = True
        self._wake.set()

    async def _watch(self) -> None:
        """Look who is there: after a reconnect, and when the chat service comes or goes."""
        async with self._mesh.watch() as changes:
            async for change in changes:
                match change:
                    case Snapshot():
                        self._catch_up()
                    case Up(service) | Down(service) if service.group == CHAT_GROUP:
                        # An instance that was killed may have stored what it has not told.
                        self._catch_up()
                    case _:
                        pass

    async def _keep_up(self) -> None:
        while True:
            if self._oriented:
                await self._wake.wait()
            # What is early by a moment only, because of another instance, comes by itself.
            await anyio.sleep(_PAUSE_SECONDS)
            self._wake = anyio.Event()
            try:
                if self._stale:
                    await self._tell_sessions()
                    await self._fetch_missed()
                await self._fill_gaps()
            except MeshError as error:
                _LOG.debug("the chat service cannot be asked now: %s", error)
                self._catch_up()

    async def _tell_sessions(self) -> None:
        # Not while a session enters or leaves, or the chat service might undo it.
        async with self._changing.alone():
            now = self._mesh.id
            if self._told and self._known_as == now:
                return
            gone: set[int] = set()
            for told in _in_parts(self._clients, self._known_as):
                gone.update((await self.chat.sync_sessions(told)).gone)
            self._known_as, self._told = now, True
            for room_id in sorted(gone):
                self._on_room_removed(RoomRemoved(room_id, ""))

    async def _fetch_missed(self) -> None:
        self._stale = False
        if not self._oriented:
            await self._find_bearings()
        for room in await self._all_rooms():
            # What is not known yet has been made meanwhile.
            self._sequencer.know(room.id, 0)
            if self._sequencer.next(room.id) < room.messages:
                await self._fetch_from(room)
            await self._look_around(room)

    async def _find_bearings(self) -> None:
        """Let each room begin where it is; what has been heard already is news, too."""
        starts = {room.id: room.messages for room in await self._all_rooms()}
        held, self._held = self._held, []
        for posted in held:
            room_id, number = posted.room.id, posted.message.number
            starts[room_id] = min(starts.get(room_id, number), number)
        for room_id, number in starts.items():
            self._sequencer.know(room_id, number)
        self._oriented = True
        for posted in held:
            self._on_posted(posted)

    async def _all_rooms(self) -> list[Room]:
        rooms: list[Room] = []
        while True:
            page = await self.chat.rooms(ListRooms(len(rooms), MAX_PAGE, kinds=tuple(RoomKind)))
            rooms += page.rooms
            if not page.rooms or len(rooms) >= page.total:
                return rooms

    async def _look_around(self, room: Room) -> None:
        """See who is in a room, where that has changed since it was last heard."""
        known = self._crowds.get(room.id)
        if known is None or known.changes >= room.changes:
            return
        reader_id = None if room.participants is None else room.participants[0]
        there = await self.chat.room_users(room.id, reader_id)
        self._on_presence(PresenceChanged(room.id, there.users, changes=room.changes))

    async def _fill_gaps(self) -> None:
        gaps, self._gaps = self._gaps, {}
        for room_id, room in gaps.items():
            if self._sequencer.missing(room_id):
                await self._fetch_from(room)

    async def _fetch_from(self, room: Room) -> None:
        """Fetch a room's messages from the first one that has not come."""
        while True:
            turn = self._sequencer.next(room.id)
            which = ListMessages(room_id=room.id, after=turn - 1, trusted=True)
            try:
                page = await self.chat.messages(which)
            except ServiceError as error:
                if error.code == ChatError.NO_ROOM:
                    self._sequencer.forget(room.id)  # It has gone meanwhile.
                    return
                raise
            for message in page.messages:
                self._on_posted(Posted(message, room))
            if len(page.messages) >= page.total:
                return


def _in_parts(clients: dict[str, _Client], previous: str | None) -> Iterator[SyncSessions]:
    sessions = [
        Session(name, client.user_id, tuple(client.rooms), client.exclusive)
        for name, client in clients.items()
    ]
    told: list[str] = []
    while len(sessions) - len(told) > _TOLD_AT_ONCE:
        part = sessions[len(told) : len(told) + _TOLD_AT_ONCE]
        yield SyncSessions(tuple(part), previous, more=True)
        told += [session.session for session in part]
    yield SyncSessions(tuple(sessions[len(told) :]), previous, kept=tuple(told))


def _is_refusal(error: BaseException) -> bool:
    """Whether it is certain that the chat service has not done what it was asked."""
    if isinstance(error, ServiceError):
        return error.code != ChatError.STORE_DOWN
    return isinstance(error, NoRoute | BadRequest)
