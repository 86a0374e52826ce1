"""The store on SQLite: the contract, and what is its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio
from sqlalchemy import Connection

from services.chat.sql.schema import SCHEMA_VERSION
from services.chat.sql_store import SqlStore
from services.chat.store import StoreDownError, UnusableStoreError
from services.chat.stores import open_store
from tests.chat.database import account
from tests.chat.store_contract import CONTRACT, OF_THE_LOOP, check


@pytest.mark.parametrize("promise", CONTRACT)
def test_sqlite_keeps_the_contract(promise: str, tmp_path: Path) -> None:
    check(promise, f"sqlite:///{tmp_path}/chat.db")


@pytest.mark.parametrize("promise", OF_THE_LOOP)
def test_sqlite_keeps_the_contract_on_asyncio(promise: str, tmp_path: Path) -> None:
    check(promise, f"sqlite:///{tmp_path}/chat.db", "asyncio")


async def test_what_is_acknowledged_is_on_the_disk(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/chat.db") as store:
        await account(store)
        with closing(sqlite3.connect(tmp_path / "chat.db")) as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)

        # The setting is the connection's own: 2 is FULL, which writes the log through each time.
        def look(connection: Connection) -> int:
            return int(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())

        assert isinstance(store, SqlStore)
        assert await store._write(look) == 2


async def test_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    async with open_store(f"sqlite:///{path}"):
        pass
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE schema_version SET version = version + 1")
        database.commit()
    with pytest.raises(UnusableStoreError, match=f"version {SCHEMA_VERSION + 1} of the chat's"):
        async with open_store(f"sqlite:///{path}"):
            pass


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: f"sqlite:///{path}/absent/chat.db", "there is no directory .*absent"),
        (lambda path: f"sqlite:///{path}", "unable to open database file"),
        (lambda path: f"sqlite:///{path}/note.txt", "file is not a database"),
        (lambda path: f"sqlite:///{path}/other.db", "tables of another program .users."),
        (lambda _path: "sqlite://", "needs a file"),
        (lambda _path: "sqlite:///:memory:", "needs a file"),
        (lambda _path: "sqlite:chat.db", "not a database URL"),
    ],
)
async def test_an_unusable_address_says_why(
    make: Callable[[Path], str], problem: str, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("something else, and long enough to be looked into " * 20)
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("CREATE TABLE users (shoe_size INTEGER)")
    with pytest.raises(UnusableStoreError, match=problem):
        async with open_store(make(tmp_path)):
            pass


async def test_a_database_that_another_holds_is_down_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with open_store(f"sqlite:///{path}?timeout=0.05") as store:
            bob = await account(store)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreDownError, match="database is locked"):
                await store.add_message(1, bob.id, "hello", "key", 5)
            # Who only reads need not wait.
            assert await store.user(id=bob.id) == bob
            other.execute("ROLLBACK")
            message, new = await store.add_message(1, bob.id, "hello", "key", 5)
            assert (message.number, new) == (0, True)


async def test_the_url_is_shown(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"
    async with open_store(url) as store:
        assert store.name == url


async def test_writers_wait_in_line(tmp_path: Path) -> None:
    """More writers at once than threads, each of whom gets its turn."""
    order: list[int] = []

    def writer(number: int) -> Callable[[], Awaitable[None]]:
        async def write() -> None:
            message, _ = await store.add_message(1, bob.id, "hello", f"key {number}", 5)
            order.append(message.number)

        return write

    async with open_store(f"sqlite:///{tmp_path}/chat.db") as store:
        bob = await account(store)
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(writer(number))
    assert sorted(order) == list(range(100))
