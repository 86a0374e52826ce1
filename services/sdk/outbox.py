"""What waits to be written on a connection.

Operations: `append`, `push` and `prepend` (never block), `room` (waits while too much is waiting),
`take` (for the one writer: waits for something, then takes everything).

Goals: constant cost a message; one system call and one task switch for all messages that were
appended while the writer was busy or asleep, and no task switch for one that is pushed; memory
bounded by `HIGH_BYTES` for whoever awaits `room`. Whoever sends never waits for the socket, so a
cancelled sender can never leave half a message in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio

__all__ = ["HIGH_BYTES", "LIMIT_BYTES", "Outbox"]

# Past this much unsent, senders wait. Thousands of ordinary messages: enough that a burst never
# meets it, little enough that what is lost with a connection is little.
HIGH_BYTES: Final = 1024 * 1024

# Past this much unsent, even answers that cannot wait are refused. They are small, so this is met
# only when the broker has stopped reading altogether.
LIMIT_BYTES: Final = 16 * HIGH_BYTES


class Outbox:
    """Framed messages, in the order in which they will be written.

    Args:
        write_now: writes what the system takes at once, and returns how much that is; None where
            all is for the writer.

    Attributes:
        size: bytes that wait.
        written: the ticket of the last message that the writer has taken. Those up to it may have
            arrived; those past it have not.
    """

    def __init__(self, write_now: Callable[[bytes], int] | None = None) -> None:
        self._write_now = write_now
        self._idle = False
        self.size = 0
        self.written = 0
        self._appended = 0
        self._ids: list[str] = []
        self._chunks: list[bytes] = []
        self._finished = False
        self._work = anyio.Event()
        self._room = anyio.Event()

    @property
    def full(self) -> bool:
        """Whether senders should wait."""
        return self.size > HIGH_BYTES

    @property
    def unwritten(self) -> list[str]:
        """The ids of the messages that were appended with one, and wait."""
        return self._ids.copy()

    def append(self, framed: bytes, id: str | None = None) -> int:
        """Put a message at the end; return its ticket: how many there have been.

        Args:
            framed: the message.
            id: what `unwritten` shall name it by.
        """
        if not self._chunks:
            self._work.set()
        self._chunks.append(framed)
        self.size += len(framed)
        if id is not None:
            self._ids.append(id)
        self._appended += 1
        return self._appended

    def push(self, framed: bytes, id: str | None = None) -> int:
        """Write a message at once if nothing is in its way, or else append it (which see).

        It does without the writer, whose waking costs more than the writing, but it is a system
        call a message: of use for one that is likely to be the only one of this moment.
        """
        if self._idle and not self._chunks and self._write_now is not None:
            framed = framed[self._write_now(framed) :]
            if not framed:
                self._appended += 1
                self.written = self._appended
                return self._appended
        return self.append(framed, id)

    def prepend(self, framed: bytes) -> None:
        """Put a control frame at the front: a heartbeat must not wait behind a backlog."""
        self._chunks.insert(0, framed)
        self.size += len(framed)
        self._work.set()

    def finish(self) -> None:
        """Nothing will be appended any more."""
        self._finished = True
        self._work.set()

    async def room(self) -> None:
        """Wait until there may be room: look again afterwards."""
        await self._room.wait()

    def wake_all(self) -> None:
        """Let everyone who waits for room look again: the connection has ended."""
        self._room.set()

    async def take(self) -> bytes:
        """Wait for messages; return all of them, or nothing once it is finished."""
        if not self._chunks and not self._finished:
            self._work = anyio.Event()
            self._idle = True
            await self._work.wait()
            self._idle = False
        taken = b"".join(self._chunks)
        self._chunks.clear()
        self._ids.clear()
        self.written = self._appended
        if self.full:
            self._room.set()
            self._room = anyio.Event()
        self.size = 0
        return taken
