"""TLS on real sockets: clients that share no code with the broker, large messages, bad clients."""

from __future__ import annotations

import json
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final, cast

import pytest
import structlog
import trio
import trio_websocket
import trustme
from structlog.testing import capture_logs
from websockets.sync.client import connect as connect_websocket

from broker.core.authentication import hash_token
from broker.core.settings import (
    LimitSettings,
    ListenerSettings,
    Settings,
    TimingSettings,
    TokenSettings,
)
from broker.server import Server, TlsSettingsError
from tests.integration.mesh import (
    EVENT,
    TOKEN,
    Client,
    LibraryWebSocket,
    RawStream,
    TrioWebSocket,
    compact,
    until,
)
from tests.transport.tls_rig import Files, authority, client_context

MIB: Final = 1 << 20
DOORS: Final = ("tcp", "websockets", "trio-websocket")


class TlsBroker:
    """A running broker with one TLS listener.

    Attributes:
        files: its certificate and key.
        settings: what it goes by.
        server: its very self.
    """

    def __init__(self, files: Files, settings: Settings, stack: AsyncExitStack) -> None:
        self.files = files
        self.settings = settings
        self.server = Server(settings)
        self._stack = stack
        self.nursery: trio.Nursery

    @property
    def port(self) -> int:
        (address,) = self.server.addresses
        assert address.startswith("tls://127.0.0.1:")
        return int(address.rpartition(":")[2])

    async def tcp(self, buffer: int | None = None) -> trio.SocketStream:
        """Return a connected socket."""
        sock = trio.socket.socket()
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await sock.connect(("127.0.0.1", self.port))
        stream = trio.SocketStream(sock)
        self._stack.push_async_callback(trio.aclose_forcefully, stream)
        return stream

    async def connect(
        self, door: str, context: ssl.SSLContext | None = None, buffer: int | None = None
    ) -> Client:
        """Return a client that has said nothing yet, but for a WebSocket's handshake."""
        stream: trio.SSLStream[trio.SocketStream] = trio.SSLStream(
            await self.tcp(buffer), context or client_context(), server_hostname="broker.test"
        )
        # The clients of `mesh` only send, receive and close.
        as_socket = cast("trio.SocketStream", stream)
        if door == "tcp":
            return RawStream(as_socket)
        if door == "websockets":
            client = LibraryWebSocket(as_socket)
            await client.shake_hands()
            return client
        return TrioWebSocket(
            await trio_websocket.wrap_client_stream(
                self.nursery, stream, "broker.test", "/", max_message_size=16 * MIB
            )
        )

    async def join(
        self, door: str, context: ssl.SSLContext | None = None, buffer: int | None = None
    ) -> Client:
        """Connect and identify."""
        client = await self.connect(door, context, buffer)
        await client.identify()
        return client


class StartTls:
    """Starts brokers; they run until the test is over."""

    def __init__(self, files: Files, nursery: trio.Nursery, stack: AsyncExitStack) -> None:
        self._files = files
        self._nursery = nursery
        self._stack = stack

    async def __call__(
        self,
        client_certificate: str | None = None,
        timing: TimingSettings | None = None,
        limits: LimitSettings | None = None,
    ) -> TlsBroker:
        settings = Settings(
            listeners=(self._files.listener(client_certificate),),
            tokens=(TokenSettings(hash_token(TOKEN), "test"),),
            timing=timing or TimingSettings(),
            limits=limits or LimitSettings(),
        )
        broker = TlsBroker(self._files, settings, self._stack)
        broker.nursery = self._nursery
        await self._nursery.start(broker.server.run)
        return broker


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
async def start(files: Files, nursery: trio.Nursery) -> AsyncIterator[StartTls]:
    async with AsyncExitStack() as stack:
        yield StartTls(files, nursery, stack)


@pytest.fixture
async def broker(start: StartTls) -> TlsBroker:
    return await start()


def event(receiver: Client, id: str, data: object = None) -> bytes:
    intent = {"target": "DIRECT", "identifier": receiver.id}
    return compact({"op": EVENT, "id": id, "event": "E", "data": data, "intent": intent})


