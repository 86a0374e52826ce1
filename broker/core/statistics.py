"""What has happened so far, in numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs

from broker.protocol.errors import ErrorCode, Reason

__all__ = ["Counters", "Statistics", "take_statistics"]


@attrs.frozen
class Statistics:
    """A snapshot. Counts since the start, but for the first three.

    Attributes:
        connections: open now, identified or not.
        identified: of these, identified.
        groups: groups with at least one member now.
        frames_in: frames received.
        frames_out: copies of EVENT and REPLY frames that were put into outboxes.
        opened: connections that came.
        closed: connections that ended, by reason.
        refused: frames that were answered with an error, by code.
        requests: requests that were entered in the ledger.
        requests_in_flight: of these, not ended now.
        failed: requests, or members of a gather, that ended with an error of the broker's, by code.
        cancelled: requests that their requester gave up, or that ended with its connection.
        late_replies: REPLY frames that came after the end of their request, and were dropped.
        unroutable_replies: REPLY frames whose receiver was not there.
        denied: frames that their sender had no permission for; they count among `refused` too.
        failed_authentications: IDENTIFYs whose token or certificate was not accepted.
        throttled: IDENTIFYs that were not looked at, since their address had failed too often.
        turned_away: connections for which there was no place, by the setting that said so, and
            under "evicted" those that made room for others before they had identified themselves.
        accept_pauses: how often newcomers had to wait for `accepts_per_second`.
        accept_failures: how often the system had no file number or memory for a newcomer.
        tls_failures: connections to a `tls://` listener that did not get through the handshake.
        congestions: how often a receiver went past its high mark, and its senders had to wait.
        evicted: receivers that were cut since all outboxes together were past their budget.
        evictions: receivers that were cut, by the limit or the time that said so.
        pings: PINGs to connections that had been silent.
        outboxes_bytes: what the receivers have yet to take now, in bytes of memory.
        too_deep: connections that ended on account of a message that was nested too deeply.
        faults: mistakes in the broker itself, most of which cost one connection; the log has them.
    """

    connections: int
    identified: int
    groups: int
    frames_in: int
    frames_out: int
    opened: int
    closed: dict[Reason, int]
    refused: dict[ErrorCode, int]
    requests: int
    requests_in_flight: int
    failed: dict[ErrorCode, int]
    cancelled: int
    late_replies: int
    unroutable_replies: int
    denied: int
    failed_authentications: int
    throttled: int
    turned_away: dict[str, int]
    accept_pauses: int
    accept_failures: int
    tls_failures: int
    congestions: int
    evicted: int
    evictions: dict[str, int]
    pings: int
    outboxes_bytes: int
    too_deep: int
    faults: int


@attrs.define
class Counters:
    """The running counts behind `Statistics`."""

    frames_in: int = 0
    frames_out: int = 0
    opened: int = 0
    closed: Counter[Reason] = attrs.field(factory=Counter)
    refused: Counter[ErrorCode] = attrs.field(factory=Counter)
    failed: Counter[ErrorCode] = attrs.field(factory=Counter)
    cancelled: int = 0
    late_replies: int = 0
    unroutable_replies: int = 0
    denied: int = 0
    failed_authentications: int = 0
    throttled: int = 0
    turned_away: Counter[str] = attrs.field(factory=Counter)
    accept_pauses: int = 0
    accept_failures: int = 0
    tls_failures: int = 0
    evicted: int = 0
    evictions: Counter[str] = attrs.field(factory=Counter)
    pings: int = 0
    too_deep: int = 0
    faults: int = 0


def take_statistics(counters: Counters, **others: int) -> Statistics:
    """Return a snapshot.

    Args:
        counters: what was counted.
        others: the attributes of `Statistics` that are not counted there, by their names.
    """
    counted: dict[str, Any] = {
        name: dict(value) if isinstance(value, Counter) else value
        for name, value in attrs.asdict(counters, recurse=False).items()
    }
    return Statistics(**(counted | others))
