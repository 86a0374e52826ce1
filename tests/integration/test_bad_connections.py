"""Connections that go wrong below the frames: HTTP, TLS, half of something, resets, floods."""

from __future__ import annotations

import random
import socket
import struct

import pytest
import trio
from trio.testing import MockClock

from broker.core.peer import PeerState
from broker.core.settings import LimitSettings, TimingSettings
from broker.protocol.errors import Reason
from tests.integration.bystanders import Bystanders
from tests.integration.conftest import StartBroker
from tests.integration.mesh import (
    DOORS,
    TOKEN,
    Broker,
    Client,
    HandmadeWebSocket,
    LibraryWebSocket,
    RawStream,
    TrioWebSocket,
    compact,
    masked_frame,
    until,
)

GRANULE = 0.02

# What TLS 1.3 of OpenSSL begins with: a handshake record with a ClientHello.
CLIENT_HELLO = bytes.fromhex(
    "1603010131010001 2d0303 "
    "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
    "20 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
    "003e130213031301c02cc030009fcca9cca8ccaac02bc02f009ec024c028006bc023c0270067"
)

OPENING = (
    b"GET / HTTP/1.1\r\nHost: broker.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2l4dGVlbiBieXRlcy4uLg==\r\n"
)


async def read_all(client: RawStream) -> bytes:
    received = bytearray()
    while data := await client.receive_bytes():
        received += data
    await client.hang_up()
    return bytes(received)


