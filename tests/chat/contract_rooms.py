"""What stores promise about rooms."""

from __future__ import annotations

import pytest

from services.chat.messages import PUBLIC_ROOM
from services.chat.model import Room, RoomKind
from services.chat.store import NameTakenError, NewRoom, NoRecordError, Store
from tests.chat.database import Database, Promises, account, at_once, hold

ROOMS = Promises()


def new(name: str, kind: RoomKind = RoomKind.PUBLIC, *, ephemeral: bool = False) -> NewRoom:
    return NewRoom(name, kind, 5, ephemeral=ephemeral)


@ROOMS.add
async def the_public_room_is_always_there(database: Database) -> None:
    async with database.open() as store:
        room = await store.room(name=PUBLIC_ROOM)
        assert room is not None
        assert (room.id, room.kind, room.creator_id) == (1, RoomKind.PUBLIC, None)
    async with database.open() as store:
        assert await store.room(id=1) == room


@ROOMS.add
async def a_room_is_found_by_id_and_name(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store)
        made = await store.add_room(
            NewRoom(
                "games", RoomKind.PROTECTED, 5, description="for fun", creator_id=bob.id,
                password_hash="a hash",
            )
        )  # fmt: skip
        assert made == Room(made.id, "games", "for fun", RoomKind.PROTECTED, False, bob.id, 5)
        assert await store.room(id=made.id) == made
        assert await store.room(name="games") == made
        assert await store.room_password_hash(made.id) == "a hash"
        assert await store.room_password_hash(1) is None


@ROOMS.add
async def an_unknown_room_is_none(database: Database) -> None:
    async with database.open() as store:
        for id in (0, -1, 77, 2**63, 10**30):
            assert await store.room(id=id) is None
            assert await store.room_password_hash(id) is None
            assert await store.remove_room(id) is None
            with pytest.raises(NoRecordError):
                await store.update_room(id, "name", None)
        for name in ("", "none", "a\0b", "'; DROP TABLE rooms; --", "PUBLIC", "x" * 100_000):
            assert await store.room(name=name) is None


@ROOMS.add
async def room_names_are_unique_as_they_are_written(database: Database) -> None:
    async with database.open() as store:
        names = ["Games", "games", "#1", "##1", "1", "комната", "部屋", "غرفة", "👪", "e\u0301"]
        names += ["'; DROP TABLE rooms; --", "<b>", "%_", '"', "\\", "é"]
        names += ["\0", "\x10", "\x10e", "\x100"]
        for name in names:
            await store.add_room(new(name))
        for name in names:
            found = await store.room(name=name)
            assert found is not None
            assert found.name == name
            with pytest.raises(NameTakenError):
                await store.add_room(new(name))


@ROOMS.add
async def one_of_many_makes_a_room(database: Database) -> None:
    made: list[Room] = []
    refused: list[NameTakenError] = []

    async def make(store: Store) -> None:
        try:
            made.append(await store.add_room(new("games")))
        except NameTakenError as error:
            refused.append(error)

    async with database.open() as one, database.open() as other:
        await at_once(*(lambda store=store: make(store) for store in [one, other] * 5))
    assert (len(made), len(refused)) == (1, 9)


@ROOMS.add
async def there_is_one_private_room_for_each_pair(database: Database) -> None:
    async with database.open() as store:
        bob, eve, mallory = [await account(store, name) for name in ("bob", "eve", "mallory")]
        room, made = await store.private_room(eve.id, bob.id, 5)
        assert made
        assert (room.kind, room.participants) == (RoomKind.PRIVATE, (bob.id, eve.id))
        assert room.creator_id == eve.id
        assert await store.private_room(bob.id, eve.id, 9) == (room, False)
        other, made = await store.private_room(bob.id, mallory.id, 5)
        assert made
        assert other.id != room.id
        for absent in (77, 2**63):
            with pytest.raises(NoRecordError):
                await store.private_room(bob.id, absent, 5)
        await store.remove_room(room.id)
        again, made = await store.private_room(bob.id, eve.id, 9)
        assert made
        assert again.id != room.id


@ROOMS.add
async def two_who_open_their_private_room_at_once_share_it(database: Database) -> None:
    found: list[tuple[Room, bool]] = []
    async with database.open() as one, database.open() as other:
        bob, eve = await account(one, "bob"), await account(one, "eve")

        async def go(store: Store, first: int, second: int) -> None:
            found.append(await store.private_room(first, second, 5))

        await at_once(*(lambda: go(one, bob.id, eve.id), lambda: go(other, eve.id, bob.id)) * 5)
    assert len({room.id for room, _ in found}) == 1
    assert [made for _, made in found].count(True) == 1


