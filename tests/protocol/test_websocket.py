"""The WebSocket wire, case by case."""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest

from broker.protocol import websocket_messages
from broker.protocol.codec import REFUSED, Envelope
from broker.protocol.errors import LocalProtocolError, Reason
from broker.protocol.limits import MAX_MESSAGE_SIZE
from broker.protocol.websocket import MAX_PENDING_REPLIES, Role, WebSocketWire, frame_text
from broker.protocol.websocket_messages import MAX_FRAGMENTS
from broker.protocol.wire import Wire

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = bytes.fromhex("37fa213d")
BOTH_ROLES = pytest.mark.parametrize("role", list(Role))


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


# Messages


def test_is_a_wire() -> None:
    wire: Wire = server()
    assert wire.limit == MAX_MESSAGE_SIZE
    assert wire.failure is None
    assert not wire.finished


@BOTH_ROLES
@pytest.mark.parametrize("length", [1, 100, 125, 126, 127, 1000, 65535, 65536, 100_000])
def test_what_one_end_frames_the_other_reads(role: Role, length: int) -> None:
    payload = event("x" * max(0, length - len(event(""))))
    other = Role.CLIENT if role is Role.SERVER else Role.SERVER
    sender, receiver = WebSocketWire(role), WebSocketWire(other)
    messages = receiver.receive(sender.frame(payload) * 3)
    assert receiver.failure is None
    assert len(messages) == 3
    assert receiver.take_replies() == b""


@pytest.mark.parametrize("length", [0, 125, 126, 1023, 1024, 65535, 65536])
def test_a_server_frame_is_a_minimal_header_and_the_payload(length: int) -> None:
    payload = b"x" * length
    assert frame_text(payload) == header(TEXT, length, masked=False) + payload


def test_all_server_connections_share_one_framing_function() -> None:
    assert server().frame is frame_text


def test_a_client_masks_each_frame_with_another_key() -> None:
    wire = WebSocketWire(Role.CLIENT)
    keys = {wire.frame(b"{}")[2:6] for _ in range(1000)}
    assert len(keys) > 990


def test_masking_keys_come_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = iter([bytes(range(256)) * 4, b"\xff" * 1024])
    monkeypatch.setattr(os, "urandom", lambda size: next(blocks)[:size])
    wire = WebSocketWire(Role.CLIENT)
    keys = [wire.frame(b"")[2:6] for _ in range(257)]
    assert keys[:2] == [b"\x00\x01\x02\x03", b"\x04\x05\x06\x07"]
    assert keys[256] == b"\xff\xff\xff\xff"


def test_messages_are_decoded_in_order() -> None:
    wire = server()
    data = b"".join(frame(TEXT, event(name)) for name in ("a", "b" * 200, "c"))
    assert data_of(wire.receive(data)) == ["a", "b" * 200, "c"]


def test_a_message_wrong_in_meaning_is_a_refusal() -> None:
    wire = server()
    (message,) = wire.receive(frame(TEXT, b'{"op":0,"timeout":-1}'))
    assert message.op == REFUSED
    assert wire.failure is None


def test_messages_before_a_fault_count_and_nothing_after_it() -> None:
    wire = server()
    good = frame(TEXT, event("good"))
    assert data_of(wire.receive(good + frame(TEXT, b"[]") + good)) == ["good"]
    assert wire.failure is not None
    assert wire.failure.reason is Reason.INVALID_PAYLOAD
    assert wire.receive(good) == []


def test_the_limit_can_be_raised_between_messages() -> None:
    wire = server(limit=100)
    large = frame(TEXT, event("x" * 200))
    assert len(wire.receive(frame(TEXT, event("x")))) == 1
    wire.limit = 1000
    assert len(wire.receive(large)) == 1
    wire.limit = 100
    assert wire.receive(large) == []
    assert wire.failure is not None
    assert wire.failure.close_code == 1009


@pytest.mark.parametrize("length", [100, 300])
def test_the_limit_itself_is_not_too_big(length: int) -> None:
    payload = event("x" * (length - len(event(""))))
    assert len(server(limit=length).receive(frame(TEXT, payload))) == 1
    assert server(limit=length - 1).receive(frame(TEXT, payload)) == []


