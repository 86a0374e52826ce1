"""JSON that is none has its defined end at both doors; JSON that is odd reaches everybody alike."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import attrs
import pytest
import trio

from tests.integration.broker_process import TOKEN, BrokerProcess, broker_process
from tests.integration.mesh import (
    Client,
    HandmadeWebSocket,
    LibraryWebSocket,
    RawStream,
    compact,
    masked_frame,
)
from tests.protocol.json_cases import (
    ACCEPTED,
    REFUSED,
    TEXTS_REFUSED,
    UP_TO_US_ACCEPTED,
    UP_TO_US_REFUSED,
)

C = TypeVar("C", bound=Client)

DOORS = ("stream", "websocket")


@attrs.define
class Mesh:
    """A broker as a process, and who is connected to it."""

    process: BrokerProcess
    clients: list[Client] = attrs.field(factory=list)

    async def join(self, door: str, group: str) -> RawStream | HandmadeWebSocket:
        """Connect as somebody who can send any bytes."""
        stream = await self._connect()
        if door == "stream":
            return await self._identify(RawStream(stream), group)
        client = HandmadeWebSocket(stream)
        await client.shake_hands()
        return await self._identify(client, group)

    async def join_by_library(self, group: str) -> LibraryWebSocket:
        """Connect as somebody who reads messages of any size."""
        client = LibraryWebSocket(await self._connect())
        await client.shake_hands()
        return await self._identify(client, group)

    async def _connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.process.port)

    async def _identify(self, client: C, group: str) -> C:
        self.clients.append(client)
        await client.send(compact({"op": 1, "data": {"token": TOKEN, "group": group}}))
        client.id = (await client.receive_json())["data"]["id"]
        return client


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    with broker_process(tmp_path) as process:
        mesh = Mesh(process)
        yield mesh
        for client in mesh.clients:
            await client.hang_up()
        assert "Traceback" not in process.log
        assert '"level": "error"' not in process.log


# What could go on: a raw stream waits, and a WebSocket message is at its end.
UNENDED = {
    name
    for name, value in REFUSED.items()
    if any(
        word in name for word in ("unclosed", "only_open", "no_end", "only_quote", "bracket_key")
    )
} | {"n_string_only_backslash", "n_array_closed_as_object", "n_object_closed_as_array"}


@pytest.mark.parametrize("door", DOORS)
async def test_what_is_no_json_ends_the_connection(mesh: Mesh, door: str) -> None:
    """Every case in one test, since each is one short connection to the same broker."""
    healthy = await mesh.join(door, "healthy")
    values = REFUSED | UP_TO_US_REFUSED
    texts = {name: b'{"op":0,"event":"E","data":%b}' % value for name, value in values.items()}
    for name, text in (texts | TEXTS_REFUSED).items():
        client = await mesh.join(door, "bad")
        await client.send(text)
        if door == "stream" and name in UNENDED:
            # Whatever comes behind is taken for the rest of it, until that is no JSON either.
            await client.send(b'\n"}]}]}"}]}' * 3)
        end = await client.receive_end()
        assert (end.reason, end.before) == ("INVALID_PAYLOAD", []), name
        assert end.message
        if door == "websocket":
            utf8 = name.startswith("n_utf8") or "utf" in name
            assert end.code in ((1007, 4002) if utf8 else (4002,)), name
        if "too_deep" in name or "_of_100000" in name:
            assert end.message == "nested too deeply"
    await healthy.send(b'{"op":3,"id":"still there"}')
    assert await healthy.receive_json() == {"op": 4, "id": "still there"}


@pytest.mark.parametrize("door", DOORS)
async def test_what_is_json_reaches_everybody_alike(mesh: Mesh, door: str) -> None:
    """Alone, among others in one write, and as a broadcast; behind either door."""
    sender = await mesh.join(door, "senders")
    receivers: list[Client] = [
        await mesh.join("stream", "receivers"),
        await mesh.join_by_library("receivers"),
    ]
    values = [value.strip() for value in (ACCEPTED | UP_TO_US_ACCEPTED).values()]
    intents = [{"target": "GROUP", "identifier": "receivers"}] + [
        {"target": "DIRECT", "identifier": receiver.id} for receiver in receivers
    ]

    def message(number: int, intent: dict[str, str]) -> bytes:
        return b'{"op":0,"id":"%d","event":"E","data":%b,"intent":%b}' % (
            number,
            values[number],
            compact(intent),
        )

    source = b',"source":' + compact({"id": sender.id, "group": "senders"}) + b"}"

    async def check(number: int, receiver: Client, intent: dict[str, str]) -> None:
        received = await receiver.receive()
        assert received is not None
        expected = message(number, intent)[:-1] + source
        if isinstance(receiver, RawStream):
            expected = expected.replace(b"\n", b" ").replace(b"\r", b" ")
        assert received == expected

    for number in range(len(values)):
        for intent, who in zip(intents, (receivers, receivers[:1], receivers[1:]), strict=True):
            await sender.send(message(number, intent))
            for receiver in who:
                await check(number, receiver, intent)
    small = [number for number, value in enumerate(values) if len(value) < 6000]
    framed = b"".join(frame_for(sender, message(number, intents[0])) for number in small)
    framed += b"".join(frame_for(sender, message(number, intents[1])) for number in small)
    await sender.send_bytes(framed)
    for receiver, expected in zip(receivers, (intents[:2], intents[:1]), strict=True):
        for intent in expected:
            for number in small:
                await check(number, receiver, intent)


def frame_for(client: RawStream | HandmadeWebSocket, message: bytes) -> bytes:
    if isinstance(client, RawStream):
        return message + b"\n"
    return masked_frame(message)


@pytest.mark.parametrize("door", DOORS)
async def test_numbers_and_doubled_keys_are_the_receivers_own_business(
    mesh: Mesh, door: str
) -> None:
    """The broker hands on what it got; what a library makes of it is told in the protocol."""
    sender, receiver = await mesh.join(door, "senders"), await mesh.join("stream", "receivers")
    digits = b"9" * 5000
    data = b'{"n":%b,"key":1,"key":2}' % digits
    intent = compact({"target": "DIRECT", "identifier": receiver.id})
    await sender.send(b'{"op":0,"event":"E","data":%b,"intent":%b}' % (data, intent))
    received = await receiver.receive()
    assert received is not None
    assert data in received
    assert json.loads(received, parse_int=str)["data"] == {"n": digits.decode(), "key": "2"}
