"""Fuzzing of the framings: however the bytes are cut, the same comes out, and memory is bounded."""

from __future__ import annotations

from typing import Final

import attrs

from broker.protocol.codec import Message
from broker.protocol.errors import Reason
from broker.protocol.json_stream import JsonStream
from broker.protocol.websocket import MAX_PENDING_REPLIES, Role, WebSocketWire
from broker.protocol.wire import Wire
from tests.fuzz.choices import Choices, cut

__all__ = ["fuzz_client_frames", "fuzz_json_stream", "fuzz_server_frames"]

_LIMITS: Final = (64, 300, 5000)
_FIRST_LIMITS: Final = (None, 32, 256)
_NESTINGS: Final = (8, 500)

# The longest header of a frame, and the longest control frame.
_HEADER: Final = 14
_CONTROL_FRAME: Final = _HEADER + 125

# What the pieces are at most, see `cut`.
_PIECE: Final = 256


@attrs.frozen
class _Outcome:
    """What has become of some bytes."""

    messages: list[Message]
    failure: tuple[Reason, int] | None
    finished: bool
    replies: int

    @classmethod
    def of(cls, wire: Wire, messages: list[Message], replies: bytes) -> _Outcome:
        failure = wire.failure
        return cls(
            messages,
            None if failure is None else (failure.reason, failure.close_code),
            wire.finished,
            len(replies),
        )


def fuzz_json_stream(data: bytes) -> None:
    """Feed a raw stream at once, and in pieces."""
    choices = Choices(data)
    limit = choices.one_of(_LIMITS)
    first_limit = choices.one_of(_FIRST_LIMITS)
    nesting = choices.one_of(_NESTINGS)
    sizes, received = choices.take(3), choices.rest()

    whole = JsonStream(limit, first_limit, nesting)
    messages = whole.receive(received)

    pieces = JsonStream(limit, first_limit, nesting)
    collected: list[Message] = []
    for piece in cut(received, sizes):
        collected += pieces.receive(piece)
        assert len(pieces._partial) <= max(limit, first_limit or 0) + _PIECE
    assert messages == collected
    # Of two things that are wrong with a message, either may be seen first.
    # And of a message that has not ended, a fault may show or not.
    for one, other in ((whole, pieces), (pieces, whole)):
        assert one.failure is None or other.failure is not None or other._partial
    if whole.failure is not None:
        assert whole.receive(b'{"op":3}\n') == []


def fuzz_server_frames(data: bytes) -> None:
    """Feed the broker's end of a WebSocket."""
    _fuzz_frames(data, Role.SERVER)


def fuzz_client_frames(data: bytes) -> None:
    """Feed a client's end of a WebSocket, which the SDK shares."""
    _fuzz_frames(data, Role.CLIENT)


def _fuzz_frames(data: bytes, role: Role) -> None:
    choices = Choices(data)
    limit = choices.one_of(_LIMITS)
    first_limit = choices.one_of(_FIRST_LIMITS)
    nesting = choices.one_of(_NESTINGS)
    close_code = choices.one_of((1000, 1001, 1002, 1009, 4007))
    sizes, received = choices.take(3), choices.rest()
    largest = max(limit, first_limit or 0)

    whole = WebSocketWire(role, limit, first_limit, nesting)
    messages = whole.receive(received)
    replies = whole.take_replies()
    assert len(replies) <= MAX_PENDING_REPLIES + _CONTROL_FRAME

    pieces = WebSocketWire(role, limit, first_limit, nesting)
    collected: list[Message] = []
    for piece in cut(received, sizes):
        collected += pieces.receive(piece)
        assert len(pieces._partial) <= largest + _HEADER + _PIECE
        assert len(pieces._fragments or b"") <= largest
    outcome = _Outcome.of(pieces, collected, pieces.take_replies())
    assert outcome == _Outcome.of(whole, messages, replies)

    # What it answers, the other side understands; and one close frame is all there ever is.
    replies += whole.goodbye(close_code, "the end")
    assert not whole.goodbye(close_code, "the end")
    far = WebSocketWire(Role.CLIENT if role is Role.SERVER else Role.SERVER)
    assert far.receive(replies) == []
    assert far.failure is None
    assert far.finished