def test_without_the_c_extension_messages_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from websockets.utils import apply_mask

    monkeypatch.setattr(websocket_messages, "apply_mask", apply_mask)
    wire = server()
    assert data_of(wire.receive(frame(TEXT, event("é" * 7)))) == ["é" * 7]


# Faults

TOO_BIG = "a message may have at most 1048576 bytes"
FAULTS: dict[str, tuple[bytes, int, str]] = {
    "reserved bit 1": (
        header(TEXT, 0, reserved=4),
        1002,
        "a frame has reserved bits set; no extension was negotiated",
    ),
    "reserved bit 3 on a control frame": (
        header(PING, 0, reserved=1),
        1002,
        "a frame has reserved bits set; no extension was negotiated",
    ),
    "reserved opcode": (header(0x3, 0), 1002, "a frame has the reserved opcode 0x3"),
    "reserved control opcode": (header(0xF, 0), 1002, "a frame has the reserved opcode 0xf"),
    "not masked": (
        frame(TEXT, event("x"), masked=False),
        1002,
        "a client must mask its frames; this one is not masked",
    ),
    "ping not masked": (
        frame(PING, masked=False),
        1002,
        "a client must mask its frames; this one is not masked",
    ),
    "fragmented ping": (header(PING, 0, final=False), 1002, "a control frame is fragmented"),
    "long ping": (header(PING, 126), 1002, "a control frame has more than 125 bytes"),
    "long close": (header(CLOSE, 1 << 20), 1002, "a control frame has more than 125 bytes"),
    "continuation of nothing": (
        header(CONTINUATION, 1),
        1002,
        "a continuation frame continues nothing",
    ),
    "continuation after the end": (
        frame(TEXT, b'{"op":', final=False) + frame(CONTINUATION, b"3}") + header(CONTINUATION, 0),
        1002,
        "a continuation frame continues nothing",
    ),
    "message inside a message": (
        frame(TEXT, b"{", final=False) + header(TEXT, 1),
        1002,
        "a new message begins before the last fragment of another",
    ),
    "binary inside a message": (
        frame(TEXT, b"{", final=False) + header(BINARY, 1),
        1002,
        "a new message begins before the last fragment of another",
    ),
    "16-bit length too long a form": (
        header(TEXT, 125, size=2),
        1002,
        "the payload length 125 is written in 2 bytes",
    ),
    "whole frame with too long a form": (
        header(TEXT, 10, size=2) + KEY + xor(b'{"op":3}  ', KEY),
        1002,
        "the payload length 10 is written in 2 bytes",
    ),
    "64-bit length too long a form": (
        header(TEXT, 65535, size=8),
        1002,
        "the payload length 65535 is written in 8 bytes",
    ),
    "64-bit length with the top bit": (
        header(TEXT, 1 << 63, size=8),
        1002,
        "the top bit of a 64-bit payload length is set",
    ),
    "close with half a code": (
        frame(CLOSE, b"\x03"),
        1002,
        "a close frame holds 1 byte, half a close code",
    ),
    "close with a local code": (close(1006), 1002, "the close code 1006 may not be sent"),
    "close with a reason that is not UTF-8": (
        close(1000, b"\xce\xba\xff"),
        1007,
        "the reason of a close frame is not valid UTF-8: invalid start byte",
    ),
    "text that is not UTF-8": (
        frame(TEXT, b'{"op":0,"data":"\xff"}'),
        1007,
        "not valid UTF-8: invalid start byte (byte 16)",
    ),
    "binary": (header(BINARY, 5), 1003, "messages are text, not binary"),
    "fragmented binary": (
        header(BINARY, 5, final=False),
        1003,
        "messages are text, not binary",
    ),
    "not JSON": (frame(TEXT, b""), 4002, "not JSON: Input data was truncated"),
    "one byte too big": (header(TEXT, MAX_MESSAGE_SIZE + 1), 1009, TOO_BIG),
    "far too big": (header(TEXT, (1 << 63) - 1), 1009, TOO_BIG),
    "first fragment too big": (header(TEXT, MAX_MESSAGE_SIZE + 1, final=False), 1009, TOO_BIG),
    "fragments together too big": (
        frame(TEXT, b"x", final=False) + header(CONTINUATION, MAX_MESSAGE_SIZE),
        1009,
        TOO_BIG,
    ),
}


