"""The Socket.IO server of the gateways: its bounds, and what no library would send to it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from services.gateways.socket_io.client import Client, Outgoing
from services.gateways.socket_io.server import Conversation, SocketIoServer
from services.programs import ProgramError
from tests.gateways.socket_client import connected
from tests.gateways.world import on_asyncio


class Echo(Conversation):
    """Sends back what it hears, and writes down who comes and goes."""

    def __init__(self, origins: Sequence[str] = ()) -> None:
        self.server = SocketIoServer(self, origins)
        self.present: list[str] = []
        self.changed = anyio.Event()
        self.gate = anyio.Event()
        self.gate.set()

    def _change(self) -> None:
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    async def opened(self, sid: str) -> None:
        self.present.append(sid)
        self._change()

    async def closed(self, sid: str) -> None:
        self.present.remove(sid)
        self._change()

    async def said(self, sid: str, event: str, arguments: Sequence[Any]) -> None:
        await self.gate.wait()
        if event == "fail":
            raise LookupError("as asked")
        self.server.emit(sid, "heard", [event, *map(str, arguments)])

    async def wait_for(self, count: int) -> None:
        """Wait until so many clients are there."""
        with anyio.fail_after(20):
            while len(self.present) != count:
                await self.changed.wait()


@asynccontextmanager
async def echo(origins: Sequence[str] = ()) -> AsyncIterator[tuple[Echo, int]]:
    conversation = Echo(origins)
    async with conversation.server.serving("127.0.0.1", 0) as port:
        yield conversation, port


@asynccontextmanager
async def raw(port: int, origin: str | None = None) -> AsyncIterator[ClientConnection]:
    """A WebSocket that has come as far as Socket.IO's CONNECT."""
    url = f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket"
    async with connect(url, origin=origin, compression=None) as socket:  # type: ignore[arg-type]
        assert str(await socket.recv()).startswith("0{")
        await socket.send("40")
        assert str(await socket.recv()).startswith("40{")
        yield socket


async def hear(socket: ClientConnection) -> Any:
    """Wait for the next event, and return its argument."""
    with anyio.fail_after(20):
        while not (packet := str(await socket.recv())).startswith("42"):
            pass
    return json.loads(packet[2:])[1]


async def closing(socket: ClientConnection) -> None:
    """Wait until the connection is closed by the other side."""
    with anyio.fail_after(20), suppress(ConnectionClosed):
        while True:
            await socket.recv()


@pytest.mark.parametrize(
    "packet",
    [
        "42",
        "42[]",
        "42{}",
        "42null",
        "42[7]",
        "42[{}]",
        '42["open',
        "42" + "[" * 200_000,
        '42["huge",' + "9" * 5000 + "]",
        '450-["bytes"]',
        '45["bytes"]',
        '459-["bytes",{"_placeholder":true,"num":0}]',
        '45999999999-["bytes",{"_placeholder":true,"num":0}]',
    ],
    ids=lambda packet: packet[:16],
)
@on_asyncio
async def test_an_event_that_is_none_is_handed_on_as_malformed(packet: str) -> None:
    async with echo() as (_, port), raw(port) as socket:
        await socket.send(packet)
        assert await hear(socket) == ["(malformed)"]
        await socket.send('42["hello"]')
        assert await hear(socket) == ["hello"]


@pytest.mark.parametrize(
    "packets",
    [
        ("41/nowhere,",),
        ('42/nowhere,["hello"]',),
        ("43",),
        ("43[]",),
        ("437[1]",),
        ("44{}",),
        ("46",),
        ("461-[]", b"bytes"),
        ("40",),
        ("40{" + "[" * 100_000,),
        ("3probe",),
        ("5",),
        ("6",),
        ("0{}",),
        (b"stray bytes",),
        (b"",),
        ("44" + "x" * 600_000,),
    ],
    ids=lambda packets: str(packets[0])[:16],
)
@on_asyncio
async def test_other_packets_that_make_no_sense_do_no_harm(
    packets: tuple[str | bytes, ...],
) -> None:
    async with echo() as (_, port), raw(port) as socket:
        for packet in packets:
            await socket.send(packet)
        await socket.send('42["hello"]')
        assert await hear(socket) == ["hello"]


@on_asyncio
async def test_an_event_that_is_too_large_is_not_even_read() -> None:
    async with echo() as (_, port), raw(port) as socket:
        for packet in ('42["hello","' + "x" * 600_000 + '"]', "42[" + "[" * 600_000):
            await socket.send(packet)
            assert await hear(socket) == ["(too large)"]


@on_asyncio
async def test_attachments_that_do_not_fit_are_told_and_forgotten() -> None:
    async with echo() as (_, port), raw(port) as socket:
        await socket.send('451-["bytes",{"_placeholder":true,"num":5}]')
        await socket.send(b"something")
        assert await hear(socket) == ["(malformed)"]
        await socket.send('42["hello"]')
        assert await hear(socket) == ["hello"]