async def exchange(first: Client, second: Client, id: str = "1") -> None:
    """Have both send to each other; nothing else must come."""
    for sender, receiver in ((first, second), (second, first)):
        await sender.send(event(receiver, id))
        assert (await receiver.receive_json())["id"] == id


# -- Clients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_framings(broker: TlsBroker, door: str, version: ssl.TLSVersion) -> None:
    client = await broker.join(door, client_context(version))
    other = await broker.join("tcp")
    await exchange(client, other)


async def test_the_ssl_module_and_websockets_in_threads(broker: TlsBroker) -> None:
    """Blocking clients, with the handshakes that their libraries do by themselves."""
    identify = compact({"op": 1, "data": {"token": TOKEN, "group": "demo"}})

    def stream() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", broker.port), timeout=30) as sock,
            client_context().wrap_socket(
                sock, server_hostname="broker.test", suppress_ragged_eofs=False
            ) as tls,
        ):
            tls.sendall(identify)
            answer = tls.recv(65536)
            tls.sendall(b'{"op":2}')
            assert tls.recv(1) == b"", "close_notify, and not just the end"
            tls.unwrap()
            return answer

    def websocket() -> bytes:
        with connect_websocket(
            f"wss://localhost:{broker.port}",
            ssl=client_context(),
            server_hostname="broker.test",
            open_timeout=30,
        ) as connection:
            connection.send(identify.decode())
            answer = connection.recv()
            assert isinstance(answer, str)
            return answer.encode()

    with trio.fail_after(60):
        for client in (stream, websocket):
            assert json.loads(await trio.to_thread.run_sync(client))["op"] == 1
        await until(lambda: broker.server.dispatcher.statistics().connections == 0)


async def test_trio_websocket_by_its_url(broker: TlsBroker) -> None:
    broker.files.write(authority().issue_cert("localhost"))
    broker.server.reload(broker.settings)
    async with trio_websocket.open_websocket_url(
        f"wss://localhost:{broker.port}", ssl_context=client_context()
    ) as connection:
        client = TrioWebSocket(connection)
        await client.identify()


# -- Large messages --------------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS)
async def test_eight_mebibytes_each_way_at_once(start: StartTls, door: str) -> None:
    """Messages of all sizes, in pipelines that fill every buffer there is."""
    broker = await start(limits=LimitSettings(message_bytes=9 * MIB, outbox_bytes=32 * MIB))
    pair = (await broker.join(door), await broker.join("tcp"))
    chance = random.Random(8)
    texts = ["x" * 8 * MIB, *("y" * chance.choice([0, 100, 16_384, 300_000]) for _ in range(40))]

    async def send(sender: Client, receiver: Client) -> None:
        for number, text in enumerate(texts):
            await sender.send(event(receiver, str(number), text))

    async def receive(receiver: Client) -> None:
        for number, text in enumerate(texts):
            frame = await receiver.receive_json()
            assert frame["id"] == str(number)
            # Not compared within `assert`, which would print them.
            same = frame["data"] == text
            assert same, f"{len(frame['data'])} and not {len(text)} characters"

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for sender, receiver in (pair, pair[::-1]):
                nursery.start_soon(send, sender, receiver)
                nursery.start_soon(receive, receiver)


async def test_a_slow_reader_holds_up_its_sender_and_nobody_else(start: StartTls) -> None:
    broker = await start(
        timing=TimingSettings(stall_ms=60_000), limits=LimitSettings(outbox_high_bytes=256 * 1024)
    )
    sender, slow = await broker.join("tcp"), await broker.join("tcp", buffer=65_536)
    others = await broker.join("websockets"), await broker.join("tcp")
    peers = broker.server.dispatcher.registry.by_id
    count = 400

    async def send() -> None:
        for number in range(count):
            await sender.send(event(slow, str(number), "x" * 50_000))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await until(lambda: peers[sender.id].stalls > 0)
            assert peers[slow.id].congested
            for number in range(20):
                await exchange(*others, str(number))
            assert peers[slow.id].outbox_bytes < 2 * MIB
            for number in range(count):
                assert (await slow.receive_json())["id"] == str(number)
        assert peers[sender.id].stalls == 0
        await exchange(sender, slow)