@pytest.mark.parametrize(("data", "code", "text"), FAULTS.values(), ids=FAULTS.keys())
def test_fault(data: bytes, code: int, text: str) -> None:
    wire = server()
    wire.receive(data)
    failure = wire.failure
    assert failure is not None
    assert (failure.close_code, str(failure)) == (code, text)
    too_big = Reason.MESSAGE_TOO_BIG
    assert failure.reason is (too_big if code == 1009 else Reason.INVALID_PAYLOAD)
    assert not wire.finished


def test_a_client_refuses_masked_frames() -> None:
    wire = WebSocketWire(Role.CLIENT)
    wire.receive(frame(TEXT, event("x")))
    assert wire.failure is not None
    assert wire.failure.close_code == 1002
    assert str(wire.failure) == "a server must not mask its frames; this one is masked"


# What is owed to the other side


def test_pings_are_answered_in_order() -> None:
    wire = server()
    wire.receive(frame(PING, b"one") + frame(PONG, b"alone") + frame(PING, b"two"))
    assert frames_in(wire.take_replies()) == [(0x80 | PONG, b"one"), (0x80 | PONG, b"two")]
    assert wire.take_replies() == b""


def test_a_client_masks_its_pongs() -> None:
    wire = WebSocketWire(Role.CLIENT)
    wire.receive(frame(PING, b"one", masked=False))
    reply = wire.take_replies()
    assert reply[:2] == bytes((0x80 | PONG, 0x80 | 3))
    assert xor(reply[6:], reply[2:6]) == b"one"


def test_a_flood_of_pings_keeps_replies_small_and_the_last_ping_answered() -> None:
    wire = server()
    for number in range(10_000):
        wire.receive(frame(PING, b"%0125d" % number))
        assert len(wire._replies) <= MAX_PENDING_REPLIES
    assert frames_in(wire.take_replies())[-1] == (0x80 | PONG, b"%0125d" % 9999)


def test_a_close_is_echoed_with_its_code() -> None:
    wire = server()
    wire.receive(frame(PING, b"p") + close(1001, b"moving on") + frame(TEXT, event("x")))
    assert wire.finished
    assert wire.failure is None
    assert wire.close is not None
    assert (wire.close.code, wire.close.text) == (1001, "moving on")
    assert frames_in(wire.take_replies()) == [(0x80 | PONG, b"p"), (0x80 | CLOSE, b"\x03\xe9")]
    assert wire.receive(frame(TEXT, event("x"))) == []
    assert wire.goodbye(1000, "") == b""


def test_a_close_without_code_is_echoed_without_code() -> None:
    wire = server()
    wire.receive(close())
    assert wire.close is not None
    assert (wire.close.code, wire.close.text) == (1005, "")
    assert frames_in(wire.take_replies()) == [(0x80 | CLOSE, b"")]


def test_the_answer_to_a_goodbye_is_not_answered() -> None:
    wire = server()
    assert frames_in(wire.goodbye(1012, "restart")) == [(0x80 | CLOSE, b"\x03\xf4restart")]
    assert data_of(wire.receive(frame(TEXT, event("late")))) == ["late"]
    wire.receive(frame(PING) + close(1012))
    assert wire.finished
    assert wire.take_replies() == b""


def test_nothing_is_sent_after_a_goodbye() -> None:
    wire = server()
    wire.receive(frame(PING))
    assert wire.goodbye(1000, "")
    assert wire.goodbye(1000, "") == b""
    assert wire.take_replies() == b""


