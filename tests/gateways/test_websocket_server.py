"""The WebSocket server of the gateways: who gets in, how it ends, who may be slow."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus

import pytest
import trio
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from services.gateways.websocket_server import Client, Limits, WebSocketServer
from services.programs import ProgramError
from tests.gateways.talkers import PATIENCE, closing_code, in_thread, talker

UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Echo:
    """Sends back what it gets, to all clients if that begins with `all`."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.server = WebSocketServer("/chat", self.talk, limits=limits)
        self.clients: set[Client] = set()
        self.ended = 0
        self.changed = trio.Event()

    async def talk(self, client: Client) -> None:
        self.clients.add(client)
        try:
            async for message in client:
                text = message if isinstance(message, str) else message.decode()
                if text == "break":
                    raise ZeroDivisionError
                if text.startswith("all"):
                    for other in self.clients:
                        if other is not client:
                            other.send(text)
                client.answer(text)
        finally:
            self.clients.discard(client)
            self.ended += 1
            self.changed.set()
            self.changed = trio.Event()

    async def wait_ended(self, number: int) -> None:
        while self.ended < number:
            await self.changed.wait()


@asynccontextmanager
async def echoing(limits: Limits | None = None) -> AsyncIterator[tuple[Echo, int]]:
    echo = Echo(limits)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(echo.server.run, "127.0.0.1", 0)
        with trio.fail_after(2 * PATIENCE):
            yield echo, port
        nursery.cancel_scope.cancel()


async def send_bytes(port: int, data: bytes) -> bytes:
    """Send bytes as they are, and return all that comes back."""

    def run() -> bytes:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
            return b"".join(parts)

    return await in_thread(run)


async def test_another_path_is_not_found() -> None:
    async with echoing() as (_, port):
        for path in ("/", "/chat/", "/chats", "/CHAT"):
            with pytest.raises(InvalidStatus) as refused:
                async with talker(port, path):
                    pass
            assert refused.value.response.status_code == HTTPStatus.NOT_FOUND
        async with talker(port, "/chat?who=me") as client:
            await client.say_raw("hello")
            assert await client.hear_raw() == "hello"


async def test_a_request_without_upgrade_is_told_what_this_is() -> None:
    async with echoing() as (_, port):
        answer = await send_bytes(port, b"GET /chat HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 426 ")
        assert answer.endswith(b"this is a WebSocket\n")
        answer = await send_bytes(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert answer.endswith(b"the WebSocket is at /chat\n")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET /chat HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /chat HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000, b"431"),
        (b"GET http://[a/chat HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (UPGRADE.replace(b"Version: 13", b"Version: 12"), b"426"),
        (UPGRADE.replace(b"Sec-WebSocket-Key", b"X"), b"400"),
    ],
    ids=["words", "TLS", "no host", "too long", "no address", "old version", "no key"],
)
async def test_what_is_no_request_is_refused_and_costs_nobody_anything(
    data: bytes, status: bytes
) -> None:
    async with echoing() as (_, port), talker(port, "/chat") as client:
        answer = await send_bytes(port, data)
        assert answer.startswith(b"HTTP/1.1 " + status)
        await client.say_raw("hello")
        assert await client.hear_raw() == "hello"


async def test_whoever_goes_in_the_middle_of_anything_costs_nobody_anything() -> None:
    frame = b"\x81\x85\x00\x00\x00\x00hello"
    async with echoing() as (echo, port), talker(port, "/chat") as client:
        for data in (b"", b"GET /ch", UPGRADE, UPGRADE + frame[:4], UPGRADE + frame):
            await send_bytes(port, data)
        # A frame without a mask, a reserved opcode, text that is no UTF-8.
        for bad in (b"\x81\x05hello", b"\x83\x80\x00\x00\x00\x00", b"\x81\x81\x00\x00\x00\x00\xff"):
            answer = await send_bytes(port, UPGRADE + bad)
            assert answer.startswith(b"HTTP/1.1 101 ")
        await client.say_raw("hello")
        assert await client.hear_raw() == "hello"
        await echo.wait_ended(6)


async def test_a_message_that_is_far_too_long_closes_the_connection() -> None:
    async with echoing(Limits(max_message_bytes=1000)) as (_, port):
        async with talker(port, "/chat") as client, talker(port, "/chat") as other:
            await client.say_raw("x" * 1000)
            assert len(await client.hear_raw()) == 1000
            await client.say_raw("x" * 1001)
            assert await closing_code(client) == 1009
            await other.say_raw("hello")
            assert await other.hear_raw() == "hello"


async def test_binary_messages_come_too() -> None:
    async with echoing() as (_, port), talker(port, "/chat") as client:
        await client.say_raw(b"hello")
        assert await client.hear_raw() == "hello"


async def test_a_mistake_of_the_gateway_ends_one_client_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with echoing() as (_, port):
        async with talker(port, "/chat") as client, talker(port, "/chat") as other:
            await client.say_raw("break")
            assert await closing_code(client) == 1006
            await other.say_raw("hello")
            assert await other.hear_raw() == "hello"
    assert "ZeroDivisionError" in caplog.text


