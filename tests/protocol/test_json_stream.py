"""Framing of a raw stream: both flavours, cut anywhere, good or bad."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.protocol.codec import Envelope, Message, Refusal, decode, decode_lines, encode
from broker.protocol.errors import Reason, RemoteProtocolError
from broker.protocol.json_stream import JsonStream, frame_line, frame_lines

# -- Input -----------------------------------------------------------------------------------------

# What could be taken for the end of something.
texts = st.text('{}[]",:\\\n\r \t\u00e9\u2028\U0001f600a0', max_size=12)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        texts,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=10,
)
frames = st.fixed_dictionaries(
    {"op": st.integers(0, 5)},
    optional={
        "data": values,
        "id": st.one_of(st.text("ab{}", min_size=1, max_size=4), st.just(7)),
        "event": st.just("E"),
        "unknown": values,
        "intent": st.sampled_from(
            [{"target": "GLOBAL"}, {"target": "nobody"}, {"target": "DIRECT", "identifier": "}"}]
        ),
    },
)


def write(frame: dict[str, Any], style: str) -> bytes:
    """One object, the way some program writes it."""
    if style == "pretty":
        return json.dumps(frame, indent=2, ensure_ascii=False).encode()
    if style == "crlf":
        return json.dumps(frame, indent=1).replace("\n", "\r\n").encode()
    if style == "spaced":
        return json.dumps(frame, separators=(" ,\t", " : ")).encode()
    return json.dumps(frame, separators=(",", ":"), ensure_ascii=False).encode()


messages = st.builds(write, frames, st.sampled_from(["compact", "pretty", "crlf", "spaced"]))
separators = st.sampled_from([b"", b"", b"\n", b"\n", b"\r\n", b" ", b"\t\n\n \r"])
streams = st.lists(st.tuples(messages, separators), max_size=8)
places = st.lists(st.integers(0, 5000), max_size=8)

# Bytes that cannot be the beginning of a frame, or that are a frame's but make none.
garbage = st.sampled_from(
    [
        b"x",
        b"}",
        b"]",
        b'"',
        b"[]",
        b"\0",
        b"\xef\xbb\xbf{}",
        b"{}",
        b'{"op":6}',
        b'{"op":"0"}',
        b"{x}",
        b'{"op":0,}',
        b'{"op":0,"data":"\xff"}',
        b'{"op":0,"data":[}',
        b'{"op":0]}',
        b'{"op":0,"a":"\n"}',
        b'{"op":0 "}"}',
        b'{"op":0\\}"}',
        b'{"op":0}}',
    ]
)


def cut(data: bytes, where: Iterable[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in where} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def read(stream: JsonStream, pieces: Iterable[bytes]) -> list[bytes]:
    return [encode(message) for piece in pieces for message in stream.receive(piece)]


def expected(texts: Iterable[bytes]) -> list[bytes]:
    return [encode(decode(text)) for text in texts]


# -- Any frames, in any flavour, cut anywhere ------------------------------------------------------


@given(streams, places)
def test_frames_are_found_wherever_the_bytes_are_cut(
    stream: list[tuple[bytes, bytes]], where: list[int]
) -> None:
    data = b"".join(message + separator for message, separator in stream)
    wire = JsonStream()

    assert read(wire, cut(data, where)) == expected(message for message, _ in stream)
    assert wire.failure is None
    assert not wire.finished


@given(streams, places, garbage, st.sampled_from([b"", b"\n", b'{"op":3}\n', b"x" * 100]))
@example([(b'{"op":0}', b"")], [], b'{"op":0}}', b"")
def test_what_comes_before_garbage_counts_and_nothing_behind_it(
    stream: list[tuple[bytes, bytes]], where: list[int], bad: bytes, behind: bytes
) -> None:
    good = b"".join(message + separator for message, separator in stream)
    wire = JsonStream()
    wanted = expected(message for message, _ in stream)
    if bad == b'{"op":0}}':  # A good one, and a brace too many.
        wanted += expected([b'{"op":0}'])

    assert read(wire, cut(good + bad + b"\n" + behind, where)) == wanted
    assert wire.failure is not None
    assert wire.failure.reason in (Reason.INVALID_PAYLOAD, Reason.UNKNOWN_OP)
    assert wire.receive(b'{"op":3}\n') == []
    assert wire.receive(b"") == []


@given(streams, places, st.sampled_from([1, 10, 100]))
def test_with_a_first_limit_nothing_else_changes(
    stream: list[tuple[bytes, bytes]], where: list[int], more: int
) -> None:
    data = b"".join(message + separator for message, separator in stream)
    first = len(stream[0][0]) if stream else 1
    wire = JsonStream(first_limit=first + more)

    assert read(wire, cut(data, where)) == expected(message for message, _ in stream)
    assert wire.failure is None


TRICKY = [
    b'{"op":0,"data":"}{\\"}"}',
    b'{"op":0,"data":"\\\\"}',
    b'{"op":0,"data":"\\\\\\"}"}',
    b'{"op":0,"data":{"a":{"b":{}},"c":[{},{"d":"{"}]}}',
    b'{"op":0,\n"data":\r\n{\n}\n}',
    '{"op":0,"data":"\u00e9\U0001f600"}'.encode(),
    b'{"op":0,"\\u007d":"\\u007b"}',
    b'{"op":3}',
]


@pytest.mark.parametrize("between", [b"", b"\n", b"\r\n", b" "])
def test_every_place_to_cut(between: bytes) -> None:
    data = b"".join(message + between for message in TRICKY)
    wanted = expected(TRICKY)
    for place in range(len(data) + 1):
        assert read(JsonStream(), [data[:place], data[place:]]) == wanted, place
        assert read(JsonStream(first_limit=100), [data[:place], data[place:]]) == wanted, place
    for size in (1, 2, 3, 5, 7):
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert read(JsonStream(), pieces) == wanted


def test_a_message_is_out_with_its_last_brace() -> None:
    """Nobody waits for a line break that the original's clients never send."""
    for message in TRICKY:
        wire = JsonStream()
        assert wire.receive(message[:-1]) == []
        assert [encode(found) for found in wire.receive(message[-1:])] == expected([message])


