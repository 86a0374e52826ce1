"""Every value that is JSON goes through byte for byte, and every other one has its defined end.

Whichever way it comes: alone or with others, through a raw stream or a WebSocket, in `data` or in
`error`; whole or in pieces.
"""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from broker.protocol.codec import (
    Envelope,
    Message,
    decode,
    decode_lines,
    encode,
    encode_lines,
)
from broker.protocol.errors import NestingError, Reason, RemoteProtocolError
from broker.protocol.json_stream import JsonStream
from broker.protocol.limits import MAX_NESTING
from broker.protocol.websocket import Role, WebSocketWire
from broker.protocol.wire import Framer, Wire
from tests.protocol.json_cases import (
    ACCEPTED,
    DEEPEST,
    REFUSED,
    TEXTS_REFUSED,
    UP_TO_US_ACCEPTED,
    UP_TO_US_REFUSED,
)

GOOD = ACCEPTED | UP_TO_US_ACCEPTED
BAD = REFUSED | UP_TO_US_REFUSED

PING = b'{"op":3,"id":"before"}'


def message_of(value: bytes, where: str = "data") -> bytes:
    return b'{"op":0,"id":"1","%b":%b}' % (where.encode(), value)


def test_the_tables_know_the_limit() -> None:
    assert DEEPEST == MAX_NESTING


# -- What is JSON ----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["data", "error"])
@pytest.mark.parametrize("name", GOOD)
def test_what_is_json_keeps_its_bytes(name: str, where: str) -> None:
    value = GOOD[name].strip()
    message = message_of(GOOD[name], where)
    envelopes = decode_lines(message + b"\n" + message)
    alone = decode(message)
    assert isinstance(alone, Envelope)
    expected = b'{"op":0,"id":"1","%b":%b}' % (where.encode(), value)
    for envelope in (alone, *envelopes):
        assert bytes(getattr(envelope, where)) == value
        assert encode(envelope) == expected
    # Line breaks within make it impossible to tell the lines apart: the callers know.
    assert encode_lines(envelopes) == (None if b"\n" in value else [expected + b"\n"] * 2)


@pytest.mark.parametrize("name", GOOD)
def test_it_comes_out_of_both_framings_the_same(name: str) -> None:
    message = message_of(GOOD[name])
    expected = [b"before", GOOD[name].strip()]
    for wire, data in each_way([PING, message]):
        assert [shown(each) for each in feed(wire, [data])] == expected, wire
        assert wire.failure is None


# -- What is not -----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["data", "error", "unknown"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_json_ends_the_connection(name: str, where: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(message_of(REFUSED[name], where))
    check_end(name, caught.value)


