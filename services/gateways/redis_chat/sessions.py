"""The clients of the Redis chat, and who they are."""

from __future__ import annotations

import attrs
import trio

from services.chat.model import User
from services.gateways.websocket_server import Client

__all__ = ["Session"]


@attrs.define(eq=False)
class Session:
    """A client.

    Attributes:
        client: its connection.
        user: who is signed in by it.
        access_key: of the user.
    """

    client: Client
    user: User | None = None
    access_key: str = attrs.field(default="", repr=False)
    _seen: dict[int, int] = attrs.field(factory=dict)
    _progress: trio.Event = attrs.field(factory=trio.Event)

    def show(self, room_id: int, number: int, text: str) -> None:
        """Send a message of a room."""
        self.client.send(text)
        self._seen[room_id] = number
        self._progress.set()
        self._progress = trio.Event()

    def shown(self, room_id: int) -> int:
        """Return the number of the last message of a room that has been sent, or -1."""
        return self._seen.get(room_id, -1)

    async def wait_shown(self, room_id: int, number: int) -> None:
        """Wait until the message of that number has been sent."""
        while self.shown(room_id) < number:
            await self._progress.wait()