def test_a_client_masks_its_goodbye() -> None:
    wire = WebSocketWire(Role.CLIENT)
    goodbye = wire.goodbye(1000, "bye")
    assert goodbye[:2] == bytes((0x80 | CLOSE, 0x80 | 5))
    assert xor(goodbye[6:], goodbye[2:6]) == b"\x03\xe8bye"


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("", ""),
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("é" * 62, "é" * 61),
        ("x" * 122 + "é", "x" * 122),
        ("x" * 121 + "\U0001f600", "x" * 121),
        ("lone \ud800", "lone ?"),
    ],
)
def test_the_text_of_a_goodbye_is_cut_between_characters(text: str, sent: str) -> None:
    ((_, payload),) = frames_in(server().goodbye(1000, text))
    assert payload == b"\x03\xe8" + sent.encode()


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 70000])
def test_a_goodbye_needs_a_code_that_may_be_sent(code: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"the close code {code} may not be sent"):
        server().goodbye(code, "")


def test_every_reason_can_be_sent() -> None:
    for reason in Reason:
        assert server().goodbye(reason.close_code, reason)


# Bounds, by counting


class CountingWire(WebSocketWire):
    """Counts the bytes that are read, or read again: each pass copies them once."""

    copied = 0
    passes = 0

    def _read_frames(self, data: bytes, messages: list[Envelope]) -> int:  # type: ignore[override]
        self.copied += len(data)
        self.passes += 1
        return super()._read_frames(data, messages)  # type: ignore[arg-type]


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Measure the largest amount of memory in use inside, over what is in use now; bytes."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        yield lambda: tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_a_large_message_in_small_pieces_is_read_once(piece: int) -> None:
    wire = CountingWire(Role.SERVER)
    data = frame(TEXT, event("x" * 100_000))
    messages = []
    for start in range(0, len(data), piece):
        messages += wire.receive(data[start : start + piece])
    assert data_of(messages) == ["x" * 100_000]
    # Once for the first two bytes, once for the length, once for the whole.
    assert wire.passes <= 4
    assert wire.copied <= len(data) + 3 * (piece + 14)


def test_many_messages_in_small_pieces_are_read_a_constant_number_of_times() -> None:
    wire = CountingWire(Role.SERVER)
    data = frame(TEXT, event("x" * 300)) * 200
    for start in range(len(data)):
        wire.receive(data[start : start + 1])
    assert wire.passes <= 4 * 200
    assert wire.copied <= len(data) + 200 * 3 * 14


def test_a_declared_length_takes_no_memory() -> None:
    wire = server(limit=1 << 40)
    with peak_memory() as peak:
        wire.receive(header(TEXT, 1 << 39) + KEY + b"x" * 1000)
        assert peak() < 10_000
    assert wire.failure is None


