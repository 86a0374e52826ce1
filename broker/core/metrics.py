"""What is measured while messages flow: how long things take, who asks whom, and what went wrong.

`statistics` counts what happens once for a connection or an error. What would have to be counted
for each message is either known already (the ledger numbers its requests), counted once for a read
or a write, or looked at for some of them only: a *sampled* poll stands for the others. So all of it
together costs little; `python -m benchmarks.metrics_cost` says how little.

Nothing here knows a clock or a format. Times come from whoever records them, in seconds.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from broker.core.chronicle import Chronicle
from broker.core.histogram import BATCH_SIZES, SECONDS, Histogram
from broker.core.traffic import Party, Traffic
from broker.protocol.codec import Message, Refusal
from broker.protocol.frames import OpCode

__all__ = ["EVENT_DIRECT", "EVENT_GROUP", "IGNORED", "POLL_SAMPLE", "Kind", "Metrics", "kind_of"]

Kind = tuple[str, str]
"""An op and the target of its intent: "EVENT" and "DIRECT", for example. Both are words of the
protocol, so there are no more than some twenty of them, whatever clients invent."""

_OPS: Final = {int(op): op.name for op in OpCode}
_NO_TARGET: Final = "NONE"
EVENT_DIRECT: Final[Kind] = ("EVENT", "DIRECT")
EVENT_GROUP: Final[Kind] = ("EVENT", "GROUP")
REPLY_DIRECT: Final[Kind] = ("REPLY", "DIRECT")
_INVALID: Final[Kind] = ("INVALID", _NO_TARGET)

IGNORED: Final[Kind] = ("IGNORED", _NO_TARGET)
"""What came behind the message that its connection was ended for."""

POLL_SAMPLE: Final = 16
"""Of the polls in the midst of a turn, one in so many is sampled: to look at the clock takes as
long as a tenth of a message. The first one of a turn always is; while there is little to do, that
is all of them."""

# Below this many requests a second each is timed, above it one in `_REQUEST_SAMPLE`.
_BUSY: Final = 2_000
_REQUEST_SAMPLE: Final = 32

# How often the rate of requests is looked at, in seconds.
_LOOK: Final = 1.0


class Metrics:
    """The measurements of one broker.

    Args:
        enabled: whether anything is measured that costs time on the hot path.

    Attributes:
        requests: how long it took until requests were answered, in seconds. Above some thousand
            requests a second, one in 32 is timed, and counts for 32.
        transit: how long messages took from being received to being written, in seconds: of
            sampled polls, each weighed by the messages that it brought.
        batches: how many messages a poll brought, likewise.
        busy: how long the reactor has been at work rather than waiting, in seconds.
        bytes_in: bytes that came in by kind. Those of a read count for the kind of one message
            of it, those of a connection up to the next sampled poll for that of a later one.
        handled: messages by kind, but for those that took the fast way: EVENTs and REPLYs to one.
        replies: REPLYs that took it.
        to_one_of_a_group: EVENTs to one of a group that took it. EVENTs to one connection, the
            fastest of all, are not counted: they are what is left of all that came in.
        copies: what was put into outboxes for frames that took the slower way, by kind.
        bytes_out: bytes that were written; likewise, up to the last sampled poll.
        request_mask: of those that a connection answers, the requests are timed whose number has
            none of these bits.
        traffic: who asks whom.
        chronicle: what went wrong lately.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.requests = Histogram(SECONDS)
        self.transit = Histogram(SECONDS)
        self.batches = Histogram(BATCH_SIZES)
        self.busy = 0.0
        self.bytes_in: Counter[Kind] = Counter()
        self.handled: Counter[Kind] = Counter()
        self.replies = 0
        self.to_one_of_a_group = 0
        self.copies: Counter[Kind] = Counter()
        self.bytes_out = 0
        # No number but 0, which there is not, has none of all bits.
        self.request_mask = 0 if enabled else -1
        self.traffic = Traffic(enabled=enabled)
        self.chronicle = Chronicle()
        self._looked = 0.0
        self._opened = 0

    def end_poll(self, weight: int, took: float, messages: int) -> None:
        """Record a sampled poll.

        Args:
            weight: for how many it stands.
            took: seconds, from the first read to the last write.
            messages: that it brought.
        """
        if messages:
            self.transit.record(took, messages * weight)
            self.batches.record(messages, weight)

    def look(self, opened: int, now: float) -> None:
        """Adapt to the load how many requests are timed.

        Args:
            opened: the number of requests so far.
            now: seconds.
        """
        if now - self._looked >= _LOOK:
            rate = (opened - self._opened) / (now - self._looked)
            self._looked, self._opened = now, opened
            if self.enabled:
                self.request_mask = _REQUEST_SAMPLE - 1 if rate > _BUSY else 0

    def answered(self, took: float, callee: Party | None) -> None:
        """Record the answer to a request that is timed.

        Args:
            took: seconds.
            callee: the group that answered.
        """
        weight = self.request_mask + 1
        self.requests.record(took, weight)
        if callee is not None:
            callee.answered(took, weight)

    def received(self, frames_in: int) -> dict[Kind, int]:
        """Return how many messages of each kind have come in.

        Args:
            frames_in: all that have.
        """
        found = dict(self.handled)
        _add(found, REPLY_DIRECT, self.replies)
        _add(found, EVENT_GROUP, self.to_one_of_a_group)
        _add(found, EVENT_DIRECT, frames_in - sum(found.values()))
        return found

    def delivered(self, frames_out: int) -> dict[Kind, int]:
        """Return how many messages of each kind have been put into outboxes.

        Args:
            frames_out: all that have, the broker's own answers aside.
        """
        found = dict(self.copies)
        _add(found, REPLY_DIRECT, self.replies)
        _add(found, EVENT_GROUP, self.to_one_of_a_group)
        _add(found, EVENT_DIRECT, frames_out - sum(found.values()))
        return found


def kind_of(message: Message) -> Kind:
    """Return what a message counts as."""
    if isinstance(message, Refusal):
        return _INVALID
    intent = message.intent
    return _OPS[message.op], _NO_TARGET if intent is None else intent.target


def _add(counts: dict[Kind, int], kind: Kind, count: int) -> None:
    if count > 0:
        counts[kind] = counts.get(kind, 0) + count
