r"""Framing of a raw stream: JSON objects one after another.

Two flavours come in, freely mixed: objects separated by newlines (or any white space), and objects
run together with nothing between them, as the original Node client writes them. TCP may cut both
anywhere. One flavour goes out: one object a line.

Goals: a block of whole messages costs one call into C; a byte is looked at a constant number of
times however small the pieces are that it arrives in; memory is bounded by `limit` plus one piece.

How: at a boundary between messages, everything up to the last newline (or closing brace) is decoded
as one block. That is exact, not a guess: a block that decodes is a row of whole objects. Only where
it does not decode, and for the piece of a message left at a block's end, the boundaries are found
by counting braces outside strings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from broker.protocol.codec import (
    Envelope,
    Message,
    encode,
    encode_lines,
    make_decoder,
    make_line_decoder,
)
from broker.protocol.errors import NestingError, Reason, RemoteProtocolError
from broker.protocol.limits import MAX_MESSAGE_SIZE, MAX_NESTING

__all__ = ["JsonStream", "frame_line"]

# RFC 8259 section 2: white space between tokens.
_WHITE_SPACE: Final = b" \t\n\r"

_QUOTED: Final = rb'"(?:[^"\\]++|\\.)*+"'


def _run(nesting: int) -> bytes:
    """The longest run within an object without a brace, an unfinished string, or such an object."""
    inner = rb"|\{" + _run(nesting - 1) + rb"\}" if nesting else b""
    return rb'(?:[^"{}]++|' + _QUOTED + inner + rb")*+"


# Inside an object: the longest run that holds no brace, but for whole objects in up to three
# levels, and no unfinished string. So a large message of small records is not gone through brace by
# brace in Python. Possessive, so that a long run can not make the expression backtrack.
_PLAIN: Final = re.compile(_run(3), re.DOTALL)

# Inside a string: the longest run before its closing quote or an unfinished escape.
_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)

# How a piece of input ends that holds whole messages.
_ENDS: Final = (b"\n", b"}")

# What a block raises that is not as it should be.
_FAULTS: Final = (ValueError, RecursionError, NestingError)

# Where messages have to be told apart one by one, this much is looked at at a time.
_PIECE: Final = 4096

# As numbers: looking for a number in bytes is several times faster than looking for a byte.
_NEWLINE: Final = 10
_RETURN: Final = 13
_LINE_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")


def frame_line(message: bytes) -> bytes:
    """Put a message on a line of its own.

    JSON allows raw line breaks only between tokens, where a space means the same; so `data` that
    was written over several lines stays one line for a receiver that reads line by line.
    """
    if _NEWLINE in message or _RETURN in message:
        message = message.translate(_LINE_BREAKS)
    return message + b"\n"


def frame_lines(envelopes: Sequence[Envelope]) -> bytes:
    """Write each of many messages on a line of its own."""
    if len(envelopes) == 1:
        return frame_line(encode(envelopes[0]))
    lines = encode_lines(envelopes)
    block = b"" if lines is None else b"".join(lines)
    if lines is None or _RETURN in block:
        return b"".join([frame_line(encode(envelope)) for envelope in envelopes])
    return block


class JsonStream:
    """The wire of a raw stream. Both sides speak it alike.

    Args:
        limit: the largest message accepted, in bytes.
        first_limit: the same for the first message alone, where that has a bound of its own.
        nesting: how deep `data` and `error` may be nested.
    """

    frame = staticmethod(frame_line)
    frame_all = staticmethod(frame_lines)

    def __init__(
        self,
        limit: int = MAX_MESSAGE_SIZE,
        first_limit: int | None = None,
        nesting: int = MAX_NESTING,
    ) -> None:
        self._decode, self._decode_lines = make_decoder(nesting), make_line_decoder(nesting)
        self._deepest = nesting + 1  # The frame itself is an object too.
        self.limit = limit if first_limit is None else first_limit
        self._later_limit = limit
        self._at_first = first_limit is not None
        # Nothing is pending: what comes next begins a message, of any size up to the limit.
        self._at_boundary = first_limit is None
        self.failure: RemoteProtocolError | None = None
        self.finished = False
        # The message that has begun but not ended, and how far it has been scanned.
        self._partial = bytearray()
        self._scanned = 0
        self._depth = 0
        self._in_string = False

    def receive(self, data: bytes) -> list[Message]:
        """Take bytes in; return the messages that they complete, in order."""
        # Nearly always this is all there is to do.
        if self._at_boundary and data[-1:] in _ENDS and len(data) <= self.limit:
            try:
                # Every envelope is a message.
                return self._decode_lines(data)  # type: ignore[return-value]
            except _FAULTS:
                pass  # Some message in it is wrong, or not whole: find out which.
        return self._receive(data)

    def _receive(self, data: bytes) -> list[Message]:
        if self.failure is not None:
            return []
        messages: list[Message] = []
        try:
            if self._partial:
                data = self._finish_partial(data, messages)
            if data:
                self._receive_block(data, messages)
        except RemoteProtocolError as failure:
            self.failure = failure
        self._at_boundary = not (self._partial or self._at_first or self.failure)
        return messages

    def take_replies(self) -> bytes:
        """Nothing: a raw stream has no control frames."""
        return b""

    def goodbye(self, close_code: int, text: str) -> bytes:
        """Nothing: the end of the stream says it."""
        return b""

    def _receive_block(self, data: bytes, messages: list[Message]) -> None:
        """Read from a boundary between messages on."""
        if self._at_first:
            data = self._receive_one(data, messages)
        end = len(data) if data.endswith(b"}") else data.rfind(b"\n") + 1
        if end and (end <= self.limit or self._lines_fit(data[:end])):
            block = data if end == len(data) else data[:end]
            try:
                messages += self._decode_lines(block)
            except _FAULTS:
                pass  # Some message in it is wrong, or spans the block's end: find the boundaries.
            else:
                data = data[end:]
        # Piece by piece, since what stands behind a message is copied for each of them.
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            if self._partial:
                piece = self._finish_partial(piece, messages)
            while piece:
                piece = self._receive_one(piece, messages)

    def _receive_one(self, data: bytes, messages: list[Message]) -> bytes:
        """Read one message at most; return what stands behind it."""
        data = data.lstrip(_WHITE_SPACE)
        if data[:1] not in (b"{", b""):
            raise RemoteProtocolError(
                Reason.INVALID_PAYLOAD,
                f"a frame is a JSON object and begins with a brace, not with {_show(data[0])}",
            )
        return self._finish_partial(data, messages)

    def _lines_fit(self, block: bytes) -> bool:
        lines = block.strip(_WHITE_SPACE).split(b"\n")
        # Only between two messages a line ends with a brace and the next one begins with one. Any
        # other line break may stand within a message that is larger than its lines.
        whole = block.count(b"}\n{") == len(lines) - 1
        return whole and max(map(len, lines)) <= self.limit

    def _finish_partial(self, data: bytes, messages: list[Message]) -> bytes:
        """Add to the message that has begun; return what stands behind its end."""
        partial = self._partial
        before = len(partial)
        partial += data
        end = self._find_end()
        if (end or len(partial)) > self.limit:
            raise RemoteProtocolError(
                Reason.MESSAGE_TOO_BIG, f"a message may have at most {self.limit} bytes"
            )
        if not end:
            return b""
        message = bytes(partial[:end])
        self._partial = bytearray()
        self._scanned = 0
        messages.append(self._decode(message))
        if self._at_first:
            self._at_first = False
            self.limit = self._later_limit
        return data[end - before :]

    def _find_end(self) -> int:
        """Scan on; return where the object ends, or 0. State is kept, so no byte is read twice."""
        partial, position, end = self._partial, self._scanned, len(self._partial)
        if not self._depth and end:
            self._depth = position = 1  # Behind the opening brace.
        while position < end:
            if self._in_string:
                position = self._match_end(_STRING, position)
                if partial[position : position + 1] != b'"':
                    break  # The string goes on, or an escape is cut in two.
                self._in_string = False
                position += 1
            position = self._match_end(_PLAIN, position)
            match partial[position : position + 1]:
                case b"{":
                    self._depth += 1
                    if self._depth > self._deepest:
                        # Whatever is behind it: going through it brace by brace would take long.
                        raise NestingError
                case b"}":
                    self._depth -= 1
                    if self._depth == 0:
                        return position + 1
                case b'"':
                    self._in_string = True
            position += 1
        self._scanned = min(position, end)
        return 0

    def _match_end(self, pattern: re.Pattern[bytes], position: int) -> int:
        found = pattern.match(self._partial, position)
        # Both patterns match the empty run, so there always is a match.
        return position if found is None else found.end()


def _show(byte: int) -> str:
    """Name a byte for people."""
    return f'"{chr(byte)}"' if 0x20 < byte < 0x7F else f"the byte 0x{byte:02x}"
