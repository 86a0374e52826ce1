"""Spans and trace contexts, over the API of OpenTelemetry.

The names of attributes are those of its semantic conventions: for remote procedure calls where a
reply is awaited, for messaging where none is. A frame's `trace` is a W3C traceparent.

While the program has set no tracer provider up, spans record nothing, and a trace that came with a
frame is still handed on.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, TypeVar

from msgspec import UNSET
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
    get_tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from broker.protocol.codec import Envelope
from services.sdk.payloads import load_error
from services.sdk.request_errors import HandlerError, RequestError

__all__ = ["Telemetry"]

T = TypeVar("T")

_SYSTEM: Final = "switchboard"
_TRACEPARENT: Final = "traceparent"
_CANCELLED: Final = "CANCELLED"

_w3c: Final = TraceContextTextMapPropagator()


class Telemetry:
    """Makes spans of what a mesh does. It is a `Tracing`."""

    def __init__(self) -> None:
        # Goes to whatever provider the program sets up, even later on.
        self._tracer = get_tracer(_SYSTEM)

    def begin_request(self, question: Envelope) -> _Asking | None:
        """Begin to ask."""
        intent = question.intent
        target = "" if intent is None else intent.identifier or ""
        group = target if intent is not None and intent.target == "GROUP" else None
        method = _method(question.event, group)
        span = self._tracer.start_span(
            method,
            kind=SpanKind.CLIENT,
            attributes={
                "rpc.system.name": _SYSTEM,
                "rpc.method": method,
                "server.address": target,
                "switchboard.request.id": question.id or "",
            },
        )
        question.trace = _traceparent(span)
        return _Asking(span) if span.is_recording() else None

    def begin_emit(self, event: Envelope) -> _Traced | None:
        """Begin to send an event that awaits no reply."""
        span = self._tracer.start_span(
            f"send {event.event}",
            kind=SpanKind.PRODUCER,
            attributes=_about(event, "send"),
        )
        event.trace = _traceparent(span)
        return _Traced(span) if span.is_recording() else None

    def begin_handling(self, event: Envelope, group: str) -> _Handling | None:
        """Begin to handle an event: a part of its sender's trace, or a trace of its own."""
        carried = event.trace
        # Not the current context: a worker's is that of whoever happened to connect.
        parent = Context()
        if carried is not None:
            parent = _w3c.extract({_TRACEPARENT: carried}, parent)
        source = event.source
        sender = {} if source is None else {"switchboard.source.id": source.id}
        if event.timeout is not None:
            method = _method(event.event, group)
            span = self._tracer.start_span(
                method,
                parent,
                SpanKind.SERVER,
                {
                    **sender,
                    "rpc.system.name": _SYSTEM,
                    "rpc.method": method,
                    "switchboard.request.id": event.id or "",
                },
            )
        else:
            span = self._tracer.start_span(
                f"process {event.event}",
                parent,
                SpanKind.CONSUMER,
                {
                    **sender,
                    **_about(event, "process"),
                    "messaging.consumer.group.name": group,
                },
            )
        if carried is None and not span.is_recording():
            return None
        return _Handling(span, set_span_in_context(span, parent))


class _Traced:
    """A span of ours."""

    def __init__(self, span: ApiSpan) -> None:
        self._span = span

    def fail(self, error: BaseException) -> None:
        """Note why it came to nothing."""
        self._note(error)
        self._span.record_exception(error)
        self._span.set_status(Status(StatusCode.ERROR, str(error)))

    def end(self) -> None:
        """Note that it is over."""
        self._span.end()

    async def around(self, work: Awaitable[T]) -> T:
        """Do the work, note how it went, and end."""
        try:
            return await work
        except Exception as error:
            self.fail(error)
            raise
        except BaseException:
            self._span.set_attribute("error.type", _CANCELLED)
            raise
        finally:
            self.end()

    def _note(self, error: BaseException) -> None:
        if isinstance(error, RequestError):
            self._span.set_attribute("error.type", error.code)
        else:
            self._span.set_attribute("error.type", type(error).__qualname__)


class _Asking(_Traced):
    """A request, from the asker's side."""

    async def around(self, work: Awaitable[T]) -> T:
        """Wait for the reply; one with an error is a failure."""

        async def watch() -> T:
            reply = await work
            if isinstance(reply, Envelope) and reply.error is not UNSET:
                error = load_error(reply.error)
                code = "" if error is None else error.code
                text = "" if error is None else error.message
                self._span.set_attribute("rpc.response.status_code", code)
                self._span.set_attribute("error.type", code)
                self._span.set_status(Status(StatusCode.ERROR, text))
            return reply

        return await super().around(watch())


class _Handling(_Traced):
    """A handler at work."""

    def __init__(self, span: ApiSpan, context: Context) -> None:
        super().__init__(span)
        self._context = context

    def fail(self, error: BaseException) -> None:
        """Note what the requester is told, and what lies behind it.

        A service that says no has not failed: only what it did not mean to raise is an error of
        this span. On the requester's side it is one all the same.
        """
        if isinstance(error, HandlerError):
            cause = error.__cause__ or error
            self._span.record_exception(cause)
            self._span.set_status(Status(StatusCode.ERROR, str(cause)))
        if isinstance(error, RequestError):
            self._span.set_attribute("rpc.response.status_code", error.code)
        self._note(error)

    async def around(self, work: Awaitable[T]) -> T:
        """Do the work as a part of the trace, so that what it asks of others is one too."""
        token = attach(self._context)
        try:
            return await super().around(work)
        finally:
            detach(token)


def _method(event: str | None, group: str | None) -> str:
    return event or "" if group is None else f"{group}/{event}"


def _about(event: Envelope, operation: str) -> dict[str, str]:
    return {
        "messaging.system": _SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": event.event or "",
        "messaging.message.id": event.id or "",
    }


def _traceparent(span: ApiSpan) -> str | None:
    if not span.get_span_context().is_valid:
        return None
    carrier: dict[str, str] = {}
    _w3c.inject(carrier, set_span_in_context(span, Context()))
    return carrier.get(_TRACEPARENT)
