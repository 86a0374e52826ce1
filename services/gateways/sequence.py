"""The order of each room's messages.

Several instances of the chat service tell of messages, and what one tells may overtake what another
does; an instance that is killed may not tell at all. The numbers of the messages, which count from
0 in each room without gaps, show both. A `Sequencer` gives out every message once, in order, and
knows what it is waiting for.

Operations: `know` (where a room begins), `take` (a message that came), `missing`, `next`, `forget`.
Each is a dictionary look-up, and constant time a message.
"""

from __future__ import annotations

from services.chat.messages import Posted

__all__ = ["Sequencer"]


class Sequencer:
    """The messages of all rooms, put into order."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}
        self._early: dict[int, dict[int, Posted]] = {}

    def know(self, room_id: int, number: int) -> None:
        """Let a room that has not been heard of begin with this number; what is before is history.

        A room that is known goes on as it does.
        """
        self._next.setdefault(room_id, number)

    def take(self, posted: Posted) -> list[Posted]:
        """Take in a message, in whatever order they come.

        A room that has not been heard of is a new one, and begins with number 0.

        Returns:
            The messages whose turn it is now: none, where this one is early or has been seen.
        """
        room_id, number = posted.message.room_id, posted.message.number
        turn = self._next.setdefault(room_id, 0)
        if number < turn:
            return []
        early = self._early.setdefault(room_id, {})
        early[number] = posted
        ready: list[Posted] = []
        while (following := early.pop(turn, None)) is not None:
            ready.append(following)
            turn += 1
        self._next[room_id] = turn
        if not early:
            del self._early[room_id]
        return ready

    def missing(self, room_id: int) -> bool:
        """Whether there are early messages of a room, which wait for one that has not come."""
        return room_id in self._early

    def next(self, room_id: int) -> int:
        """Return the number of the message whose turn it is."""
        return self._next.get(room_id, 0)

    def forget(self, room_id: int) -> None:
        """Drop a room that has gone away."""
        self._next.pop(room_id, None)
        self._early.pop(room_id, None)
