"""One direction of a connection in memory: bytes go in at one end and come out at the other.

Operations: `write` and `finish` (the sender's), `read` and `abandon` (the receiver's), `advance`
(time has passed), and the faults: `delay`, `hold`, `stop`, `ignore`, `cut`, `break_off`. None of
them waits; whoever has to is told by `changed` when to look again.

A byte passes three gates on its way, in order, and each can be shut:

    sender --(stopped)--> under way, for `delay` seconds --(held)--> arrived --(ignored)--> receiver

Nothing is reordered, and only `cut` and `break_off` lose anything. Memory is bounded by `CAPACITY`,
as that of a socket is: a sender whose bytes do not get through comes to wait.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["CAPACITY", "Lane", "Tap"]

# Bytes on their way in one direction: what the buffers of a socket hold, in order of magnitude.
CAPACITY: Final = 256 * 1024

# Stands among the pieces for the end of them.
_END: Final = b""


class Tap(Protocol):
    """Looks at what arrives."""

    def split(self, data: bytes) -> int | None:
        """Return after how many of these bytes the connection vanishes, or None."""
        ...


class Lane:
    """One direction.

    Args:
        clock: returns the time in seconds.
        changed: is called when one of the ends may be able to go on.

    Attributes:
        tap: looks at what arrives, if there is one.
        on_cut: is called when the tap says so.
    """

    def __init__(self, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        self.tap: Tap | None = None
        self.on_cut: Callable[[], None] = _nothing
        self._clock = clock
        self._changed = changed
        self._delay = 0.0
        self._stopped = self._held = self._ignored = False
        self._finished = self._ended = self._broken = self._abandoned = False
        self._unsent: deque[bytes] = deque()
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._arrived = bytearray()
        self._size = 0

    # The sender's.

    @property
    def writable(self) -> bool:
        """Whether a write would do something."""
        return self._size < CAPACITY or (self._broken and not self._stopped)

    def write(self, data: bytes) -> int:
        """Put bytes in, as many as there is room for; return how many.

        Raises:
            ConnectionResetError: the connection is broken.
        """
        if self._broken and not self._stopped:
            raise ConnectionResetError("the connection was reset")
        if self._finished:
            return len(data)  # It was cut, and the sender has yet to hear of it.
        taken = data[: CAPACITY - self._size]
        if taken and not self._broken:
            self._put(taken)
        return len(taken)

    def finish(self) -> None:
        """Put in the end. Can be said more than once."""
        if not self._finished:
            self._finished = True
            self._put(_END)

    @property
    def in_transit(self) -> int:
        """Bytes that were put in and have not arrived."""
        return self._size - len(self._arrived)

    # The receiver's.

    @property
    def readable(self) -> bool:
        """Whether a read would do something."""
        return not self._ignored and (bool(self._arrived) or self._ended or self._broken)

    def read(self, size: int) -> bytes:
        """Take bytes out; nothing means the end, if `readable`.

        Raises:
            ConnectionResetError: the connection is broken, and all that had arrived is read.
        """
        if not self._arrived and self._broken:
            raise ConnectionResetError("the connection was reset")
        data = bytes(self._arrived[:size])
        del self._arrived[:size]
        self._size -= len(data)
        self._changed()
        return data

    def abandon(self) -> None:
        """Read nothing any more. What is written from now on goes nowhere, as it does in TCP."""
        self._abandoned = True
        self._clear_abandoned()

    # Time.

    @property
    def next(self) -> float:
        """When something arrives next, in seconds."""
        return self._under_way[0][0] if self._under_way and not self._held else math.inf

    def advance(self, now: float) -> None:
        """Let arrive what has been under way for long enough."""
        while self.next <= now:
            self._arrive(self._under_way.popleft()[1])

    # Faults.

    def delay(self, seconds: float) -> None:
        """Let what is sent from now on take this long. It still does not overtake."""
        self._delay = seconds

    def hold(self, held: bool) -> None:
        """Let nothing arrive; or let it all go on."""
        self._held = held
        self.advance(self._clock())
        self._changed()

    def stop(self, stopped: bool) -> None:
        """Keep back what is written; or send it."""
        self._stopped = stopped
        while not stopped and self._unsent:
            self._depart(self._unsent.popleft())
        self._changed()

    def ignore(self, ignored: bool) -> None:
        """Hide from the receiver whatever arrives; or show it."""
        self._ignored = ignored
        self._clear_abandoned()

    def cut(self) -> None:
        """End it at once, behind what is under way. What the sender keeps back is lost."""
        self._finished = True
        self._unsent.clear()
        while self._under_way:
            self._arrive(self._under_way.popleft()[1])
        self._size = len(self._arrived)
        self._ended = True
        self._changed()

    def break_off(self, *, lose_arrived: bool) -> None:
        """Lose what is on its way; both ends get errors. What has arrived may still be read."""
        self._broken = True
        self._unsent.clear()
        self._under_way.clear()
        if lose_arrived:
            self._arrived.clear()
        self._size = len(self._arrived)
        self._changed()

    # How it is done.

    def _put(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._stopped:
            self._unsent.append(piece)
        else:
            self._depart(piece)
        self._changed()

    def _depart(self, piece: bytes) -> None:
        now = self._clock()
        before = self._under_way[-1][0] if self._under_way else now
        self._under_way.append((max(before, now + self._delay), piece))
        self.advance(now)

    def _arrive(self, piece: bytes) -> None:
        if piece == _END:
            self._ended = True
        else:
            cut = None if self.tap is None else self.tap.split(piece)
            self._arrived += piece if cut is None else piece[:cut]
            self._clear_abandoned()
            if cut is not None:
                self.on_cut()
        self._changed()

    def _clear_abandoned(self) -> None:
        # A receiver that is stopped itself cannot have closed its end yet, as far as others see.
        if self._abandoned and not self._ignored:
            self._size -= len(self._arrived)
            self._arrived.clear()
        self._changed()


def _nothing() -> None:
    pass