def test_nothing_comes_of_nothing() -> None:
    wire = JsonStream()
    for data in (b"", b" ", b"\n", b"\r\n\t " * 100_000, b""):
        assert wire.receive(data) == []
    assert wire.failure is None
    assert not wire._partial
    assert [message.op for message in wire.receive(b'{"op":3}')] == [3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x", 'not with "x"'),
        (b"  [", 'not with "["'),
        (b'{"op":3}\n"', 'not with """'),
        (b"\xef\xbb\xbf{}", "not with the byte 0xef"),
        (b"\0", "not with the byte 0x00"),
    ],
)
def test_what_is_said_of_a_wrong_beginning(data: bytes, message: str) -> None:
    wire = JsonStream()
    wire.receive(data)
    assert wire.failure is not None
    assert str(wire.failure) == f"a frame is a JSON object and begins with a brace, {message}"
    assert wire.failure.reason is Reason.INVALID_PAYLOAD


@pytest.mark.parametrize("depth", [10, 100_000])
@pytest.mark.parametrize("pair", [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
@pytest.mark.parametrize("size", [1 << 20, 1000])
def test_nesting(depth: int, pair: tuple[str, str], size: int) -> None:
    opening, closing = pair
    text = b'{"op":0,"data":%b1%b}' % (opening.encode() * depth, closing.encode() * depth)
    wire = JsonStream(limit=1 << 22)
    found = read(wire, cut(text, range(size, len(text), size)))
    if depth == 10:
        assert found == [text]
    else:
        assert found == []
        assert str(wire.failure) == "nested too deeply"


# -- Limits ----------------------------------------------------------------------------------------

LIMIT = 1000


def sized(size: int, style: str = "plain") -> bytes:
    """A message of so many bytes."""
    head, tail = {
        "plain": (b'{"op":0,"data":"', b'"}'),
        "lines": (b'{"op":0,\n"data":[\n' + b"1,\n" * 100 + b'"', b'"\n]\n}'),
        "braces": (b'{"op":0,"data":[' + b"{},\n" * 50 + b'"', b'"]}'),
    }[style]
    return head + b"x" * (size - len(head) - len(tail)) + tail


@pytest.mark.parametrize("style", ["plain", "lines", "braces"])
@pytest.mark.parametrize("before", [b"", b"\n", b'{"op":3}', b'{"op":3}\n', b'{"op":3}\n' * 500])
@pytest.mark.parametrize("behind", [b"", b"\n", b" \r\n", b'{"op":4}', b'\n{"op":4}\n' * 500])
@pytest.mark.parametrize("piece", [1 << 20, 1, 100, LIMIT, LIMIT + 1])
def test_the_limit_is_exact_to_the_byte(
    style: str, before: bytes, behind: bytes, piece: int
) -> None:
    if piece == 1:
        before, behind = before[:18], behind[:20]
    counts = before.count(b"op"), behind.count(b"op")
    for size in (LIMIT - 1, LIMIT, LIMIT + 1):
        data = before + sized(size, style) + behind
        wire = JsonStream(LIMIT)
        found = read(wire, cut(data, range(piece, len(data), piece)))
        if size <= LIMIT:
            assert len(found) == counts[0] + 1 + counts[1]
            assert wire.failure is None
        else:
            assert len(found) == counts[0]
            assert wire.failure is not None
            assert wire.failure.reason is Reason.MESSAGE_TOO_BIG
            assert wire.failure.close_code == 1009
            assert str(wire.failure) == "a message may have at most 1000 bytes"


@pytest.mark.parametrize("style", ["plain", "lines", "braces"])
@pytest.mark.parametrize("first", [700, LIMIT, 2000])
@pytest.mark.parametrize("piece", [1 << 20, 1, 100])
def test_the_first_message_has_a_limit_of_its_own(style: str, first: int, piece: int) -> None:
    def receive(*sizes: int) -> tuple[int, str]:
        data = b"\r\n \n".join(sized(size, style) for size in sizes)
        wire = JsonStream(LIMIT, first_limit=first)
        assert wire.limit == first
        found = read(wire, cut(data, range(piece, len(data), piece)))
        if found:
            assert wire.limit == LIMIT
        return len(found), str(wire.failure or "")

    assert receive(first) == (1, "")
    assert receive(first + 1) == (0, f"a message may have at most {first} bytes")
    assert receive(600, LIMIT) == (2, "")
    assert receive(600, LIMIT + 1) == (1, "a message may have at most 1000 bytes")


@pytest.mark.parametrize("piece", [1, 100, 4096])
@pytest.mark.parametrize("beginning", [b"{", b'{"', b'{"a":"\\', b"{{{{", b'{"a":[[[', b"{ \n"])
def test_what_never_ends_is_not_kept(beginning: bytes, piece: int) -> None:
    """Whatever comes, no more is held than the limit and one piece."""
    wire = JsonStream(LIMIT)
    fill = b"\\\\" if beginning.endswith(b"\\") else beginning[-1:] + b" "
    data = beginning + fill * 10_000
    for start in range(0, len(data), piece):
        assert wire.receive(data[start : start + piece]) == []
        if wire.failure is not None:
            break
        assert len(wire._partial) <= LIMIT
    assert wire.failure is not None
    assert start <= LIMIT + piece


# -- Cost ------------------------------------------------------------------------------------------


class Meter(JsonStream):
    """Counts the bytes that are looked at, and those that are copied to be looked at."""

    def __init__(self, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(limit)
        self.scanned = self.copied = self.decoded = self.steps = 0

        def counting_decode(message: bytes) -> Message:
            self.decoded += len(message)
            return decode(message)

        def counting_decode_lines(block: bytes) -> list[Envelope]:
            self.decoded += len(block)
            return original(block)

        original = decode_lines
        self._decode = counting_decode
        self._decode_lines = counting_decode_lines

    def _match_end(self, pattern: re.Pattern[bytes], position: int) -> int:
        end = super()._match_end(pattern, position)
        self.scanned += end - position + 1
        self.steps += 1
        return end

    def _finish_partial(self, data: bytes, messages: list[Message]) -> bytes:
        self.copied += len(data)
        return super()._finish_partial(data, messages)


MIB = 1 << 20

HOSTILE = {
    "run together, cut within one": b'{"op":3}' * 20_000 + b'{"op":3',
    "run together, cut behind a brace within one": b'{"op":3,"data":{}}' * 9000 + b'{"op":3,"a":{}',
    "lines, the last one refused": b'{"op":3}\n' * 20_000 + b'{"op":3,"id":7}\n',
    "every other one refused": b'{"op":3}\n{"op":3,"id":7}\n' * 8000,
    "one of many braces": b'{"op":3,"data":[' + b"{}," * 60_000 + b"1]}",
    "one of many strings": b'{"op":3,"data":[' + b'"{",' * 50_000 + b"1]}",
    "one long string": b'{"op":3,"data":"' + b"x" * 200_000 + b'"}',
    "one long string of escapes": b'{"op":3,"data":"' + b"\\\\" * 100_000 + b'"}',
    "one that is nested": b'{"op":3,"data":' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"}",
    "one with many line breaks": b'{"op":3,\n' * 1 + b"\n" * 200_000 + b'"id":"1"}',
    "an unfinished string with many quotes": b'{"op":3,"data":["' + b'","' * 60_000,
    "white space": b" \n" * 100_000 + b'{"op":3}',
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("piece", [1 << 18, 4096, 100, 7])
def test_the_cost_is_linear(monkeypatch: pytest.MonkeyPatch, name: str, piece: int) -> None:
    """Counted, not timed: each byte is scanned and decoded a constant number of times."""
    data = HOSTILE[name]
    if piece < 4096:
        data = data[:20_000]
    meter = Meter(MIB, monkeypatch)
    count = 0
    for start in range(0, len(data), piece):
        count += len(meter.receive(data[start : start + piece]))
    assert meter.scanned <= 4 * len(data) + 64 * (count + 1)
    assert meter.decoded <= 3 * len(data)
    # What stands behind a message is copied for each, but never more than a little of it.
    assert meter.copied <= 2 * len(data) + 4096 * count


def test_a_large_message_of_small_records_takes_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is a line of Python; a brace must not cost one, where there are very many."""
    record = b'{"id":1,"name":"}{","tags":[{},{"a":{"b":2}}]},'
    data = b'{"op":0,"data":[' + record * 15_000 + b"0]}"
    meter = Meter(MIB, monkeypatch)
    count = sum(len(meter.receive(piece)) for piece in cut(data, range(65_536, len(data), 65_536)))
    assert count == 1
    # Per piece that is looked at: the record that is cut by its end, and what stands around it.
    assert meter.steps <= 16 * len(data) / 4096


# -- What goes out ---------------------------------------------------------------------------------


@given(values, st.sampled_from(["compact", "pretty", "crlf", "spaced"]))
def test_a_line_is_a_line(value: Any, style: str) -> None:
    text = write({"op": 0, "data": value}, style)
    line = frame_line(text)

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    assert len(line) == len(text) + 1
    assert json.loads(line) == {"op": 0, "data": value}
    if b"\n" not in text:
        assert line == text + b"\n"


@given(st.lists(messages, min_size=1, max_size=5))
def test_many_lines_are_as_many_times_one(texts: list[bytes]) -> None:
    envelopes = [message for message in map(decode, texts) if isinstance(message, Envelope)]
    if envelopes:
        lines = frame_lines(envelopes)
        assert lines == b"".join(frame_line(encode(envelope)) for envelope in envelopes)
        assert read(JsonStream(), [lines]) == [
            encode(decode(frame_line(encode(envelope)))) for envelope in envelopes
        ]


def test_the_framing_itself_has_nothing_to_say() -> None:
    wire = JsonStream()
    wire.receive(b'{"op":3}\n')
    assert wire.take_replies() == b""
    assert wire.goodbye(4001, "UNKNOWN_OP") == b""
    assert not wire.finished


def test_all_streams_share_one_framer() -> None:
    """So a broadcast is framed once for all of them."""
    assert JsonStream().frame is JsonStream().frame
    assert JsonStream().frame_all is JsonStream().frame_all


def test_a_refused_frame_is_a_message_like_others() -> None:
    wire = JsonStream()
    first, second, third = wire.receive(b'{"op":3}\n{"op":0,"id":7}\n{"op":4}\n')
    assert (first.op, third.op) == (3, 4)
    assert isinstance(second, Refusal)
    assert wire.failure is None


def test_a_failure_is_kept() -> None:
    wire = JsonStream()
    wire.receive(b'{"op":6}')
    failure = wire.failure
    assert isinstance(failure, RemoteProtocolError)
    wire.receive(b'{"op":3}')
    assert wire.failure is failure