@pytest.mark.parametrize("where", ["data", "error"])
@pytest.mark.parametrize("name", UP_TO_US_REFUSED)
def test_what_the_broker_does_not_take_ends_the_connection(name: str, where: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(message_of(UP_TO_US_REFUSED[name], where))
    check_end(name, caught.value)


@pytest.mark.parametrize("name", BAD)
def test_what_came_before_it_counts_whichever_way_it_comes(name: str) -> None:
    for wire, data in each_way([PING, PING, message_of(BAD[name])]):
        messages = feed(wire, [data])
        if name in UNENDED and isinstance(wire, JsonStream) and wire.failure is None:
            # On a stream, what has no end may have one yet; it has none at the end of the stream.
            assert len(messages) == 2
            continue
        assert [shown(message) for message in messages] == [b"before"] * 2
        assert wire.failure is not None
        check_end(name, wire.failure)
        assert feed(wire, [data]) == [], "nothing is read behind it"


@pytest.mark.parametrize("name", TEXTS_REFUSED)
def test_a_text_that_is_no_frame(name: str) -> None:
    text = TEXTS_REFUSED[name]
    with pytest.raises(RemoteProtocolError) as caught:
        decode(text)
    assert caught.value.reason is Reason.INVALID_PAYLOAD
    with pytest.raises((ValueError, RecursionError)):
        decode_lines(text)
    for wire, data in each_way([PING, text]):
        assert [shown(message) for message in feed(wire, [data])] == [b"before"]
        assert wire.failure is not None
        assert wire.failure.reason is Reason.INVALID_PAYLOAD


def check_end(name: str, failure: RemoteProtocolError) -> None:
    assert failure.reason is Reason.INVALID_PAYLOAD
    assert failure.close_code == (1007 if name.startswith("n_utf8") else 4002)
    assert len(str(failure)) < 200, "whatever came is not repeated at length"
    if "too_deep" in name or "_of_100000" in name:
        assert isinstance(failure, NestingError)


# What could be the beginning of a larger message: a raw stream waits for the rest of it.
UNENDED = {
    name
    for name, value in REFUSED.items()
    if "unclosed" in name or "only_open" in name or "no_end" in name or "only_quote" in name
} | {"n_string_only_backslash", "n_structure_nothing"}
UNENDED |= {"n_array_closed_as_object", "n_object_closed_as_array", "n_object_bracket_key"}


def each_way(messages: list[bytes]) -> list[tuple[Wire, bytes]]:
    """Both framings, each with its bytes for some messages; a raw stream in both flavours."""
    far = WebSocketWire(Role.CLIENT)
    return [
        (JsonStream(), b"".join(message + b"\n" for message in messages)),
        (JsonStream(), b"".join(messages)),
        (JsonStream(first_limit=4096), b"".join(message + b"\n" for message in messages)),
        (WebSocketWire(Role.SERVER), b"".join(map(far.frame, messages))),
    ]


def feed(wire: Wire, pieces: list[bytes]) -> list[Message]:
    return [message for piece in pieces for message in wire.receive(piece)]


def shown(message: Message) -> bytes:
    assert isinstance(message, Envelope)
    if isinstance(message.data, Raw):
        return bytes(message.data)
    return b"before" if message.id == "before" else b"absent"


# -- Alone or in a batch ---------------------------------------------------------------------------


@given(
    names=st.lists(st.sampled_from([*GOOD, *BAD]), min_size=1, max_size=6),
    lines=st.booleans(),
    places=st.lists(st.integers(0, 20_000), max_size=4),
)
def test_a_batch_says_what_each_message_says_alone(
    names: list[str], lines: bool, places: list[int]
) -> None:
    """Up to the first that is no frame, whatever is cut where."""
    names = [name for name in names if name not in UNENDED]
    messages = [message_of((GOOD | BAD)[name]) for name in names]
    expected = []
    failure = None
    for message in messages:
        try:
            expected.append(shown(decode(message)))
        except RemoteProtocolError as error:
            failure = error
            break
    data = b"".join(message + b"\n" if lines else message for message in messages)
    cuts = sorted({place % len(data) for place in places} | {0, len(data)}) if data else [0, 0]
    pieces = [data[start:end] for start, end in itertools.pairwise(cuts)]
    wire = JsonStream()
    assert [shown(message) for message in feed(wire, pieces)] == expected
    assert (wire.failure is None) == (failure is None)
    if failure is not None and wire.failure is not None:
        assert wire.failure.close_code == failure.close_code


# -- Depth -----------------------------------------------------------------------------------------


def nested(draw_levels: list[str], filling: str) -> bytes:
    """A value with these levels, from the outside in; each with something beside the next."""
    value = "0"
    for kind in reversed(draw_levels):
        value = {
            "array": f"[{value}]",
            "array with more": f"[{filling},{value},{filling}]",
            "object": f'{{"":{value}}}',
            "object with more": f'{{"a":{filling},"b":{value},"c":{filling}}}',
            "doubled key": f'{{"a":{value},"a":{filling}}}',
            "spread": f"[ \n {value} \t ]",
        }[kind]
    return value.encode()


KINDS = ["array", "array with more", "object", "object with more", "doubled key", "spread"]


@given(
    levels=st.lists(st.sampled_from(KINDS), min_size=1, max_size=40),
    nesting=st.integers(8, 40),
    filling=st.sampled_from(["1", '"]]]]]]"', '"[[[[[["', '"\\"[{"', "[]", "{}", "[[[]]]"]),
    padding=st.sampled_from([0, 50, 400]),
    where=st.sampled_from(["data", "error"]),
)
def test_the_depth_is_counted_exactly(
    levels: list[str], nesting: int, filling: str, padding: int, where: str
) -> None:
    """Alone or among others, and whatever is in strings or beside."""
    value = nested(levels, filling)
    wide = filling.startswith("[[")
    more = any("more" in kind or "doubled" in kind for kind in levels)
    depth = len(levels)
    if more and filling[0] in "[{":
        last = max(n for n, kind in enumerate(levels) if "more" in kind or "doubled" in kind)
        depth = max(depth, last + 1 + (3 if wide else 1))
    if padding:
        value = b'["' + b"x" * padding + b'",' + value + b"]"
        depth += 1
    message = b'{"op":0,"id":"1","event":"E","%b":%b}' % (where.encode(), value)
    other = b'{"op":3,"id":"before"}\n'
    for data in (message, other * 50 + message + b"\n" + other * 50, other + message + other):
        wire = JsonStream(nesting=nesting)
        found = len(feed(wire, [data]))
        assert isinstance(wire.failure, NestingError) == (depth > nesting)
        assert found == data[: data.index(message)].count(b"\n") + (
            0 if depth > nesting else 1 + data[data.index(message) :].count(other)
        )
    other_wire = WebSocketWire(Role.SERVER, nesting=nesting)
    feed(other_wire, [WebSocketWire(Role.CLIENT).frame(message)])
    assert isinstance(other_wire.failure, NestingError) == (depth > nesting)


@pytest.mark.parametrize("first", [True, False], ids=["the first", "the last"])
@pytest.mark.parametrize("around", [b"%b", b"[%b]", b'{"x":%b}', b'[1,{"x":[%b]}]'])
def test_of_doubled_keys_each_value_counts(around: bytes, first: bool) -> None:
    """All of them are handed on, and a receiver reads them all before it takes the last."""
    deep = b"[" * DEEPEST + b"]" * DEEPEST
    values = (deep, b"1") if first else (b"1", deep)
    with pytest.raises(NestingError):
        decode(message_of(around % (b'{"a":%b,"a":%b}' % values)))


@pytest.mark.parametrize("opening", [b"[", b'{"":', b'[{"":', b'{"a":0,"b":'])
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "without an end"])
def test_a_depth_of_100000_is_cheap(opening: bytes, ended: bool) -> None:
    """A bound that is twenty times what it takes, in time of the processor alone."""
    closing = {b"[": b"]", b'[{"': b"}]"}.get(opening[:3], b"}")
    depth = 1_000_000 // (len(opening) + 1)
    value = opening * depth + (b"0" + closing * depth if ended else b"")
    message = message_of(value)[: (1 << 20) - 100]
    start = time.process_time()
    for wire, data in each_way([PING, message]):
        wire.receive(data)
    assert time.process_time() - start < 5


def test_a_smaller_limit_holds_for_small_messages_too() -> None:
    wires: list[tuple[Wire, Framer]] = [
        (JsonStream(nesting=8), JsonStream().frame),
        (WebSocketWire(Role.SERVER, nesting=8), WebSocketWire(Role.CLIENT).frame),
    ]
    for wire, frame in wires:
        assert len(wire.receive(frame(message_of(b"[" * 8 + b"]" * 8)))) == 1
        assert wire.receive(frame(message_of(b"[" * 9 + b"]" * 9))) == []
        assert isinstance(wire.failure, NestingError)
