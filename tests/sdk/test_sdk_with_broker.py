"""The SDK with the real broker, over real sockets."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
import trio

from services.sdk import (
    CannotConnect,
    Disconnected,
    IdentifyFailed,
    MeshError,
    NoRoute,
    Service,
    connect,
)
from tests.sdk.real_broker import TOKEN, make_settings, running, running_in_thread

maths = Service("maths")


@maths.on("SUM")
async def add(numbers: list[int]) -> int:
    return sum(numbers)


SCHEMES = ["tcp", "ws", "unix"]


def url_of(scheme: str, addresses: list[str]) -> str:
    tcp, unix = addresses
    return {"tcp": tcp, "ws": tcp.replace("tcp:", "ws:"), "unix": unix}[scheme]


async def converse(url: str) -> None:
    """Ask, fail to ask, tell everyone, and hear it."""
    errors: list[MeshError] = []
    async with (
        maths.serve(url, token=TOKEN) as member,
        connect(url, group="web", token=TOKEN, on_error=errors.append) as mesh,
        mesh.listen("NEWS") as here,
        member.listen("NEWS") as there,
    ):
        numbers = list(range(10_000))
        result = await mesh.request("SUM", numbers, group="maths", returns=int, timeout=20)
        assert result == sum(numbers)
        assert await mesh.request("SUM", [1], to=member.id, timeout=20) == 1
        with pytest.raises(NoRoute, match="SUM to group nobody"):
            await mesh.request("SUM", [], group="nobody", timeout=20)
        await mesh.emit("NEWS", "ä € 😀")
        for events in (here, there):
            event = await events.receive()
            assert event.data == "ä € 😀"
            assert (event.source.id, event.source.group) == (mesh.id, "web")
        await mesh.emit("LOST", group="nobody")
        # Order is kept, so the error has come when this has.
        assert await mesh.request("SUM", [], group="maths", timeout=20) == 0
        assert [str(error.code) for error in errors if isinstance(error, NoRoute)] == ["NO_ROUTE"]


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_on_trio(scheme: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path)) as server:
        await converse(url_of(scheme, server.addresses))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_on_asyncio(scheme: str, tmp_path: Path) -> None:
    with running_in_thread(make_settings(tmp_path)) as addresses:
        anyio.run(converse, url_of(scheme, addresses), backend="asyncio")


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_not_let_in(scheme: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path)) as server:
        url = url_of(scheme, server.addresses)
        for token, group in ((TOKEN + "x", "web"), ("for-maths-only", "web"), (TOKEN, "$broker")):
            with pytest.raises(IdentifyFailed, match="IDENTIFY_FAILED"):
                async with connect(url, group=group, token=token):
                    raise AssertionError("entered")


async def test_the_group_may_be_left_out_where_the_token_says_it(tmp_path: Path) -> None:
    async with (
        running(make_settings(tmp_path)) as server,
        connect(server.addresses[0], token="for-maths-only") as mesh,
    ):
        assert mesh.group == "maths"


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_goodbye_loses_nothing(scheme: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path)) as server:
        url = url_of(scheme, server.addresses)
        async with connect(url, group="sink", token=TOKEN) as sink, sink.listen("*") as events:
            async with connect(url, group="web", token=TOKEN) as mesh:
                for number in range(1000):
                    await mesh.emit("NEWS", number)
                    # What comes back unread must not make the system reset the connection.
                    await mesh.emit("ECHO", number, to=mesh.id)
            assert [(await events.receive()).data for _ in range(1000)] == list(range(1000))


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_the_broker_goes_down(scheme: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path)) as server:
        url = url_of(scheme, server.addresses)
        async with connect(url, group="web", token=TOKEN) as mesh:
            server.drain()
            with pytest.raises(Disconnected, match="SERVER_RESTART"):
                await mesh.wait_lost()


async def test_no_websocket_there(tmp_path: Path) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        body = b"not here"
        length = str(len(body)).encode()
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: " + length + b"\r\n\r\n")
        await stream.send_all(body)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, refuse, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(CannotConnect, match="opens no WebSocket: HTTP 404: not here"):
            async with connect(f"ws://127.0.0.1:{port}", group="web", token=TOKEN):
                raise AssertionError("entered")
        nursery.cancel_scope.cancel()


async def test_much_from_many(tmp_path: Path) -> None:
    async with (
        running(make_settings(tmp_path)) as server,
        maths.serve(server.addresses[0], token=TOKEN),
        connect(server.addresses[0].replace("tcp:", "ws:"), group="web", token=TOKEN) as mesh,
        trio.open_nursery() as nursery,
    ):

        async def ask(first: int) -> None:
            for number in range(first, first + 20):
                assert await mesh.request("SUM", [number, 1], group="maths") == number + 1

        for first in range(50):
            nursery.start_soon(ask, first)
