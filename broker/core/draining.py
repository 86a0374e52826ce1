"""Services that are to come to their end: no new requests, and a goodbye when they have done.

Operations: `order` (linear in the members of the group), `tick` (linear in those that are
draining), `forget` (constant time).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from broker.core.deadlines import Alarm
from broker.core.peer import Peer
from broker.core.registry import Registry
from broker.core.requests import Requests
from broker.protocol.codec import Envelope, parse_data
from broker.protocol.errors import ErrorCode

__all__ = ["DRAINED", "GOODBYE_STEP", "Drains", "goodbyes_at_a_time"]

GOODBYE_STEP: Final = 0.01
"""While the broker takes leave of its connections: from some of them to the next, in seconds."""

DRAINED: Final = "drained by an operator: do not come back by yourself"
"""What stands beside NO_REASON in the DISCONNECT of a service that was drained."""

# How often it is looked whether they have done, in seconds: so the hot path has no word to say when
# a service has answered its last request.
_LOOK: Final = 0.05

_WHAT: Final = 'say {"group": NAME}, {"id": CONNECTION} or {"broker": true}'


class _Order(msgspec.Struct, forbid_unknown_fields=True):
    """The `data` of a DRAIN."""

    group: str | None = None
    id: str | None = None
    broker: bool | None = None


class Drains:
    """The services that are draining.

    Args:
        registry: who is there.
        requests: is told who gets no more of them.
        alarm: when to call `tick`.
        limit_ms: after so long, in milliseconds, they have to go whatever they have in hand.

    Attributes:
        limit: the same in seconds.
        drain_broker: begins to drain the whole broker.
    """

    def __init__(self, registry: Registry, requests: Requests, alarm: Alarm, limit_ms: int) -> None:
        self.limit = limit_ms / 1000
        self.drain_broker: Callable[[], None] = _nothing
        self._registry = registry
        self._requests = requests
        self._alarm = alarm
        self._deadlines: dict[Peer, float] = {}
        self.next = math.inf

    def order(self, envelope: Envelope, now: float) -> dict[str, Any] | tuple[ErrorCode, str]:
        """Do what a DRAIN says.

        Args:
            envelope: the DRAIN.
            now: seconds.

        Returns:
            The answer, or what is wrong.
        """
        try:
            order = msgspec.convert(
                parse_data(envelope.data) if isinstance(envelope.data, msgspec.Raw) else None,
                _Order,
            )
        except msgspec.ValidationError as error:
            return ErrorCode.BAD_REQUEST, f"data: {error}; {_WHAT}"
        given = [order.group is not None, order.id is not None, order.broker is True]
        if sum(given) != 1 or order.broker is False:
            return ErrorCode.BAD_REQUEST, f"data: {_WHAT}"
        if order.broker:
            self.drain_broker()
            return {"draining": len(self._registry)}
        if order.group is not None:
            peers = list(self._registry.members(order.group).values())
            missing = f"there is no member of group {order.group!r}"
        else:
            peer = self._registry.by_id.get(order.id or "")
            peers = [] if peer is None else [peer]
            missing = f"there is no connection {order.id!r}"
        if not peers:
            return ErrorCode.NO_ROUTE, missing
        for peer in peers:
            self._begin(peer, now)
        return {"draining": len(peers)}

    def tick(self, now: float) -> Iterator[Peer]:
        """Return those that have done, or whose time is over."""
        if self.next > now:
            return
        for peer, deadline in list(self._deadlines.items()):
            if deadline <= now or not (peer.working or peer.asked):
                self.forget(peer)
                yield peer
        self.next = now + _LOOK if self._deadlines else math.inf

    def forget(self, peer: Peer) -> None:
        """Note that a peer is gone."""
        self._deadlines.pop(peer, None)

    def _begin(self, peer: Peer, now: float) -> None:
        if peer.draining:
            return
        peer.draining = True
        self._requests.retire(peer)
        self._deadlines[peer] = now + self.limit
        self.next = min(self.next, now + _LOOK)
        self._alarm.time = min(self._alarm.time, self.next)


def goodbyes_at_a_time(connections: int, seconds: float, accepts_per_second: int) -> int:
    """Return how many connections are told to leave in each `GOODBYE_STEP`.

    All who are told at once knock at the next broker at once. So no more are told than a broker
    lets in, unless there is too little time for that.

    Args:
        connections: how many there are.
        seconds: how long it may take.
        accepts_per_second: how many are let in.
    """
    steps = max(1.0, seconds / GOODBYE_STEP)
    return max(1, math.ceil(accepts_per_second * GOODBYE_STEP), math.ceil(connections / steps))


def _nothing() -> None:
    """There is nobody to tell."""
