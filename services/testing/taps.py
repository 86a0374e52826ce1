"""Finds the place in a stream of frames where a connection is to vanish.

It reads what arrives at a client with the client's own codec, so it knows where an EVENT ends, in
either framing, whatever pieces it comes in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from broker.protocol.codec import Envelope, Message
from broker.protocol.frames import OpCode
from broker.protocol.wire import Wire

__all__ = ["EventTap"]

_CLOSING_BRACE: Final = b"}"


class EventTap:
    """A `services.testing.lanes.Tap` that counts the EVENTs of a connection.

    Args:
        wire: a wire of the client's role, at its beginning.
        skip: bytes still to arrive that come before the wire begins (a handshake).
        watched: whether anybody wants to know at present.
        met: is told of each EVENT of another service's, by its name; True if the connection is to
            vanish right behind it.
    """

    def __init__(
        self, wire: Wire, *, skip: int, watched: Callable[[], bool], met: Callable[[str], bool]
    ) -> None:
        self._wire = wire
        self._skip = skip
        self._watched = watched
        self._met = met

    def split(self, data: bytes) -> int | None:
        """Return after how many of these bytes the connection vanishes, or None."""
        start = min(self._skip, len(data))
        self._skip -= start
        if not self._watched():
            self._receive(data[start:])
            return None
        position = start
        for piece in _single(data[start:]):
            position += len(piece)
            for message in self._receive(piece):
                name = message.event if isinstance(message, Envelope) else None
                if message.op != OpCode.EVENT or name is None or name.startswith("$"):
                    continue
                if self._met(name):
                    return position
        return None

    def _receive(self, data: bytes) -> list[Message]:
        messages = self._wire.receive(data)
        self._wire.take_replies()  # The client itself owes them.
        return messages


def _single(data: bytes) -> Iterator[bytes]:
    """Cut bytes so that each piece completes one message at most.

    A message ends with a closing brace in both framings, since a server does not mask.
    """
    start = 0
    while (end := data.find(_CLOSING_BRACE, start)) >= 0:
        yield data[start : end + 1]
        start = end + 1
    if start < len(data):
        yield data[start:]
