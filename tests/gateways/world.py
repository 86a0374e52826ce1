"""A chat in memory, for the gateways on asyncio: broker, chat service and store, all real.

Clients come over sockets, since those that we did not write know nothing else.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import anyio
import anyio.to_thread
from anyio.abc import ByteStream, TaskGroup, TaskStatus
from argon2 import PasswordHasher

from services.chat.client import ChatClient
from services.chat.messages import GATEWAYS_GROUP
from services.chat.passwords import Passwords
from services.chat.service import ChatService
from services.chat.sql_store import SqlStore
from services.sdk import Backoff, Mesh, connect
from services.testing import TOKEN, TestMesh

__all__ = ["World", "on_asyncio", "world"]

_PATIENCE: Final = 60.0

_URL: Final = "tcp://memory:1"
_BACKOFF: Final = Backoff(first=0.01, longest=0.1)

T = TypeVar("T")


def on_asyncio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test, which may take fixtures, on asyncio."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def guarded() -> None:
            with anyio.fail_after(_PATIENCE):
                await test(*args, **kwargs)

        anyio.run(guarded, backend="asyncio")

    return run


class _Member(Generic[T]):
    """Something that runs in a task of its own, so that it can end at any time."""

    def __init__(self, context: AbstractAsyncContextManager[T]) -> None:
        self._context = context
        self._stop = anyio.Event()
        self._stopped = anyio.Event()

    async def run(self, *, task_status: TaskStatus[T] = anyio.TASK_STATUS_IGNORED) -> None:
        try:
            async with self._context as value:
                task_status.started(value)
                await self._stop.wait()
        finally:
            self._stopped.set()

    async def stop(self) -> None:
        self._stop.set()
        await self._stopped.wait()


class World:
    """Everything behind a gateway.

    Attributes:
        mesh: the broker.
        chat: asks the chat service past all gateways.
    """

    def __init__(self, mesh: TestMesh, path: Path, store: SqlStore, tasks: TaskGroup) -> None:
        self.mesh = mesh
        self._path = path
        self._store = store
        self._tasks = tasks
        self._members: list[_Member[Any]] = []
        self._chat_service: _Member[Any] | None = None

    async def start(self) -> None:
        """Start the chat service, and be on the mesh."""
        await self.start_chat()
        self.chat = ChatClient(await self._enter(self._connect("tests")))

    async def end(self) -> None:
        """Stop what has been started, the last of it first."""
        for member in reversed(self._members):
            await member.stop()

    async def _enter(self, context: AbstractAsyncContextManager[T]) -> T:
        member = _Member(context)
        value: T = await self._tasks.start(member.run)
        self._members.append(member)
        return value

    async def _dial(self, _url: object) -> ByteStream:
        return await self.mesh.dial()

    def _connect(self, group: str, name: str | None = None) -> AbstractAsyncContextManager[Mesh]:
        # With the patience of a gateway, but faster to come back.
        return connect(
            _URL,
            group=group,
            name=name,
            token=TOKEN,
            dial=self._dial,
            patience=0.05,
            reconnect=_BACKOFF,
        )

    async def gateway_mesh(self, name: str) -> Mesh:
        """Be on the mesh as a gateway."""
        return await self._enter(self._connect(GATEWAYS_GROUP, name))

    async def start_chat(self) -> None:
        """Start the chat service."""
        passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        service = ChatService(self._store, passwords=passwords, grace=0.2)
        await self._enter(service.serve(_URL, token=TOKEN, dial=self._dial, reconnect=_BACKOFF))
        self._chat_service = self._members[-1]

    async def add_rooms(self, names: Iterable[str]) -> None:
        """Make many public rooms at once, straight in the database."""

        def add() -> None:
            columns = "name, description, kind, ephemeral, created, messages, changes"
            with closing(sqlite3.connect(self._path)) as connection, connection:
                connection.executemany(
                    f"INSERT INTO rooms ({columns}) VALUES (?, '', 'public', 0, 0, 0, 0)",
                    [(name,) for name in names],
                )

        await anyio.to_thread.run_sync(add)

    async def stop_chat(self) -> None:
        """Stop the chat service."""
        assert self._chat_service is not None
        self._members.remove(self._chat_service)
        await self._chat_service.stop()


@asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    """A chat for the body of an `async with`."""
    path = directory / "chat.db"
    store = SqlStore(f"sqlite:///{path}")
    await store.open()
    try:
        async with TestMesh() as mesh, anyio.create_task_group() as tasks:
            made = World(mesh, path, store, tasks)
            await made.start()
            try:
                yield made
            finally:
                with anyio.CancelScope(shield=True):
                    await made.end()
    finally:
        await store.aclose()
