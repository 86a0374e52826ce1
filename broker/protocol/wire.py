"""The interface that the framings share, and how a listener tells which one a client speaks.

A wire is sans-IO: bytes go in with `receive`, messages come out; what the framing itself owes the
other side (an answer to a WebSocket ping, say) is fetched with `take_replies`. It never blocks and
knows no clock. `broker.protocol.json_stream` and `broker.protocol.websocket` implement it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from broker.protocol.codec import Envelope, Message
from broker.protocol.errors import RemoteProtocolError

__all__ = ["Door", "EnvelopeFramer", "Framer", "Wire", "detect"]

Framer = Callable[[bytes], bytes]
"""Puts one message's bytes into the framing: what is appended to a connection's outbox."""

EnvelopeFramer = Callable[[Sequence[Envelope]], bytes]
"""Encodes envelopes and puts them into the framing, one after another."""


class Wire(Protocol):
    """One connection's framing.

    Attributes:
        frame: puts an outgoing message into the framing. On the broker's side, all connections of
            one framing share the very same function, so that a broadcast is framed once a kind.
        failure: set when the other side broke the framing or sent bytes that are no frame. What
            `receive` returned before it still counts; nothing after it is read.
        finished: the other side has said goodbye in the framing's own way (a WebSocket close
            frame). Nothing after it is read.
        limit: the largest message accepted next, in bytes. The first message of a connection may
            have a smaller one of its own: it comes from someone who is not yet known.
    """

    failure: RemoteProtocolError | None
    finished: bool
    limit: int

    @property
    def frame(self) -> Framer:
        """See above."""
        ...

    @property
    def frame_all(self) -> EnvelopeFramer:
        """Encodes envelopes and puts them all into the framing; faster than one by one."""
        ...

    def receive(self, data: bytes) -> list[Message]:
        """Take bytes in; return the messages that they complete, in order. Never raises."""
        ...

    def take_replies(self) -> bytes:
        """Return what the framing itself has to send (pongs, a close echo), and forget it."""
        ...

    def goodbye(self, close_code: int, text: str) -> bytes:
        """Return the bytes that end the connection politely; empty where the framing has none."""
        ...


class Door(Enum):
    """Which of the framings a client speaks."""

    WEBSOCKET = "websocket"
    STREAM = "stream"


def detect(first: bytes) -> Door:
    """Tell the framing by a connection's first byte.

    Every HTTP method begins with a capital letter; a JSON object begins with a brace or white
    space. Whatever else comes is read as a stream, which will say what is wrong with it.
    """
    return Door.WEBSOCKET if b"A" <= first[:1] <= b"Z" else Door.STREAM
