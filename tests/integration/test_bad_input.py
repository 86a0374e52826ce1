"""Whatever comes in: it has its defined end, the broker lives, and bystanders notice nothing."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Iterator

import attrs
import pytest

from broker.core.settings import LimitSettings
from broker.protocol.errors import Reason
from tests.integration.bystanders import Bystanders
from tests.integration.conftest import StartBroker
from tests.integration.mesh import (
    Broker,
    End,
    HandmadeWebSocket,
    RawStream,
    compact,
    masked_frame,
    properties,
    until,
)

INVALID = Reason.INVALID_PAYLOAD
TOO_BIG = Reason.MESSAGE_TOO_BIG

both_doors = pytest.mark.parametrize("door", ["stream", "websocket"])
identified_or_not = pytest.mark.parametrize(
    "identified", [True, False], ids=["identified", "before IDENTIFY"]
)


async def connect(broker: Broker, door: str) -> RawStream | HandmadeWebSocket:
    return await (broker.raw() if door == "stream" else broker.handmade())


def expect_end(end: End, door: str, reason: Reason, code: int) -> None:
    assert (end.before, end.reason, end.clean) == ([], reason, True)
    assert end.message
    expected = (None, None) if door == "stream" else (code, reason)
    assert (end.code, end.text) == expected


# -- Bytes that are no frame, behind both doors ----------------------------------------------------


@attrs.frozen
class Garbage:
    """Something that is no frame.

    Attributes:
        text: one message's bytes.
        reason: what the DISCONNECT must say.
        code: the close code, where it is not the reason's own.
    """

    text: bytes
    reason: Reason = INVALID
    code: int | None = None


def utf8(text: bytes) -> Garbage:
    return Garbage(text, code=1007)


def nested(opening: bytes, closing: bytes, depth: int = 100_000) -> bytes:
    return b'{"op":3,"data":' + opening * depth + b"1" + closing * depth + b"}"


GARBAGE = {
    "text": Garbage(b"hello"),
    "a number": Garbage(b"1"),
    "a string": Garbage(b'"op"'),
    "null": Garbage(b"null"),
    "an array": Garbage(b'[{"op":3}]'),
    "an array in two levels": Garbage(b"[[0]]"),
    "no property": Garbage(b"{}"),
    "no op": Garbage(b'{"id":"1","event":"E"}'),
    "op in capitals": Garbage(b'{"OP":3}'),
    "op with a blank": Garbage(b'{"op ":3}'),
    "op a string": Garbage(b'{"op":"3"}'),
    "op true": Garbage(b'{"op":true}'),
    "op null": Garbage(b'{"op":null}'),
    "op an array": Garbage(b'{"op":[3]}'),
    "op a float": Garbage(b'{"op":3.0}'),
    "op with an exponent": Garbage(b'{"op":3e0}'),
    "op 6": Garbage(b'{"op":6}', Reason.UNKNOWN_OP),
    "op -1": Garbage(b'{"op":-1}', Reason.UNKNOWN_OP),
    "op 2**63": Garbage(b'{"op":9223372036854775808}', Reason.UNKNOWN_OP),
    "op 2**64": Garbage(b'{"op":18446744073709551616}', Reason.UNKNOWN_OP),
    "op of 1000 digits": Garbage(b'{"op":%b}' % (b"9" * 1000), Reason.UNKNOWN_OP),
    "op doubled, the last unknown": Garbage(b'{"op":3,"op":7}', Reason.UNKNOWN_OP),
    "op doubled by an escape": Garbage(b'{"op":3,"\\u006fp":7}', Reason.UNKNOWN_OP),
    "a comma too many": Garbage(b'{"op":3,}'),
    "a comma too few": Garbage(b'{"op":3 "id":"1"}'),
    "no colon": Garbage(b'{"op" 3}'),
    "no quotes": Garbage(b"{op:3}"),
    "single quotes": Garbage(b"{'op':3}"),
    "a comment": Garbage(b'{"op":3/* ping */}'),
    "a key that is a number": Garbage(b"{1:3}"),
    "a leading zero": Garbage(b'{"op":03}'),
    "a plus sign": Garbage(b'{"op":+3}'),
    "hexadecimal": Garbage(b'{"op":0x3}'),
    "brackets crossed": Garbage(b'{"op":3,"data":[}]}'),
    "NaN": Garbage(b'{"op":3,"data":NaN}'),
    "Infinity": Garbage(b'{"op":3,"data":Infinity}'),
    "-Infinity": Garbage(b'{"op":3,"data":[-Infinity]}'),
    "undefined": Garbage(b'{"op":3,"data":undefined}'),
    "True": Garbage(b'{"op":3,"data":True}'),
    "a tab in a string": Garbage(b'{"op":3,"data":"\t"}'),
    "a line break in a string": Garbage(b'{"op":3,"data":"\n"}'),
    "a NUL in a string": Garbage(b'{"op":3,"data":"\0"}'),
    "a NUL between tokens": Garbage(b'{"op":3\0}'),
    "a form feed between tokens": Garbage(b'{"op":\f3}'),
    "a no-break space between tokens": Garbage('{"op":\u00a03}'.encode()),
    "an unknown escape": Garbage(b'{"op":3,"data":"\\x41"}'),
    "half an escape": Garbage(b'{"op":3,"data":"\\u00"}'),
    "garbage in an unknown property": Garbage(b'{"op":3,"x":garbage}'),
    "garbage in the intent": Garbage(b'{"op":0,"intent":{"target":"GLOBAL","x":garbage}}'),
    # RFC 8259 section 8.1: JSON text is UTF-8, without a byte order mark.
    "invalid UTF-8 in data": utf8(b'{"op":3,"data":"\xff"}'),
    "invalid UTF-8 deep in data": utf8(b'{"op":3,"data":[{"a":"\xc3\x28"}]}'),
    "invalid UTF-8 in an unknown property": utf8(b'{"op":3,"x":"\xe2\x82"}'),
    "invalid UTF-8 in an unknown key": utf8(b'{"op":3,"\xff":1}'),
    "invalid UTF-8 in id": utf8(b'{"op":3,"id":"\xff"}'),
    "invalid UTF-8 in an error": utf8(b'{"op":5,"error":{"code":"\xff"}}'),
    "invalid UTF-8 between tokens": utf8(b'{"op":3,\xff}'),
    "UTF-8 cut short": utf8(b'{"op":3,"data":"\xf0\x9f\x98"}'),
    "UTF-8 overlong": utf8(b'{"op":3,"data":"\xc0\xaf"}'),
    "UTF-8 of a surrogate": utf8(b'{"op":3,"data":"\xed\xa0\x80"}'),
    "UTF-8 past the last character": utf8(b'{"op":3,"data":"\xf4\x90\x80\x80"}'),
    "Latin-1": utf8('{"op":3,"data":"é"}'.encode("latin-1")),
    "a lone surrogate in data": Garbage(b'{"op":3,"data":"\\ud800 and more"}'),
    "a low surrogate in data": Garbage(b'{"op":3,"data":"\\udc00 and more"}'),
    "surrogates in the wrong order": Garbage(b'{"op":3,"data":"\\udc00\\ud800 and more"}'),
    "a lone surrogate in a name": Garbage(b'{"op":0,"event":"\\ud800","data":"and more"}'),
    "nested arrays": Garbage(nested(b"[", b"]")),
    "nested objects": Garbage(nested(b'{"a":', b"}")),
    "nested arrays in an unknown property": Garbage(nested(b"[", b"]").replace(b"data", b"x")),
    "nested arrays that never end": Garbage(nested(b"[", b"") + b"}"),
}

# What a WebSocket's frames set apart, a stream can only tell by its first byte.
NO_BEGINNING = {
    "a byte order mark": Garbage(b'\xef\xbb\xbf{"op":3}'),
    "UTF-16, big end first": utf8(b"\xfe\xff" + '{"op":3}'.encode("utf-16-be")),
    "UTF-16, little end first": utf8('{"op":3}'.encode("utf-16")),
    "UTF-16 without a mark": Garbage('{"op":3}'.encode("utf-16-be")),
    "a NUL": Garbage(b"\0"),
    "a closing brace": Garbage(b'}{"op":3}'),
}


def limits_for(garbage: Garbage) -> LimitSettings:
    """Large pieces of garbage are to be refused for what they are, not for their size."""
    return LimitSettings(unidentified_bytes=max(4096, len(garbage.text)))


@pytest.mark.parametrize("name", [*GARBAGE, *NO_BEGINNING])
async def test_bytes_that_are_no_frame(start_broker: StartBroker, name: str) -> None:
    garbage = (GARBAGE | NO_BEGINNING)[name]
    broker = await start_broker(limits=limits_for(garbage))
    bystanders = await Bystanders.join(broker)
    for door, identified in itertools.product(("stream", "websocket"), (True, False)):
        client = await connect(broker, door)
        if identified:
            await client.identify()
        await client.send(garbage.text)

        end = await client.receive_end()

        expect_end(end, door, garbage.reason, garbage.code or garbage.reason.close_code)
        await bystanders.check_alone()


@pytest.mark.parametrize("text", ['{"op":3}\n', ' {"op":3}\n'])
async def test_utf16_without_a_mark_on_a_stream(
    broker: Broker, bystanders: Bystanders, text: str
) -> None:
    """With its small end first it begins like a frame, or like white space."""
    client = await broker.raw()
    await client.send(text.encode("utf-16-le"))

    expect_end(await client.receive_end(), "stream", INVALID, 4002)
    await bystanders.check_alone()


@pytest.mark.parametrize("name", GARBAGE)
async def test_what_came_before_garbage_still_counts(start_broker: StartBroker, name: str) -> None:
    """In one write: good frames first, garbage next, and a frame that must not be read."""
    garbage = GARBAGE[name]
    broker = await start_broker(limits=limits_for(garbage))
    listener = await broker.join("tcp", "listeners")
    good = b'{"op":0,"id":"%d","event":"E","intent":{"target":"GROUP","identifier":"listeners"}}'
    messages = [*(good % number for number in range(3)), garbage.text, good % 3]
    for door in ("stream", "websocket"):
        client = await connect(broker, door)
        await client.identify()
        pieces = [masked_frame(text) if door == "websocket" else text for text in messages]
        await client.send_bytes(b"".join(pieces))

        end = await client.receive_end()

        expect_end(end, door, garbage.reason, garbage.code or garbage.reason.close_code)
        assert [(await listener.receive_json())["id"] for _ in range(3)] == ["0", "1", "2"]
        await until(lambda: broker.connections() == 1)
        await listener.send(b'{"op":3}')
        assert await listener.receive_json() == {"op": 4}


@both_doors
@identified_or_not
async def test_random_bytes(
    broker: Broker, bystanders: Bystanders, door: str, identified: bool
) -> None:
    dice = random.Random(f"{door} {identified}")
    for _ in range(50):
        client = await connect(broker, door)
        if identified:
            await client.identify()
        await client.send_bytes(dice.randbytes(dice.randrange(1, 200)) + b"\n")
        await client.stream.send_eof()
        await client.receive_bytes()
        await client.hang_up()
    await bystanders.check_alone()


def mutilated_frames(dice: random.Random, count: int) -> Iterator[bytes]:
    whole = compact(
        {
            "op": 0,
            "id": "1",
            "event": "E",
            "data": {"a": ["\u00e9", 1.5, None, True]},
            "intent": {"target": "GROUP", "identifier": "demo"},
            "timeout": 1000,
        }
    )
    for _ in range(count):
        message = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            message[dice.randrange(len(message))] = dice.choice(b'{}[]",:\\0123456789eE+-.ntf \xff')
        yield bytes(message)


@identified_or_not
async def test_mutilated_frames_on_a_websocket(
    broker: Broker, bystanders: Bystanders, identified: bool
) -> None:
    """Each ends in an answer, an error, or a DISCONNECT: never in silence."""
    client: HandmadeWebSocket | None = None
    for message in mutilated_frames(random.Random(f"mutilated {identified}"), 300):
        if client is None:
            client = await broker.handmade()
            if identified:
                await client.identify()
        await client.send(message)
        await client.send(b'{"op":3,"id":"probe"}')
        while True:
            answer = await client.receive()
            if answer is None:
                await client.hang_up()
                client = None
                break
            if json.loads(answer).get("id") == "probe":
                break
    if client is not None:
        await client.hang_up()
    await bystanders.check_alone()


@identified_or_not
async def test_mutilated_frames_on_a_stream(
    broker: Broker, bystanders: Bystanders, identified: bool
) -> None:
    """Here nobody but the sender knows where a frame ends, once a brace has gone amiss."""
    for message in mutilated_frames(random.Random(f"mutilated {identified}"), 100):
        client = await broker.raw()
        if identified:
            await client.identify()
        await client.send(message)
        await client.stream.send_eof()
        while await client.receive() is not None:
            pass
        await client.hang_up()
    await bystanders.check_alone()


# -- Frames that are wrong in meaning: an error, and the connection stays --------------------------

DIRECT_TO_ME = b'"intent":{"target":"DIRECT","identifier":"%b"}'

WRONG_TYPES = {
    "id": [b"1", b"true", b'""', b'"%b"' % (b"x" * 65), b"[]", b"{}", b"1.5"],
    "event": [b"1", b"false", b'""', b'"%b"' % (b"x" * 129), b'["E"]', b"{}"],
    "intent": [
        b'"GLOBAL"',
        b"1",
        b"[]",
        b"{}",
        b'{"target":null}',
        b'{"target":"global"}',
        b'{"target":"EVERYONE"}',
        b'{"target":["GLOBAL"]}',
        b'{"identifier":"demo"}',
        b'{"target":"GROUP","identifier":1}',
        b'{"target":"GROUP","identifier":"%b"}' % (b"x" * 129),
        b'{"target":"GROUP","identifier":"demo","pick":"one"}',
        b'{"target":"GROUP","identifier":"demo","pick":1}',
        b'{"target":"GROUP","identifier":"demo","pick":"ONE","key":""}',
        b'{"target":"GROUP","identifier":"demo","pick":"ONE","key":7}',
        b'{"target":"GROUP","identifier":"demo","pick":"ONE","key":"%b"}' % (b"x" * 129),
    ],
    "source": [b'"me"', b"1", b"[]", b"{}", b'{"id":"a"}', b'{"id":1,"group":"b"}'],
    "timeout": [
        b"0",
        b"-1",
        b"1.5",
        b"1e3",
        b'"1000"',
        b"true",
        b"86400001",
        b"9" * 100,
        b"[]",
    ],
    "trace": [b"1", b'""', b'"%b"' % (b"x" * 129), b"{}"],
}


@both_doors
@pytest.mark.parametrize("name", WRONG_TYPES)
async def test_a_property_of_the_wrong_type(
    broker: Broker, bystanders: Bystanders, door: str, name: str
) -> None:
    client = await connect(broker, door)
    await client.identify()
    for value in WRONG_TYPES[name]:
        parts = {
            "op": b"0",
            "id": b'"my id"',
            "event": b'"E"',
            "intent": b'{"target":"DIRECT","identifier":"%b"}' % client.id.encode(),
            name: value,
        }
        # Wherever it stands.
        for order in (list(parts), list(reversed(parts))):
            pairs = (b'"%b":%b' % (key.encode(), parts[key]) for key in order)
            await client.send(b"{" + b",".join(pairs) + b"}")
            answer = await client.receive_json()
            assert answer["op"] == 5, (value, answer)
            assert answer["source"] == {"id": "$broker", "group": "$broker"}
            code = "INVALID_INTENT" if name == "intent" else "INVALID_FRAME"
            assert answer["error"]["code"] == code, value
            assert re.match(rf"{name}(\.\w+)?: ", answer["error"]["message"]), answer["error"]
            # As much as could be understood is said back.
            assert answer.get("id") == (None if name == "id" else "my id")
            assert answer.get("event") == (None if name == "event" else "E")
    await client.hang_up()
    await bystanders.check_alone()


@both_doors
async def test_a_source_cannot_be_forged(broker: Broker, door: str) -> None:
    client, other = await connect(broker, door), await broker.join("tcp", "others")
    await client.identify()
    for target in (
        '"DIRECT","identifier":"%s"' % other.id,
        '"GROUP","identifier":"others"',
        '"GLOBAL"',
    ):
        frame = '{"op":0,"event":"E","intent":{"target":%s},"source":{"id":"%s","group":"demo"}}'
        await client.send((frame % (target, client.id)).encode())
        answer = await client.receive_json()
        assert answer["error"] == {
            "code": "INVALID_FRAME",
            "message": "source: is written by the broker; leave it out",
        }
    await other.send(b'{"op":3}')
    assert await other.receive_json() == {"op": 4}


# -- Doubled keys ----------------------------------------------------------------------------------

ME, OTHER = "%(me)s", "%(other)s"

DOUBLED = {
    "id": '{"op":0,"id":"first","id":"last","event":"E","intent":%s}',
    "event": '{"op":0,"id":"last","event":"first","event":"E","intent":%s}',
    "data": '{"op":0,"id":"last","event":"E","data":"first","data":"last","intent":%s}',
    "op": '{"op":5,"id":"last","event":"E","op":0,"intent":%s}',
    "an unknown property": '{"op":0,"x":1,"id":"last","event":"E","x":2,"intent":%s}',
    "id by an escape": '{"op":0,"id":"first","\\u0069d":"last","event":"E","intent":%s}',
    "id, first by an escape": '{"op":0,"\\u0069\\u0064":"first","id":"last",'
    '"event":"E","intent":%s}',
    "op by an escape": '{"op":3,"id":"last","event":"E","\\u006f\\u0070":0,"intent":%s}',
    "op, the first one unknown": '{"op":99,"id":"last","event":"E","op":0,"intent":%s}',
    "op, the first one of a wrong type": '{"op":"0","id":"last","event":"E","op":0,"intent":%s}',
    "id, the first one of a wrong type": '{"op":0,"id":7,"id":"last","event":"E","intent":%s}',
    "event, the first one too long": '{"op":0,"event":"'
    + "x" * 200
    + '","id":"last","event":"E","intent":%s}',
    "source, the last one null": '{"op":0,"source":{"id":"a","group":"b"},"source":null,'
    '"id":"last","event":"E","intent":%s}',
}
INTENT = '{"target":"DIRECT","identifier":"%s"}'
DOUBLED_INTENT = {
    "intent": '%s,"intent":%s' % (INTENT % ME, INTENT % OTHER),
    "intent, the first one of a wrong type": '7,"intent":%s' % (INTENT % OTHER),
    "intent by an escape": '%s,"\\u0069ntent":%s' % (INTENT % ME, INTENT % OTHER),
    "identifier": '{"target":"DIRECT","identifier":"%s","identifier":"%s"}' % (ME, OTHER),
    "identifier by an escape": '{"target":"DIRECT","identifier":"%s","\\u0069dentifier":"%s"}'
    % (ME, OTHER),
    "target": '{"target":"GLOBAL","identifier":"%s","target":"DIRECT"}' % OTHER,
    "target by an escape": '{"target":"GLOBAL","identifier":"%s","t\\u0061rget":"DIRECT"}' % OTHER,
    "identifier, the first one of a wrong type": '{"target":"DIRECT","identifier":7,'
    '"identifier":"%s"}' % OTHER,
    "target, the first one unknown": '{"target":"ALL","identifier":"%s","target":"DIRECT"}' % OTHER,
    "an unknown key": '{"target":"DIRECT","x":1,"identifier":"%s","x":2}' % OTHER,
}


@both_doors
@pytest.mark.parametrize("receiving", ["tcp", "websockets"])
async def test_of_doubled_keys_the_last_counts_and_nobody_sees_another(
    broker: Broker, door: str, receiving: str
) -> None:
    client, other = await connect(broker, door), await broker.join(receiving, "others")
    await client.identify()
    ids = {"me": client.id, "other": other.id}
    frames = [frame % (INTENT % other.id) for frame in DOUBLED.values()]
    frames += [DOUBLED["id"] % (intent % ids) for intent in DOUBLED_INTENT.values()]
    for frame in frames:
        await client.send(frame.encode())
        received = await other.receive()
        assert received is not None
        texts = properties(received)  # Fails where a key stands twice.
        assert set(properties(texts["intent"].encode())) == {"target", "identifier"}
        assert json.loads(texts.pop("source"))["id"] == client.id
        texts.pop("data", None)
        assert texts == {
            "op": "0",
            "id": '"last"',
            "event": '"E"',
            "intent": INTENT % other.id,
        }, frame
    # None of them was for the sender.
    await client.send(b'{"op":3}')
    assert await client.receive_json() == {"op": 4}


# -- WebSocket framing -----------------------------------------------------------------------------

HUGE = (1 << 63) - 1


def declared(length: int, size: int = 8) -> bytes:
    """The header of a text frame that says it is so long."""
    return b"\x81" + bytes([0x80 | {2: 126, 8: 127}[size]]) + length.to_bytes(size, "big")


FRAMING: dict[str, tuple[bytes, Reason, int]] = {
    "not masked": (masked_frame(b'{"op":3}', mask=b""), INVALID, 1002),
    **{
        f"reserved bits {bits:#x}": (masked_frame(b'{"op":3}', first=0x81 | bits), INVALID, 1002)
        for bits in (0x40, 0x20, 0x10, 0x70)
    },
    **{
        f"opcode {opcode:#x}": (masked_frame(b"", first=0x80 | opcode), INVALID, 1002)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    "binary": (masked_frame(b'{"op":3}', first=0x82), INVALID, 1003),
    "binary in fragments": (masked_frame(b'{"op"', first=0x02), INVALID, 1003),
    "an empty message": (masked_frame(b""), INVALID, 4002),
    "a ping of 126 bytes": (masked_frame(b"x" * 126, first=0x89), INVALID, 1002),
    "a pong of 126 bytes": (masked_frame(b"x" * 126, first=0x8A), INVALID, 1002),
    "a close of 126 bytes": (masked_frame(b"\x03\xe8" + b"x" * 124, first=0x88), INVALID, 1002),
    "a ping of 2**62 bytes": (b"\x89" + declared(1 << 62)[1:], INVALID, 1002),
    "a ping in fragments": (masked_frame(b"x", first=0x09), INVALID, 1002),
    "a close in fragments": (masked_frame(b"\x03\xe8", first=0x08), INVALID, 1002),
    "a continuation of nothing": (masked_frame(b"x", first=0x80), INVALID, 1002),
    "a message within a message": (masked_frame(b"{", first=0x01) * 2, INVALID, 1002),
    "half a close code": (masked_frame(b"\x03", first=0x88), INVALID, 1002),
    **{
        f"close code {code}": (
            masked_frame(code.to_bytes(2, "big"), first=0x88),
            INVALID,
            1002,
        )
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "a close reason in Latin-1": (masked_frame(b"\x03\xe8\xe9", first=0x88), INVALID, 1007),
    "16 bits for a short length": (declared(125, 2), INVALID, 1002),
    "64 bits for a short length": (declared(125), INVALID, 1002),
    "64 bits for a 16-bit length": (declared(65535), INVALID, 1002),
    "the top bit of the length": (declared(1 << 63), INVALID, 1002),
    "all bits of the length": (declared((1 << 64) - 1), INVALID, 1002),
    "a length of 2**63 - 1": (declared(HUGE), TOO_BIG, 1009),
    "a length of 2**32": (declared(1 << 32), TOO_BIG, 1009),
    "a length of one too many": (declared((1 << 20) + 1), TOO_BIG, 1009),
    "fragments past the limit": (
        masked_frame(b"x" * 600_000, first=0x01) + masked_frame(b"x" * 600_000, first=0x00),
        TOO_BIG,
        1009,
    ),
    "a fragment that would go past the limit": (
        masked_frame(b"x" * 600_000, first=0x01) + b"\0" + declared(600_000)[1:],
        TOO_BIG,
        1009,
    ),
    "fragments of one byte without end": (
        masked_frame(b"{", first=0x01) + masked_frame(b"x", first=0x00) * 17_000,
        TOO_BIG,
        1009,
    ),
    "empty fragments without end": (
        masked_frame(b"", first=0x01) + masked_frame(b"", first=0x00) * 17_000,
        TOO_BIG,
        1009,
    ),
    "not UTF-8 across two fragments": (
        masked_frame(b'{"op":3,"data":"\xc3', first=0x01) + masked_frame(b'("}', first=0x80),
        INVALID,
        1007,
    ),
    "not UTF-8 behind a ping": (
        masked_frame(b"x", first=0x89) + masked_frame(b'{"op":3,"x":"\xff"}'),
        INVALID,
        1007,
    ),
}

# Before IDENTIFY a message is too big much earlier.
UNIDENTIFIED_FRAMING = {
    "a length of one too many": declared(4097, 2),
    "a length of 2**63 - 1": declared(HUGE),
    "fragments past the limit": masked_frame(b"{" * 4000, first=0x01)
    + b"\0"
    + declared(126, 2)[1:],
    "fragments of one byte without end": masked_frame(b"{", first=0x01)
    + masked_frame(b"x", first=0x00) * 5000,
}


@pytest.mark.parametrize("name", FRAMING)
async def test_broken_websocket_framing(broker: Broker, bystanders: Bystanders, name: str) -> None:
    data, reason, code = FRAMING[name]
    client = await broker.handmade()
    await client.identify()
    await client.send_bytes(data)

    end = await client.receive_end()

    expect_end(end, "websocket", reason, code)
    await bystanders.check_alone()


@pytest.mark.parametrize("name", UNIDENTIFIED_FRAMING)
async def test_what_a_header_declares_before_identify(
    broker: Broker, bystanders: Bystanders, name: str
) -> None:
    client = await broker.handmade()
    await client.send_bytes(UNIDENTIFIED_FRAMING[name])

    end = await client.receive_end()

    expect_end(end, "websocket", TOO_BIG, 1009)
    assert end.message == "a message may have at most 4096 bytes"
    await bystanders.check_alone()


@pytest.mark.parametrize("beginning", [b'{"', b"{", b" \r\n" * 5000 + b'{"op":1,"data":', b'{"\\'])
async def test_a_stream_before_identify(
    broker: Broker, bystanders: Bystanders, beginning: bytes
) -> None:
    client = await broker.raw()
    await client.send_bytes(beginning + b'\\"' * 3000)

    end = await client.receive_end()

    expect_end(end, "stream", TOO_BIG, 1009)
    assert end.message == "a message may have at most 4096 bytes"
    await bystanders.check_alone()
