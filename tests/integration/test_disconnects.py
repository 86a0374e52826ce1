"""Every end that the broker gives a connection: the DISCONNECT arrives, and the close code with it.

Time is trio's mock clock: it stands still until a test moves it on.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from broker.core.authentication import hash_token
from broker.core.settings import LimitSettings, TimingSettings, TokenSettings
from broker.protocol.errors import Reason
from tests.integration.bystanders import Bystanders
from tests.integration.conftest import StartBroker
from tests.integration.mesh import (
    DOORS,
    STREAM_DOORS,
    TOKEN,
    WEBSOCKET_DOORS,
    Broker,
    Client,
    End,
    compact,
    until,
)

every_door = pytest.mark.parametrize("door", DOORS)
PING_MS = TimingSettings().ping_ms
IDENTIFY_MS = TimingSettings().identify_ms

# Deadlines fall due up to a hundredth of a second late.
GRANULE = 0.02


def expect_end(end: End, door: str, reason: Reason, code: int, message: str) -> None:
    """Check the last words: the DISCONNECT on both doors, and a close frame on a WebSocket."""
    assert end.clean
    assert end.reason == reason
    assert end.message == message
    if door in STREAM_DOORS:
        assert (end.code, end.text) == (None, None)
    else:
        assert (end.code, end.text) == (code, reason)


def identify(data: str) -> bytes:
    return b'{"op":1,"data":%b}' % data.encode()


def test_the_close_codes_are_those_of_the_protocol() -> None:
    assert {reason.value: reason.close_code for reason in Reason} == {
        "NO_REASON": 1000,
        "MESSAGE_TOO_BIG": 1009,
        "SERVER_RESTART": 1012,
        "TRY_AGAIN_LATER": 1013,
        "UNKNOWN_ERROR": 4000,
        "UNKNOWN_OP": 4001,
        "INVALID_PAYLOAD": 4002,
        "UNAUTHORIZED": 4003,
        "IDENTIFY_FAILED": 4004,
        "ALREADY_IDENTIFIED": 4005,
        "PING_TIMEOUT": 4006,
        "SLOW_CONSUMER": 4007,
        "IDENTIFY_TIMEOUT": 4008,
        "REPLACED": 4009,
    }


# -- What a client says ----------------------------------------------------------------------------


@every_door
@pytest.mark.parametrize("identified", [True, False], ids=["identified", "before IDENTIFY"])
async def test_a_goodbye_is_taken_without_a_word(
    broker: Broker, bystanders: Bystanders, door: str, identified: bool
) -> None:
    client = await broker.connect(door)
    if identified:
        await client.identify()
    await client.send(b'{"op":2,"data":"NO_REASON"}')

    end = await client.receive_end()

    assert end.clean
    assert (end.before, end.reason) == ([], None)
    assert end.code == (None if door in STREAM_DOORS else 1000)
    await bystanders.check_alone()


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_a_close_frame_is_echoed(broker: Broker, bystanders: Bystanders, code: int) -> None:
    client = await broker.handmade()
    await client.identify()
    await client.send_bytes(b"\x88\x86\0\0\0\0" + code.to_bytes(2, "big") + b"text")

    end = await client.receive_end()

    assert (end.before, end.reason, end.code, end.clean) == ([], None, code, True)
    await bystanders.check_alone()


@every_door
@pytest.mark.parametrize(
    ("message", "reason", "code", "text"),
    [
        ('{"op":6}', Reason.UNKNOWN_OP, 4001, "op: 6 is none of 0 to 5"),
        ('{"op":-1}', Reason.UNKNOWN_OP, 4001, "op: -1 is none of 0 to 5"),
        ('{"op":1%s}' % ("0" * 40), Reason.UNKNOWN_OP, 4001, "op: that number is none of 0 to 5"),
        ('{"id":"1"}', Reason.INVALID_PAYLOAD, 4002, "a frame needs the property op"),
        ('{"op":"0"}', Reason.INVALID_PAYLOAD, 4002, "op: expected int, got str"),
        ('{"op":null}', Reason.INVALID_PAYLOAD, 4002, "op: expected int, got null"),
        (
            '{"op":0,"data":[}',
            Reason.INVALID_PAYLOAD,
            4002,
            "not JSON: JSON is malformed: invalid character (byte 16)",
        ),
        (
            '{"op":1,"data":{"token":"a","group":"b"}}',
            Reason.ALREADY_IDENTIFIED,
            4005,
            "IDENTIFY is sent once",
        ),
        ('{"op":1}', Reason.ALREADY_IDENTIFIED, 4005, "IDENTIFY is sent once"),
    ],
)
async def test_what_an_identified_client_must_not_say(
    broker: Broker,
    bystanders: Bystanders,
    door: str,
    message: str,
    reason: Reason,
    code: int,
    text: str,
) -> None:
    client = await broker.join(door)
    await client.send(message.encode())

    end = await client.receive_end()

    expect_end(end, door, reason, code, text)
    assert end.before == []
    await bystanders.check_alone()


@every_door
@pytest.mark.parametrize("op", [0, 3, 4, 5])
async def test_whoever_has_not_identified_itself_may_say_nothing_else(
    broker: Broker, bystanders: Bystanders, door: str, op: int
) -> None:
    client = await broker.connect(door)
    await client.send(
        compact({"op": op, "id": "1", "event": "E", "intent": {"target": "GLOBAL"}})
        + (compact({"op": 1, "data": {"token": TOKEN}}) if door in STREAM_DOORS else b"")
    )

    end = await client.receive_end()

    expect_end(end, door, Reason.UNAUTHORIZED, 4003, "send IDENTIFY (op 1) first")
    await bystanders.check_alone()


@every_door
async def test_a_frame_that_is_wrong_in_meaning_before_identify(broker: Broker, door: str) -> None:
    client = await broker.connect(door)
    await client.send(b'{"op":1,"id":7}')

    end = await client.receive_end()

    text = "id: expected str | null, got int"
    expect_end(end, door, Reason.INVALID_PAYLOAD, 4002, text)


NOT_KNOWN = "data.token: is not known here"
LONG = "x" * 129
META = '{"a":"%s"}' % ("x" * 1017)

IDENTIFY_FAILURES = {
    "no data": (b'{"op":1}', "data.token: is missing"),
    "data null": (identify("null"), "data: expected object, got null"),
    "data an array": (identify("[]"), "data: expected object, got array"),
    "data a string": (identify('"secret"'), "data: expected object, got str"),
    "no token": (identify('{"group":"demo"}'), "data.token: is missing"),
    "token null": (identify('{"token":null,"group":"demo"}'), "data.token: is missing"),
    "token a number": (identify('{"token":1}'), "data.token: expected str | null, got int"),
    "token empty": (identify('{"token":"","group":"demo"}'), NOT_KNOWN),
    "token unknown": (identify('{"token":"no","group":"demo"}'), NOT_KNOWN),
    "token of another case": (identify('{"token":"ANY","group":"demo"}'), NOT_KNOWN),
    "token not ASCII": (identify('{"token":"\u00e9","group":"demo"}'), NOT_KNOWN),
    "token the hash": (identify('{"token":"%s","group":"demo"}' % hash_token("any")), NOT_KNOWN),
    "no group": (identify('{"token":"any"}'), "data.group: is missing"),
    "no group of two": (identify('{"token":"two"}'), "data.group: is missing"),
    "group null": (identify('{"token":"any","group":null}'), "data.group: is missing"),
    "group a number": (
        identify('{"token":"any","group":1}'),
        "data.group: expected str | null, got int",
    ),
    "group empty": (
        identify('{"token":"any","group":""}'),
        "data.group: expected str of length >= 1",
    ),
    "group too long": (
        identify('{"token":"any","group":"%s"}' % LONG),
        "data.group: expected str of length <= 128",
    ),
    "the broker's group": (
        identify('{"token":"any","group":"$broker"}'),
        "data.group: names that begin with $ are the broker's own",
    ),
    "a group of others": (
        identify('{"token":"two","group":"three"}'),
        "data.group: you may not join 'three'",
    ),
    "the only group in another case": (
        identify('{"token":"one","group":"One"}'),
        "data.group: you may not join 'One'",
    ),
    "name empty": (
        identify('{"token":"any","group":"a","name":""}'),
        "data.name: expected str of length >= 1",
    ),
    "name too long": (
        identify('{"token":"any","group":"a","name":"%s"}' % LONG),
        "data.name: expected str of length <= 128",
    ),
    "name an object": (
        identify('{"token":"any","group":"a","name":{}}'),
        "data.name: expected str | null, got object",
    ),
    "meta an array": (
        identify('{"token":"any","group":"a","meta":[]}'),
        "data.meta: expected object | null, got array",
    ),
    "meta too large": (
        identify('{"token":"any","group":"a","meta":%s}' % META),
        "data.meta: may have at most 1024 bytes as JSON",
    ),
    "meta with too large a number": (
        identify('{"token":"any","group":"a","meta":{"a":1e999}}'),
        "data.meta[...]: number out of range",
    ),
    "echo a string": (
        identify('{"token":"any","group":"a","echo":"false"}'),
        "data.echo: expected bool | null, got str",
    ),
    "concurrency 0": (
        identify('{"token":"any","group":"a","concurrency":0}'),
        "data.concurrency: expected int >= 1",
    ),
    "concurrency too large": (
        identify('{"token":"any","group":"a","concurrency":1000001}'),
        "data.concurrency: expected int <= 1000000",
    ),
    "concurrency a fraction": (
        identify('{"token":"any","group":"a","concurrency":1.5}'),
        "data.concurrency: expected int | null, got float",
    ),
}


@pytest.mark.parametrize("door", ["tcp", "websockets"])
@pytest.mark.parametrize("case", IDENTIFY_FAILURES)
async def test_why_an_identify_fails(start_broker: StartBroker, door: str, case: str) -> None:
    broker = await start_broker(
        tokens=(
            TokenSettings(hash_token("any")),
            TokenSettings(hash_token("one"), groups=("one",)),
            TokenSettings(hash_token("two"), groups=("one", "two")),
        )
    )
    message, text = IDENTIFY_FAILURES[case]
    client = await broker.connect(door)
    await client.send(message)

    end = await client.receive_end()

    expect_end(end, door, Reason.IDENTIFY_FAILED, 4004, text)


async def test_what_an_identify_may_say(start_broker: StartBroker) -> None:
    """The nearest to each of the failures that is none."""
    broker = await start_broker(
        timing=TimingSettings(ping_ms=12_345),
        limits=LimitSettings(message_bytes=54_321),
        tokens=(
            TokenSettings(hash_token("any")),
            TokenSettings(hash_token("one"), groups=("one",)),
            TokenSettings(hash_token("two"), groups=("one", "two")),
        ),
    )
    for said, group in (
        ('{"token":"one"}', "one"),
        ('{"token":"one","group":null}', "one"),
        ('{"token":"two","group":"two","name":null,"meta":null,"echo":null}', "two"),
        ('{"token":"any","group":"%s","name":"%s"}' % (LONG[1:], LONG[1:]), LONG[1:]),
        ('{"token":"any","group":"a","meta":%s}' % META.replace("x", "", 1), "a"),
        ('{"token":"any","group":"a","meta":{"n":%s}}' % ("1" * 100), "a"),
        ('{"token":"any","group":"a","concurrency":1000000,"echo":true,"new":[{}]}', "a"),
        ('{"token":"no","token":"any","group":"b","gro\\u0075p":"a"}', "a"),
        ('{"token":7,"token":"any","group":"$","group":"a"}', "a"),
    ):
        client = await broker.raw()
        await client.send_bytes(b'{"op":1,"id":"hello","data":%b}' % said.encode())
        answer = await client.receive_json()
        data = answer.pop("data")
        assert answer == {"op": 1, "id": "hello"}
        assert data.pop("id")
        assert data == {"group": group, "ping": 12_345, "message_bytes": 54_321}


# -- Sizes and numbers -----------------------------------------------------------------------------


@every_door
async def test_a_message_has_a_largest_size(start_broker: StartBroker, door: str) -> None:
    broker = await start_broker(limits=LimitSettings(message_bytes=5000))
    bystanders = await Bystanders.join(broker)
    client = await broker.join(door)
    envelope = '{"op":0,"id":"1","event":"E","data":"%s","intent":{"target":"GLOBAL"}}'
    room = 5000 - len(envelope % "")
    await client.send((envelope % ("x" * room)).replace("GLOBAL", "DIRECT").encode())
    refusal = await client.receive_json()
    assert refusal["error"]["code"] == "INVALID_INTENT"  # Large enough to be understood.

    await client.send((envelope % ("x" * (room + 1))).encode())
    end = await client.receive_end()

    expect_end(end, door, Reason.MESSAGE_TOO_BIG, 1009, "a message may have at most 5000 bytes")
    await bystanders.check_alone()


@every_door
async def test_the_first_message_has_a_smaller_one(broker: Broker, door: str) -> None:
    def first_message(size: int) -> bytes:
        message = compact({"op": 1, "data": {"token": TOKEN, "group": "demo"}, "x": ""})
        return message[:-2] + b"x" * (size - len(message)) + message[-2:]

    client = await broker.connect(door)
    await client.send(first_message(4096))
    assert (await client.receive_json())["op"] == 1

    client = await broker.connect(door)
    await client.send(first_message(4097))
    end = await client.receive_end()
    expect_end(end, door, Reason.MESSAGE_TOO_BIG, 1009, "a message may have at most 4096 bytes")


@pytest.mark.parametrize("door", STREAM_DOORS)
async def test_there_is_room_for_so_many_streams(start_broker: StartBroker, door: str) -> None:
    broker = await start_broker(limits=LimitSettings(connections=2))
    bystanders = await Bystanders.join(broker)
    client = await broker.connect(door)
    await client.send(compact({"op": 1, "data": {"token": TOKEN, "group": "demo"}}))

    end = await client.receive_end()

    assert (end.before, end.reason, end.clean) == ([], "TRY_AGAIN_LATER", True)
    await bystanders.check_alone()


async def test_there_is_room_for_so_many_websockets(start_broker: StartBroker) -> None:
    """Before a WebSocket is open there is no DISCONNECT and no code; HTTP has its own word."""
    broker = await start_broker(limits=LimitSettings(connections=2))
    bystanders = await Bystanders.join(broker)
    client = await broker.raw()
    await client.send_bytes(b"GET / HTTP/1.1\r\nHost: broker.test\r\n")
    answer = b""
    while data := await client.receive_bytes():
        answer += data

    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert not client.was_reset
    await bystanders.check_alone()


async def test_room_that_was_left_is_room_again(start_broker: StartBroker) -> None:
    broker = await start_broker(limits=LimitSettings(connections=1))
    for door in DOORS:
        client = await broker.join(door)
        await client.send(b'{"op":2}')
        await client.receive_end()
        await client.hang_up()
        await until(lambda: broker.connections() == 0)


# -- Time ------------------------------------------------------------------------------------------


@every_door
async def test_silence_after_a_ping(mock_clock: MockClock, broker: Broker, door: str) -> None:
    client = await broker.join(door)
    mock_clock.jump(PING_MS / 1000 + GRANULE)
    assert await client.receive_json() == {"op": 3}
    mock_clock.jump(PING_MS / 1000 + GRANULE)

    end = await client.receive_end()

    text = f"silent for {PING_MS} ms after a PING"
    expect_end(end, door, Reason.PING_TIMEOUT, 4006, text)


@every_door
@pytest.mark.parametrize("life", ['{"op":4}', '{"op":3}', '{"op":0}', '{"op":4,"id":"x" }'])
async def test_any_frame_is_life(
    mock_clock: MockClock, broker: Broker, door: str, life: str
) -> None:
    client = await broker.join(door)
    for _ in range(5):
        mock_clock.jump(PING_MS / 1000 + GRANULE)
        assert await client.receive_json() == {"op": 3}
        frames = broker.server.dispatcher.counters.frames_in
        await client.send(life.encode())
        if '"op":4' not in life:
            await client.receive()
        await until(lambda seen=frames: broker.server.dispatcher.counters.frames_in > seen)  # type: ignore[misc]


async def test_control_frames_are_no_life(mock_clock: MockClock, broker: Broker) -> None:
    """A proxy may answer them for a service that is dead."""
    client = await broker.handmade()
    await client.identify()
    for payload in (b"1", b"2"):
        mock_clock.jump(PING_MS / 1000 + GRANULE)
        await client.send_bytes(b"\x89\x81\0\0\0\0" + payload)
        await client.send_bytes(b"\x8a\x80\0\0\0\0")

    end = await client.receive_end()

    expect_end(
        end, "websockets", Reason.PING_TIMEOUT, 4006, f"silent for {PING_MS} ms after a PING"
    )
    assert b"1" in client.pongs


@every_door
async def test_identify_has_a_deadline(mock_clock: MockClock, broker: Broker, door: str) -> None:
    client = await broker.connect(door)
    if door in STREAM_DOORS:
        await client.send(b'{"op":1,')  # Until a first byte has come, the framing is not known.
    await until(lambda: broker.connections() == 1)
    mock_clock.jump(IDENTIFY_MS / 1000 + GRANULE)

    end = await client.receive_end()

    text = f"no IDENTIFY within {IDENTIFY_MS} ms"
    expect_end(end, door, Reason.IDENTIFY_TIMEOUT, 4008, text)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n"], ids=["nothing", "half a request"])
async def test_a_handshake_has_the_same_deadline(
    mock_clock: MockClock, broker: Broker, bystanders: Bystanders, said: bytes
) -> None:
    """Where no framing is agreed on yet, the end of the connection has to say it all."""
    client = await broker.raw()
    if said:
        await client.send_bytes(said)
    await until(lambda: broker.guests() == 1)
    mock_clock.jump(IDENTIFY_MS / 1000 + GRANULE)

    assert await client.receive_bytes() == b""
    await bystanders.check_alone()


@every_door
async def test_identify_in_time_lifts_the_deadline(
    mock_clock: MockClock, broker: Broker, door: str
) -> None:
    client = await broker.connect(door)
    mock_clock.jump(IDENTIFY_MS / 1000 - 1)
    await client.identify()
    mock_clock.jump(2)
    await client.send(b'{"op":3}')
    assert await client.receive_json() == {"op": 4}


# -- Receivers that do not receive -----------------------------------------------------------------


async def flood(sender: Client, receiver: Client, count: int) -> None:
    """Send a receiver many messages of 8 KiB."""
    for number in range(count):
        await sender.send(
            compact(
                {
                    "op": 0,
                    "id": str(number),
                    "event": "E",
                    "data": "x" * 8192,
                    "intent": {"target": "DIRECT", "identifier": receiver.id},
                }
            )
        )


def expect_slow(end: End, door: str) -> None:
    assert end.reason == Reason.SLOW_CONSUMER
    assert end.message is not None
    assert end.message.endswith(" bytes were waiting to be read")
    assert end.clean
    if door in WEBSOCKET_DOORS:
        assert (end.code, end.text) == (4007, "SLOW_CONSUMER")
    # What came before it are whole messages, in order.
    numbers = [int(message.partition(b'"id":"')[2].partition(b'"')[0]) for message in end.before]
    assert numbers == list(range(len(numbers)))


# trio-websocket reads on its own, so it is never slow.
slow_doors = pytest.mark.parametrize("door", ["tcp", "unix", "websockets"])


@slow_doors
async def test_a_receiver_past_its_limit(
    start_broker: StartBroker, mock_clock: MockClock, door: str
) -> None:
    """The clock stands still: it is the amount alone."""
    broker = await start_broker(
        limits=LimitSettings(message_bytes=32_768, outbox_high_bytes=65_536, outbox_bytes=65_536)
    )
    bystanders = await Bystanders.join(broker)
    sender, receiver = await broker.join("tcp"), await broker.join(door)
    closed = broker.server.dispatcher.counters.closed
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood, sender, receiver, 4096)
        await until(lambda: closed[Reason.SLOW_CONSUMER] == 1)
        nursery.cancel_scope.cancel()
    await sender.hang_up()

    end = await receiver.receive_end()

    expect_slow(end, door)
    await bystanders.check_alone()


@slow_doors
async def test_a_receiver_that_is_stuck_for_too_long(
    start_broker: StartBroker, mock_clock: MockClock, door: str
) -> None:
    broker = await start_broker(
        timing=TimingSettings(stall_ms=3000), limits=LimitSettings(outbox_high_bytes=65_536)
    )
    bystanders = await Bystanders.join(broker)
    sender, receiver = await broker.join("tcp"), await broker.join(door)
    peer = broker.peer(receiver)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood, sender, receiver, 4096)
        await until(lambda: peer.congested)
        mock_clock.jump(3 - GRANULE)
        await bystanders.check()
        assert peer.congested
        mock_clock.jump(2 * GRANULE)
        await until(lambda: not peer.congested)
        nursery.cancel_scope.cancel()
    await sender.hang_up()

    end = await receiver.receive_end()

    expect_slow(end, door)
    await bystanders.check_alone()


@slow_doors
async def test_a_receiver_that_never_reads_again_is_let_go(
    start_broker: StartBroker, mock_clock: MockClock, door: str
) -> None:
    """It is told; if it does not take that either, its time for goodbyes runs out."""
    broker = await start_broker(
        timing=TimingSettings(goodbye_ms=2000),
        limits=LimitSettings(message_bytes=32_768, outbox_high_bytes=65_536, outbox_bytes=65_536),
    )
    bystanders = await Bystanders.join(broker)
    sender, receiver = await broker.join("tcp"), await broker.join(door)
    closed = broker.server.dispatcher.counters.closed
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood, sender, receiver, 4096)
        await until(lambda: closed[Reason.SLOW_CONSUMER] == 1)
        nursery.cancel_scope.cancel()
    await sender.hang_up()
    await until(lambda: broker.connections() == 3)
    mock_clock.jump(2 + GRANULE)
    await bystanders.check_alone()
