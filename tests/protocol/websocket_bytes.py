"""WebSocket frames built and taken apart by hand, independently of the code under test."""

from __future__ import annotations

from collections.abc import Iterable

from broker.protocol.codec import Envelope
from broker.protocol.limits import MAX_MESSAGE_SIZE
from broker.protocol.websocket import Role, WebSocketWire

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = bytes.fromhex("37fa213d")


def xor(payload: bytes, key: bytes) -> bytes:
    return bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def header(
    opcode: int,
    length: int,
    *,
    masked: bool = True,
    final: bool = True,
    reserved: int = 0,
    size: int | None = None,
) -> bytes:
    """Build a header by hand; `size` forces the bytes of the extended length (0, 2 or 8)."""
    if size is None:
        size = 0 if length < 126 else 2 if length < 1 << 16 else 8
    short = {0: length, 2: 126, 8: 127}[size]
    first = (0x80 if final else 0) | reserved << 4 | opcode
    second = (0x80 if masked else 0) | short
    return bytes((first, second)) + (length.to_bytes(size, "big") if size else b"")


def frame(opcode: int, payload: bytes = b"", *, masked: bool = True, final: bool = True) -> bytes:
    """Build a frame; masked, as a client sends it."""
    head = header(opcode, len(payload), masked=masked, final=final)
    return head + KEY + xor(payload, KEY) if masked else head + payload


def close(code: int | None = None, text: bytes = b"", *, masked: bool = True) -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + text, masked=masked)


def event(data: str) -> bytes:
    return f'{{"op":0,"data":"{data}"}}'.encode()


def data_of(messages: Iterable[object]) -> list[str]:
    found = []
    for message in messages:
        assert isinstance(message, Envelope)
        found.append(bytes(message.data).decode()[1:-1])  # type: ignore[arg-type]
    return found


def frames_in(data: bytes) -> list[tuple[int, bytes]]:
    """Take apart short unmasked frames."""
    found = []
    while data:
        assert data[1] < 126
        found.append((data[0], data[2 : 2 + data[1]]))
        data = data[2 + data[1] :]
    return found


def server(limit: int = MAX_MESSAGE_SIZE) -> WebSocketWire:
    return WebSocketWire(Role.SERVER, limit)
