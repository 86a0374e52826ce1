"""The chat service on a mesh in memory, over SQLite, and gateways that hear what it tells."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import pytest
import trio
from argon2 import PasswordHasher

from services.chat.client import ChatClient
from services.chat.messages import CHAT_GROUP, GATEWAYS_GROUP, ChatError, ChatEvent, CreateRoom
from services.chat.model import Room, User
from services.chat.passwords import Passwords
from services.chat.service import ChatService
from services.chat.store import Store
from services.chat.stores import open_store
from services.sdk import Listener, Mesh, Service, ServiceError
from services.testing import TestMesh

__all__ = ["START", "ChatWorld", "Gateway", "chat_world", "person", "place", "refused"]

T = TypeVar("T")

START: Final = 1_700_000_000_000
"""The time at which every world begins, in milliseconds since 1970."""

# Against a test that hangs.
_GUARD_SECONDS: Final = 20


class Gateway:
    """A gateway with nothing behind it: what a test asks, and what it hears.

    Attributes:
        mesh: its own.
        chat: the chat service.
    """

    def __init__(self, mesh: Mesh, events: Listener[Any]) -> None:
        self.mesh = mesh
        self.chat = ChatClient(mesh)
        self._events = events

    async def hears(self, event: ChatEvent, kind: type[T]) -> T:
        """Return the next event's data; it has to be this one."""
        heard = await self._events.receive()
        assert heard.name == event, heard
        assert heard.source.group == CHAT_GROUP
        data: T = heard.parse(kind)
        return data

    async def hears_until(self, event: ChatEvent, kind: type[T]) -> T:
        """Return the data of the next such event."""
        while True:
            heard = await self._events.receive()
            if heard.name == event:
                data: T = heard.parse(kind)
                return data

    async def hears_nothing(self) -> None:
        """See that no event has come: one that this gateway sends to itself is the next."""
        await self.mesh.emit("MARK", to=self.mesh.id)
        assert (await self._events.receive()).name == "MARK"


class ChatWorld:
    """A mesh with an instance of the chat service.

    Attributes:
        mesh: the mesh.
        now: what the service takes for the time.
        url: of the store.
    """

    def __init__(self, mesh: TestMesh, url: str) -> None:
        self.mesh = mesh
        self.now = START
        self.url = url

    @asynccontextmanager
    async def instance(self, grace: float = 60) -> AsyncIterator[tuple[Mesh, Store]]:
        """Run an instance more, with a store of its own on the same database."""
        passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        async with open_store(self.url) as store:
            service = ChatService(store, passwords=passwords, clock=lambda: self.now, grace=grace)
            # `run` wants nothing of a service but its `serve`.
            mesh = await self.mesh.run(cast(Service, service))
            try:
                yield mesh, store
            finally:
                await self.mesh.stop(mesh)

    @asynccontextmanager
    async def gateway(self, name: str = "a gateway", **options: Any) -> AsyncIterator[Gateway]:
        """Connect a gateway."""
        mesh = await self.mesh.client(GATEWAYS_GROUP, name=name, **options)
        async with mesh.listen("*") as events:
            yield Gateway(mesh, events)


@asynccontextmanager
async def chat_world(directory: Path) -> AsyncIterator[tuple[ChatWorld, Gateway]]:
    """A world with one instance of the service, and one gateway."""
    with trio.fail_after(_GUARD_SECONDS):
        async with TestMesh() as mesh:
            world = ChatWorld(mesh, f"sqlite:///{directory}/chat.db?timeout=0.2")
            async with world.instance(), world.gateway() as gateway:
                yield world, gateway


@contextmanager
def refused(code: ChatError) -> Iterator[None]:
    """See that the service says no, and with which code."""
    with pytest.raises(ServiceError) as caught:
        yield
    assert caught.value.code == code


async def person(gateway: Gateway, name: str) -> User:
    """Make an account; its event is taken."""
    user = (await gateway.chat.register(name, "a password")).user
    await gateway.hears(ChatEvent.USER_CREATED, User)
    return user


async def place(gateway: Gateway, name: str, creator: User, password: str | None = None) -> Room:
    """Make a room; its event is taken."""
    room = await gateway.chat.create_room(
        CreateRoom(name, password=password, creator_id=creator.id)
    )
    await gateway.hears(ChatEvent.ROOM_CREATED, Room)
    return room
