"""WebSocket frames as bytes: RFC 6455 section 5.2; what close frames say: sections 5.5.1, 7.4.

Operations: `build_frame`; `build_masked_frame`, with one of `masking_keys`, as a client does;
`close_payload` and `parse_close`. Frames that come in are read, in one loop, by
`broker.protocol.websocket_messages`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import Enum, IntEnum
from struct import Struct
from typing import Final

import attrs

from broker.protocol.errors import LocalProtocolError, Reason, RemoteProtocolError

try:
    from websockets.speedups import apply_mask
except ImportError:  # No C extension on this platform.
    from websockets.utils import apply_mask

__all__ = [
    "FINAL",
    "MASKED",
    "MAX_CONTROL_PAYLOAD",
    "NO_STATUS_RECEIVED",
    "CloseFrame",
    "Opcode",
    "Role",
    "apply_mask",
    "build_frame",
    "build_masked_frame",
    "close_payload",
    "masking_keys",
    "parse_close",
    "text_headers",
]


class Role(Enum):
    """Which end of the connection this side is: a client masks what it sends (section 5.1)."""

    SERVER = "server"
    CLIENT = "client"


class Opcode(IntEnum):
    """Section 5.2. The others, 3 to 7 and 11 to 15, are reserved."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


FINAL: Final = 0x80
MASKED: Final = 0x80

# Section 5.5: the length of a control frame fits the 7 bits of the header.
MAX_CONTROL_PAYLOAD: Final = 125

_LENGTH_16: Final = 126
_LENGTH_64: Final = 127

# How many masking keys are fetched from the system at a time: its random numbers cost a system call
# whatever their number. 4 bytes a key, so 1 KiB waits in each connection of a client.
_KEYS_PER_FETCH: Final = 256

_pack_16: Final = Struct("!BBH").pack
_pack_64: Final = Struct("!BBQ").pack


def _header(opcode: int, length: int, mask_bit: int) -> bytes:
    """Build the header of a final frame, without masking key.

    Section 5.2: the length must be written in the fewest bytes that hold it.
    """
    if length < _LENGTH_16:
        return bytes((FINAL | opcode, mask_bit | length))
    if length < 1 << 16:
        return _pack_16(FINAL | opcode, mask_bit | _LENGTH_16, length)
    return _pack_64(FINAL | opcode, mask_bit | _LENGTH_64, length)


def build_frame(opcode: Opcode, payload: bytes) -> bytes:
    """Build a final frame as a server sends it: unmasked (section 5.1)."""
    return _header(opcode, len(payload), 0) + payload


def masking_keys() -> Iterator[bytes]:
    """Yield keys for ever. Section 5.3: fresh for every frame, and unpredictable.

    An iterator belongs to one connection, and so to one thread.
    """
    while True:
        block = os.urandom(4 * _KEYS_PER_FETCH)
        for start in range(0, len(block), 4):
            yield block[start : start + 4]


def build_masked_frame(opcode: Opcode, payload: bytes, key: bytes) -> bytes:
    """Build a final frame as a client sends it (section 5.3)."""
    return _header(opcode, len(payload), MASKED) + key + apply_mask(payload, key)


def text_headers(mask_bit: int, count: int) -> tuple[bytes, ...]:
    """Return the headers of final text frames with 0 to `count` - 1 bytes, without masking key."""
    return tuple(_header(Opcode.TEXT, length, mask_bit) for length in range(count))


# Section 7.1.5: what a close frame without a payload means. Never sent.
NO_STATUS_RECEIVED: Final = 1005

# Section 7.4.1 and the IANA registry, without the codes that are for local use only (1005, 1006,
# 1015) and the one that is reserved without a meaning (1004).
_PROTOCOL_CLOSE_CODES: Final = frozenset((*range(1000, 1004), *range(1007, 1015)))

# Section 7.4.2: 3000 to 3999 for libraries and frameworks, 4000 to 4999 for private use.
_OTHER_CLOSE_CODES: Final = range(3000, 5000)


@attrs.frozen
class CloseFrame:
    """What a close frame says.

    Attributes:
        code: the close code; `NO_STATUS_RECEIVED` where there was none.
        text: the reason, for people.
    """

    code: int
    text: str


def close_payload(code: int, text: str) -> bytes:
    """Build the payload of a close frame.

    Args:
        code: a close code that may be sent.
        text: the reason; cut between characters to the 123 bytes of UTF-8 that there is room for.

    Raises:
        LocalProtocolError: section 7.4 does not let that code be sent.
    """
    if not _may_be_sent(code):
        raise LocalProtocolError(f"the close code {code} may not be sent")
    # A lone surrogate has no UTF-8; a question mark in a farewell does less harm than an error.
    reason = text.encode(errors="replace")
    room = MAX_CONTROL_PAYLOAD - 2
    if len(reason) > room:
        # What was cut in two at the end is the only thing that can be invalid.
        reason = reason[:room].decode(errors="ignore").encode()
    return code.to_bytes(2, "big") + reason


def parse_close(payload: bytes) -> CloseFrame:
    """Read the payload of a close frame.

    Raises:
        RemoteProtocolError: half a code (section 5.5.1), a code that may not be sent (7.4), or a
            reason that is not UTF-8 (8.1).
    """
    if not payload:
        return CloseFrame(NO_STATUS_RECEIVED, "")
    if len(payload) == 1:
        raise RemoteProtocolError(
            Reason.INVALID_PAYLOAD, "a close frame holds 1 byte, half a close code", close_code=1002
        )
    code = int.from_bytes(payload[:2], "big")
    if not _may_be_sent(code):
        raise RemoteProtocolError(
            Reason.INVALID_PAYLOAD, f"the close code {code} may not be sent", close_code=1002
        )
    try:
        return CloseFrame(code, payload[2:].decode())
    except UnicodeDecodeError as error:
        problem = f"the reason of a close frame is not valid UTF-8: {error.reason}"
        raise RemoteProtocolError(Reason.INVALID_PAYLOAD, problem, close_code=1007) from error


def _may_be_sent(code: int) -> bool:
    return code in _PROTOCOL_CLOSE_CODES or code in _OTHER_CLOSE_CODES
