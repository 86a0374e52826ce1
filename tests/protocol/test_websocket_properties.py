"""The WebSocket reader on generated input, cut anywhere, side by side with wsproto."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, ParseFailed
from wsproto.frame_protocol import Opcode as WsprotoOpcode

from broker.protocol.codec import encode
from broker.protocol.errors import Reason, RemoteProtocolError
from broker.protocol.websocket import Role, WebSocketWire
from broker.protocol.websocket_frames import CloseFrame
from broker.protocol.websocket_messages import MessageReader

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
BOTH_ROLES = pytest.mark.parametrize("role", list(Role))

# More than any frame can declare: wsproto has no limit.
NO_LIMIT = 1 << 63

# As many bytes as the rest of any header, and one of a payload.
REST_OF_A_FRAME = bytes(15)


@attrs.define
class Reading:
    """What came of some bytes.

    Attributes:
        code: the close code of the fault, if there was one.
    """

    messages: list[bytes] = attrs.field(factory=list)
    pings: list[bytes] = attrs.field(factory=list)
    close: tuple[int, str] | None = None
    code: int | None = None


def decode_text(payload: bytes) -> bytes:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(Reason.INVALID_PAYLOAD, "", close_code=1007) from error
    return payload


class Recorder(MessageReader[bytes]):
    """Our reader, with plain payloads."""

    def __init__(self, role: Role) -> None:
        super().__init__(role, NO_LIMIT, decode_text)
        self.reading = Reading()

    def received_ping(self, payload: bytes) -> None:
        self.reading.pings.append(payload)

    def received_close(self, close: CloseFrame) -> None:
        self.reading.close = (close.code, close.text)


def read(role: Role, pieces: Iterable[bytes]) -> Reading:
    reader = Recorder(role)
    for piece in pieces:
        reader.reading.messages += reader.receive(piece)
    if reader.failure is not None:
        reader.reading.code = reader.failure.close_code
    assert reader.finished == (reader.reading.close is not None)
    return reader.reading


class Oracle:
    """The same with wsproto."""

    def __init__(self, role: Role) -> None:
        self.protocol = FrameProtocol(client=role is Role.CLIENT, extensions=[])
        self.reading = Reading()
        self.message = ""

    def receive(self, data: bytes) -> Reading:
        if self.reading.code is None and self.reading.close is None:
            self.protocol.receive_bytes(data)
            try:
                self._read()
            except ParseFailed as failure:
                self.reading.code = int(failure.code)
        return self.reading

    def _read(self) -> None:
        for frame in self.protocol.received_frames():
            if frame.opcode is WsprotoOpcode.TEXT:
                assert isinstance(frame.payload, str)
                self.message += frame.payload
                if frame.message_finished:
                    self.reading.messages.append(self.message.encode())
                    self.message = ""
            elif frame.opcode is WsprotoOpcode.BINARY:
                # A deliberate difference: wsproto takes binary messages.
                raise ParseFailed("binary", 1003)  # type: ignore[arg-type]
            elif frame.opcode is WsprotoOpcode.PING:
                assert isinstance(frame.payload, bytes)
                self.reading.pings.append(frame.payload)
            elif frame.opcode is WsprotoOpcode.CLOSE:
                assert isinstance(frame.payload, tuple)
                self.reading.close = (int(frame.payload[0]), frame.payload[1])
                return


def build(
    opcode: int, payload: bytes, key: bytes | None, *, final: bool = True, size: int = 0
) -> bytes:
    """Build a frame by hand; `size` asks for a longer form of the length (2 or 8 bytes)."""
    length = len(payload)
    size = max(size, 0 if length < 126 else 2 if length < 1 << 16 else 8)
    second = {0: length, 2: 126, 8: 127}[size] | (0 if key is None else 0x80)
    head = bytes(((0x80 if final else 0) | opcode, second)) + length.to_bytes(8, "big")[8 - size :]
    if key is None:
        return head + payload
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


# Frames before they are built: opcode, payload, final, masking key.
Frames = list[tuple[int, bytes, bool, bytes]]

# One, two, three and four bytes in UTF-8, and what JSON escapes.
texts = st.text('a "\\\0\n\x7fé\u2028\uffff\U0001f600\U0010ffff', max_size=20)
keys = st.binary(min_size=4, max_size=4)
payloads = st.one_of(
    texts.map(str.encode),
    st.sampled_from((0, 1, 124, 125, 126, 127, 128, 300, 65535, 65536)).map(lambda n: b"x" * n),
)
controls = st.tuples(
    st.sampled_from((PING, PONG)), st.binary(max_size=125), st.just(value=True), keys
)
closes = st.tuples(
    st.just(CLOSE),
    st.one_of(
        st.just(b""),
        st.builds(
            lambda code, text: code.to_bytes(2, "big") + text.encode(),
            st.sampled_from((1000, 1001, 1011, 1013, 3000, 4001, 4999)),
            texts,
        ),
    ),
    st.just(value=True),
    keys,
)


@st.composite
def text_messages(draw: st.DrawFn) -> Frames:
    """A text message in one or several frames, with control frames between them."""
    payload = draw(payloads)
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    bounds = [0, *cuts, len(payload)]
    frames: Frames = []
    for i in range(len(bounds) - 1):
        part = payload[bounds[i] : bounds[i + 1]]
        last = i == len(bounds) - 2
        frames.append((CONTINUATION if i else TEXT, part, last, draw(keys)))
        if not last:
            frames += draw(st.lists(controls, max_size=2))
    return frames


@st.composite
def conversations(draw: st.DrawFn) -> Frames:
    """Everything that one side may say, perhaps with a close frame and more behind it."""
    parts = draw(st.lists(st.one_of(text_messages(), controls.map(lambda x: [x])), max_size=6))
    if draw(st.booleans()):
        parts.append([draw(closes)])
        parts += draw(st.lists(text_messages(), max_size=1))
    return [frame for part in parts for frame in part]


def to_bytes(role: Role, frames: Frames) -> bytes:
    return b"".join(
        build(opcode, payload, key if role is Role.SERVER else None, final=final)
        for opcode, payload, final, key in frames
    )


def meaning(frames: Frames) -> Reading:
    """What the frames say, worked out from the frames themselves."""
    reading = Reading()
    message = b""
    for opcode, payload, final, _ in frames:
        if opcode == PING:
            reading.pings.append(payload)
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big") if payload else 1005
            reading.close = (code, payload[2:].decode())
            break
        elif opcode != PONG:
            message += payload
            if final:
                reading.messages.append(message)
                message = b""
    return reading


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


places = st.lists(st.integers(0, 1 << 18), max_size=12)


@BOTH_ROLES
@given(frames=conversations(), places=places)
def test_cut_anywhere_frames_say_the_same(role: Role, frames: Frames, places: list[int]) -> None:
    data = to_bytes(role, frames)
    expected = meaning(frames)
    assert read(role, [data]) == expected
    assert read(role, cut(data, places)) == expected


@BOTH_ROLES
@given(frames=conversations())
def test_byte_by_byte_frames_say_the_same(role: Role, frames: Frames) -> None:
    data = to_bytes(role, frames)
    assume(len(data) < 3000)
    assert read(role, [data[i : i + 1] for i in range(len(data))]) == meaning(frames)


@BOTH_ROLES
@given(frames=conversations())
def test_agrees_with_wsproto_on_valid_frames(role: Role, frames: Frames) -> None:
    data = to_bytes(role, frames)
    assert read(role, [data]) == Oracle(role).receive(data)


# What happens to bytes on their way: kind, place, value.
mutations = st.lists(
    st.tuples(
        st.sampled_from(("set", "flip", "insert", "delete", "cut off", "double")),
        st.integers(0, 1 << 18),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)


def mutate(data: bytes, steps: list[tuple[str, int, int]]) -> bytes:
    changed = bytearray(data)
    for kind, place, value in steps:
        at = place % (len(changed) + 1)
        if kind == "insert":
            changed.insert(at, value)
        elif kind == "cut off":
            del changed[at:]
        elif kind == "double":
            changed[at:at] = changed[at : at + value]
        elif at < len(changed):
            if kind == "set":
                changed[at] = value
            elif kind == "flip":
                changed[at] ^= 1 << value % 8
            else:
                del changed[at]
    return bytes(changed)


def assert_agrees_with_wsproto(role: Role, data: bytes, places: list[int]) -> None:
    """Compare the verdicts, with these deliberate differences:

    * A binary frame is refused, whatever else may be wrong with it.
    * Faults in the first two bytes of a header are told at once; wsproto waits for the rest of the
      header, and where the fault is a fragment out of turn, for a byte of the payload.
    * wsproto looks at UTF-8 as it comes; this reader, when the message is whole.
    * The close code 1014 has been registered since RFC 6455 was written; wsproto refuses it.
    """
    ours = read(role, [data])
    assert read(role, cut(data, places)) == ours
    oracle = Oracle(role)
    theirs = oracle.receive(data)
    if ours.code is not None and theirs.code is None:
        theirs = oracle.receive(REST_OF_A_FRAME)
    if ours.close is not None and ours.close[0] == 1014:
        ours.close, ours.code = None, 1002
    if ours.code == 1003:
        assert theirs.code in (1002, 1003)
        theirs.code = 1003
    if theirs.code == 1007:
        assert ours.messages == theirs.messages
        assert ours.pings[: len(theirs.pings)] == theirs.pings
    else:
        assert ours == theirs


@BOTH_ROLES
@given(frames=conversations(), steps=mutations, places=places)
def test_agrees_with_wsproto_on_damaged_frames(
    role: Role, frames: Frames, steps: list[tuple[str, int, int]], places: list[int]
) -> None:
    assert_agrees_with_wsproto(role, mutate(to_bytes(role, frames), steps), places)


odd_frames = st.builds(
    lambda first, payload, key, size: (
        build(first & 0xF, payload, key, size=size)
        if first & 0x80
        else bytes((first,)) + build(0, payload, key, size=size)[1:]
    ),
    st.integers(0, 255),
    st.one_of(st.binary(max_size=6), st.integers(0, 5100).map(lambda n: n.to_bytes(2, "big"))),
    st.one_of(st.none(), keys),
    st.sampled_from((0, 0, 0, 2, 8)),
)


@BOTH_ROLES
@given(parts=st.lists(odd_frames, max_size=6), places=places)
@example(parts=[build(CLOSE, b"\x03\xf6", bytes(4))], places=[])
@example(
    parts=[build(TEXT, b"\xff", bytes(4), final=False), build(CLOSE, b"", bytes(4))], places=[]
)
def test_agrees_with_wsproto_on_odd_frames(
    role: Role, parts: list[bytes], places: list[int]
) -> None:
    assert_agrees_with_wsproto(role, b"".join(parts), places)


@BOTH_ROLES
@given(data=st.binary(max_size=200), places=places)
def test_agrees_with_wsproto_on_any_bytes(role: Role, data: bytes, places: list[int]) -> None:
    assert_agrees_with_wsproto(role, data, places)


@BOTH_ROLES
@given(data=st.binary(max_size=200))
def test_the_wire_never_raises(role: Role, data: bytes) -> None:
    wire = WebSocketWire(role)
    wire.receive(data)
    wire.take_replies()
    wire.goodbye(1000, "")


@BOTH_ROLES
@given(data=st.lists(texts, max_size=5))
def test_wsproto_reads_what_the_wire_sends(role: Role, data: list[str]) -> None:
    wire = WebSocketWire(role)
    other = Role.CLIENT if role is Role.SERVER else Role.SERVER
    messages = [encode({"op": 0, "data": text}) for text in data]
    sent = b"".join(map(wire.frame, messages)) + wire.goodbye(4002, "not JSON")
    expected = Reading(messages=messages, close=(4002, "not JSON"))
    assert Oracle(other).receive(sent) == expected
    assert read(other, [sent]) == expected
