"""What the stores' contract is told about, and how its promises are collected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import anyio

from services.chat.model import User
from services.chat.store import Holder, Store
from services.chat.stores import open_store

__all__ = ["BOB_SESSION", "Database", "Promise", "Promises", "account", "hold"]


class Database:
    """An empty database of some kind."""

    def __init__(self, url: str) -> None:
        self.url = url

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        """Open a store on it; any number may be open at the same time."""
        async with open_store(self.url) as store:
            yield store


Promise: TypeAlias = Callable[[Database], Awaitable[None]]


class Promises:
    """What every store promises: async functions that take a `Database`."""

    def __init__(self) -> None:
        self.all: dict[str, Promise] = {}

    def add(self, promise: Promise) -> Promise:
        """Note one; a decorator."""
        name = promise.__name__
        assert name not in self.all
        self.all[name] = promise
        return promise


BOB_SESSION = Holder("gateway", "bob's")


async def account(store: Store, name: str = "bob", now: int = 1) -> User:
    """Make an account."""
    return await store.add_account(name, "a hash", now)


async def hold(store: Store, user: User, session: str, gateway: str = "gateway") -> Holder:
    """Let a user be online by a session."""
    holder = Holder(gateway, session)
    await store.open_session(holder, user.id)
    return holder


async def at_once(*calls: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Make calls at the same time."""
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(call)
