"""What has happened so far, in numbers."""

from __future__ import annotations

from collections import Counter

import attrs

from broker.protocol.errors import ErrorCode, Reason

__all__ = ["Counters", "Statistics"]


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