async def test_clients_are_told_when_the_server_stops() -> None:
    async with trio.open_nursery() as outside:
        echo = Echo()
        stop = trio.CancelScope()
        stopped = trio.Event()

        async def serve(*, task_status: trio.TaskStatus[int]) -> None:
            with stop:
                await echo.server.run("127.0.0.1", 0, task_status=task_status)
            stopped.set()

        port = await outside.start(serve)
        async with talker(port, "/chat") as client, talker(port, "/chat") as other:
            await client.say_raw("hello")
            assert await client.hear_raw() == "hello"
            stop.cancel()
            assert [await closing_code(one) for one in (client, other)] == [1001, 1001]
            with trio.fail_after(PATIENCE):
                await stopped.wait()
        assert echo.ended == 2


async def test_a_client_that_never_says_goodbye_does_not_keep_the_server_from_stopping() -> None:
    with socket.socket() as silent:

        def open_and_say_no_more(port: int) -> bytes:
            silent.settimeout(PATIENCE)
            silent.connect(("127.0.0.1", port))
            silent.sendall(UPGRADE)
            return silent.recv(100)

        async with echoing() as (echo, port):
            answer = await in_thread(partial(open_and_say_no_more, port))
            assert answer.startswith(b"HTTP/1.1 101 ")
        assert echo.ended == 1


async def test_there_is_a_limit_for_clients() -> None:
    async with echoing(Limits(max_clients=2)) as (echo, port):
        async with talker(port, "/chat") as one:
            async with talker(port, "/chat"):
                with pytest.raises(InvalidStatus) as refused:
                    async with talker(port, "/chat"):
                        pass
                assert refused.value.response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
                await one.say_raw("hello")
                assert await one.hear_raw() == "hello"
            await echo.wait_ended(1)
            while echo.server.connections > 1:
                await trio.lowlevel.checkpoint()
            async with talker(port, "/chat") as another:
                await another.say_raw("hello")
                assert await another.hear_raw() == "hello"


async def test_clients_are_pinged_and_may_take_their_time() -> None:
    async with echoing(Limits(ping_seconds=0.01)) as (_, port):
        pinged = trio.Event()
        async with talker(port, "/chat") as client:
            protocol = client.connection.protocol
            receive, token = protocol.receive_data, trio.lowlevel.current_trio_token()

            def watch(data: bytes | bytearray) -> None:
                if data.startswith(b"\x89"):
                    trio.from_thread.run_sync(pinged.set, trio_token=token)
                receive(data)

            protocol.receive_data = watch  # type: ignore[method-assign]
            await pinged.wait()
            await client.say_raw("hello")
            assert await client.hear_raw() == "hello"


async def test_a_client_that_does_not_answer_pings_is_closed() -> None:
    async with echoing(Limits(ping_seconds=0.01, pong_seconds=0.05)) as (echo, port):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as silent:
            silent.sendall(UPGRADE)
            await echo.wait_ended(1)
            assert not echo.clients


async def test_a_slow_client_is_closed_and_holds_nobody_up() -> None:
    limits = Limits(max_outbox_bytes=256 * 1024)
    text = "all" + "x" * 100_000
    async with echoing(limits) as (echo, port):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as slow:
            slow.sendall(UPGRADE)  # And from now on it does not read.
            async with talker(port, "/chat") as client, talker(port, "/chat") as other:
                await client.say_raw("hello")
                assert await client.hear_raw() == "hello"
                while not echo.ended:
                    await client.say_raw(text)
                    assert await client.hear_raw() == text
                    assert await other.hear_raw() == text
                assert len(echo.clients) == 2


async def test_whoever_does_not_read_answers_is_not_read_from() -> None:
    limits = Limits(max_outbox_bytes=64 * 1024)
    frame = b"\x82\xfe\x27\x10\x00\x00\x00\x00" + b"x" * 10_000
    async with echoing(limits) as (echo, port):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as greedy:
            greedy.sendall(UPGRADE)

            def fill() -> bool:
                assert greedy.recv(100).startswith(b"HTTP/1.1 101 ")
                greedy.settimeout(0.5)
                try:
                    for _ in range(10_000):
                        greedy.sendall(frame)
                except TimeoutError:
                    return True
                return False

            # Its own sending comes to a halt, before a hundred megabytes are kept here.
            assert await in_thread(fill)
            assert len(echo.clients) == 1


async def test_a_port_in_use_is_said_clearly() -> None:
    async with echoing() as (_, port):
        with pytest.raises(ProgramError) as refused:
            await Echo().server.run("127.0.0.1", port)
        assert str(refused.value) == (f"127.0.0.1:{port} is in use; --host and --port name another")


async def test_an_address_of_others_is_said_clearly() -> None:
    with pytest.raises(ProgramError, match=r"192\.0\.2\.1:0 cannot be used: "):
        await Echo().server.run("192.0.2.1", 0)


def crowd(port: int, number: int, speakers: int) -> list[set[str]]:
    """Many clients in one thread: some say a thing, and all hear everything."""

    async def one(index: int, ready: asyncio.Barrier) -> set[str]:
        async with connect(f"ws://127.0.0.1:{port}/chat", proxy=None) as client:
            await ready.wait()
            if index < speakers:
                await client.send(f"all {index}")
            return {str(await client.recv()) for _ in range(speakers)}

    async def run() -> list[set[str]]:
        ready = asyncio.Barrier(number)
        return await asyncio.gather(*(one(index, ready) for index in range(number)))

    return asyncio.run(run())


async def test_200_clients_hear_each_other() -> None:
    async with echoing() as (echo, port):
        heard = await in_thread(partial(crowd, port, 200, speakers=20))
        expected = {f"all {index}" for index in range(20)}
        assert heard == [expected] * 200
        await echo.wait_ended(200)
