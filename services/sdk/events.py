"""What a listener or a handler gets to see of a frame."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import msgspec

from broker.protocol.codec import Envelope, to_frame
from broker.protocol.errors import RemoteProtocolError
from broker.protocol.frames import Frame, Source
from services.sdk.payloads import PayloadError, load

__all__ = ["Event", "read_frame"]

T = TypeVar("T")


class Event:
    """An EVENT that came in. Its data is read when it is first asked for.

    Example:
        >>> async for event in events:
        ...     user = event.parse(User)
    """

    __slots__ = ("_data", "_envelope", "_parsed")

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._data: Any = None
        self._parsed = False

    @property
    def envelope(self) -> Envelope:
        """For the SDK itself: the form that it came in."""
        return self._envelope

    @property
    def name(self) -> str:
        """The event's name; empty where a sender gave none."""
        return self._envelope.event or ""

    @property
    def id(self) -> str | None:
        """What ties a reply to it. The broker makes one where the sender has not."""
        return self._envelope.id

    @property
    def data(self) -> Any:  # noqa: ANN401 - JSON of any kind
        """The data as plain Python values.

        Raises:
            PayloadError: it has no form in Python.
        """
        if not self._parsed:
            self._data = load(self._envelope.data)
            self._parsed = True
        return self._data

    @property
    def source(self) -> Source:
        """Who sent it, in the broker's word."""
        source = self._envelope.source
        return Source("", "") if source is None else Source(source.id, source.group)

    @property
    def timeout(self) -> float | None:
        """Seconds for which a reply is of use; None for an event that awaits none."""
        milliseconds = self._envelope.timeout
        return None if milliseconds is None else milliseconds / 1000

    @property
    def trace(self) -> str | None:
        """The W3C traceparent that came with it."""
        return self._envelope.trace

    @property
    def frame(self) -> Frame:
        """All of it.

        Raises:
            PayloadError: its data has no form in Python.
        """
        return read_frame(self._envelope)

    @overload
    def parse(self, kind: type[T]) -> T: ...
    @overload
    def parse(self, kind: Any) -> Any: ...  # noqa: ANN401 - any type form goes in
    def parse(self, kind: Any) -> Any:
        """Read the data into a type: an attrs class, a dataclass, `list[int]`, ...

        Raises:
            PayloadError: it does not fit; the message names the place.
        """
        return load(self._envelope.data, kind)

    def __repr__(self) -> str:
        return f"<Event {self.name} from {self.source.group}/{self.source.id}, id {self.id}>"


def read_frame(envelope: Envelope) -> Frame:
    """Turn the form that a frame came in into the one for people.

    Raises:
        PayloadError: its data has no form in Python, such as 1e999.
    """
    try:
        return to_frame(envelope)
    except (msgspec.DecodeError, RecursionError, RemoteProtocolError) as error:
        raise PayloadError(f"{envelope.event} (id {envelope.id}): {error}") from error
