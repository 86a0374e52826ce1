"""The head of an HTTP message, set apart from what follows it.

So that the bytes of a WebSocket never get into an HTTP parser, which would keep them.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["HeadBuffer", "HeadTooLargeError"]

# RFC 9112 section 2.2: a line feed alone may end a line. Agrees with h11.
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_HEAD_END_OVERLAP: Final = 2


class HeadTooLargeError(Exception):
    """The head of a message does not end where it should."""


class HeadBuffer:
    """Collects the head of an HTTP message.

    Each byte is searched a constant number of times, however small the pieces.

    Attributes:
        first_line: the first line without its line feed, once it is whole.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self.first_line: bytes | None = None
        self._buffer = bytearray()

    def receive(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take bytes in; return the head and what follows it, once the head is whole.

        Raises:
            HeadTooLargeError: it has more than `max_size` bytes.
        """
        before = len(self._buffer)
        self._buffer += data
        if self.first_line is None and (end := self._buffer.find(b"\n", before)) >= 0:
            self.first_line = bytes(self._buffer[:end])
        found = _HEAD_END.search(self._buffer, max(0, before - _HEAD_END_OVERLAP))
        size = len(self._buffer) if found is None else found.end()
        if size > self._max_size:
            raise HeadTooLargeError
        if found is None:
            return None
        return bytes(self._buffer[:size]), bytes(self._buffer[size:])

    def begins_like(self, start: bytes) -> bool:
        """Whether what has come so far can be the beginning of a message that starts so."""
        return self._buffer.startswith(start[: len(self._buffer)])
