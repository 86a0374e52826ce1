"""What comes in on a connection, and whom it concerns.

Everything here runs in the connection's reader, between two system calls: nothing waits, and
nothing that a program hands in (a callback) can break it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeAlias

from broker.protocol.codec import Envelope, Refusal
from services.sdk.errors import Call, MeshError, RequestError, UnknownEvent, error_from_reply
from services.sdk.listeners import Listeners
from services.sdk.outgoing import encode_reply
from services.sdk.payloads import load_error
from services.sdk.pending import IdSource, PendingRequests, RecentCalls

__all__ = ["ErrorCallback", "Inbox", "Sink"]

ErrorCallback: TypeAlias = Callable[[MeshError], object]
"""Is told of errors that belong to no call in progress. Synchronous; must not block."""

Sink: TypeAlias = Callable[[Envelope], bool]
"""Where a service takes its events; False where it has no handler for one."""

_log: Final = logging.getLogger(__name__)


class Inbox:
    """Hands replies to requests, events to listeners and handlers, errors to the error callback.

    Attributes:
        pending: the requests that await a reply.
        listeners: who listens to events.
        frames: who listens to every frame.
        sent: emits that an error may yet come back for.
        sink: the service's, if there is one.
        ignored: events that nobody here was interested in.
        late: replies to requests that had ended before.
        unsolicited: replies to nothing that was asked here.
        failed: emits that came back with an error.
    """

    def __init__(self, ids: IdSource, on_error: ErrorCallback | None) -> None:
        self.pending = PendingRequests()
        self.listeners = Listeners()
        self.frames = Listeners()
        self.sent = RecentCalls()
        self.sink: Sink | None = None
        self.answer: Callable[[bytes], None] | None = None
        self.ignored = 0
        self.late = 0
        self.unsolicited = 0
        self.failed = 0
        self._ids = ids
        self._on_error = on_error

    def on_event(self, event: Envelope) -> None:
        """Hand an EVENT to the listeners and the service."""
        self.frames.deliver(event)
        heard = self.listeners.deliver(event)
        taken = self.sink is not None and self.sink(event)
        if heard or taken:
            return
        self.ignored += 1
        # The requester learns at once what it would otherwise learn from its timeout.
        self.refuse(event, UnknownEvent(f"nothing here handles {event.event}"))

    def on_reply(self, reply: Envelope) -> None:
        """Hand a REPLY to the request that awaits it."""
        self.frames.deliver(reply)
        if self.pending.settle(reply):
            return
        id = reply.id or ""
        error = load_error(reply.error)
        call = self.sent.find(id)
        if error is not None and (call is not None or not self._ids.made(id)):
            self.failed += 1
            self.report(error_from_reply(error, call or Call(reply.event or "?", "?", id)))
        elif self._ids.made(id):
            self.late += 1
            _log.debug("a reply to %s came after its request had ended (id %s)", reply.event, id)
        else:
            self.unsolicited += 1
            _log.debug("a reply to %s came that nobody awaits (id %s)", reply.event, id)

    def on_refusal(self, refusal: Refusal) -> None:
        """Report a frame of the broker's that makes no sense."""
        self.report(MeshError(f"the broker sent a frame that is wrong: {refusal.message}"))

    def on_end(self, why: Callable[[], MeshError]) -> None:
        """Wake everyone who waits for something."""
        self.pending.abandon()
        self.listeners.end(why)
        self.frames.end(why)

    def refuse(self, event: Envelope, error: RequestError) -> None:
        """Reply with an error to a request; an event that awaits no reply gets none."""
        if event.timeout is not None and event.source is not None and self.answer is not None:
            self.answer(encode_reply(event, error=error))

    def report(self, error: MeshError) -> None:
        """Tell the error callback; without one, the log."""
        if self._on_error is None:
            _log.warning("%s", error)
            return
        try:
            self._on_error(error)
        except Exception:  # noqa: BLE001 - whatever it is, the reader goes on
            _log.exception("the on_error callback failed on: %s", error)
