"""What the gateways are told."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

import anyio

from services.chat.messages import (
    GATEWAYS_GROUP,
    MAX_PAGE,
    ChatEvent,
    Posted,
    PresenceChanged,
    RoomRemoved,
)
from services.chat.model import Message, Room, User
from services.chat.store import Departure, Entry, Store
from services.sdk import Mesh, MeshError

__all__ = ["Announcer"]

_LOG: Final = logging.getLogger(__name__)

# While the connection to the broker is another one: what cannot be told then, the gateways fetch
# when they are back themselves.
_PATIENCE_SECONDS: Final = 5.0


class Announcer:
    """Tells the gateways what has happened.

    Args:
        store: where it is looked up who is in a room.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # Who is in a room is looked up and told in one go, so that an older answer never overtakes
        # a newer one.
        self._presence = anyio.Lock()

    async def tell(self, mesh: Mesh, event: ChatEvent, data: object) -> None:
        """Tell anything.

        Nobody there to hear it is no error; nor is it one of what is told that it cannot be.
        """
        try:
            await mesh.emit(event.value, data, group=GATEWAYS_GROUP, patience=_PATIENCE_SECONDS)
        except MeshError as error:
            _LOG.warning("the gateways cannot be told of %s: %s", event, error)

    async def posted(self, mesh: Mesh, message: Message, room: Room) -> None:
        """Tell of a new message."""
        await self.tell(mesh, ChatEvent.MESSAGE_POSTED, Posted(message, room))

    async def user_created(self, mesh: Mesh, user: User) -> None:
        """Tell of a new user."""
        await self.tell(mesh, ChatEvent.USER_CREATED, user)

    async def room_removed(self, mesh: Mesh, room: Room) -> None:
        """Tell that a room has gone away."""
        await self.tell(mesh, ChatEvent.ROOM_DELETED, RoomRemoved(room.id, room.name))

    async def arrived(self, mesh: Mesh, entries: Iterable[Entry]) -> None:
        """Tell that users have come into rooms, and that rooms have been made for it."""
        come: dict[int, list[int]] = {}
        for entry in entries:
            if entry.created:
                await self.tell(mesh, ChatEvent.ROOM_CREATED, entry.room)
            if entry.arrived:
                come.setdefault(entry.room.id, []).append(entry.user_id)
        for room_id, user_ids in come.items():
            await self._presence_changed(mesh, room_id, joined=tuple(user_ids))

    async def departed(self, mesh: Mesh, departures: Iterable[Departure]) -> None:
        """Tell that users have left rooms, and that rooms have gone away with the last of them."""
        gone: dict[int, list[int]] = {}
        for departure in departures:
            if departure.removed:
                gone.pop(departure.room.id, None)
                await self.room_removed(mesh, departure.room)
            elif departure.gone:
                gone.setdefault(departure.room.id, []).append(departure.user_id)
        for room_id, user_ids in gone.items():
            await self._presence_changed(mesh, room_id, left=tuple(user_ids))

    async def _presence_changed(
        self, mesh: Mesh, room_id: int, joined: tuple[int, ...] = (), left: tuple[int, ...] = ()
    ) -> None:
        async with self._presence:
            crowd = await self._store.present(room_id, MAX_PAGE)
            change = PresenceChanged(room_id, crowd.users, joined, left, crowd.changes)
            await self.tell(mesh, ChatEvent.PRESENCE_CHANGED, change)
