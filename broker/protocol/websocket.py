"""The wire of a WebSocket: one JSON object a text message, both roles (RFC 6455)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from broker.protocol.codec import (
    Envelope,
    Message,
    decode_shallow,
    encode,
    encode_lines,
    make_decoder,
)
from broker.protocol.limits import MAX_MESSAGE_SIZE, MAX_NESTING
from broker.protocol.nesting import LEAST_LEVEL
from broker.protocol.websocket_frames import (
    MASKED,
    NO_STATUS_RECEIVED,
    CloseFrame,
    Opcode,
    Role,
    apply_mask,
    build_frame,
    build_masked_frame,
    close_payload,
    masking_keys,
    text_headers,
)
from broker.protocol.websocket_messages import MessageReader
from broker.protocol.wire import EnvelopeFramer, Framer

__all__ = ["MAX_PENDING_REPLIES", "Role", "WebSocketWire", "frame_text"]

# Pongs that wait to be sent, in bytes: 32 of the largest. A client that floods with pings, or does
# not read, can not make the broker's memory grow.
MAX_PENDING_REPLIES: Final = 4096

# The headers of text frames by payload length, made beforehand for the lengths of nearly all
# messages: 40 KiB a role.
_PREPARED: Final = 1024
_HEADERS: Final = text_headers(0, _PREPARED)
_MASKED_HEADERS: Final = text_headers(MASKED, _PREPARED)


def frame_text(payload: bytes) -> bytes:
    """Put a message into a text frame as a server sends it. All server connections share this."""
    length = len(payload)
    if length < _PREPARED:
        return _HEADERS[length] + payload
    return build_frame(Opcode.TEXT, payload)


def frame_texts(envelopes: Sequence[Envelope]) -> bytes:
    """Put messages into text frames, one a message, as a server sends them."""
    if len(envelopes) == 1:
        return frame_text(encode(envelopes[0]))
    lines = encode_lines(envelopes)
    if lines is None:
        return b"".join([frame_text(encode(envelope)) for envelope in envelopes])
    return b"".join([frame_text(line[:-1]) for line in lines])


def _masked_text_framer(keys: Iterator[bytes]) -> Framer:
    """Return what `frame_text` is for one connection of a client."""

    def frame_masked_text(payload: bytes) -> bytes:
        length = len(payload)
        key = next(keys)
        if length < _PREPARED:
            return _MASKED_HEADERS[length] + key + apply_mask(payload, key)
        return build_masked_frame(Opcode.TEXT, payload, key)

    return frame_masked_text


class WebSocketWire(MessageReader[Message]):
    """One connection's framing after the opening handshake: a `broker.protocol.wire.Wire`.

    Args:
        role: this side's.
        limit: the largest message accepted, in bytes. May be changed at any time.
        first_limit: the same for the first message alone, where that has a bound of its own.
        nesting: how deep `data` and `error` may be nested.

    Attributes:
        close: what the other side's close frame said, once it has come: why a client was sent away.
    """

    def __init__(
        self,
        role: Role,
        limit: int = MAX_MESSAGE_SIZE,
        first_limit: int | None = None,
        nesting: int = MAX_NESTING,
    ) -> None:
        super().__init__(
            role,
            limit,
            make_decoder(nesting),
            first_limit,
            decode_small=decode_shallow,
            small=nesting * LEAST_LEVEL,
        )
        self.close: CloseFrame | None = None
        self._keys = masking_keys() if role is Role.CLIENT else None
        self.frame: Framer = frame_text if self._keys is None else _masked_text_framer(self._keys)
        self.frame_all: EnvelopeFramer = (
            frame_texts if self._keys is None else self._frame_masked_texts
        )
        self._replies = bytearray()
        # Section 5.5.1: nothing is sent after a close frame, not even a second one.
        self._sent_close = False

    def take_replies(self) -> bytes:
        """Return the pongs and the close frame that are owed, and forget them."""
        if not self._replies:
            return b""
        replies = bytes(self._replies)
        self._replies.clear()
        return replies

    def goodbye(self, close_code: int, text: str) -> bytes:
        """Return a close frame; empty where one was sent before, or is owed as a reply.

        Replies that were not taken are dropped, since nothing may follow a close frame.

        Args:
            close_code: a code that section 7.4 lets be sent.
            text: the reason, for people; cut to 123 bytes of UTF-8, between characters.

        Raises:
            LocalProtocolError: another code.
        """
        payload = close_payload(close_code, text)
        if self._sent_close:
            return b""
        self._sent_close = True
        self._replies.clear()
        return self._build(Opcode.CLOSE, payload)

    def received_ping(self, payload: bytes) -> None:
        """Owe a pong."""
        if self._sent_close:
            return
        pong = self._build(Opcode.PONG, payload)
        if len(self._replies) + len(pong) > MAX_PENDING_REPLIES:
            # Section 5.5.3: where pongs are late, one for the most recent ping is enough.
            self._replies.clear()
        self._replies += pong

    def received_close(self, close: CloseFrame) -> None:
        """Owe a close frame with the same code, unless this one answers ours (section 5.5.1)."""
        self.close = close
        if self._sent_close:
            return
        self._sent_close = True
        payload = b"" if close.code == NO_STATUS_RECEIVED else close_payload(close.code, "")
        self._replies += self._build(Opcode.CLOSE, payload)

    def _frame_masked_texts(self, envelopes: Sequence[Envelope]) -> bytes:
        return b"".join([self.frame(encode(envelope)) for envelope in envelopes])

    def _build(self, opcode: Opcode, payload: bytes) -> bytes:
        if self._keys is None:
            return build_frame(opcode, payload)
        return build_masked_frame(opcode, payload, next(self._keys))
