"""Requests that await their reply, and what was sent without awaiting one."""

from __future__ import annotations

import itertools
import uuid
from typing import Final

import anyio

from broker.protocol.codec import Envelope, EnvelopeIntent
from services.sdk.errors import Call
from services.sdk.outgoing import describe

__all__ = ["IdSource", "PendingRequests", "RecentCalls", "Waiter"]

# How many emits are remembered by name, for the error that may come back for one. It comes within
# a round trip, and a fast sender has some hundred on the way in that time.
_REMEMBERED: Final = 1024


class IdSource:
    """Makes ids: random at the front, so that no two clients share one; then a count.

    A count is a tenth of the cost of a fresh UUID for each, and as unique.
    """

    def __init__(self) -> None:
        self._prefix = f"{uuid.uuid4().hex}-"
        self._count = itertools.count(1)

    def make(self) -> str:
        """Return a new id, of at most 64 characters."""
        return f"{self._prefix}{next(self._count):x}"

    def made(self, id: str) -> bool:
        """Tell whether an id is from here."""
        return id.startswith(self._prefix)


class Waiter:
    """One request's place to wait.

    Attributes:
        done: set when `reply` has come, or never will.
    """

    __slots__ = ("done", "reply")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.reply: Envelope | None = None


class PendingRequests:
    """Waiters by the request's id. Every operation takes constant time but `abandon`."""

    def __init__(self) -> None:
        self._waiters: dict[str, Waiter] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def open(self, id: str) -> Waiter:
        """Enter a request.

        Raises:
            ValueError: one of that id is under way.
        """
        if id in self._waiters:
            raise ValueError(f"a request with the id {id!r} is under way already")
        waiter = self._waiters[id] = Waiter()
        return waiter

    def close(self, id: str) -> None:
        """Forget a request."""
        self._waiters.pop(id, None)

    def settle(self, reply: Envelope) -> bool:
        """Hand a reply to the one who waits for it; False where nobody does.

        The first reply counts: the waiter is forgotten, so a second one finds nobody.
        """
        waiter = self._waiters.pop(reply.id or "", None)
        if waiter is None:
            return False
        waiter.reply = reply
        waiter.done.set()
        return True

    def abandon(self) -> None:
        """Wake everyone without a reply: the connection has ended."""
        for waiter in self._waiters.values():
            waiter.done.set()
        self._waiters.clear()


class RecentCalls:
    """The last emits by their id, so that an error that comes back can name what it is about.

    Two generations of a dictionary: adding takes constant time, and between half and all of the
    last `_REMEMBERED` are known.
    """

    def __init__(self) -> None:
        self._young: dict[str, tuple[str, EnvelopeIntent]] = {}
        self._old: dict[str, tuple[str, EnvelopeIntent]] = {}

    def add(self, id: str, event: str, intent: EnvelopeIntent) -> None:
        """Remember one."""
        self._young[id] = (event, intent)
        if len(self._young) >= _REMEMBERED:
            self._old, self._young = self._young, {}

    def find(self, id: str) -> Call | None:
        """Return what is known of an id."""
        found = self._young.get(id) or self._old.get(id)
        return None if found is None else Call(found[0], describe(found[1]), id)
