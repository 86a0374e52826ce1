"""What comes in under the id of a gather."""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Generic, TypeVar

import anyio
import attrs

from broker.protocol.codec import Envelope
from broker.protocol.frames import Source
from services.sdk.errors import InvalidReply
from services.sdk.outgoing import BROKER_ID
from services.sdk.payloads import PayloadError, load, load_error
from services.sdk.request_errors import RequestError

__all__ = ["Collector", "Missing", "Reply"]

T = TypeVar("T")

_EXPECT: Final = "$expect"


@attrs.frozen
class Reply(Generic[T]):
    """One member's answer to a gather.

    Attributes:
        source: who answered.
        data: what it said.
    """

    source: Source
    data: T


@attrs.frozen
class Missing:
    """A member that gave no answer to a gather, or an error for one.

    Attributes:
        source: who it is.
        error: why: `PeerGone`, `Expired` or `Draining` from the broker, the member's own
            `UnknownEvent`, `HandlerError`, ..., or `InvalidReply`.
    """

    source: Source
    error: RequestError | InvalidReply

    @property
    def code(self) -> str:
        """The reason in a word: the error's code on the wire, or INVALID_REPLY."""
        return self.error.code if isinstance(self.error, RequestError) else "INVALID_REPLY"

    def __str__(self) -> str:
        return f"{self.source.group} {self.source.id}: {self.code}"


@attrs.frozen
class _Expected:
    """The data of `$expect`."""

    members: list[Source]


class Collector:
    """Takes in what comes under the id of a gather, and tells who has yet to answer.

    Attributes:
        members: who was asked; None until the broker has said so.
        waiting: of these, who has yet to answer.
        arrived: what has come and was not looked at yet. The members bound it: each answers once.
        refusal: the broker's answer in place of `$expect`.
        over: nothing more will come.
        changed: set when something has come.
        deadline: none here: whoever iterates keeps the time.
    """

    def __init__(self) -> None:
        self.deadline = math.inf
        self.members: tuple[Source, ...] | None = None
        self.waiting: dict[str, Source] = {}
        self.arrived: deque[tuple[Source, Envelope]] = deque()
        self.refusal: Envelope | None = None
        self.over = False
        self.changed = anyio.Event()

    def take(self, reply: Envelope) -> bool:
        """Take in whatever comes; True if it was the last."""
        self._sort(reply)
        self.over = self.refusal is not None or (self.members is not None and not self.waiting)
        self.changed.set()
        return self.over

    def expire(self) -> None:
        """Learn that the time is over."""
        self.abandon()

    def abandon(self) -> None:
        """Learn that the connection has ended."""
        self.over = True
        self.changed.set()

    def _sort(self, reply: Envelope) -> None:
        sender = None if reply.source is None else reply.source.id
        if sender == BROKER_ID:
            if reply.event == _EXPECT:
                self._expect(reply)
                return
            error = load_error(reply.error)
            member = None if error is None else error.details.get("member")
            if member is None:
                self.refusal = reply
                return
            sender = str(member)
        source = self.waiting.pop(sender or "", None)
        if source is not None:
            self.arrived.append((source, reply))

    def _expect(self, reply: Envelope) -> None:
        try:
            expected = load(reply.data, _Expected)
        except PayloadError:
            self.refusal = reply
            return
        self.members = tuple(expected.members)
        self.waiting = {source.id: source for source in expected.members}
