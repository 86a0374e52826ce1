"""What stores promise about messages, and what is counted."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from services.chat.model import Message, RoomKind
from services.chat.store import (
    Holder,
    MessageQuery,
    NameTakenError,
    NewRoom,
    NoRecordError,
    Store,
    StoreCounts,
)
from tests.chat.database import Database, Promises, account, at_once, hold

MESSAGES = Promises()

HARD_TEXTS = (
    "",
    "\0",
    "\x10\x100\x10e\0e\0",
    "'; DROP TABLE messages; --",
    "<script>alert(1)</script>",
    "\u202e\ufeff\ufffe 👪 部屋 e\u0301 \U0010ffff",
    'line\r\nline\ttab\\ " %s {} ${x}',
    "x" * 65_536,
)


async def post(store: Store, room_id: int, user_id: int, *texts: str) -> list[Message]:
    start = (await store.counts(1)).messages
    return [
        (await store.add_message(room_id, user_id, text, f"{start}-{number}", 5))[0]
        for number, text in enumerate(texts)
    ]


@MESSAGES.add
async def a_message_is_kept_as_it_came(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store)
        posted = await post(store, 1, bob.id, *HARD_TEXTS)
        assert [message.text for message in posted] == list(HARD_TEXTS)
        assert [message.number for message in posted] == list(range(len(HARD_TEXTS)))
        assert (posted[0].room_id, posted[0].user_id, posted[0].username) == (1, bob.id, "bob")
    async with database.open() as store:
        for message in posted:
            assert await store.message(message.id) == message
        assert (await store.messages(MessageQuery(room_id=1))).messages == tuple(posted)
        room = await store.room(id=1)
        assert room is not None
        assert room.messages == len(HARD_TEXTS)


@MESSAGES.add
async def time_is_exact_to_the_millisecond(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store)
        message, _ = await store.add_message(1, bob.id, "hello", "key", 1_700_000_000_123)
        found = await store.message(message.id)
        assert found is not None
        assert found.time == 1_700_000_000_123


@MESSAGES.add
async def an_unknown_message_is_none(database: Database) -> None:
    async with database.open() as store:
        for id in (0, -1, 77, 2**63, 10**30):
            assert await store.message(id) is None


@MESSAGES.add
async def a_message_has_a_room_and_an_author(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store)
        for absent in (77, 0, -1, 2**63):
            with pytest.raises(NoRecordError):
                await store.add_message(absent, bob.id, "hello", "key", 5)
            with pytest.raises(NoRecordError):
                await store.add_message(1, absent, "hello", "key", 5)
        message, new = await store.add_message(1, bob.id, "hello", "key", 5)
        assert (message.number, new) == (0, True)


@MESSAGES.add
async def what_is_posted_again_is_the_same_message(database: Database) -> None:
    async with database.open() as store:
        bob, eve = await account(store, "bob"), await account(store, "eve")
        room = await store.add_room(NewRoom("games", RoomKind.PUBLIC, 5))
        message, new = await store.add_message(1, bob.id, "hello", "key\0", 5)
        assert new
        assert await store.add_message(1, bob.id, "hello", "key\0", 9) == (message, False)
        for room_id, user_id in ((room.id, bob.id), (1, eve.id)):
            with pytest.raises(NameTakenError):
                await store.add_message(room_id, user_id, "hello", "key\0", 5)
        assert (await store.messages(MessageQuery())).total == 1
        assert (await post(store, room.id, bob.id, "one"))[0].number == 0


@MESSAGES.add
async def a_post_that_is_repeated_at_once_is_one_message(database: Database) -> None:
    results: list[tuple[Message, bool]] = []
    async with database.open() as one, database.open() as other:
        bob = await account(one)

        async def again(store: Store) -> None:
            results.append(await store.add_message(1, bob.id, "hello", "key", 5))

        await at_once(*(lambda store=store: again(store) for store in [one, other] * 5))
    assert len({message for message, _ in results}) == 1
    assert [new for _, new in results].count(True) == 1


@MESSAGES.add
async def one_key_in_two_rooms_at_once_is_one_message(database: Database) -> None:
    stored: list[Message] = []
    refused: list[NameTakenError] = []
    async with database.open() as one, database.open() as other:
        bob = await account(one)
        rooms = [
            (await one.add_room(NewRoom(f"room {number}", RoomKind.PUBLIC, 5))).id
            for number in range(10)
        ]

        async def try_it(store: Store, room_id: int) -> None:
            try:
                stored.append((await store.add_message(room_id, bob.id, "hello", "key", 5))[0])
            except NameTakenError as error:
                refused.append(error)

        await at_once(
            *(
                lambda store=store, room_id=room_id: try_it(store, room_id)
                for store, room_id in zip([one, other] * 5, rooms, strict=True)
            )
        )
        assert (len(stored), len(refused)) == (1, 9)
        assert (await one.counts(1)).messages == 1


@MESSAGES.add
async def numbers_have_no_gap_however_many_write(database: Database) -> None:
    async with database.open() as one, database.open() as other:
        bob = await account(one)
        room = (await one.add_room(NewRoom("games", RoomKind.PROTECTED, 5))).id

        async def write(store: Store, writer: int) -> None:
            for number in range(10):
                for room_id in (1, room):
                    key = f"{writer}-{number}-{room_id}"
                    message, new = await store.add_message(room_id, bob.id, key, key, 5)
                    assert (message.text, new) == (key, True)

        await at_once(
            *(lambda store=store, n=n: write(store, n) for n, store in enumerate([one, other] * 4))
        )
        for room_id in (1, room):
            page = await other.messages(MessageQuery(room_id=room_id))
            assert [message.number for message in page.messages] == list(range(80))
            # Each writer's own are in the order that they were written in.
            for writer in range(8):
                own = [one.text for one in page.messages if one.text.startswith(f"{writer}-")]
                assert own == [f"{writer}-{number}-{room_id}" for number in range(10)]


@MESSAGES.add
async def messages_are_found_by_room_author_and_place(database: Database) -> None:
    async with database.open() as store:
        bob, eve = await account(store, "bob"), await account(store, "eve")
        room = (await store.add_room(NewRoom("games", RoomKind.PUBLIC, 5))).id
        closed = (await store.add_room(NewRoom("closed", RoomKind.PROTECTED, 5))).id
        for number in range(5):
            await post(store, room, (bob, eve)[number % 2].id, f"r{number}")
            await post(store, 1, bob.id, f"p{number}")
            await post(store, closed, eve.id, f"c{number}")

        async def find(**query: object) -> tuple[list[str], int]:
            page = await store.messages(MessageQuery(**query))  # type: ignore[arg-type]
            return [message.text for message in page.messages], page.total

        assert await find(room_id=room) == (["r0", "r1", "r2", "r3", "r4"], 5)
        assert await find(room_id=room, user_id=bob.id) == (["r0", "r2", "r4"], 3)
        assert await find(room_id=room, after=-1, limit=2) == (["r0", "r1"], 5)
        assert await find(room_id=room, after=2) == (["r3", "r4"], 2)
        assert await find(room_id=room, after=2, user_id=bob.id) == (["r4"], 1)
        assert await find(room_id=room, after=99) == ([], 0)
        assert await find(room_id=room, newest_first=True, offset=1, limit=2) == (["r3", "r2"], 5)
        assert await find(room_id=room, after=2, newest_first=True) == (["r4", "r3"], 2)
        assert await find(room_id=room, limit=0) == ([], 5)
        assert await find(room_id=room, offset=99) == ([], 5)
        assert await find(room_id=77) == ([], 0)
        assert await find(room_id=2**63) == ([], 0)
        assert await find(user_id=2**63) == ([], 0)
        # Without a room: of the public ones, in the order that they came in.
        both = [f"{room}{number}" for number in range(5) for room in "rp"]
        assert await find() == (both, 10)
        assert await find(newest_first=True, limit=3) == (both[:-4:-1], 10)
        assert await find(user_id=eve.id) == (["r1", "r3"], 2)
        assert await find(user_id=bob.id, offset=6) == (["r4", "p4"], 8)


@MESSAGES.add
async def messages_go_with_their_room(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store)
        holder = await hold(store, bob, "s")
        new = NewRoom("games", RoomKind.PUBLIC, 5, ephemeral=True)
        room = (await store.enter(holder, bob.id, None, new)).room
        gone, _ = await store.add_message(room.id, bob.id, "gone", "key", 5)
        kept, _ = await store.add_message(1, bob.id, "kept", "another", 5)
        await store.leave(holder, room.id)
        assert await store.message(gone.id) is None
        assert (await store.messages(MessageQuery(user_id=bob.id))).messages == (kept,)
        assert (await store.counts(1)).messages == 1
        # Its number is not another message's, and its key is free.
        message, new_one = await store.add_message(1, bob.id, "new", "key", 5)
        assert new_one
        assert message.id > kept.id


@MESSAGES.add
async def a_page_is_bounded_in_bytes(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store)
        # Short in a database, and long as JSON.
        texts = ["\x01" * 1000] * 5
        posted = await post(store, 1, bob.id, *texts)
        for limit in (1, 7_000, 13_000, 20_000, 10**9):
            page = await store.messages(MessageQuery(room_id=1, max_bytes=limit))
            size = len(msgspec.json.encode(page.messages))
            assert page.messages == tuple(posted[: len(page.messages)])
            assert page.total == 5
            assert len(page.messages) == 1 or size < limit + 100
            assert len(page.messages) == min(5, max(1, limit // 6200))


@MESSAGES.add
async def visits_are_counted_by_the_day(database: Database) -> None:
    async with database.open() as one, database.open() as other:
        assert await one.add_visit(20_000) == (1, 1)
        await at_once(*(lambda store=store: store.add_visit(20_001) for store in [one, other] * 5))
        assert await one.add_visit(20_001) == (11, 12)
        counts = await other.counts(20_000)
        assert (counts.visits_today, counts.visits) == (1, 12)
        counts = await other.counts(20_002)
        assert (counts.visits_today, counts.visits) == (0, 12)


@MESSAGES.add
async def everything_is_counted(database: Database) -> None:
    async with database.open() as store:
        assert await store.counts(1) == StoreCounts(0, 0, 0, 1, 0, 0, 0)
        bob = await account(store)
        await store.claim_guest(Holder("g", "s"), "eve", 1, exclusive=False)
        await hold(store, bob, "t")
        await hold(store, bob, "u")
        await store.add_room(NewRoom("games", RoomKind.PROTECTED, 5))
        await post(store, 1, bob.id, "one", "two")
        await store.add_visit(1)
        assert await store.counts(1) == StoreCounts(
            users=2, accounts=1, online=2, rooms=2, messages=2, visits_today=1, visits=1
        )


@MESSAGES.add
async def stores_may_be_opened_at_once(database: Database) -> None:
    async def open_it() -> None:
        async with database.open() as store:
            assert await store.counts(1) == StoreCounts(0, 0, 0, 1, 0, 0, 0)

    await at_once(*[open_it] * 4)


@MESSAGES.add
async def a_call_that_is_given_up_leaves_the_store_usable(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store)
        for number in range(20):
            with anyio.CancelScope() as scope:

                async def call(number: int = number) -> None:
                    await store.add_message(1, bob.id, "hello", f"key {number}", 5)

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(call)
                    for _ in range(number % 5):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()
        page = await store.messages(MessageQuery(room_id=1))
        assert [message.number for message in page.messages] == list(range(page.total))
        message, _ = await store.add_message(1, bob.id, "last", "last", 5)
        assert message.number == page.total
