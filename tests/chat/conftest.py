"""Databases for the tests of the chat."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.chat.servers import PostgresServer, RedisServer, postgres_server, redis_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def new_database(postgres: PostgresServer) -> Iterator[Callable[[], str]]:
    """Makes an empty database of PostgreSQL, and returns its URL."""
    made: list[str] = []
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:

        def make() -> str:
            name = f"chat_{len(made)}"
            made.append(name)
            connection.execute(f"CREATE DATABASE {name}")
            return postgres.url(name)

        yield make
        for name in made:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(new_database: Callable[[], str]) -> str:
    """The URL of an empty database of PostgreSQL."""
    return new_database()


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A Redis for all tests."""
    with redis_server() as server:
        yield server


@pytest.fixture
def redis_url(redis: RedisServer) -> str:
    """The URL of an empty database of Redis."""
    redis.run("FLUSHALL")
    return redis.url