@ROOMS.add
async def rooms_are_listed_by_pages_and_kinds(database: Database) -> None:
    async with database.open() as store:
        bob, eve = await account(store, "bob"), await account(store, "eve")
        public = await store.room(id=1)
        one = await store.add_room(new("one"))
        two = await store.add_room(new("two", RoomKind.PROTECTED))
        three = await store.add_room(new("three"))
        private, _ = await store.private_room(bob.id, eve.id, 5)
        both = (RoomKind.PUBLIC, RoomKind.PROTECTED)
        assert await store.rooms(0, 100, both, None) == ((public, one, two, three), 4)
        assert await store.rooms(1, 2, both, None) == ((one, two), 4)
        assert await store.rooms(0, 9, (RoomKind.PROTECTED,), None) == ((two,), 1)
        assert await store.rooms(3, 9, tuple(RoomKind), None) == ((three, private), 5)
        assert await store.rooms(0, 0, both, None) == ((), 4)
        assert await store.rooms(2**31 - 1, 9, both, None) == ((), 4)
        assert await store.rooms(0, 9, (), None) == ((), 0)


@ROOMS.add
async def rooms_of_a_user_are_those_that_they_are_in(database: Database) -> None:
    async with database.open() as store:
        bob, eve = await account(store, "bob"), await account(store, "eve")
        one = await store.add_room(new("one"))
        two = await store.add_room(new("two", RoomKind.PROTECTED))
        await store.add_room(new("three"))
        for session in ("s", "t"):
            holder = await hold(store, bob, session)
            await store.enter(holder, bob.id, two.id, None)
        await store.enter(holder, bob.id, one.id, None)
        kinds = (RoomKind.PUBLIC, RoomKind.PROTECTED)
        rooms, total = await store.rooms(0, 9, kinds, bob.id)
        assert ([room.id for room in rooms], total) == ([one.id, two.id], 2)
        rooms, total = await store.rooms(1, 9, kinds, bob.id)
        assert ([room.id for room in rooms], total) == ([two.id], 2)
        rooms, total = await store.rooms(0, 9, (RoomKind.PUBLIC,), bob.id)
        assert ([room.id for room in rooms], total) == ([one.id], 1)
        assert await store.rooms(0, 9, kinds, eve.id) == ((), 0)
        assert await store.rooms(0, 9, kinds, 2**63) == ((), 0)


@ROOMS.add
async def a_room_changes_in_what_is_said(database: Database) -> None:
    async with database.open() as store:
        room = await store.add_room(new("old"))
        await store.add_room(new("taken"))
        changed = await store.update_room(room.id, "new", None)
        assert (changed.id, changed.name, changed.description) == (room.id, "new", "")
        changed = await store.update_room(room.id, None, "about")
        assert (changed.name, changed.description) == ("new", "about")
        assert await store.update_room(room.id, None, None) == changed
        assert await store.update_room(room.id, "new", "") == await store.room(name="new")
        assert await store.room(name="old") is None
        with pytest.raises(NameTakenError):
            await store.update_room(room.id, "taken", "not either")
        found = await store.room(id=room.id)
        assert found is not None
        assert (found.name, found.description) == ("new", "")
        await store.add_room(new("old"))


@ROOMS.add
async def a_room_goes_with_all_that_is_in_it(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store)
        holder = await hold(store, bob, "s")
        room = await store.add_room(new("games"))
        await store.enter(holder, bob.id, room.id, None)
        await store.enter(holder, bob.id, 1, None)
        message, _ = await store.add_message(room.id, bob.id, "hello", "key", 5)
        removed = await store.remove_room(room.id)
        assert removed is not None
        assert removed.id == room.id
        assert await store.room(id=room.id) is None
        assert await store.message(message.id) is None
        assert not await store.is_present(room.id, bob.id)
        assert await store.is_present(1, bob.id)
        assert await store.leave(holder, room.id) is None
        assert (await store.present(room.id, 9)).users == ()
        with pytest.raises(NoRecordError):
            await store.add_message(room.id, bob.id, "late", "another", 5)
        # Another one of that name is another room, and the session's end finds nothing amiss.
        again = await store.add_room(new("games"))
        assert again.id > room.id
        assert again.messages == 0
        assert [left.room.id for left in await store.close_session(holder)] == [1]
