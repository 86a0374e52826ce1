"""How deep a value is nested: arrays and objects within each other.

A depth takes its place: a level is at least two bytes, five where all of them are objects. So
nearly all values are known to be shallow by their size alone, and of a long block of messages only
the boundaries between them are looked for, some thousand bytes apart. What is large enough to be
deep is looked at by its brackets.

Operations: `is_shallow` (a block of messages), `too_deep` (one value); linear in the bytes, and for
text that is mostly strings as fast as memory is read.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Raw

__all__ = ["LEAST_LEVEL", "is_shallow", "too_deep"]

_OPEN_ARRAY, _OPEN_OBJECT = 0x5B, 0x7B

LEAST_LEVEL: Final = 2
"""The bytes that a level takes at least: `[` and `]`."""

# `{"":` and `}`.
_LEAST_OBJECT_LEVEL: Final = 5

# Only between two messages an object's end, a line break and an object's beginning can stand side
# by side: within one, a comma would have to be there too, and no line break stands in a string.
_BOUNDARY: Final = b"}\n{"

# Of each property of an object: two quotes, a colon, and a comma or a bracket.
_PUNCTUATION: Final = 4

# Brackets that are looked for one by one, before they are counted: for text there are few.
_FEW: Final = 16

# How many levels are taken off one after the other, each in one pass of the decoder. What is wide
# and shallow, as nearly all that is large, is known by then; the rest is scanned by its brackets.
_PEELED: Final = 6

_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_OPENING: Final = frozenset(b"[{")

_decode_array = msgspec.json.Decoder(list[Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode


def is_shallow(block: bytes, nesting: int) -> bool:
    """Whether no value in a block of messages can have more levels than `nesting`, by its size.

    That it cannot be told is no fault: the messages are large, or not on lines of their own.

    Args:
        block: JSON that has been decoded, so that it is known to be no other.
        nesting: levels.
    """
    window = nesting * (LEAST_LEVEL if _OPEN_ARRAY in block else _LEAST_OBJECT_LEVEL)
    position, last = 0, len(block) - window
    while position < last:
        boundary = block.rfind(_BOUNDARY, position, position + window)
        if boundary < 0:
            return False
        position = boundary + 2
    return True


def too_deep(value: Raw, nesting: int) -> bool:
    """Whether a value, which is JSON, has more levels than `nesting`."""
    size = len(value)
    if size <= nesting * LEAST_LEVEL:
        return False
    data = bytes(value)
    arrays = _count(data, _OPEN_ARRAY)
    if not arrays and size <= nesting * _LEAST_OBJECT_LEVEL:
        return False
    if arrays + _count(data, _OPEN_OBJECT) <= nesting:
        return False
    return _is_deeper(value, nesting)


def _count(data: bytes, byte: int) -> int:
    """Count a byte; at the speed of memory where there are few."""
    position = -1
    for count in range(_FEW):
        position = data.find(byte, position + 1)
        if position < 0:
            return count
    return data.count(byte)


def _is_deeper(value: Raw, nesting: int, peeled: int = 0) -> bool:
    """The same as `too_deep`, by taking the value apart, level by level."""
    if len(value) <= nesting * LEAST_LEVEL:
        return False
    if peeled == _PEELED:
        return _scan(bytes(value), nesting)
    match bytes(memoryview(value)[:1]):
        case b"{":
            properties = _decode_object(value)
            inner = list(properties.values())
            # Of doubled keys only the last value is here. The others are somewhere in what is left.
            known = sum(map(len, inner)) + sum(map(len, properties)) + _PUNCTUATION * len(inner)
            if len(value) - known > nesting * LEAST_LEVEL:
                return _scan(bytes(value), nesting)
        case b"[":
            inner = _decode_array(value)
        case _:
            return False
    return any(_is_deeper(each, nesting - 1, peeled + 1) for each in inner)


def _scan(data: bytes, nesting: int) -> bool:
    """The same, by counting the brackets outside of strings."""
    depth = 0
    for byte in _STRING.sub(b"", data).translate(None, _NO_BRACKETS):
        if byte in _OPENING:
            depth += 1
            if depth > nesting:
                return True
        else:
            depth -= 1
    return False