@pytest.mark.parametrize(
    "text", ["", "x", "4", "4x", "7", "-1", "2" + "[" * 100, "b====", "\u0662"]
)
@on_asyncio
async def test_who_does_not_speak_engine_io_is_gone_at_once(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with echo() as (conversation, port):
        async with raw(port) as socket:
            await conversation.wait_for(1)
            await socket.send(text)
            await conversation.wait_for(0)
            await closing(socket)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@on_asyncio
async def test_other_paths_serve_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with echo() as (_, port), aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/") as answer:
            assert answer.status == 404
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"ws://127.0.0.1:{port}/chat")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@on_asyncio
async def test_who_disconnects_gets_an_answer_to_the_last_long_poll() -> None:
    async with echo() as (conversation, port), aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port}/socket.io/?EIO=4&transport=polling"

        async def poll() -> str:
            async with session.get(url) as answer:
                return await answer.text()

        async def post(packet: str) -> None:
            async with session.post(url, data=packet) as answer:
                assert answer.status == 200

        url += "&sid=" + json.loads((await poll())[1:])["sid"]
        await post("40")
        assert (await poll()).startswith("40{")
        await conversation.wait_for(1)
        polling = asyncio.create_task(poll())
        await post("41")
        # And not the next ping, half a minute later.
        assert await polling == "6"


@on_asyncio
async def test_a_handler_that_fails_is_logged_and_told_and_the_next_event_is_handled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with echo() as (_, port), connected(port) as client:
        await client.say("fail")
        assert set(await client.next("error")) == {"error"}
        await client.say("hello")
        assert await client.next("heard") == ["hello"]
    assert "LookupError: as asked" in caplog.text


@on_asyncio
async def test_what_people_say_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    # Debug logs of the transport below name each byte, but only for those who ask for them.
    caplog.set_level(logging.INFO, "websockets")
    async with echo() as (_, port), connected(port) as client:
        await client.say("hello", "a secret")
        assert await client.next("heard") == ["hello", "a secret"]
    ours = [record for record in caplog.records if not record.name.endswith("client")]
    assert [record for record in ours if "a secret" in record.getMessage()] == []


@on_asyncio
async def test_only_pages_of_allowed_origins_may_connect() -> None:
    async with echo(["https://chat.example.org"]) as (_, port):
        async with raw(port, "https://chat.example.org") as socket:
            await socket.send('42["hello"]')
            assert await hear(socket) == ["hello"]
        with pytest.raises(Exception, match=r"HTTP 40[03]"):
            async with raw(port, "https://elsewhere.example.org"):
                raise AssertionError("it has been let in")
    async with echo() as (_, port):
        async with raw(port, f"http://127.0.0.1:{port}"):
            pass
        with pytest.raises(Exception, match=r"HTTP 40[03]"):
            async with raw(port, "https://chat.example.org"):
                raise AssertionError("it has been let in")
    async with echo(["*"]) as (_, port), raw(port, "https://anywhere.example.org"):
        pass


@on_asyncio
async def test_an_address_that_is_taken_is_said() -> None:
    async with echo() as (_, port):
        expected = pytest.RaisesExc(
            ProgramError,
            match=rf"cannot listen on 127.0.0.1, port {port}: Address already in use; ",
        )
        with pytest.RaisesGroup(expected):
            async with Echo().server.serving("127.0.0.1", port):
                raise AssertionError("two at one port")


@on_asyncio
async def test_who_floods_without_waiting_is_read_no_faster_than_answered() -> None:
    async with echo() as (conversation, port), connected(port) as client, connected(port) as other:
        conversation.gate = anyio.Event()
        # More than the sockets hold.
        for number in range(300):
            await client.say("hello", number, "x" * 100_000)
        with anyio.move_on_after(1) as scope:
            await client.client.eio.queue.join()
        assert scope.cancelled_caught
        conversation.gate.set()
        for number in range(300):
            assert (await client.next("heard"))[:2] == ["hello", str(number)]
        await other.say("hello")
        assert await other.next("heard") == ["hello"]


@on_asyncio
async def test_a_client_that_does_not_read_is_disconnected_and_the_others_hear_everything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "services.gateways")
    async with echo() as (conversation, port), connected(port) as reader:
        async with raw(port) as stuck:
            await conversation.wait_for(2)
            # Nothing of it is read any more, by its library or by the kernel.
            stuck.transport.pause_reading()
            sent = 0
            with anyio.fail_after(20):
                while len(conversation.present) == 2:
                    conversation.server.emit_to_all("news", [sent, "x" * 100_000])
                    sent += 1
                    assert (await reader.next("news"))[0] == sent - 1
            stuck.transport.abort()
            # What was kept for it, and what the sockets hold.
            assert 40 < sent < 400
            await reader.say("hello")
            assert await reader.next("heard") == ["hello"]
    assert "reads too slowly" in caplog.text


@on_asyncio
async def test_what_waits_for_a_client_is_bounded_in_bytes_and_number() -> None:
    client = Client("sid", "transport")
    large = Outgoing.of("news", "x" * 1_000_000)
    assert [client.put(large) for _ in range(5)] == [True, True, True, True, False]
    many = Client("sid", "transport")
    small = Outgoing.of("news", None)
    assert sum(many.put(small) for _ in range(11_000)) == 10_000
    # Whatever its size, an answer is not refused where nothing else waits.
    alone = Client("sid", "transport")
    assert alone.put(Outgoing.of("news", "x" * 10_000_000))
    for each in (client, many, alone):
        each.asked.close()
        each.to_answer.close()


@on_asyncio
async def test_the_end_of_the_server_ends_its_connections() -> None:
    async with echo() as (conversation, port):
        socket = await connect(f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket")
        await socket.recv()
        await socket.send("40")
        await conversation.wait_for(1)
    assert conversation.present == []
    await closing(socket)
