"""The way of each request, in the log at the level DEBUG: found by the id that its requester gave.

Ids, groups and the names of events are written; what is in a message never is. Each request is two
lines or more, so this is for looking into one matter, not for always.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from broker.core.calls import Call
from broker.core.peer import Peer

__all__ = ["RequestLog"]


class RequestLog:
    """A `broker.core.request_trace.RequestTrace` that writes to the log."""

    def asked(self, call: Call, callees: Sequence[Peer]) -> None:
        """Write that a request has come, and whom it goes to."""
        if not callees:
            whom: dict[str, Any] = {"waits": True}
        elif len(callees) == 1:
            whom = _callee(callees[0])
        else:
            whom = {"callees": len(callees)}
        structlog.get_logger().debug("request opened", **_call(call), **whom)

    def handed_on(self, call: Call, callee: Peer, seconds: float) -> None:
        """Write that a member was found for a request that waited."""
        structlog.get_logger().debug(
            "request handed on", **_call(call), **_callee(callee), ms=_ms(seconds)
        )

    def ended(self, call: Call, callee: Peer | None, outcome: str, seconds: float) -> None:
        """Write how a request ended, or its part for one of many."""
        whom = {} if callee is None else _callee(callee)
        structlog.get_logger().debug(
            "request ended", **_call(call), **whom, outcome=outcome, ms=_ms(seconds)
        )


def _call(call: Call) -> dict[str, Any]:
    requester = call.requester
    return {
        "request": call.id,
        "name": call.event,
        "requester": requester.id,
        "requester_group": requester.source.group,
    }


def _callee(callee: Peer) -> dict[str, Any]:
    return {"callee": callee.id, "callee_group": callee.source.group}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
