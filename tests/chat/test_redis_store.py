"""The store on Redis: the contract, and what is its own."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
import trio

from services.chat.store import UnusableStoreError
from services.chat.stores import open_store
from tests.chat.database import account
from tests.chat.servers import RedisServer, redis_server
from tests.chat.store_contract import CONTRACT, OF_THE_LOOP, check, check_loss


@pytest.mark.parametrize("promise", CONTRACT)
def test_redis_keeps_the_contract(promise: str, redis_url: str) -> None:
    check(promise, redis_url)


@pytest.mark.parametrize("promise", OF_THE_LOOP)
def test_redis_keeps_the_contract_on_asyncio(promise: str, redis_url: str) -> None:
    check(promise, redis_url, "asyncio")


@pytest.fixture
def leaky() -> Iterator[None]:
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


F = TypeVar("F", bound=Callable[..., object])


def of_broken_connections(test: F) -> F:
    """For tests of connections that break: the Redis client leaves a stream of each unclosed."""
    ignored = "ignore:Unclosed <MemoryObject:ResourceWarning"
    marked: F = pytest.mark.filterwarnings(ignored)(pytest.mark.usefixtures("leaky")(test))
    return marked


async def test_a_later_version_is_refused(redis: RedisServer, redis_url: str) -> None:
    async with open_store(redis_url):
        pass
    redis.run("SET", "switchboard:chat:schema", "2")
    with pytest.raises(UnusableStoreError, match="version 2 of the chat's keys"):
        async with open_store(redis_url):
            pass


async def test_all_keys_have_the_prefix(redis: RedisServer, redis_url: str) -> None:
    redis.run("SET", "somebody's", "else")
    async with open_store(redis_url) as store:
        bob = await account(store)
        await store.add_message(1, bob.id, "hello", "key", 5)
    keys = redis.run("KEYS", "*").split()
    assert {key for key in keys if not key.startswith("switchboard:chat:")} == {"somebody's"}


@of_broken_connections
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("unix:///nowhere/redis.sock", "No such file|not answer"),
        ("redis://:secret@127.0.0.1:1/0", "refused|not answer"),
        ("redis://127.0.0.1:x/0", "not the URL of a Redis database"),
        ("redis:", "not the URL of a Redis database"),
        ("http://127.0.0.1", "there is no store 'http'"),
        ("chat.db", "there is no store"),
    ],
)
async def test_an_unusable_address_says_why(url: str, problem: str) -> None:
    with trio.fail_after(30), pytest.raises(UnusableStoreError, match=problem) as caught:
        async with open_store(url):
            pass
    assert "secret" not in str(caught.value)


@of_broken_connections
async def test_a_wrong_password_is_said(redis: RedisServer, redis_url: str) -> None:
    redis.run("ACL", "SETUSER", "chat", "on", ">right", "~*", "+@all")
    with pytest.raises(UnusableStoreError, match="does not let the chat in"):
        async with open_store(redis_url.replace("unix://", "unix://chat:wrong@")):
            pass
    async with open_store(redis_url.replace("unix://", "unix://chat:right@")) as store:
        assert store.name == f"unix://***@{redis.path}?db=0"


@of_broken_connections
async def test_a_server_that_goes_is_down_and_comes_back() -> None:
    with redis_server() as server:
        await check_loss(server, server.url)


async def test_scripts_that_the_server_has_forgotten_are_loaded_again(
    redis: RedisServer, redis_url: str
) -> None:
    async with open_store(redis_url) as store:
        redis.run("SCRIPT", "FLUSH")
        bob = await account(store)
        assert await store.user(id=bob.id) == bob
