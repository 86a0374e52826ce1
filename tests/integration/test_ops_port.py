"""The ops port on real sockets: hostile clients, the door to it, and what a drain says there."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from broker.core.access_settings import PermissionSettings
from broker.core.authentication import hash_token
from broker.core.settings import (
    ListenerSettings,
    OpsSettings,
    Settings,
    TimingSettings,
    TokenSettings,
)
from broker.ops.binding import DEFAULT_ADDRESS, OpsPortError
from broker.ops.connections import MOST_CONNECTIONS
from broker.server import ListenError, Server
from tests.integration.mesh import TOKEN, Broker

PATIENCE = 30.0


def settings(path: Path, **changes: Any) -> Settings:
    allowed = PermissionSettings(drain=True)
    return attrs.evolve(
        Settings(
            listeners=(ListenerSettings("tcp://127.0.0.1:0"), ListenerSettings(f"unix://{path}")),
            tokens=(TokenSettings(hash_token(TOKEN), permissions=allowed),),
            ops=OpsSettings("127.0.0.1:0"),
        ),
        **changes,
    )


@attrs.define
class Ops:
    """A broker with an ops port, and how to ask there."""

    server: Server
    broker: Broker

    @property
    def port(self) -> int:
        (address,) = self.server.ops_addresses
        return int(address.rpartition(":")[2])

    async def connect(self) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.broker._stack.push_async_callback(trio.aclose_forcefully, stream)
        return stream

    async def get(self, path: str, headers: str = "") -> tuple[int, bytes]:
        """Return status and body."""
        stream = await self.connect()
        await stream.send_all(request(path, headers))
        answer = b"".join([bytes(piece) async for piece in stream])
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body


def request(path: str, headers: str = "") -> bytes:
    text = f"GET {path} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n"
    return text.encode()


@asynccontextmanager
async def operable(configured: Settings, path: Path) -> AsyncIterator[Ops]:
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            server = Server(configured)
            await nursery.start(server.run)
            try:
                yield Ops(server, Broker(server, str(path), nursery, stack))
            finally:
                server.stop()


@pytest.fixture
async def ops(socket_path: Path) -> AsyncIterator[Ops]:
    async with operable(settings(socket_path), socket_path) as found:
        yield found


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.lowlevel.checkpoint()


# -- Binding ---------------------------------------------------------------------------------------


async def test_a_server_has_an_ops_port_only_where_it_is_told_to(socket_path: Path) -> None:
    async with operable(settings(socket_path, ops=OpsSettings()), socket_path) as ops:
        assert ops.server.ops_addresses == []


async def test_the_default_address_in_use_is_no_reason_to_give_up(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        monkeypatch.setattr("broker.ops.binding.DEFAULT_ADDRESS", taken)
        async with trio.open_nursery() as nursery:
            server = Server(settings(socket_path, ops=OpsSettings()), ops_by_default=True)
            await nursery.start(server.run)
            assert server.ops_addresses == []
            assert server.ops_failure is not None
            assert server.ops_failure.address == taken
            assert server.addresses
            server.stop()
    assert DEFAULT_ADDRESS == "127.0.0.1:8421"


async def test_an_address_of_the_settings_that_is_in_use_is_an_error(socket_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(OpsPortError, match=f"can't listen on {taken}, the ops port: Address"):
            await Server(settings(socket_path, ops=OpsSettings(taken))).run()
    assert not socket_path.exists()


async def test_a_listener_that_fails_is_told_as_ever(ops: Ops, socket_path: Path) -> None:
    """And the ops port that was open by then is closed again."""
    server = Server(settings(socket_path))
    with pytest.raises(ListenError):
        await server.run()
    (address,) = server.ops_addresses
    with pytest.raises(OSError, match=r"refused|all attempts"):
        await trio.open_tcp_stream("127.0.0.1", int(address.rpartition(":")[2]))


# -- Hostile clients -------------------------------------------------------------------------------


async def test_requests_are_answered_whatever_is_on_the_other_connections(ops: Ops) -> None:
    """Many more connections than there may be, each of them bad in its own way."""
    bad = [
        b"",
        b"GET /metrics HTT",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ]
    for number in range(2 * MOST_CONNECTIONS):
        stream = await ops.connect()
        await stream.send_all(bad[number % len(bad)])
    assert await ops.get("/healthz") == (200, b"ok\n")
    assert await ops.get("/readyz") == (200, b'{"ready":true,"reasons":[]}')
    assert ops.server._ops is not None
    assert len(ops.server._ops._connections) <= MOST_CONNECTIONS
    assert ops.server.dispatcher.counters.faults == 0


async def test_the_stillest_connection_makes_room(ops: Ops) -> None:
    still = await ops.connect()
    await still.send_all(b"GET /")
    for _ in range(MOST_CONNECTIONS):
        stream = await ops.connect()
        await stream.send_all(b"GET /")
    assert await still.receive_some() == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x00" * 20_000,
        b"GET / HTTP/1.1\r\n\r\n",
        b'{"op":1,"data":{}}\n',
    ],
    ids=["head", "path", "zeros", "no host", "a frame"],
)
async def test_what_is_no_request_is_refused_and_the_connection_ends(ops: Ops, sent: bytes) -> None:
    stream = await ops.connect()
    await stream.send_all(sent)
    answer = b"".join([bytes(piece) async for piece in stream])
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer[:100]
    assert (await ops.get("/healthz"))[0] == 200
    assert ops.server.dispatcher.counters.faults == 0


async def test_websockets_are_turned_away(ops: Ops) -> None:
    upgrade = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    )
    stream = await ops.connect()
    head = f"GET /events HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n"
    await stream.send_all(head.encode())
    answer = bytes(await stream.receive_some())
    assert answer.startswith(b"HTTP/1.1 403")
    assert ops.server.dispatcher.counters.faults == 0


async def test_a_viewer_that_leaves_makes_room_for_the_next(ops: Ops) -> None:
    assert ops.server._ops is not None
    feed = ops.server._ops._feed
    stream = await ops.connect()
    await stream.send_all(request("/events"))
    received = b""
    while b"event: snapshot" not in received:
        received += bytes(await stream.receive_some())
    assert feed._viewers == 1
    await trio.aclose_forcefully(stream)
    await until(lambda: feed._viewers == 0)


async def test_a_request_is_counted_like_nothing_at_all_among_the_messages(ops: Ops) -> None:
    await ops.broker.join("tcp", "billing")
    status, body = await ops.get("/services")
    (service,) = json.loads(body)["services"]
    assert (status, service["group"]) == (200, "billing")
    status, body = await ops.get("/metrics")
    assert b'switchboard_messages_received_total{op="IDENTIFY",target="NONE"} 1.0' in body
    assert b'switchboard_received_bytes_total{op="IDENTIFY",target="NONE"}' in body


# -- Reload ----------------------------------------------------------------------------------------


async def test_a_token_that_is_reloaded_is_asked_for_at_once(ops: Ops, socket_path: Path) -> None:
    assert (await ops.get("/statistics"))[0] == 200
    same = ops.server._settings
    token = attrs.evolve(same.ops, token_sha256=hash_token("new"))
    assert ops.server.reload(attrs.evolve(same, ops=token)) == []
    assert (await ops.get("/statistics"))[0] == 401
    assert (await ops.get("/statistics", "Authorization: Bearer new\r\n"))[0] == 200
    moved = attrs.evolve(token, address="127.0.0.1:1", metrics=False)
    assert ops.server.reload(attrs.evolve(same, ops=moved)) == ["ops.address", "ops.metrics"]


# -- Drain -----------------------------------------------------------------------------------------


async def test_the_ops_port_tells_of_a_drain_from_the_first_to_the_last(socket_path: Path) -> None:
    timing = TimingSettings(grace_ms=60_000, drain_ms=60_000)
    async with operable(settings(socket_path, timing=timing), socket_path) as ops:
        client = await ops.broker.join("tcp", "billing")
        ops.server.drain()
        assert await ops.get("/readyz") == (503, b'{"ready":false,"reasons":["draining"]}')
        assert (await ops.get("/healthz"))[0] == 200
        # During the grace time, all is as ever.
        late = await ops.broker.join("tcp", "late")
        await client.send(
            json.dumps(
                {
                    "op": 0,
                    "id": "1",
                    "event": "E",
                    "intent": {"target": "DIRECT", "identifier": late.id},
                    "timeout": 1000,
                }
            ).encode()
        )
        assert (await late.receive_json())["id"] == "1"


async def test_an_operator_drains_the_broker_with_a_frame(socket_path: Path) -> None:
    async with operable(settings(socket_path), socket_path) as ops:
        operator = await ops.broker.join("tcp", "operators")
        other = await ops.broker.join("websockets", "billing")
        intent = {"target": "DIRECT", "identifier": "$broker"}
        drain = {"op": 0, "id": "d", "event": "DRAIN", "data": {"broker": True}, "intent": intent}
        await operator.send(json.dumps(drain).encode())
        assert (await operator.receive_json())["data"] == {"draining": 2}
        assert (await operator.receive_end()).reason == "SERVER_RESTART"
        assert (await other.receive_end()).reason == "SERVER_RESTART"
        await until(lambda: not socket_path.exists())
