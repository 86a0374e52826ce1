"""The real broker, for tests that need one."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio

from broker.core.authentication import hash_token
from broker.core.settings import LimitSettings, ListenerSettings, Settings, TokenSettings
from broker.server import Server
from services.sdk import Mesh, connect

TOKEN = "a-token-for-tests"


def make_settings(directory: Path) -> Settings:
    return Settings(
        listeners=(
            ListenerSettings("tcp://127.0.0.1:0"),
            ListenerSettings(f"unix://{directory}/broker.sock"),
        ),
        tokens=(
            TokenSettings(hash_token(TOKEN)),
            TokenSettings(hash_token("for-maths-only"), groups=("maths",)),
        ),
        limits=LimitSettings(message_bytes=100_000),
    )


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        server = Server(settings)
        await nursery.start(server.run)
        yield server
        server.stop()


@contextmanager
def running_in_thread(settings: Settings) -> Iterator[list[str]]:
    """For a client on asyncio: the broker lives on trio."""
    ready = threading.Event()
    addresses: list[str] = []
    stop: list[object] = []

    async def serve() -> None:
        async with running(settings) as server:
            token, ended = trio.lowlevel.current_trio_token(), trio.Event()
            stop.append(lambda: token.run_sync_soon(ended.set))
            addresses.extend(server.addresses)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    ready.wait()
    try:
        yield addresses
    finally:
        for end in stop:
            end()  # type: ignore[operator]
        thread.join()


@asynccontextmanager
async def broker() -> AsyncIterator[Server]:
    """A broker on a TCP port of the system's choice, and nothing else about it."""
    listeners = (ListenerSettings("tcp://127.0.0.1:0"),)
    async with running(
        Settings(listeners=listeners, tokens=(TokenSettings(hash_token(TOKEN)),))
    ) as server:
        yield server


def join(server: Server, group: str = "web", **options: Any) -> Mesh:
    """A client that is lost with its connection, unless the test says otherwise."""
    options.setdefault("reconnect", None)
    return connect(server.addresses[0], group=group, token=TOKEN, **options)