async def test_a_reader_that_never_reads_is_cut(start: StartTls) -> None:
    broker = await start(
        timing=TimingSettings(stall_ms=200), limits=LimitSettings(outbox_high_bytes=256 * 1024)
    )
    sender, slow = await broker.join("tcp"), await broker.join("tcp", buffer=65_536)
    registry = broker.server.dispatcher.registry
    with trio.fail_after(60):
        number = 0
        while slow.id in registry.by_id:
            await sender.send(event(slow, str(number), "x" * 50_000))
            number += 1
        messages = []
        while (message := await slow.receive()) is not None:
            messages.append(json.loads(message))
    assert messages[-1]["data"] == "SLOW_CONSUMER"
    ids = [frame["id"] for frame in messages[:-1]]
    assert ids == [str(number) for number in range(len(ids))], "whole messages, up to some point"


# -- Bad clients -----------------------------------------------------------------------------------


async def test_bad_clients_while_good_ones_talk(broker: TlsBroker) -> None:
    """Garbage, half handshakes, resets and other protocols: no traceback, and nothing is left."""
    pair = await broker.join("tcp"), await broker.join("websockets")
    chance = random.Random(100)
    hello = _client_hello()
    structlog.reset_defaults()

    def say() -> bytes:
        return chance.choice(
            [
                chance.randbytes(chance.choice([1, 10, 5000])),
                b"\x16\x03\x01" + chance.randbytes(300),
                hello[: chance.randrange(len(hello))],
                hello[:100] + chance.randbytes(200) + hello[300:],
                hello + chance.randbytes(100),
                b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                b'{"op":1}',
            ]
        )

    with capture_logs() as logs, trio.fail_after(60):
        for number in range(100):
            stream = await broker.tcp()
            with suppress(trio.BrokenResourceError):
                await stream.send_all(say())
            if number % 3 == 0:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.socket.close()
            elif number % 3 == 1:
                with suppress(trio.BrokenResourceError):
                    await stream.send_eof()
                await _read_until_the_end(stream)
            else:
                stream.socket.close()
            if number % 20 == 0:
                await exchange(*pair, str(number))
        await until(lambda: broker.server._reactor.guests == 0)
    await exchange(*pair)
    statistics = broker.server.dispatcher.statistics()
    assert statistics.connections == 2
    assert statistics.faults == 0
    assert statistics.tls_failures
    assert {entry["log_level"] for entry in logs} <= {"debug", "info"}
    assert not any("exc_info" in entry for entry in logs)


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing, server_hostname="broker.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def _read_until_the_end(stream: trio.SocketStream) -> bytes:
    received = b""
    with suppress(trio.BrokenResourceError):
        while data := await stream.receive_some():
            received += data
    return received


async def test_handshakes_that_stall_are_closed_by_the_deadline(start: StartTls) -> None:
    broker = await start(timing=TimingSettings(identify_ms=200))
    good = await broker.join("tcp")
    stalled = [await broker.tcp() for _ in range(20)]
    for number, stream in enumerate(stalled):
        if number:
            await stream.send_all(_client_hello()[: number * 10])
    with trio.fail_after(30):
        for stream in stalled:
            assert await _read_until_the_end(stream) == b""
        await until(lambda: broker.server._reactor.guests == 0)
    await exchange(good, good)


# -- Client certificates ---------------------------------------------------------------------------


