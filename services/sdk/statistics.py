"""What a mesh counts."""

from __future__ import annotations

import attrs

from services.sdk.inbox import Inbox
from services.sdk.link import Link

__all__ = ["MeshStatistics", "count"]


@attrs.frozen
class MeshStatistics:
    """A snapshot of what a mesh has done.

    Attributes:
        connections: connections that there have been.
        sent: messages sent.
        received: messages received.
        unsent: bytes that wait to be written.
        pending: requests that await their reply.
        failed_emits: emits that came back with an error.
        ignored_events: events that no listener and no handler was there for.
        late_replies: replies to requests that had ended before.
        unsolicited_replies: replies to nothing that was asked here.
        discarded_replies: error replies that found no room on a connection that stands still.
    """

    connections: int
    sent: int
    received: int
    unsent: int
    pending: int
    failed_emits: int
    ignored_events: int
    late_replies: int
    unsolicited_replies: int
    discarded_replies: int


def count(link: Link, inbox: Inbox) -> MeshStatistics:
    """Take a snapshot."""
    return MeshStatistics(
        connections=link.connections,
        sent=link.sent,
        received=link.received,
        unsent=0 if link.connection is None else link.connection.unsent,
        pending=len(inbox.pending),
        failed_emits=inbox.failed,
        ignored_events=inbox.ignored,
        late_replies=inbox.late,
        unsolicited_replies=inbox.unsolicited,
        discarded_replies=link.discarded,
    )
