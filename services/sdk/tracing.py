"""Tracing, where OpenTelemetry is installed; nothing at all where it is not.

Here is what the rest of the SDK sees of it. How it is done, and with it the only import of
OpenTelemetry, stands in `telemetry`.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import cache
from typing import Protocol, TypeVar

from broker.protocol.codec import Envelope

__all__ = ["Span", "Tracing", "find_tracing"]

T = TypeVar("T")


class Span(Protocol):
    """A piece of work that is traced. It must be ended."""

    def fail(self, error: BaseException) -> None:
        """Note why it came to nothing."""
        ...

    def end(self) -> None:
        """Note that it is over."""
        ...

    async def around(self, work: Awaitable[T]) -> T:
        """Do the work, note how it went, and end. What the work raises comes out."""
        ...


class Tracing(Protocol):
    """Makes spans, and lets frames carry the trace. None in place of a span: nobody records it."""

    def begin_request(self, question: Envelope) -> Span | None:
        """Begin to ask. The question gets its `trace`: it must not have been encoded yet."""
        ...

    def begin_emit(self, event: Envelope) -> Span | None:
        """Begin to send an event that awaits no reply. As above, it gets its `trace`."""
        ...

    def begin_handling(self, event: Envelope, group: str) -> Span | None:
        """Begin to handle an event, as a member of a group: a part of the sender's trace."""
        ...


@cache
def find_tracing() -> Tracing | None:
    """Return what traces; None where OpenTelemetry is not installed.

    It is looked for when the first mesh is made, so that a program that only imports the SDK does
    not pay for it.
    """
    try:
        from services.sdk.telemetry import Telemetry  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        return None
    return Telemetry()