def reset(stream: trio.SocketStream) -> None:
    """Have the socket send RST when it is closed, and throw away what it has not sent."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # `trio.aclose_forcefully` at the end of the test does not mind.
    stream.socket.close()


# -- Other protocols -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\r\n", 400),
        (b"GET\n", 400),
        (b"HELLO\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n" + b'{"op":3}', 405),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405),
        (b"CONNECT broker:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"EHLO example.org\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: no name\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"A" * 9000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 200 + b"\r\n", 431),
        (OPENING.replace(b"13", b"8") + b"\r\n", 426),
        (OPENING.replace(b"c2l4", b"@@@@") + b"\r\n", 400),
        (OPENING.replace(b"Sec-WebSocket-Key", b"X-Key") + b"\r\n", 400),
        (OPENING + b"Origin: https://example.org\r\n\r\n", 403),
        (OPENING + b"Content-Length: 4\r\n\r\nbody", 400),
        (OPENING + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
)
async def test_http_that_opens_no_websocket(
    broker: Broker, bystanders: Bystanders, sent: bytes, status: int
) -> None:
    client = await broker.raw()
    await client.send_bytes(sent)

    answer = await read_all(client)

    assert not client.was_reset
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert body or sent.startswith(b"HEAD")
    await bystanders.check_alone()


async def test_tls_where_none_is_spoken(broker: Broker, bystanders: Bystanders) -> None:
    client = await broker.raw()
    await client.send_bytes(CLIENT_HELLO)

    end = await client.receive_end()

    assert (end.reason, end.clean) == (Reason.INVALID_PAYLOAD, True)
    assert end.message == "a frame is a JSON object and begins with a brace, not with the byte 0x16"
    await bystanders.check_alone()


async def test_every_first_byte_that_begins_nothing(broker: Broker, bystanders: Bystanders) -> None:
    beginnings = {*b"{ \t\r\n", *range(ord("A"), ord("Z") + 1)}
    for byte in set(range(256)) - beginnings:
        client = await broker.raw()
        await client.send_bytes(bytes([byte]))

        end = await client.receive_end()

        assert (end.reason, end.clean) == (Reason.INVALID_PAYLOAD, True), byte
    await bystanders.check_alone()


# -- Half of something -----------------------------------------------------------------------------

IDENTIFY_BYTES = compact({"op": 1, "data": {"token": TOKEN, "group": "demo"}})

HALVES = {
    "nothing": b"",
    "a brace": b"{",
    "white space": b"\r\n \t",
    "half an IDENTIFY": IDENTIFY_BYTES[:20],
    "an IDENTIFY": IDENTIFY_BYTES,
    "an IDENTIFY and half a frame": IDENTIFY_BYTES + b'{"op":0,"data":"',
    "half a request": OPENING,
    "one letter": b"G",
    "an opening handshake": OPENING + b"\r\n",
    "and half a header": OPENING + b"\r\n\x81",
    "and half a key": OPENING + b"\r\n\x81\x88ma",
    "and half a frame": OPENING + b"\r\n" + masked_frame(IDENTIFY_BYTES)[:30],
    "and half a long length": OPENING + b"\r\n\x81\xff\0\0",
    "and an IDENTIFY": OPENING + b"\r\n" + masked_frame(IDENTIFY_BYTES),
    "and a fragment": OPENING + b"\r\n" + masked_frame(IDENTIFY_BYTES, first=0x01),
}


@pytest.mark.parametrize("end", ["shut down", "close", "reset"])
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
async def test_half_of_something_and_then_the_end(
    broker: Broker, bystanders: Bystanders, unix: bool, end: str
) -> None:
    for half, sent in HALVES.items():
        client = await broker.raw(unix=unix)
        if sent:
            await client.send_bytes(sent)
        if end == "shut down":
            await client.stream.send_eof()
            # Whatever has an answer gets it; then the connection ends from the other side too.
            await read_all(client)
            assert not client.was_reset, half
        elif end == "close":
            await client.hang_up()
        else:
            reset(client.stream)
        await bystanders.check_alone()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_bytes_that_come_one_by_one(broker: Broker, size: int) -> None:
    """Handshake, IDENTIFY and frames, in pieces that are cut anywhere."""
    client = HandmadeWebSocket(await broker.connect_stream())
    client.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sent = OPENING + b"\r\n" + masked_frame(IDENTIFY_BYTES) + masked_frame(b'{"op":3}') * 3
    for start in range(0, len(sent), size):
        await client.send_bytes(sent[start : start + size])
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += await client.receive_bytes()
    client._read(answer.partition(b"\r\n\r\n")[2])

    assert (await client.receive_json())["op"] == 1
    assert [await client.receive_json() for _ in range(3)] == [{"op": 4}] * 3


@pytest.mark.parametrize("door", ["stream", "websocket"])
async def test_all_in_the_first_packet(broker: Broker, door: str) -> None:
    if door == "stream":
        client: RawStream | HandmadeWebSocket = await broker.raw()
        await client.send_bytes(IDENTIFY_BYTES + b'{"op":3}' * 100)
    else:
        client = HandmadeWebSocket(await broker.connect_stream())
        await client.shake_hands(masked_frame(IDENTIFY_BYTES) + masked_frame(b'{"op":3}') * 100)

    assert (await client.receive_json())["op"] == 1
    assert [await client.receive_json() for _ in range(100)] == [{"op": 4}] * 100


# -- Ends in the middle ----------------------------------------------------------------------------


def to_crowd(number: int) -> bytes:
    return compact(
        {
            "op": 0,
            "id": str(number),
            "event": "NEWS",
            "data": "x" * 2000,
            "intent": {"target": "GROUP", "identifier": "crowd"},
        }
    )


async def test_resets_in_the_middle_of_a_broadcast(broker: Broker, bystanders: Bystanders) -> None:
    """A crowd of ten, of which one after the other breaks away; those who stay miss nothing."""
    sender = await broker.join("tcp", "senders")
    crowd = [await broker.join(door, "crowd") for door in ("tcp", "unix", "websockets") * 4]
    staying, leaving = crowd[:3], crowd[3:]
    received: dict[int, list[str]] = {number: [] for number in range(len(staying))}

    async def listen(number: int, client: Client) -> None:
        for _ in range(600):
            frame = await client.receive_json()
            received[number].append(frame["id"])

    async with trio.open_nursery() as nursery:
        for number, client in enumerate(staying):
            nursery.start_soon(listen, number, client)
        for number in range(600):
            if number % 60 == 30 and leaving:
                gone = leaving.pop()
                assert isinstance(gone, RawStream | LibraryWebSocket)
                reset(gone.stream)
            await sender.send(to_crowd(number))

    assert list(received.values()) == [[str(number) for number in range(600)]] * 3
    for client in (sender, *staying):
        await client.hang_up()
    await bystanders.check_alone()


async def test_a_sender_that_resets_behind_its_last_message(
    broker: Broker, bystanders: Bystanders
) -> None:
    for door in ("tcp", "unix", "websockets"):
        client = await broker.join(door)
        assert isinstance(client, RawStream | LibraryWebSocket)
        for number in range(100):
            await client.send(to_crowd(number))
        reset(client.stream)
    await bystanders.check_alone()


@pytest.mark.parametrize("door", ["tcp", "unix", "websockets"])
async def test_a_goodbye_reaches_a_client_that_goes_on_sending(
    broker: Broker, bystanders: Bystanders, door: str
) -> None:
    """Were the broker to close at once, the system would send a reset, and all be lost."""
    client = await broker.join(door)
    assert isinstance(client, RawStream | LibraryWebSocket)
    await client.send(b'{"op":77}')
    for _ in range(64):
        await client.send_bytes(b"x" * 65536)

    end = await client.receive_end()

    assert (end.reason, end.clean) == (Reason.UNKNOWN_OP, True)
    await bystanders.check_alone()


@pytest.mark.parametrize("last", [b'{"op":77}', b'{"op":1}', b"{", b'{"op":2}'])
async def test_a_fault_and_a_close_frame_in_one_write(
    broker: Broker, bystanders: Bystanders, last: bytes
) -> None:
    """The DISCONNECT comes before the close frame: section 5.5.1 allows nothing behind that."""
    client = await broker.handmade()
    await client.identify()
    await client.send_bytes(masked_frame(last) + masked_frame(b"\x03\xe8", first=0x88))

    end = await client.receive_end()  # Fails where anything follows a close frame.

    expected = {
        b'{"op":77}': Reason.UNKNOWN_OP,
        b'{"op":1}': Reason.ALREADY_IDENTIFIED,
        b"{": Reason.INVALID_PAYLOAD,
    }
    assert end.reason == expected.get(last)
    assert end.clean
    assert end.code is not None
    await bystanders.check_alone()


async def test_a_websocket_that_says_goodbye_but_does_not_read(
    start_broker: StartBroker, mock_clock: MockClock
) -> None:
    """The echo of its close frame is stuck behind all the rest; its time runs out nevertheless."""
    broker = await start_broker(
        timing=TimingSettings(goodbye_ms=2000), limits=LimitSettings(outbox_high_bytes=65_536)
    )
    bystanders = await Bystanders.join(broker)
    sender, receiver = await broker.join("tcp", "senders"), await broker.handmade()
    await receiver.identify("crowd")
    peer = broker.peer(receiver)

    async def flood() -> None:
        for number in range(100_000):
            await sender.send(to_crowd(number))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        await until(lambda: peer.congested)
        nursery.cancel_scope.cancel()
    await receiver.send_bytes(masked_frame(b"\x03\xe8", first=0x88))
    await until(lambda: peer.state is PeerState.CLOSED)
    await sender.hang_up()
    await until(lambda: broker.connections() == 3)
    mock_clock.jump(2 + GRANULE)
    await bystanders.check_alone()


# -- Floods ----------------------------------------------------------------------------------------

FLOODS = {
    "pings": b'{"op":3}',
    "frames that are refused": b'{"op":0}',
    "frames that go nowhere": b'{"op":0,"event":"E","intent":{"target":"DIRECT","identifier":"0"}}',
    "frames to itself": b'{"op":0,"event":"E","intent":{"target":"GROUP","identifier":"flood"}}',
}


@pytest.mark.parametrize("door", ["stream", "websocket"])
@pytest.mark.parametrize("flood", [*FLOODS, "control pings", "control pings before IDENTIFY"])
async def test_answers_that_nobody_reads_do_not_pile_up(
    start_broker: StartBroker, mock_clock: MockClock, door: str, flood: str
) -> None:
    """Whoever makes the broker answer and does not read is a slow receiver like any other."""
    broker = await start_broker(
        limits=LimitSettings(outbox_high_bytes=65_536, outbox_bytes=2 << 20)
    )
    bystanders = await Bystanders.join(broker)
    client = await (broker.raw() if door == "stream" else broker.handmade())
    if flood in FLOODS:
        await client.identify("flood")
        message = FLOODS[flood]
        block = (message if door == "stream" else masked_frame(message)) * 10_000
    elif door == "stream":
        return  # A stream has no control frames.
    else:
        if "before" not in flood:
            await client.identify("flood")
        block = masked_frame(b"x" * 125, first=0x89) * 1000
    await bystanders.check()
    (peer,) = {
        peer for peer in broker.server.dispatcher._peers if peer.source.group != "bystanders"
    }
    # One receive of the broker may bring so many frames, and each an answer of so much.
    bound = (1 << 20) + (262_144 // 8) * 300
    largest = 0

    async def send_flood() -> None:
        while True:
            await client.send_bytes(block)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_flood)
        while peer.state is not PeerState.CLOSED and not peer.stalls:
            await trio.lowlevel.checkpoint()
            largest = max(largest, peer.outbox_bytes)
            assert largest < bound
        nursery.cancel_scope.cancel()

    # Whichever of the two it is, for one that does not read it is the end.
    mock_clock.jump(TimingSettings().stall_ms / 1000 + GRANULE)
    mock_clock.jump(TimingSettings().goodbye_ms / 1000 + GRANULE)
    await client.hang_up()
    await bystanders.check_alone()


# -- Many ------------------------------------------------------------------------------------------


async def come_and_go(broker: Broker, dice: random.Random) -> None:
    """One short life."""
    client = await broker.connect(dice.choice(DOORS))
    ending = dice.randrange(7)
    if ending == 0:
        await client.hang_up()
        return
    await client.identify(f"group {dice.randrange(5)}")
    for number in range(dice.randrange(4)):
        intent = {"target": "GROUP", "identifier": f"group {dice.randrange(5)}"}
        await client.send(compact({"op": 0, "id": str(number), "event": "E", "intent": intent}))
    if ending == 1:
        await client.send(b'{"op":2,"data":"bye"}')
        assert (await client.receive_end()).clean
    elif ending == 2:
        await client.send(b'{"op":8}')
        end = await client.receive_end()
        assert (end.reason, end.clean) == (Reason.UNKNOWN_OP, True)
    elif ending == 3 and not isinstance(client, TrioWebSocket):
        assert isinstance(client, RawStream | LibraryWebSocket)
        reset(client.stream)
    elif ending == 4:
        await client.send(b'{"op":3,"id":"last"}')
        while (await client.receive_json()).get("id") != "last":
            pass
        await client.hang_up()
    else:
        await client.hang_up()


async def test_three_hundred_connections_come_and_go(
    broker: Broker, bystanders: Bystanders
) -> None:
    dice = random.Random(300)

    async def visit(count: int) -> None:
        for _ in range(count):
            await come_and_go(broker, dice)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(visit, 15)
        for _ in range(30):
            await bystanders.check()
    await bystanders.check_alone()
    assert broker.server.dispatcher.statistics().opened <= 302