def _with_certificate(issued: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority().configure_trust(context)
    issued.configure_cert(context)
    return context


@pytest.mark.parametrize("door", DOORS)
async def test_the_names_in_a_client_certificate_are_known(start: StartTls, door: str) -> None:
    broker = await start("required")
    issued = authority().issue_cert("billing.test", common_name="billing")
    client = await broker.join(door, _with_certificate(issued))
    peer = broker.server.dispatcher.registry.by_id[client.id]
    assert peer.certificate_names == ("billing", "billing.test")


@pytest.mark.parametrize("with_another", [False, True])
async def test_who_has_no_good_certificate_is_told_by_tls(
    start: StartTls, with_another: bool
) -> None:
    """Over TCP a close at once would reset the connection, and the alert would be lost."""
    broker = await start("required")
    context = client_context()
    if with_another:
        context = _with_certificate(trustme.CA().issue_cert("billing.test"))
    said = []
    with trio.fail_after(60):
        for _ in range(20):
            stream: trio.SSLStream[trio.SocketStream] = trio.SSLStream(
                await broker.tcp(), context, server_hostname="broker.test"
            )
            await stream.do_handshake()
            with pytest.raises(trio.BrokenResourceError) as caught:
                await _send_and_receive(stream)
            said.append(str(caught.value.__cause__))
    assert all("alert" in text.lower() for text in said), said
    assert broker.server.dispatcher.statistics().tls_failures == 20


async def _send_and_receive(stream: trio.SSLStream[trio.SocketStream]) -> None:
    await stream.send_all(compact({"op": 1, "data": {"token": TOKEN, "group": "demo"}}))
    await stream.receive_some()


# -- Reload ----------------------------------------------------------------------------------------


async def test_a_new_certificate_under_load_loses_no_message(broker: TlsBroker) -> None:
    first, second = await broker.join("tcp"), await broker.join("websockets")
    serials = set()
    count = 2000

    async def send() -> None:
        for number in range(count):
            await first.send(event(second, str(number), "x" * 1000))

    async def receive() -> None:
        for number in range(count):
            assert (await second.receive_json())["id"] == str(number)
        nursery.cancel_scope.cancel()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(receive)
            while True:
                broker.files.write(authority().issue_cert("broker.test"))
                broker.server.reload(broker.settings)
                newcomer = await broker.join("tcp")
                stream: Any = cast("RawStream", newcomer).stream
                serials.add(stream.getpeercert()["serialNumber"])
                await newcomer.hang_up()
    assert len(serials) > 1
    await exchange(first, second)


@pytest.mark.parametrize("damage", ["another's key", "no file"])
async def test_a_certificate_that_is_no_good_is_refused_and_the_old_one_stays(
    broker: TlsBroker, damage: str
) -> None:
    client = await broker.join("tcp")
    if damage == "no file":
        broker.files.key.unlink()
        problem = f"listeners[0].key: '{broker.files.key}' can't be read: no such file"
    else:
        authority().issue_cert("broker.test").private_key_pem.write_to_path(broker.files.key)
        problem = f"listeners[0].key: '{broker.files.key}' is not the key of that certificate"
    with pytest.raises(TlsSettingsError) as caught:
        broker.server.reload(broker.settings)
    assert caught.value.problems == (problem,)
    await exchange(client, await broker.join("websockets"))


async def test_a_broker_with_a_bad_certificate_does_not_start(files: Files) -> None:
    files.certificate.unlink()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tls://127.0.0.1:{taken.getsockname()[1]}"
        server = Server(
            Settings(
                listeners=(
                    ListenerSettings("tcp://127.0.0.1:0"),
                    files.listener(address=address),
                )
            )
        )
        with pytest.raises(TlsSettingsError) as caught:
            await server.run()
    assert caught.value.problems[0].startswith("listeners[1].certificate: ")


async def test_plain_and_tls_side_by_side(files: Files, nursery: trio.Nursery) -> None:
    settings = Settings(
        listeners=(ListenerSettings("tcp://127.0.0.1:0"), files.listener()),
        tokens=(TokenSettings(hash_token(TOKEN), "test"),),
    )
    server = Server(settings)
    await nursery.start(server.run)
    plain_address, tls_address = server.addresses
    assert plain_address.startswith("tcp://")
    assert tls_address.startswith("tls://")
    plain = RawStream(
        await trio.open_tcp_stream("127.0.0.1", int(plain_address.rpartition(":")[2]))
    )
    stream = await trio.open_tcp_stream("127.0.0.1", int(tls_address.rpartition(":")[2]))
    wrapped: Any = trio.SSLStream(stream, client_context(), server_hostname="broker.test")
    encrypted = RawStream(wrapped)
    for client in (plain, encrypted):
        await client.identify()
    await exchange(plain, encrypted)
    await trio.aclose_forcefully(plain.stream)
    await trio.aclose_forcefully(stream)
