"""The store on PostgreSQL: the contract, and what is its own."""

from __future__ import annotations

import psycopg
import pytest

from services.chat.sql.schema import SCHEMA_VERSION
from services.chat.store import StoreDownError, UnusableStoreError
from services.chat.stores import open_store
from tests.chat.database import account
from tests.chat.servers import postgres_server
from tests.chat.store_contract import CONTRACT, OF_THE_LOOP, check, check_loss


@pytest.mark.parametrize("promise", CONTRACT)
def test_postgresql_keeps_the_contract(promise: str, postgres_url: str) -> None:
    check(promise, postgres_url)


@pytest.mark.parametrize("promise", OF_THE_LOOP)
def test_postgresql_keeps_the_contract_on_asyncio(promise: str, postgres_url: str) -> None:
    check(promise, postgres_url, "asyncio")


async def test_a_later_version_is_refused(postgres_url: str) -> None:
    async with open_store(postgres_url):
        pass
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE schema_version SET version = version + 1")
    with pytest.raises(UnusableStoreError, match=f"version {SCHEMA_VERSION + 1} of the chat's"):
        async with open_store(postgres_url):
            pass


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://chat@/chat?host=/nowhere", "No such file or directory"),
        ("postgresql://chat:secret@127.0.0.1:1/chat", "[Cc]onnection refused"),
        ("postgresql://chat@127.0.0.1:x/chat", "not a database URL"),
        ("postgresql+psycopg://chat@127.0.0.1:1/chat", "there is no store"),
    ],
)
async def test_an_unusable_address_says_why(url: str, problem: str) -> None:
    with pytest.raises(UnusableStoreError, match=problem) as caught:
        async with open_store(url):
            pass
    assert "secret" not in str(caught.value)


async def test_an_absent_database_is_named(postgres_url: str) -> None:
    url = postgres_url.replace("/chat_0", "/absent")
    with pytest.raises(UnusableStoreError, match='database "absent" does not exist'):
        async with open_store(url):
            pass


async def test_what_may_not_be_made_is_said(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS stranger")
        connection.execute("CREATE ROLE stranger LOGIN")
    with pytest.raises(UnusableStoreError, match="permission denied"):
        async with open_store(postgres_url.replace("chat@", "stranger@")):
            pass


async def test_a_server_that_goes_is_down_and_comes_back() -> None:
    with postgres_server() as server:
        await check_loss(server, server.url("postgres"))


async def test_an_instance_that_stands_still_does_not_hold_up_the_others(postgres_url: str) -> None:
    async with open_store(postgres_url) as store:
        with psycopg.connect(postgres_url) as connection:
            # As if it had stopped in the middle of a transaction.
            connection.execute("SELECT pg_advisory_xact_lock(7239481135)")
            with pytest.raises(StoreDownError, match="lock timeout"):
                await account(store)
            # Messages do not wait for that lock.
            anonymous = await store.user(username="Anonymous")
            assert anonymous is not None
            await store.add_message(1, anonymous.id, "hello", "key", 5)
        await account(store)


async def test_the_url_is_shown_without_the_password(postgres_url: str) -> None:
    async with open_store(postgres_url.replace("chat@", "chat:secret@")) as store:
        assert "secret" not in store.name
        assert store.name.startswith("postgresql://chat:***@/chat_0?host=")
