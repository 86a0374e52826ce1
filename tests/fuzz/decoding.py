"""Fuzzing of the codec: whatever comes is decoded as another parser reads it, or is refused."""

from __future__ import annotations

import json
from contextlib import suppress

from msgspec import UNSET, Raw

from broker.protocol.codec import (
    Envelope,
    Message,
    decode_frame,
    encode,
    make_decoder,
    make_line_decoder,
)
from broker.protocol.errors import NestingError, RemoteProtocolError
from broker.protocol.nesting import is_shallow, too_deep
from tests.fuzz.choices import Choices

__all__ = ["depth", "fuzz_codec"]

# Small ones, since a fuzzer has no patience for hundreds of brackets; and the largest. A bound of
# less than the first cannot be set.
_NESTINGS = (8, 9, 12, 30, 500)

_BACKSLASH, _QUOTE = b'\\"'


def depth(data: bytes) -> int:
    """How deep arrays and objects are within each other, by looking at every byte."""
    deepest = level = 0
    quoted = escaped = False
    for byte in data:
        if escaped:
            escaped = False
        elif quoted:
            escaped = byte == _BACKSLASH
            quoted = byte != _QUOTE
        elif byte == _QUOTE:
            quoted = True
        elif byte in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif byte in b"]}":
            level -= 1
    return deepest


def fuzz_codec(data: bytes) -> None:
    """Decode bytes as one message, and as a block of messages."""
    choices = Choices(data)
    nesting = choices.one_of(_NESTINGS)
    message = choices.rest()
    decoded: Message | None = None
    try:
        decoded = make_decoder(nesting)(message)
    except NestingError:
        assert depth(message) > nesting
    except RemoteProtocolError:
        pass
    else:
        _check_message(decoded, message, nesting)
    _check_block(decoded, message, nesting)


def _check_message(decoded: Message, message: bytes, nesting: int) -> None:
    # Numbers are left as they stand: Python's own have bounds.
    known = json.loads(message.decode(), parse_int=str, parse_float=str)
    if not isinstance(decoded, Envelope):
        return
    # The last of doubled keys counts, for both.
    assert float(known["op"]) == decoded.op
    for name in ("id", "event", "trace"):
        assert known.get(name) == getattr(decoded, name)
    for value, name in ((decoded.data, "data"), (decoded.error, "error")):
        assert (value is UNSET) == (name not in known)
        if isinstance(value, Raw):
            _check_value(value, known[name], nesting)
    again = make_decoder(nesting)(encode(decoded))
    assert again == decoded
    with suppress(RemoteProtocolError):
        # What the router has to look at before it says that it is wrong, this says at once.
        decode_frame(message)


def _check_value(value: Raw, known: object, nesting: int) -> None:
    written = bytes(value)
    assert json.loads(written, parse_int=str, parse_float=str) == known
    levels = depth(written)
    assert levels <= nesting
    for bound in {levels - 1, levels, levels + 1, nesting}:
        if bound >= _NESTINGS[0]:
            assert too_deep(value, bound) == (levels > bound)


def _check_block(decoded: Message | None, message: bytes, nesting: int) -> None:
    try:
        envelopes = make_line_decoder(nesting)(message)
    except (ValueError, RecursionError, NestingError):
        return  # Then each message is decoded by itself.
    if isinstance(decoded, Envelope):
        assert envelopes == [decoded]
    values = [
        bytes(value)
        for envelope in envelopes
        for value in (envelope.data, envelope.error)
        if isinstance(value, Raw)
    ]
    deepest = max(map(depth, values), default=0)
    assert deepest <= nesting
    for bound in (2, 4):
        if is_shallow(message, bound):
            assert deepest <= bound
