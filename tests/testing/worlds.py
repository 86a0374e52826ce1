"""The same mesh in several ways: in memory, over TCP, over WebSocket."""

from __future__ import annotations

import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Literal, Protocol

import anyio
import attrs
import trio
from anyio.abc import ByteStream, TaskGroup, TaskStatus
from msgspec import Raw

from broker.core.authentication import hash_token
from broker.core.settings import ListenerSettings, Settings, TokenSettings
from broker.core.statistics import Statistics
from broker.protocol.codec import Envelope, Message, encode
from broker.protocol.frames import OpCode
from broker.protocol.wire import Wire
from broker.server import Server
from services.sdk import Mesh, Service, connect
from services.sdk.dialing import dial, open_wire
from services.sdk.tasks import BackgroundTasks
from services.sdk.urls import Address, parse_url
from services.testing import TOKEN, Framing, TestMesh, virtual_time

Backend = Literal["trio", "asyncio"]


class World(Protocol):
    """A broker, and the ways to get to it."""

    async def run(self, service: Service, **options: Any) -> Mesh: ...
    async def client(self, group: str = "web", **options: Any) -> Mesh: ...
    async def plain(self) -> PlainClient: ...
    async def stop(self, member: Mesh) -> None: ...
    async def stop_broker(self) -> None: ...
    def statistics(self) -> Statistics: ...


@attrs.define
class PlainClient:
    """A client without the SDK: it does nothing by itself, not even answer a PING."""

    stream: ByteStream
    wire: Wire
    read: list[Message] = attrs.field(factory=list)

    async def identify(self, group: str, token: str = TOKEN) -> Envelope:
        said = {"token": token, "group": group}
        await self.send(Envelope(OpCode.IDENTIFY, data=Raw(encode(said))))
        return await self.receive()

    async def send(self, envelope: Envelope) -> None:
        await self.stream.send(self.wire.frame(encode(envelope)))

    async def receive(self) -> Envelope:
        while not self.read:
            self.read = self.wire.receive(await self.stream.receive())
        message = self.read.pop(0)
        assert isinstance(message, Envelope)
        return message

    async def vanish(self) -> None:
        await anyio.aclose_forcefully(self.stream)


async def open_plain(stream: ByteStream, address: Address) -> PlainClient:
    wire, first = await open_wire(stream, address)
    return PlainClient(stream, wire, wire.receive(first))


class MemoryWorld:
    def __init__(self, mesh: TestMesh, framing: Framing) -> None:
        self._mesh = mesh
        self._address = parse_url("ws://memory" if framing == "websocket" else "tcp://memory")
        self.stop = mesh.stop
        self.stop_broker = mesh.stop_broker
        self.statistics = mesh.statistics

    async def run(self, service: Service, **options: Any) -> Mesh:
        return await self._mesh.run(service, **options)

    async def client(self, group: str = "web", **options: Any) -> Mesh:
        return await self._mesh.client(group, **options)

    async def plain(self) -> PlainClient:
        return await open_plain(await self._mesh.dial(), self._address)


class SocketWorld:
    """A real server, in a thread of its own, since it lives on trio."""

    def __init__(
        self, server: Server, token: trio.lowlevel.TrioToken, scheme: str, tasks: TaskGroup
    ) -> None:
        self._url = server.addresses[0].replace("tcp:", f"{scheme}:")
        self._server = server
        self._token = token
        self._tasks = tasks
        self._members: dict[int, tuple[anyio.Event, anyio.Event]] = {}

    async def run(self, service: Service, **options: Any) -> Mesh:
        return await self._enter(service.serve(self._url, token=TOKEN, **options))

    async def client(self, group: str = "web", **options: Any) -> Mesh:
        return await self._enter(connect(self._url, group=group, **{"token": TOKEN, **options}))

    async def plain(self) -> PlainClient:
        address = parse_url(self._url)
        return await open_plain(await dial(address), address)

    async def stop(self, member: Mesh) -> None:
        stop, ended = self._members.pop(id(member))
        stop.set()
        await ended.wait()

    async def stop_broker(self) -> None:
        self._token.run_sync_soon(self._server.drain)

    def statistics(self) -> Statistics:
        return self._server.dispatcher.statistics()

    async def _enter(self, context: Any) -> Mesh:
        mesh: Mesh = await self._tasks.start(self._live, context)
        return mesh

    async def _live(self, context: Any, *, task_status: TaskStatus[Mesh]) -> None:
        stop, ended = anyio.Event(), anyio.Event()
        async with context as mesh:
            self._members[id(mesh)] = (stop, ended)
            task_status.started(mesh)
            await stop.wait()
        ended.set()


@contextmanager
def _serving(settings: Settings) -> Iterator[tuple[Server, trio.lowlevel.TrioToken]]:
    found: list[tuple[Server, trio.lowlevel.TrioToken]] = []
    ready = threading.Event()

    async def serve() -> None:
        try:
            async with trio.open_nursery() as nursery:
                server = Server(settings)
                await nursery.start(server.run)
                found.append((server, trio.lowlevel.current_trio_token()))
                ready.set()
        finally:
            ready.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    ready.wait()
    [(server, token)] = found
    try:
        yield server, token
    finally:
        with suppress(trio.RunFinishedError):  # It was drained.
            token.run_sync_soon(server.stop)
        thread.join()


@asynccontextmanager
async def _open_sockets(settings: Settings, scheme: str) -> AsyncIterator[World]:
    settings = attrs.evolve(
        settings,
        listeners=(ListenerSettings("tcp://127.0.0.1:0"),),
        tokens=(TokenSettings(hash_token(TOKEN)),),
    )
    with _serving(settings) as (server, token):
        async with BackgroundTasks() as tasks:
            yield SocketWorld(server, token, scheme, tasks)


@asynccontextmanager
async def _open_memory(settings: Settings, framing: Framing) -> AsyncIterator[World]:
    async with TestMesh(settings, framing=framing) as mesh:
        yield MemoryWorld(mesh, framing)


WORLDS: dict[str, Callable[[Settings], Any]] = {
    "memory, stream": lambda settings: _open_memory(settings, "stream"),
    "memory, WebSocket": lambda settings: _open_memory(settings, "websocket"),
    "TCP": lambda settings: _open_sockets(settings, "tcp"),
    "WebSocket": lambda settings: _open_sockets(settings, "ws"),
}


def run_in_world(
    world: str, backend: Backend, contract: Callable[[Any], Any], settings: Settings
) -> Any:
    """Run a contract in a fresh world; time is virtual in memory."""

    async def run() -> Any:
        # In virtual time, what would never end does so after a day.
        with anyio.CancelScope(deadline=anyio.current_time() + 86_400 if virtual else math.inf):
            async with WORLDS[world](settings) as opened:
                return await contract(opened)

    virtual = world.startswith("memory")
    options = virtual_time(backend) if virtual else {}
    return anyio.run(run, backend=backend, backend_options=options)