def test_a_partial_message_takes_no_more_than_the_limit_and_a_piece() -> None:
    limit, piece = 100_000, b"x" * 1000
    wire = server(limit=limit)
    with peak_memory() as peak:
        wire.receive(header(TEXT, limit) + KEY)
        for _ in range(limit // len(piece) - 1):
            wire.receive(piece)
        # A bytearray that grows may reserve an eighth more, and is moved while it does.
        assert peak() < 2.5 * limit
        assert wire.failure is None


@pytest.mark.parametrize("payload", [b"", b" "])
def test_a_message_has_a_bounded_number_of_fragments(payload: bytes) -> None:
    wire = server()
    with peak_memory() as peak:
        wire.receive(frame(TEXT, payload, final=False))
        for _ in range(MAX_FRAGMENTS - 1):
            wire.receive(frame(CONTINUATION, payload, final=False))
        assert wire.failure is None
        assert peak() < 100_000
        wire.receive(header(CONTINUATION, 0, final=False))
    assert wire.failure is not None
    assert wire.failure.close_code == 1009
    assert str(wire.failure) == f"a message may have at most {MAX_FRAGMENTS} fragments"


def test_a_message_of_the_most_fragments_is_read() -> None:
    payload = event("x" * (MAX_FRAGMENTS - len(event(""))))
    fragments = [
        frame(CONTINUATION if i else TEXT, payload[i : i + 1], final=i == MAX_FRAGMENTS - 1)
        for i in range(MAX_FRAGMENTS)
    ]
    wire = server()
    assert len(wire.receive(b"".join(fragments))) == 1
    assert len(wire.receive(b"".join(fragments))) == 1


def test_a_fragment_costs_the_same_however_many_came_before() -> None:
    wire = server()
    wire.receive(frame(TEXT, b" ", final=False))
    fragments = frame(CONTINUATION, b" ", final=False) * 1000
    costs = []
    for _ in range(5):
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(count)
        try:
            wire.receive(fragments)
        finally:
            sys.setprofile(None)
        costs.append(calls)
    assert len(set(costs)) == 1


def test_control_frames_do_not_count_as_fragments() -> None:
    wire = server()
    wire.receive(frame(TEXT, b'{"op":', final=False))
    for _ in range(20):
        wire.receive(frame(PING) * 1000)
    assert len(wire.receive(frame(CONTINUATION, b"3}"))) == 1


# The Autobahn test suite's case families, in short. A family in brackets is about binary messages,
# which this endpoint does not take, or about performance or compression.


def fragments(*payloads: bytes, between: bytes = b"") -> bytes:
    last = len(payloads) - 1
    return between.join(
        frame(CONTINUATION if i else TEXT, payload, final=i == last)
        for i, payload in enumerate(payloads)
    )


HELLO = event("Hello, world!")
PARTS = (HELLO[:5], HELLO[5:11], HELLO[11:])
UTF8 = event("κόσμε \U0010ffff")
OK, DONE = None, 0

AUTOBAHN: dict[str, tuple[bytes, int, int | None, list[bytes]]] = {
    # case: (bytes, messages, failure (OK: none; DONE: closed in good order), pongs)
    **{
        f"1.1 text of {n}": (frame(TEXT, event("x" * n)), 1, OK, [])
        for n in (0, 109, 110, 111, 112, 65519, 65520)
    },
    "1.2 binary": (frame(BINARY, b"\xfe" * 125), 0, 1003, []),
    "2.1 ping": (frame(PING), 0, OK, [b""]),
    "2.2 ping with text": (frame(PING, b"Hello"), 0, OK, [b"Hello"]),
    "2.3 ping with bytes": (frame(PING, b"\x00\xff\xfe"), 0, OK, [b"\x00\xff\xfe"]),
    "2.4 ping of 125": (frame(PING, b"\xfe" * 125), 0, OK, [b"\xfe" * 125]),
    "2.5 ping of 126": (frame(PING, b"\xfe" * 126), 0, 1002, []),
    "2.7 pong": (frame(PONG), 0, OK, []),
    "2.8 pong with text": (frame(PONG, b"x"), 0, OK, []),
    "2.9 pong, ping": (frame(PONG, b"x") + frame(PING, b"y"), 0, OK, [b"y"]),
    "2.10 ten pings": (
        b"".join(frame(PING, b"%d" % i) for i in range(10)),
        0,
        OK,
        [b"%d" % i for i in range(10)],
    ),
    "3.1 reserved bits 1": (header(TEXT, 0, reserved=1) + KEY, 0, 1002, []),
    "3.2 reserved bits 2 after text": (
        frame(TEXT, HELLO) + header(TEXT, 0, reserved=2) + KEY + frame(PING),
        1,
        1002,
        [],
    ),
    "3.5 reserved bits 5 on binary": (header(BINARY, 0, reserved=5) + KEY, 0, 1002, []),
    "3.6 reserved bits 6 on ping": (header(PING, 0, reserved=6) + KEY, 0, 1002, []),
    "3.7 reserved bits 7 on close": (header(CLOSE, 0, reserved=7) + KEY, 0, 1002, []),
    **{f"4.1 opcode {n}": (frame(n), 0, 1002, []) for n in range(3, 8)},
    **{f"4.2 opcode {n}": (frame(TEXT, HELLO) + frame(n), 1, 1002, []) for n in range(11, 16)},
    "5.1 fragmented ping": (frame(PING, final=False) + frame(CONTINUATION), 0, 1002, []),
    "5.2 fragmented pong": (frame(PONG, final=False) + frame(CONTINUATION), 0, 1002, []),
    "5.3 two fragments": (fragments(*PARTS[:1], b"".join(PARTS[1:])), 1, OK, []),
    "5.6 ping between fragments": (
        fragments(*PARTS, between=frame(PING, b"p")),
        1,
        OK,
        [b"p", b"p"],
    ),
    "5.9 continuation of nothing": (frame(CONTINUATION, b"x") + frame(TEXT, HELLO), 0, 1002, []),
    "5.12 open continuation of nothing": (
        frame(CONTINUATION, b"x", final=False) + frame(TEXT, HELLO),
        0,
        1002,
        [],
    ),
    "5.15 continuation after the end": (
        fragments(*PARTS) + frame(CONTINUATION, b"x", final=False),
        1,
        1002,
        [],
    ),
    "5.18 text instead of continuation": (
        frame(TEXT, PARTS[0], final=False) + frame(TEXT, PARTS[1]),
        0,
        1002,
        [],
    ),
    "5.19 five fragments, pings": (
        fragments(*PARTS, b" ", b" ", between=frame(PING, b"p")),
        1,
        OK,
        [b"p"] * 4,
    ),
    "6.1 empty fragments": (fragments(b"", HELLO, b"", b""), 1, OK, []),
    "6.2 valid UTF-8": (frame(TEXT, UTF8), 1, OK, []),
    "6.2 valid UTF-8 in single bytes": (
        fragments(*(UTF8[i : i + 1] for i in range(len(UTF8)))),
        1,
        OK,
        [],
    ),
    **{
        f"6.3 to 6.21 invalid UTF-8 {text.hex()}": (
            frame(TEXT, b'{"op":0,"data":"' + text + b'"}'),
            0,
            1007,
            [],
        )
        for text in (
            b"\xce\xba\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xf8\x88\x80\x80\x80",
            b"\x80",
            b"\xc0\xaf",
            b"\xe0\x80\x80",
            b"\xed\xbf\xbf",
            b"\xce",
            b"\xff",
        )
    },
    "6.4 invalid UTF-8 in a fragment": (
        fragments(b'{"op":0,"data":"\xf4', b"\x90", b'\x80\x80"}'),
        0,
        1007,
        [],
    ),
    "7.1.1 text, close": (frame(TEXT, HELLO) + close(1000), 1, DONE, []),
    "7.1.2 two closes": (close(1000) + close(1000), 0, DONE, []),
    "7.1.3 ping after close": (close(1000) + frame(PING), 0, DONE, []),
    "7.1.4 text after close": (close(1000) + frame(TEXT, HELLO), 0, DONE, []),
    "7.1.5 close inside a message": (
        frame(TEXT, PARTS[0], final=False) + close(1000) + frame(CONTINUATION, PARTS[1]),
        0,
        DONE,
        [],
    ),
    "7.3.1 empty close": (close(), 0, DONE, []),
    "7.3.2 close of 1": (frame(CLOSE, b"a"), 0, 1002, []),
    "7.3.4 close with a reason": (close(1000, b"Hello"), 0, DONE, []),
    "7.3.5 close with the longest reason": (close(1000, b"*" * 123), 0, DONE, []),
    "7.3.6 close with a reason too long": (close(1000, b"*" * 124), 0, 1002, []),
    "7.5.1 close with invalid UTF-8": (close(1000, b"\xce\xba\xed\xa0\x80"), 0, 1007, []),
    **{
        f"7.7 close {code}": (close(code), 0, DONE, [])
        for code in (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999)
    },
    **{
        f"7.9, 7.13 close {code}": (close(code), 0, 1002, [])
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
}


@pytest.mark.parametrize("piece", [1 << 20, 997, 1], ids=["whole", "997 bytes", "single bytes"])
@pytest.mark.parametrize(
    ("data", "count", "outcome", "pongs"), AUTOBAHN.values(), ids=AUTOBAHN.keys()
)
def test_autobahn(
    data: bytes, count: int, outcome: int | None, pongs: list[bytes], piece: int
) -> None:
    wire = server()
    messages = []
    for start in range(0, len(data), piece):
        messages += wire.receive(data[start : start + piece])
    assert len(messages) == count
    assert wire.finished == (outcome == DONE)
    assert (wire.failure and wire.failure.close_code) == (outcome or None)
    replies = frames_in(wire.take_replies())
    if outcome == DONE:
        opcode, payload = replies.pop()
        assert opcode == 0x80 | CLOSE
        assert len(payload) in (0, 2)
    assert replies == [(0x80 | PONG, payload) for payload in pongs]
