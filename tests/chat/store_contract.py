"""The contract of all stores: `CONTRACT` are the promises, by name.

Each is a function that takes a `Database`, and holds for SQLite, PostgreSQL and Redis alike. See
`test_sqlite_store.py`, `test_postgres_store.py` and `test_redis_store.py`.
"""

from __future__ import annotations

from typing import Final

import anyio
import pytest
import trio

from services.chat.store import Store, StoreDownError
from services.chat.stores import open_store
from tests.chat.contract_messages import MESSAGES
from tests.chat.contract_presence import PRESENCE
from tests.chat.contract_rooms import ROOMS
from tests.chat.contract_users import USERS
from tests.chat.database import Database, Promise, account
from tests.chat.servers import Server

__all__ = ["CONTRACT", "OF_THE_LOOP", "check", "check_loss"]

CONTRACT: Final[dict[str, Promise]] = {
    **USERS.all,
    **ROOMS.all,
    **PRESENCE.all,
    **MESSAGES.all,
}

# Where it may matter whether the event loop is trio's or asyncio's.
OF_THE_LOOP: Final = (
    "one_of_many_gets_an_account_name",
    "coming_and_going_of_many_leaves_nothing",
    "a_message_is_kept_as_it_came",
    "numbers_have_no_gap_however_many_write",
    "stores_may_be_opened_at_once",
    "a_call_that_is_given_up_leaves_the_store_usable",
)

# Against a test that hangs; far more than any takes.
_GUARD_SECONDS: Final = 30


def check(promise: str, url: str, backend: str = "trio") -> None:
    """See whether a store keeps a promise, on trio or asyncio."""

    async def run() -> None:
        with anyio.fail_after(_GUARD_SECONDS):
            await CONTRACT[promise](Database(url))

    anyio.run(run, backend=backend)


async def check_loss(server: Server, url: str) -> None:
    """See that a store says that its server has gone, and is the same when it is back."""
    with trio.fail_after(_GUARD_SECONDS):
        async with open_store(url) as store:
            bob = await account(store)
            await store.add_message(1, bob.id, "before", "before", 5)
            await trio.to_thread.run_sync(server.stop)
            for _ in range(3):
                with pytest.raises(StoreDownError):
                    await store.add_message(1, bob.id, "during", "during", 5)
                with pytest.raises(StoreDownError):
                    await store.user(id=bob.id)
            await trio.to_thread.run_sync(server.start)
            await _until_it_answers(store)
            assert await store.user(id=bob.id) == bob
            message, new = await store.add_message(1, bob.id, "after", "after", 5)
            assert (message.number, new) == (1, True)


async def _until_it_answers(store: Store) -> None:
    # Each connection of a pool may have to find out.
    while True:
        try:
            await store.counts(1)
        except StoreDownError:
            await trio.lowlevel.checkpoint()
        else:
            return
