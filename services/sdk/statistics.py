"""What a mesh counts."""

from __future__ import annotations

import attrs

from services.sdk.connection import Connection
from services.sdk.inbox import Inbox

__all__ = ["MeshStatistics", "count"]


@attrs.frozen
class MeshStatistics:
    """A snapshot of what a mesh has done.

    Attributes:
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

    sent: int
    received: int
    unsent: int
    pending: int
    failed_emits: int
    ignored_events: int
    late_replies: int
    unsolicited_replies: int
    discarded_replies: int


def count(connection: Connection, inbox: Inbox) -> MeshStatistics:
    """Take a snapshot."""
    return MeshStatistics(
        sent=connection.sent,
        received=connection.received,
        unsent=connection.unsent,
        pending=len(inbox.pending),
        failed_emits=inbox.failed,
        ignored_events=inbox.ignored,
        late_replies=inbox.late,
        unsolicited_replies=inbox.unsolicited,
        discarded_replies=connection.discarded,
    )
