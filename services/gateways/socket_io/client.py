"""One client of a Socket.IO server: what it has asked, and what waits to be sent to it."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import anyio
import attrs
import msgspec

__all__ = ["Client", "Outgoing"]

# What waits for a client beyond this: it is too slow, or has stopped reading.
_MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
_MAX_WAITING: Final = 10_000

# So many events go to the transport at a time: python-socketio's own client takes no more than 16
# packets from one answer to a long poll.
_MAX_BATCH: Final = 8

# Events that have been read and wait for those before them. Then reading waits.
_MAX_UNANSWERED: Final = 16


@attrs.frozen
class Outgoing:
    """An event to a client. Several clients may share one.

    Attributes:
        event: its name.
        data: an argument, or none where it is None.
        size: about as many bytes as it takes.
    """

    event: str
    data: Any
    size: int

    @classmethod
    def of(cls, event: str, data: object) -> Outgoing:
        """Make one of what is to be sent."""
        return cls(event, data, len(event) + len(msgspec.json.encode(data)))


class Client:
    """A connection of Socket.IO.

    Attributes:
        sid: its name in Socket.IO.
        transport_id: that of the connection underneath, in Engine.IO.
        sending: cancelled when there is nobody to send to any more.
    """

    def __init__(self, sid: str, transport_id: str) -> None:
        self.sid = sid
        self.transport_id = transport_id
        self.sending = anyio.CancelScope()
        self.asked, self.to_answer = anyio.create_memory_object_stream[tuple[str, tuple[Any, ...]]](
            _MAX_UNANSWERED
        )
        self._waiting: deque[Outgoing] = deque()
        self._bytes = 0
        self._arrived = anyio.Event()

    def put(self, outgoing: Outgoing) -> bool:
        """Let an event wait for its turn; return whether there was room for it.

        Whatever its size, there is room for one.
        """
        if self._waiting and (
            self._bytes + outgoing.size > _MAX_WAITING_BYTES or len(self._waiting) >= _MAX_WAITING
        ):
            return False
        self._waiting.append(outgoing)
        self._bytes += outgoing.size
        self._arrived.set()
        return True

    async def take(self) -> list[Outgoing]:
        """Wait for the next event, and return it, with a few of those that follow already."""
        while not self._waiting:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))]
        self._bytes -= sum(outgoing.size for outgoing in batch)
        return batch
