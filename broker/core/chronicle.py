"""What went wrong lately, for people to look at: connections that ended, and errors.

Operations: `note_end`, `note_loss`, `note_failure` (constant time). Bounded, and what is repeated
is one entry with a count: a flood of errors hides neither the other ones nor anything else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

import attrs

from broker.core.peer import Peer

__all__ = ["LOST", "MOST_ENTRIES", "Chronicle", "Ending", "Failure"]

LOST: Final = "LOST"
"""Stands for a reason where the connection broke without a word."""

MOST_ENTRIES: Final = 50
"""Entries that are kept, of either kind."""


@attrs.define
class Ending:
    """A connection that ended other than by its own goodbye.

    Attributes:
        time: when, on the monotonic clock, in seconds; of several, the last.
        id: the connection's; None for those that had not identified themselves, which count as one
            for each reason.
        group: likewise.
        name: what it called itself.
        reason: a `Reason`, or "LOST" where it broke without a word.
        message: for people.
        since: when it identified itself, in seconds.
        count: how often.
    """

    time: float
    reason: str
    message: str
    id: str | None = None
    group: str | None = None
    name: str | None = None
    since: float | None = None
    count: int = 1


@attrs.define
class Failure:
    """An error that the broker answered with.

    Attributes:
        time: when, on the monotonic clock, in seconds; of several, the last.
        code: an `ErrorCode`.
        caller: the group of whoever got it.
        callee: the group that was meant, where one was.
        event: of the last one.
        message: of the last one.
        count: how often.
    """

    time: float
    code: str
    caller: str
    callee: str | None
    event: str | None
    message: str
    count: int = 1


Entry = TypeVar("Entry", Ending, Failure)


class _Recent(Generic[Entry]):
    """The last entries, by what makes them the same."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()

    def add(self, key: Hashable, entry: Entry) -> None:
        earlier = self._entries.pop(key, None)
        if earlier is not None:
            entry.count += earlier.count
        elif len(self._entries) >= MOST_ENTRIES:
            self._entries.popitem(last=False)
        self._entries[key] = entry

    def newest_first(self) -> list[Entry]:
        return list(reversed(self._entries.values()))


class Chronicle:
    """The last endings and failures."""

    def __init__(self) -> None:
        self._endings: _Recent[Ending] = _Recent()
        self._failures: _Recent[Failure] = _Recent()

    @property
    def endings(self) -> list[Ending]:
        """Newest first."""
        return self._endings.newest_first()

    @property
    def failures(self) -> list[Failure]:
        """Newest first."""
        return self._failures.newest_first()

    def note_loss(self, peer: Peer, now: float) -> None:
        """Note a connection that broke. Before it was identified, that is not worth a word."""
        if peer.member is not None:
            self.note_end(peer, LOST, "the connection ended without a goodbye", now)

    def note_end(self, peer: Peer, reason: str, message: str, now: float) -> None:
        """Note a connection that is ended by the broker; `now` is in seconds."""
        ending = Ending(now, reason, message)
        if peer.member is not None:
            ending.id, ending.group = peer.id, peer.source.group
            ending.name, ending.since = peer.member.name, peer.member.since
        key = ("", ending.reason) if ending.id is None else (ending.id, "")
        self._endings.add(key, ending)

    def note_failure(self, failure: Failure) -> None:
        """Note an error."""
        self._failures.add((failure.code, failure.caller, failure.callee), failure)
