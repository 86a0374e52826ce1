"""Reading WebSocket messages: bytes in, whole text messages out (RFC 6455 sections 5.2 to 5.5).

Operation: `receive`. What has to be answered is told to a subclass: `received_ping`,
`received_close`.

Goals: a message that is not fragmented costs two slices and one unmasking in C; a byte is copied a
constant number of times however small the pieces are that it arrives in, and however many frames
its message is cut into; memory is bounded by `limit` and one piece of input, whatever the headers
declare.

How: one loop over the piece of input handles the frames that nearly all frames are: final, text,
whole. Every other frame goes through `_read_frame`, slowly and with every check. A frame that has
not come whole waits in one buffer, and nothing is looked at again before it can be read on: the
bytes that this takes are known from its header.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from struct import Struct
from typing import Any, Final, Generic, NamedTuple, TypeVar

from broker.protocol.errors import Reason, RemoteProtocolError
from broker.protocol.limits import MAX_MESSAGE_SIZE
from broker.protocol.websocket_frames import (
    FINAL,
    MASKED,
    MAX_CONTROL_PAYLOAD,
    CloseFrame,
    Opcode,
    Role,
    apply_mask,
    parse_close,
)

__all__ = ["MAX_FRAGMENTS", "MessageReader"]

M = TypeVar("M")

# A message of the largest size in pieces of 64 bytes, the smallest that test suites use for large
# messages. Without a bound, a message of empty fragments would never end, and never be too big.
MAX_FRAGMENTS: Final = MAX_MESSAGE_SIZE // 64

_RESERVED_BITS: Final = 0x70
_CONTROL: Final = 0x8
_OPCODES: Final = frozenset(Opcode)


class _Layout(NamedTuple):
    """How the frames begin that the hot path reads: final, text, length in 7 or 16 bits.

    Attributes:
        unpack: reads the first two bytes as one number, the 16-bit length and the masking key, as
            they stand in a frame with a 16-bit length.
        size: how many bytes it reads, and where in such a frame the payload starts.
        short_start: where the payload starts in a frame with a 7-bit length.
        short: the first two bytes of an empty frame; with a 7-bit length, that is added to them.
        long: the first two bytes of a frame with a 16-bit length.
    """

    unpack: Callable[[bytes, int], tuple[Any, ...]]
    size: int
    short_start: int
    short: int
    long: int


_FINAL_TEXT: Final = (FINAL | Opcode.TEXT) << 8
_LAYOUTS: Final = {
    Role.SERVER: _Layout(
        Struct("!HH4s").unpack_from, 8, 6, _FINAL_TEXT | MASKED, _FINAL_TEXT | MASKED | 126
    ),
    # What comes from a server has no masking key: an empty one is read.
    Role.CLIENT: _Layout(Struct("!HH0s").unpack_from, 4, 2, _FINAL_TEXT, _FINAL_TEXT | 126),
}


class MessageReader(ABC, Generic[M]):
    """Reads one connection's incoming messages.

    Args:
        role: this side's.
        limit: see below.
        first_limit: the largest first message, where that has a bound of its own.
        decode: turns the payload of a text message, which it checks to be UTF-8 (section 8.1), into
            a message. May raise RemoteProtocolError.
        decode_small: the same for payloads of at most `small` bytes, where it can do with less.

    Attributes:
        failure: set when the other side broke the framing, or sent what `decode` refused.
        finished: the other side has sent a close frame.
        limit: the largest message accepted next, in bytes.
    """

    def __init__(
        self,
        role: Role,
        limit: int,
        decode: Callable[[bytes], M],
        first_limit: int | None = None,
        *,
        decode_small: Callable[[bytes], M] | None = None,
        small: int = 0,
    ) -> None:
        self.limit = limit if first_limit is None else first_limit
        self._later_limit = None if first_limit is None else limit
        self.failure: RemoteProtocolError | None = None
        self.finished = False
        self._decode = decode
        self._decode_small = decode_small or decode
        self._small = small
        self._layout = _LAYOUTS[role]
        self._mask_bit = MASKED if role is Role.SERVER else 0
        # The frame that has begun but not ended, and how many bytes it takes to get any further.
        self._partial = bytearray()
        self._needed = 0
        # The payloads of the message that has begun but not ended; None between messages.
        self._fragments: bytearray | None = None
        self._fragment_count = 0

    @abstractmethod
    def received_ping(self, payload: bytes) -> None:
        """Take note of a ping, to be answered with a pong of the same payload (section 5.5.2)."""

    @abstractmethod
    def received_close(self, close: CloseFrame) -> None:
        """Take note of a close frame, to be answered with another (section 5.5.1)."""

    def receive(self, data: bytes) -> list[M]:
        """Take bytes in; return the messages that they complete, in order. Never raises.

        Nothing is read after a failure or a close frame (section 7.1.7, 5.5.1).
        """
        if self.finished or self.failure is not None:
            return []
        if self._partial:
            self._partial += data
            if len(self._partial) < self._needed:
                return []
            data = bytes(self._partial)
            self._partial = bytearray()
        messages: list[M] = []
        try:
            rest = self._read_frames(data, messages)
        except RemoteProtocolError as failure:
            self.failure = failure
            self._fragments = None
        else:
            if rest < len(data) and not self.finished:
                self._partial += data[rest:]
        return messages

    def _read_frames(self, data: bytes, messages: list[M]) -> int:
        """Read whole frames; return where the first one begins that is not whole."""
        unpack, size, short_start, short, long = self._layout
        decode, decode_small, small = self._decode, self._decode_small, self._small
        # Where the first message's bound is the larger one, those behind it must not profit by it.
        limit = self.limit if self._later_limit is None else min(self.limit, self._later_limit)
        position, end = 0, len(data)
        while True:
            # The hot path. What is not read here is left, untouched, for `_read_frame`.
            last = end - size if self._fragments is None else -1
            while position <= last:
                head, length, key = unpack(data, position)
                if head == long and length > 125:
                    start = position + size
                else:
                    length = head - short
                    if not 0 <= length < 126:
                        break
                    start = position + short_start
                    key = data[position + 2 : start]
                stop = start + length
                if stop > end or length > limit:
                    break
                payload = data[start:stop]
                if key:
                    payload = apply_mask(payload, key)
                messages.append(decode_small(payload) if length <= small else decode(payload))
                position = stop
            if messages and self._later_limit is not None:
                # The first message has been read: those after it may be larger.
                self.limit = limit = self._later_limit
                self._later_limit = None
            if end - position < 2:
                self._needed = 2
                return position
            stop = self._read_frame(data, position, messages)
            if stop == position or self.finished:
                return stop
            position = stop

    def _read_frame(self, data: bytes, position: int, messages: list[M]) -> int:
        """Read the frame whose header's first two bytes have come; return where it ends.

        Returns:
            `position`, where more bytes are needed: `_needed` says how many from there on.
        """
        first, second = data[position], data[position + 1]
        opcode, final = first & 0x0F, bool(first & FINAL)
        self._check_header(first, second)
        start = position + 2
        length = second & 0x7F
        if length > 125:
            start += 2 if length == 126 else 8
            if start > len(data):
                self._needed = start - position
                return position
            length = _read_length(data[position + 2 : start])
        if not opcode & _CONTROL:
            self._check_size(length)
        if self._mask_bit:
            start += 4
        stop = start + length
        if stop > len(data):
            self._needed = stop - position
            return position
        payload = data[start:stop]
        if self._mask_bit:
            payload = apply_mask(payload, data[start - 4 : start])
        if opcode & _CONTROL:
            self._handle_control(opcode, payload)
        elif (message := self._assemble(payload, final=final)) is not None:
            messages.append(self._decode(message))
        return stop

    def _check_header(self, first: int, second: int) -> None:
        """Check all that the first two bytes of a header tell.

        Raises:
            RemoteProtocolError: they break a rule.
        """
        opcode = first & 0x0F
        # Section 5.2: reserved bits are 0 unless an extension was negotiated; none ever is here.
        if first & _RESERVED_BITS:
            raise _violation("a frame has reserved bits set; no extension was negotiated")
        # Section 5.2: an unknown opcode fails the connection.
        if opcode not in _OPCODES:
            raise _violation(f"a frame has the reserved opcode {opcode:#x}")
        # Section 5.1: a client masks, a server does not, and each fails on the other.
        if second & MASKED != self._mask_bit:
            raise _violation(
                "a client must mask its frames; this one is not masked"
                if self._mask_bit
                else "a server must not mask its frames; this one is masked"
            )
        if opcode & _CONTROL:
            # Section 5.5: control frames are short and whole.
            if not first & FINAL:
                raise _violation("a control frame is fragmented")
            if second & 0x7F > MAX_CONTROL_PAYLOAD:
                raise _violation(f"a control frame has more than {MAX_CONTROL_PAYLOAD} bytes")
        # Section 5.4: the fragments of one message stand together, control frames aside.
        elif opcode == Opcode.CONTINUATION:
            if self._fragments is None:
                raise _violation("a continuation frame continues nothing")
        elif self._fragments is not None:
            raise _violation("a new message begins before the last fragment of another")
        # Section 7.4.1, 1003: this endpoint understands text only.
        elif opcode == Opcode.BINARY:
            raise RemoteProtocolError(
                Reason.INVALID_PAYLOAD, "messages are text, not binary", close_code=1003
            )

    def _check_size(self, length: int) -> None:
        """Check the declared length of a data frame, before anything is kept of it.

        Raises:
            RemoteProtocolError: the message is larger than `limit`, or cut too small.
        """
        if self._fragments is not None:
            length += len(self._fragments)
            if self._fragment_count >= MAX_FRAGMENTS:
                raise RemoteProtocolError(
                    Reason.MESSAGE_TOO_BIG, f"a message may have at most {MAX_FRAGMENTS} fragments"
                )
        if length > self.limit:
            raise RemoteProtocolError(
                Reason.MESSAGE_TOO_BIG, f"a message may have at most {self.limit} bytes"
            )

    def _assemble(self, payload: bytes, *, final: bool) -> bytes | None:
        """Add a data frame to its message; return the message if that makes it whole."""
        if self._fragments is None:
            if final:
                return payload
            self._fragments = bytearray(payload)
            self._fragment_count = 1
            return None
        self._fragments += payload
        self._fragment_count += 1
        if not final:
            return None
        message = bytes(self._fragments)
        self._fragments = None
        return message

    def _handle_control(self, opcode: int, payload: bytes) -> None:
        if opcode == Opcode.PING:
            self.received_ping(payload)
        elif opcode == Opcode.CLOSE:
            close = parse_close(payload)
            self.finished = True
            self._fragments = None
            self.received_close(close)
        # Section 5.5.3: a pong that nobody asked for is a heartbeat, and wants no answer.


def _read_length(extended: bytes) -> int:
    """Read the 2 or 8 bytes of an extended payload length.

    Raises:
        RemoteProtocolError: section 5.2: not in the fewest bytes possible, or the top bit is set.
    """
    length = int.from_bytes(extended, "big")
    if length >> 63:
        raise _violation("the top bit of a 64-bit payload length is set")
    if length < (126 if len(extended) == 2 else 1 << 16):
        raise _violation(f"the payload length {length} is written in {len(extended)} bytes")
    return length


def _violation(message: str) -> RemoteProtocolError:
    """Section 7.4.1, 1002: a protocol error."""
    return RemoteProtocolError(Reason.INVALID_PAYLOAD, message, close_code=1002)
