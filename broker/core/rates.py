"""How fast a principal may send: token buckets that all its connections share.

A bucket holds what may be sent within a second, and fills up at that rate. What finds too little in
it is refused with RATE_LIMITED, and told how long to wait. Three kinds of frames are let through
whatever the bucket holds, and taken out of it all the same: answers to requests, since a request
must not hang for it; `$cancel`, which sets work free; and the frames that are no EVENT or REPLY,
without which a connection could not be told from a dead one.

Operations: `Rates.join`, `Rates.leave` (constant time but for a clearing out now and then),
`Bucket.limit` (linear in the messages).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from broker.core.notices import CANCEL
from broker.core.peer import Peer
from broker.core.principal import Principal
from broker.core.settings import LimitSettings
from broker.protocol.codec import Envelope, Message, Refusal, encode
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import OpCode

__all__ = ["Bucket", "IsAnswer", "Rates"]

IsAnswer = Callable[[Peer, Envelope], bool]
"""Whether a REPLY ends a request, or comes too late for one: nobody else sees it then."""

_EVENT, _REPLY = int(OpCode.EVENT), int(OpCode.REPLY)

# Buckets of principals that have left are kept while they are not full: coming back must not be a
# way to a full one. They are looked through when there are so many more than the time before.
_CLEAR_OUT: Final = 1024


class _Level:
    """What is left of one kind: messages, or bytes."""

    __slots__ = ("_left", "_rate", "_when")

    def __init__(self, rate: int, now: float) -> None:
        self._rate = rate
        self._left = float(rate)
        self._when = now

    def fill(self, now: float) -> None:
        self._left = min(self._rate, self._left + (now - self._when) * self._rate)
        self._when = now

    def wait(self, size: int) -> float:
        """Return for how many seconds `size` has to wait.

        What is larger than the bucket is let through when it is full, and waited for afterwards.
        """
        return (min(size, self._rate) - self._left) / self._rate

    def take(self, size: int) -> None:
        # What is let through whatever the bucket holds never makes anybody wait for more than it
        # takes to fill the bucket twice, or for the largest message alone.
        self._left = max(self._left - size, -float(max(size, self._rate)))

    @property
    def full(self) -> bool:
        return self._left >= self._rate


class Bucket:
    """What one principal may send at present.

    Args:
        messages: a second; None for any number.
        size: bytes a second, likewise. A frame counts with what the broker makes of it: without
            white space between tokens and without unknown properties, which nobody gets.
        now: seconds.

    Attributes:
        connections: how many share it.
    """

    def __init__(self, messages: int | None, size: int | None, now: float) -> None:
        self.connections = 0
        self._messages = None if messages is None else _Level(messages, now)
        self._bytes = None if size is None else _Level(size, now)

    def limit(
        self, peer: Peer, messages: Sequence[Message], now: float, is_answer: IsAnswer
    ) -> list[Message]:
        """Take messages out of the bucket.

        Args:
            peer: who sent them.
            messages: in order.
            now: seconds.
            is_answer: see there.

        Returns:
            The messages, with a `Refusal` in the place of each that comes too early.
        """
        for level in self._levels:
            level.fill(now)
        return [self._limit_one(peer, message, is_answer) for message in messages]

    def full(self, now: float) -> bool:
        """Whether a new bucket would be no fuller."""
        for level in self._levels:
            level.fill(now)
        return all(level.full for level in self._levels)

    @property
    def _levels(self) -> list[_Level]:
        return [level for level in (self._messages, self._bytes) if level is not None]

    def _limit_one(self, peer: Peer, message: Message, is_answer: IsAnswer) -> Message:
        size = 0
        if self._bytes is not None and isinstance(message, Envelope):
            size = len(encode(message))
        if isinstance(message, Envelope) and not _always(peer, message, is_answer):
            wait = self._wait(size)
            if wait > 0:
                milliseconds = math.ceil(wait * 1000)
                return Refusal(
                    ErrorCode.RATE_LIMITED,
                    f"faster than you may send: try again in {milliseconds} ms",
                    id=message.id,
                    event=message.event,
                    retry_after=milliseconds,
                )
        if self._messages is not None:
            self._messages.take(1)
        if self._bytes is not None:
            self._bytes.take(size)
        return message

    def _wait(self, size: int) -> float:
        wait = 0.0 if self._messages is None else self._messages.wait(1)
        return wait if self._bytes is None else max(wait, self._bytes.wait(size))


def _always(peer: Peer, envelope: Envelope, is_answer: IsAnswer) -> bool:
    if envelope.op == _REPLY:
        return is_answer(peer, envelope)
    return envelope.op != _EVENT or envelope.event == CANCEL


class Rates:
    """The buckets of all principals.

    Args:
        limits: the rates of whoever has none of its own.
    """

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._buckets: dict[Hashable, Bucket] = {}
        self._most = _CLEAR_OUT

    def __len__(self) -> int:
        return len(self._buckets)

    def set_limits(self, limits: LimitSettings) -> None:
        """Go by other limits from now on. Each principal has to be looked at: see `join`."""
        self._limits = limits

    def join(self, peer: Peer, principal: Principal, now: float) -> None:
        """Give a peer its principal's bucket; one that has a bucket already, that of the new rates.

        Args:
            peer: whose.
            principal: whom it belongs to.
            now: seconds.
        """
        self.leave(peer)
        own = principal.permissions
        messages = _first(own.messages_per_second, self._limits.messages_per_second)
        size = _first(own.bytes_per_second, self._limits.bytes_per_second)
        if messages is None and size is None:
            return
        # With the rates, so that a token that is replaced by one with others counts at once.
        key = principal.name, principal.proof, messages, size
        bucket = self._buckets.get(key)
        if bucket is None:
            self._clear_out(now)
            bucket = self._buckets[key] = Bucket(messages, size, now)
        bucket.connections += 1
        peer.bucket = bucket

    def leave(self, peer: Peer) -> None:
        """Note that a peer is gone."""
        if peer.bucket is not None:
            peer.bucket.connections -= 1
            peer.bucket = None

    def _clear_out(self, now: float) -> None:
        if len(self._buckets) < self._most:
            return
        self._buckets = {
            key: bucket
            for key, bucket in self._buckets.items()
            if bucket.connections or not bucket.full(now)
        }
        self._most = len(self._buckets) + _CLEAR_OUT


def _first(own: int | None, default: int | None) -> int | None:
    return default if own is None else own
