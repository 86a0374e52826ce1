"""Which of a gateway's clients follow which rooms, and what they call them.

A message goes to those who follow its room at the moment when it comes, in the order of the room.
Someone who is about to join must not miss what is posted between the chat's word and the gateway's
noting it: so from `expect` on, the room's messages are kept for them.

Operations: `expect`, `begin`, `leave`, `forget`, `forget_room`, `room_of` and `place_of`, which are
dictionary look-ups; `places` and `receivers`, which are linear in how many follow the room.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import attrs

from services.chat.messages import Posted
from services.chat.model import Room

__all__ = ["Following", "Place"]

C = TypeVar("C", bound=Hashable)
L = TypeVar("L", bound=Hashable)


@attrs.frozen
class Place(Generic[C, L]):
    """A client in a room.

    Attributes:
        label: what the client calls the room.
        first: the number of the first message that is for it; what came before is history.
    """

    client: C
    label: L
    first: int


class Following(Generic[C, L]):
    """Who follows what."""

    def __init__(self) -> None:
        self._of_room: dict[int, dict[C, Place[C, L]]] = {}
        self._of_client: dict[C, dict[L, int]] = {}
        self._expecting: dict[str, dict[C, list[Posted]]] = {}

    @contextmanager
    def expect(self, client: C, room_name: str) -> Iterator[None]:
        """Keep the messages of a room for a client that is joining, for the body of a `with`."""
        self._expecting.setdefault(room_name, {})[client] = []
        try:
            yield
        finally:
            waiting = self._expecting[room_name]
            del waiting[client]
            if not waiting:
                del self._expecting[room_name]

    def begin(self, client: C, room: Room, label: L, first: int) -> list[Posted]:
        """Let a client follow a room, under a label that is its only one for it.

        Returns:
            What has come meanwhile and is for it, in order.
        """
        known = self._of_room.get(room.id, {}).get(client)
        if known is not None:  # Under the name, say, that the room had before.
            self.leave(client, known.label)
        self._of_room.setdefault(room.id, {})[client] = Place(client, label, first)
        self._of_client.setdefault(client, {})[label] = room.id
        kept = self._expecting.get(room.name, {}).get(client, [])
        return [posted for posted in kept if posted.message.number >= first]

    def leave(self, client: C, label: L) -> None:
        """Let a client follow a room no more."""
        room_id = self._of_client.get(client, {}).pop(label, None)
        if room_id is None:
            return
        followers = self._of_room[room_id]
        del followers[client]
        if not followers:
            del self._of_room[room_id]
        if not self._of_client[client]:
            del self._of_client[client]

    def forget(self, client: C) -> None:
        """Drop a client."""
        for label in list(self._of_client.get(client, ())):
            self.leave(client, label)

    def forget_room(self, room_id: int) -> None:
        """Drop a room that has gone away."""
        for place in list(self._of_room.get(room_id, {}).values()):
            self.leave(place.client, place.label)

    def room_of(self, client: C, label: L) -> int | None:
        """Return the id of the room that a client follows under a label."""
        return self._of_client.get(client, {}).get(label)

    def place_of(self, client: C, room_id: int) -> Place[C, L] | None:
        """Return a client's place in a room, if it follows that."""
        return self._of_room.get(room_id, {}).get(client)

    def places(self, room_id: int) -> list[Place[C, L]]:
        """Return who follows a room."""
        return list(self._of_room.get(room_id, {}).values())

    def receivers(self, posted: Posted) -> list[Place[C, L]]:
        """Return to whom a message goes now, and keep it for those who are joining."""
        for kept in self._expecting.get(posted.room.name, {}).values():
            kept.append(posted)
        number = posted.message.number
        return [place for place in self.places(posted.room.id) if number >= place.first]
