"""The WebSocket wire: messages, faults, and what is owed to the other side."""

from __future__ import annotations

import os

import msgspec
import pytest

from broker.protocol import websocket_messages
from broker.protocol.codec import REFUSED, Envelope, encode
from broker.protocol.errors import LocalProtocolError, Reason
from broker.protocol.limits import MAX_MESSAGE_SIZE
from broker.protocol.websocket import MAX_PENDING_REPLIES, Role, WebSocketWire, frame_text
from broker.protocol.wire import Wire
from tests.protocol.websocket_bytes import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    close,
    data_of,
    event,
    frame,
    frames_in,
    header,
    server,
    xor,
)

BOTH_ROLES = pytest.mark.parametrize("role", list(Role))


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
    assert len(wire.receive(large)) == 1
    wire.limit = 100
    assert wire.receive(large) == []
    assert wire.failure is not None
    assert wire.failure.close_code == 1009


FIRST = frame(TEXT, b'{"op":1}')
LARGE = frame(TEXT, event("x" * 200))
IN_PIECES = frame(TEXT, b'{"op"', final=False) + frame(PING) + frame(CONTINUATION, b":1}")


@pytest.mark.parametrize("first", [FIRST, IN_PIECES], ids=["whole", "in fragments"])
@pytest.mark.parametrize("piece", [1 << 20, 50, 1], ids=["whole", "50 bytes", "single bytes"])
def test_the_first_message_may_have_a_limit_of_its_own(first: bytes, piece: int) -> None:
    wire = WebSocketWire(Role.SERVER, 1000, first_limit=100)
    assert wire.limit == 100
    data = first + LARGE + LARGE
    messages = []
    for start in range(0, len(data), piece):
        messages += wire.receive(data[start : start + piece])
    assert wire.failure is None
    assert len(messages) == 3
    assert wire.limit == 1000


@pytest.mark.parametrize(
    "data", [LARGE + FIRST, frame(PING) + LARGE, frame(TEXT, b"{", final=False) + header(0, 100)]
)
def test_a_first_message_over_its_limit_is_too_big(data: bytes) -> None:
    wire = WebSocketWire(Role.SERVER, 1000, first_limit=100)
    assert wire.receive(data) == []
    assert wire.failure is not None
    assert str(wire.failure) == "a message may have at most 100 bytes"


def test_a_limit_set_after_the_first_message_stays() -> None:
    wire = WebSocketWire(Role.SERVER, 100, first_limit=50)
    assert len(wire.receive(FIRST)) == 1
    wire.limit = 1000
    assert len(wire.receive(LARGE)) == 1
    assert len(wire.receive(LARGE)) == 1


@BOTH_ROLES
@pytest.mark.parametrize(
    "data",
    [[], ["1"], ["1", '"two"', "3"], ["[1,\n2]", "3"], ["[\r\n]"] * 2, ['"' + "x" * 70_000 + '"']],
)
def test_envelopes_framed_together_are_what_they_are_one_by_one(
    role: Role, data: list[str]
) -> None:
    sender = WebSocketWire(role)
    envelopes = [Envelope(0, event="e", data=msgspec.Raw(value.encode())) for value in data]
    receiver = WebSocketWire(Role.CLIENT if role is Role.SERVER else Role.SERVER)
    together = sender.frame_all(envelopes)
    if role is Role.SERVER:
        assert together == b"".join(frame_text(encode(envelope)) for envelope in envelopes)
    assert receiver.receive(together) == envelopes


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
    "too long a form, and more behind it": (
        header(TEXT, 10, size=2) + KEY + b"x" * 1000,
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
    "not JSON": (
        frame(TEXT, b""),
        4002,
        "not JSON: it ends too early, or a string holds half a surrogate pair",
    ),
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
