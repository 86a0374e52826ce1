"""What is on its way to one client of a WebSocket: bounded, so that nobody's slowness costs others.

What happens in the chat is put in with `send`, which says whether there was room. Answers to the
client's own requests always find room, since there is but one at a time: the next request is read
after `wait_low`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import trio

__all__ = ["Outbox"]


class Outbox:
    """A queue of texts.

    Args:
        max_bytes: how much may wait; one text is always let in.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._ready: deque[str] = deque()
        self._held: deque[str] = deque()
        self._holding = False
        self._size = 0
        self._something = trio.Event()
        self._low = trio.Event()

    @property
    def size(self) -> int:
        """How much waits, in characters: bytes, but for what a client has sent itself."""
        return self._size

    def send(self, text: str) -> bool:
        """Put in an event; return False, and leave it, where there is no room."""
        if self._size and self._size + len(text) > self._max_bytes:
            return False
        self._size += len(text)
        if self._holding:
            self._held.append(text)
        else:
            self._put(text)
        return True

    def answer(self, text: str) -> None:
        """Put in an answer, before the events that are held."""
        self._size += len(text)
        self._put(text)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold events back during a `with`: an answer comes before what follows from it."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            while self._held:
                self._put(self._held.popleft())

    async def take(self) -> str:
        """Wait for the next text; it is the caller's then."""
        while not self._ready:
            self._something = trio.Event()
            await self._something.wait()
        text = self._ready.popleft()
        self._size -= len(text)
        if self._size <= self._max_bytes // 2:
            self._low.set()
        return text

    async def wait_low(self) -> None:
        """Wait until no more than half of it is full."""
        while self._size > self._max_bytes // 2:
            self._low = trio.Event()
            await self._low.wait()

    def _put(self, text: str) -> None:
        self._ready.append(text)
        self._something.set()
