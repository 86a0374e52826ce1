"""Requests that await their reply, and what was sent without awaiting one."""

from __future__ import annotations

import itertools
import math
import uuid
from collections.abc import Callable
from typing import Final, Protocol

import anyio

from broker.protocol.codec import Envelope, EnvelopeIntent
from services.sdk.event_loop import Signal
from services.sdk.outgoing import describe
from services.sdk.request_errors import Call

__all__ = ["Awaiting", "IdSource", "PendingRequests", "RecentCalls", "Waiter"]

# How many emits are remembered by name, for the error that may come back for one. It comes within
# a round trip, and a fast sender has some hundred on the way in that time.
_REMEMBERED: Final = 1024


class IdSource:
    """Makes ids: random at the front, so that no two clients share one; then a count.

    A count is a tenth of the cost of a fresh UUID for each, and as unique.

    Args:
        front: what stands at the front instead, for ids that are known beforehand.
    """

    def __init__(self, front: str | None = None) -> None:
        self._prefix = f"{uuid.uuid4().hex if front is None else front}-"
        self._count = itertools.count(1)

    def make(self) -> str:
        """Return a new id, of at most 64 characters."""
        return f"{self._prefix}{next(self._count):x}"

    def made(self, id: str) -> bool:
        """Tell whether an id is from here."""
        return id.startswith(self._prefix)


class Awaiting(Protocol):
    """Whoever awaits replies under one id. Runs in the connection's reader: it may not block.

    Attributes:
        deadline: when to be told to `expire`, on the event loop's clock; never where it is
            infinite.
    """

    deadline: float

    def take(self, reply: Envelope) -> bool:
        """Take a reply in; True if it was the last one."""
        ...

    def expire(self) -> None:
        """Learn that the time is over."""
        ...

    def abandon(self) -> None:
        """Learn that nothing more will come: the connection has ended."""
        ...


class Waiter:
    """One request's place to wait.

    Args:
        done: a new one.
        deadline: see `Awaiting`.
        hook: is handed the reply in the connection's reader, before anything that comes behind it
            is read.

    Attributes:
        done: set when `reply` has come, or never will.
        lost: the connection ended before.
    """

    __slots__ = ("_hook", "deadline", "done", "lost", "reply")

    def __init__(
        self,
        done: Signal,
        deadline: float = math.inf,
        hook: Callable[[Envelope], object] | None = None,
    ) -> None:
        self.deadline = deadline
        self.done = done
        self.lost = False
        self.reply: Envelope | None = None
        self._hook = hook

    def take(self, reply: Envelope) -> bool:
        """Take the reply; there is but one."""
        self.reply = reply
        if self._hook is not None:
            self._hook(reply)
        self.done.set()
        return True

    def expire(self) -> None:
        """Wake up without a reply."""
        self.done.set()

    def abandon(self) -> None:
        """Wake up without a reply, and know why."""
        self.lost = True
        self.done.set()


class PendingRequests:
    """Who awaits replies, by the request's id.

    Operations: `open`, `close`, `settle`, in constant time; `abandon`; `run`, the task that ends
    requests whose time is over. It is one for all of them, since a cancel scope for each would cost
    more than all else that a request takes here. It sleeps until the earliest deadline, and then
    looks at all requests: with equal timeouts that is once in as long as one of them.
    """

    def __init__(self) -> None:
        self._awaiting: dict[str, Awaiting] = {}
        self._sleep: anyio.CancelScope | None = None
        self._wake_up = math.inf

    def __len__(self) -> int:
        return len(self._awaiting)

    def open(self, id: str, awaiting: Awaiting) -> None:
        """Enter a request.

        Raises:
            ValueError: one of that id is under way.
        """
        if self._awaiting.setdefault(id, awaiting) is not awaiting:
            raise ValueError(f"a request with the id {id!r} is under way already")
        if awaiting.deadline < self._wake_up:
            self._wake_up = awaiting.deadline
            if self._sleep is not None:
                self._sleep.deadline = awaiting.deadline

    def close(self, id: str) -> None:
        """Forget a request."""
        self._awaiting.pop(id, None)

    def settle(self, reply: Envelope) -> bool:
        """Hand a reply to the one who waits for it; False where nobody does.

        After its last reply a request is forgotten, so what comes behind it finds nobody.
        """
        id = reply.id or ""
        awaiting = self._awaiting.get(id)
        if awaiting is None:
            return False
        if awaiting.take(reply):
            del self._awaiting[id]
        return True

    def abandon(self) -> None:
        """Wake everyone: the connection has ended."""
        left = list(self._awaiting.values())
        self._awaiting.clear()
        for awaiting in left:
            awaiting.abandon()

    async def run(self) -> None:
        """End requests when their time is over, until it is cancelled."""
        while True:
            self._expire()
            deadlines = (awaiting.deadline for awaiting in self._awaiting.values())
            self._wake_up = min(deadlines, default=math.inf)
            with anyio.CancelScope(deadline=self._wake_up) as self._sleep:
                await anyio.sleep_forever()

    def _expire(self) -> None:
        now = anyio.current_time()
        for id, awaiting in list(self._awaiting.items()):
            if awaiting.deadline <= now:
                del self._awaiting[id]
                awaiting.expire()


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
