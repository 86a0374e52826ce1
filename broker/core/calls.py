"""The call ledger: every request ends exactly once.

Operations: `open`, `ask_all`, `assign`, `judge`, `answered`, `lose`, `end`, `due`. Each is constant
time a request. The ledger only keeps the books; what is sent when a request ends is the business of
`requests`.

A call is entered in three places, by each of which it has to be found: under its id with its
requester (`Peer.asked`), with each callee that has yet to answer (`Peer.working`), and in the
bucket of its deadline. When it ends it is taken out of all three, and nothing stays behind but its
id: for a while, so that a late or second REPLY is known for what it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from enum import Enum

from msgspec import Struct

from broker.core.deadlines import Alarm, Wheel
from broker.core.memory import MOST_ANSWERED, EndedRequests
from broker.core.metrics import Metrics
from broker.core.peer import Peer
from broker.core.traffic import Party
from broker.protocol.codec import Envelope
from broker.protocol.errors import ErrorCode

__all__ = ["Call", "CallLedger", "Verdict"]


class Verdict(Enum):
    """What a REPLY is to the ledger."""

    UNKNOWN = "unknown"  # no answer to a request: to be routed by its intent
    ANSWER = "answer"
    LATE = "late"
    FOREIGN = "foreign"  # from someone who was not asked


class Call(Struct, eq=False, gc=False):
    """A request in flight. A msgspec model, since it is made in a third of the time of others.

    Attributes:
        requester: who gets the answer.
        id: the EVENT's.
        event: the EVENT's.
        since: when it was made, in seconds.
        deadline: when it expires, in seconds.
        bucket: where its deadline stands.
        callee: who has to answer; None for a gather, and while it waits for a free member.
        missing: of a gather, who has yet to answer.
        asked: of a gather, the ids of all who were asked.
        waiting: the request itself, while it waits.
        queue: where it waits.
    """

    requester: Peer
    id: str
    event: str | None
    since: float
    deadline: float
    bucket: dict[Call, None]
    callee: Peer | None = None
    missing: dict[Peer, None] | None = None
    asked: frozenset[str] = frozenset()
    waiting: Envelope | None = None
    queue: dict[Call, int] | None = None

    @property
    def callees(self) -> Sequence[Peer]:
        """Who has yet to answer."""
        if self.missing is not None:
            return list(self.missing)
        return () if self.callee is None else (self.callee,)


class CallLedger:
    """All requests in flight.

    Args:
        most: how many requests there may be.
        most_per_requester: how many of these one connection may have made.
        alarm: when to look at `due`.
        metrics: where answers are timed, and where it is counted who asks whom.

    Attributes:
        draining: no new requests are taken.
        opened: how many requests there have been.
        wheel: the deadlines of the others.
    """

    def __init__(self, most: int, most_per_requester: int, alarm: Alarm, metrics: Metrics) -> None:
        self.draining = False
        self.opened = 0
        self.wheel: Wheel[Call] = Wheel(alarm)
        self._most = most
        self._most_per_requester = most_per_requester
        # How many requests there may have been, in all, by now: each that ends makes room for one.
        self._ceiling = most
        # Where the deadline of the request before stands: of those that come in one piece, most
        # have the same time-out.
        self._now = self._deadline = -math.inf
        self._timeout: int | None = None
        self._bucket: dict[Call, None] = {}
        self._metrics = metrics
        # Between which two groups the last request was.
        self._caller: Party | None = None
        self._callee: Party | None = None

    def set_limits(self, most: int, most_per_requester: int) -> None:
        """Go by other limits from now on. Requests that are in flight stay, however many."""
        self._ceiling += most - self._most
        self._most = most
        self._most_per_requester = most_per_requester

    def __len__(self) -> int:
        return self.opened - self._ceiling + self._most

    def __iter__(self) -> Iterator[Call]:
        return iter(self.wheel)

    def objection(self, requester: Peer, envelope: Envelope) -> tuple[ErrorCode, str] | None:
        """Return why a request cannot be taken, or None."""
        if envelope.id in requester.asked:
            return (
                ErrorCode.INVALID_FRAME,
                f"id: {envelope.id!r} is the id of a request of yours that is still in flight",
            )
        if self.draining:
            return ErrorCode.DRAINING, "the broker is going down: ask another one, or try again"
        if len(requester.asked) >= self._most_per_requester:
            return (
                ErrorCode.OVERLOADED,
                f"this connection has {self._most_per_requester} requests in flight",
            )
        if len(self) >= self._most:
            return ErrorCode.OVERLOADED, f"the broker has {self._most} requests in flight"
        return None

    def open(
        self, requester: Peer, envelope: Envelope, callee: Peer | None, now: float
    ) -> Call | None:
        """Enter a request: an EVENT with an id and a timeout.

        Args:
            requester: who sent it.
            envelope: the EVENT.
            callee: who is asked; None where that is many, or nobody yet.
            now: seconds.

        Returns:
            None where there is an `objection`.
        """
        id = envelope.id
        asked = requester.asked
        if (
            self.opened >= self._ceiling
            or len(asked) >= self._most_per_requester
            or self.draining
            or id is None
            or (callee is not None and callee.draining)
        ):
            return None
        ended = requester.ended
        if ended is None:
            requester.ended = EndedRequests()
        elif len(ended.answered) > MOST_ANSWERED:
            ended.forget_answered()
        timeout = envelope.timeout
        if timeout != self._timeout or now != self._now:
            self._timeout, self._now = timeout, now
            self._deadline = now + (timeout or 0) / 1000
            self._bucket = self.wheel.bucket(self._deadline, now)
        bucket = self._bucket
        call = Call(requester, id, envelope.event, now, self._deadline, bucket, callee)
        if asked.setdefault(id, call) is not call:
            return None
        bucket[call] = None
        if callee is None:
            self._turn(None, None)
        else:
            callee.working[call] = None
            if callee.party is not self._callee or requester.party is not self._caller:
                self._turn(requester.party, callee.party)
        self.opened += 1
        requester.requests += 1
        return call

    def ask_all(self, call: Call, callees: Sequence[Peer]) -> None:
        """Note that a request goes to many."""
        call.asked = frozenset(callee.id for callee in callees)
        call.missing = dict.fromkeys(callees)
        caller, add = call.requester.party, self._metrics.traffic.add
        for callee in callees:
            callee.working[call] = None
            add(caller, callee.party)

    def assign(self, call: Call, callee: Peer) -> None:
        """Note that a callee has been found for a request that waited."""
        self._leave_queue(call)
        call.callee = callee
        callee.working[call] = None
        self._metrics.traffic.add(call.requester.party, callee.party)

    def judge(self, requester: Peer, id: str | None, callee: Peer) -> Verdict:
        """Return what a REPLY that `callee` sends to `requester` is. Changes nothing."""
        call = requester.asked.get(id)  # type: ignore[arg-type] # None is no request's id
        if call is None:
            known = requester.ended is not None and id in requester.ended
            return Verdict.LATE if known else Verdict.UNKNOWN
        if call in callee.working:
            return Verdict.ANSWER
        return Verdict.LATE if callee.id in call.asked else Verdict.FOREIGN

    def answered(self, call: Call, callee: Peer) -> None:
        """Enter the REPLY of a callee that had yet to answer; end the request if it is complete."""
        del callee.working[call]
        callee.missed = 0
        callee.answers = answers = callee.answers + 1
        if not answers & self._metrics.request_mask:
            self._metrics.answered(callee.last_heard - call.since, callee.party)
        missing = call.missing
        if missing is not None:
            del missing[callee]
            if missing:
                return
        id, requester = call.id, call.requester
        del requester.asked[id]
        del call.bucket[call]
        self._ceiling += 1
        requester.ended.answered.add(id)  # type: ignore[union-attr] # made by `open`

    def lose(self, call: Call, callee: Peer) -> None:
        """Note that a callee will not answer; end the request if it was the last."""
        if call.missing is not None and len(call.missing) > 1:
            del callee.working[call]
            del call.missing[callee]
        else:
            self.end(call)

    def end(self, call: Call) -> Sequence[Peer]:
        """End a request that was not answered in full; return who has yet to answer it."""
        callees = call.callees
        for callee in callees:
            del callee.working[call]
        self._leave_queue(call)
        id, requester = call.id, call.requester
        del requester.asked[id]
        del call.bucket[call]
        self._ceiling += 1
        requester.ended.add_unanswered(id)  # type: ignore[union-attr] # made by `open`
        return callees

    def due(self, now: float) -> Iterator[Call]:
        """Return the requests whose time is over. Each has to be ended before the next."""
        return self.wheel.due(now)

    def _turn(self, caller: Party | None, callee: Party | None) -> None:
        """Note that the requests from here on go from one group to another."""
        self._caller, self._callee = caller, callee
        self._metrics.traffic.turn(caller, callee, self.opened)

    def _leave_queue(self, call: Call) -> None:
        if call.queue is not None:
            del call.queue[call]
            call.queue = call.waiting = None
