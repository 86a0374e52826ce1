"""What comes in on a connection, and whom it concerns.

Everything here runs in the connection's reader, between two system calls: nothing waits, and
nothing that a program hands in (a callback) can break it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeAlias

from broker.protocol.codec import Envelope, Refusal
from services.sdk.errors import MeshError, UnsentEvents
from services.sdk.listeners import Listeners
from services.sdk.outgoing import CANCEL, encode_reply
from services.sdk.payloads import load_error
from services.sdk.pending import IdSource, PendingRequests, RecentCalls
from services.sdk.registry import DOWN, UP
from services.sdk.request_errors import (
    Call,
    RequestError,
    UnknownEvent,
    error_from_reply,
)
from services.sdk.watching import Watches

__all__ = ["ErrorCallback", "Inbox", "Sink"]

ErrorCallback: TypeAlias = Callable[[MeshError], object]
"""Is told of errors that belong to no call in progress. Synchronous; must not block."""

Sink: TypeAlias = Callable[[Envelope, float], bool]
"""Where a service takes its events, and when they came; False where it has no handler for one."""

_log: Final = logging.getLogger(__name__)


class Inbox:
    """Hands replies to requests, events to listeners and handlers, errors to the error callback.

    Attributes:
        pending: the requests that await a reply.
        listeners: who listens to events.
        frames: who listens to every frame.
        sent: emits that an error may yet come back for.
        on_cancel: the service's, if there is one: is told which request has been taken back.
        on_lost: the service's, if there is one: is told when a connection has ended.
        watches: who watches the registry.
        sink: the service's, if there is one.
        ignored: events that nobody here was interested in.
        late: replies to requests that had ended before.
        unsolicited: replies to nothing that was asked here.
        failed: emits that came back with an error.
    """

    def __init__(self, ids: IdSource, on_error: ErrorCallback | None) -> None:
        self.pending = PendingRequests()
        self.listeners = Listeners()
        self.frames = Listeners(lambda _pattern: lambda _name: True)
        self.sent = RecentCalls()
        self.on_cancel: Callable[[Envelope], object] | None = None
        self.on_lost: Callable[[], object] | None = None
        self.sink: Sink | None = None
        self.watches: Watches | None = None
        self.answer: Callable[[bytes], None] | None = None
        self.ignored = 0
        self.late = 0
        self.unsolicited = 0
        self.failed = 0
        self._ids = ids
        self._on_error = on_error

    def on_event(self, event: Envelope, now: float) -> None:
        """Hand an EVENT to the listeners and the service."""
        self.frames.deliver(event)
        heard = self.listeners.deliver(event)
        if event.event is not None and event.event.startswith("$"):
            self._control(event)
            return
        taken = self.sink is not None and self.sink(event, now)
        if heard or taken:
            return
        self.ignored += 1
        # The requester learns at once what it would otherwise learn from its timeout.
        self.refuse(event, UnknownEvent(f"nothing here handles {event.event}"))

    def _control(self, event: Envelope) -> None:
        """Take one of the broker's own events. They come whether anybody here listens or not."""
        if event.event == CANCEL:
            if self.on_cancel is not None:
                self.on_cancel(event)
        elif event.event in (UP, DOWN) and self.watches is not None:
            self.watches.deliver(event)

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

    def on_unsent(self, ids: list[str]) -> None:
        """Report the events that were not written before their connection ended."""
        calls = (self.sent.find(id) or Call("?", "?", id) for id in ids)
        self.report(UnsentEvents(tuple(calls)))

    def lose(self) -> None:
        """Wake everyone who awaits a reply: the connection that it was to come on has ended."""
        self.pending.abandon()
        if self.on_lost is not None:
            self.on_lost()

    def end(self, why: Callable[[], MeshError]) -> None:
        """Let everyone who listens end: nothing will come any more."""
        self.listeners.end(why)
        self.frames.end(why)
        if self.watches is not None:
            self.watches.end(why)

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
