"""The stores by their URLs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from services.chat.store import Store, UnusableStoreError

__all__ = ["DEFAULT_STORE", "make_store", "open_store"]

DEFAULT_STORE: Final = "sqlite:///chat.db"
"""A file in the working directory."""

_KINDS: Final = (
    "sqlite:///PATH, postgresql://USER:PASSWORD@HOST/DATABASE or redis://HOST:PORT/NUMBER"
)
_SQL: Final = frozenset({"sqlite", "postgresql"})
_REDIS: Final = frozenset({"redis", "rediss", "unix"})


def make_store(url: str) -> Store:
    """Make the store of a URL, not opened yet.

    What a kind of store needs is imported here, so that the others need not be installed.

    Raises:
        UnusableStoreError: there is no such store, or what it needs is not installed.
    """
    scheme, separator, _ = url.partition(":")
    try:
        if separator and scheme in _SQL:
            from services.chat.sql_store import SqlStore  # noqa: PLC0415 - see above

            return SqlStore(url)
        if separator and scheme in _REDIS:
            from services.chat.redis_store import RedisStore  # noqa: PLC0415 - see above

            return RedisStore(url)
    except ImportError as error:
        raise UnusableStoreError(
            f"{scheme} needs a package that is not installed ({error.name}): "
            "pip install 'switchboard[chat]'"
        ) from error
    # Not the URL itself: it may have a password in it.
    raise UnusableStoreError(f"there is no store {scheme!r}: use {_KINDS}")


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[Store]:
    """Make the store of a URL, open it, and close it in the end.

    Raises:
        UnusableStoreError: as `make_store` and `Store.open`.
    """
    store = make_store(url)
    try:
        await store.open()
        yield store
    finally:
        await store.aclose()
