"""For whoever wants to follow single requests through the mesh: told of each step.

It costs nothing where nobody does: a ledger that tells is another class, and is only made then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from broker.core.calls import Call, CallLedger
from broker.core.deadlines import Alarm
from broker.core.metrics import Metrics
from broker.core.peer import Peer
from broker.protocol.codec import Envelope

__all__ = ["ANSWERED", "CANCELLED", "RequestTrace", "TracedLedger"]

ANSWERED = "ANSWERED"
"""How a request ends at best."""

CANCELLED = "CANCELLED"
"""Its requester gave it up, or has gone."""


class RequestTrace(Protocol):
    """Is told what becomes of requests. It must not raise, and must not keep what it is given."""

    def asked(self, call: Call, callees: Sequence[Peer]) -> None:
        """A request has come, and goes to these; to nobody yet where it waits for a free member."""

    def handed_on(self, call: Call, callee: Peer, seconds: float) -> None:
        """A member has become free for a request that waited."""

    def ended(self, call: Call, callee: Peer | None, outcome: str, seconds: float) -> None:
        """A request has ended; of a gather, for one of those asked.

        Args:
            call: the request.
            callee: whose answer it is, or who owes it; None for all of them.
            outcome: `ANSWERED`, `CANCELLED`, or the code of the error.
            seconds: since it was made.
        """


class TracedLedger(CallLedger):
    """A ledger that tells of what is entered.

    Args:
        most: see `CallLedger`.
        most_per_requester: likewise.
        alarm: likewise.
        metrics: likewise.
        trace: is told.
        clock: returns the time of the batch at hand, in seconds.
    """

    def __init__(
        self,
        most: int,
        most_per_requester: int,
        alarm: Alarm,
        metrics: Metrics,
        *,
        trace: RequestTrace,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(most, most_per_requester, alarm, metrics)
        self._trace = trace
        self._clock = clock

    def open(
        self, requester: Peer, envelope: Envelope, callee: Peer | None, now: float
    ) -> Call | None:
        """Enter a request, and tell, if it is known already whom it goes to."""
        call = super().open(requester, envelope, callee, now)
        if call is not None and callee is not None:
            self._trace.asked(call, (callee,))
        return call

    def ask_all(self, call: Call, callees: Sequence[Peer]) -> None:
        """Note that a request goes to many, and tell."""
        super().ask_all(call, callees)
        self._trace.asked(call, callees)

    def assign(self, call: Call, callee: Peer) -> None:
        """Note that a callee has been found, and tell."""
        super().assign(call, callee)
        self._trace.handed_on(call, callee, self._clock() - call.since)

    def answered(self, call: Call, callee: Peer) -> None:
        """Enter a REPLY, and tell."""
        super().answered(call, callee)
        self._trace.ended(call, callee, ANSWERED, self._clock() - call.since)
