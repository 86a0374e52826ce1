"""The chat service about rooms."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chat.messages import (
    MAX_DESCRIPTION_LENGTH,
    MAX_PASSWORD_LENGTH,
    MAX_ROOM_NAME_LENGTH,
    ChatError,
    ChatEvent,
    CreateRoom,
    JoinRoom,
    ListRooms,
    PresenceChanged,
    RoomRemoved,
    UpdateRoom,
)
from services.chat.model import Room, RoomKind
from tests.chat.chat_world import START, Gateway, chat_world, person, place, refused


async def test_a_room_is_made_and_told_of(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        room = await gateway.chat.create_room(CreateRoom("games", "for fun", "a password", bob.id))
        assert room == Room(2, "games", "for fun", RoomKind.PROTECTED, False, bob.id, START)
        assert await gateway.hears(ChatEvent.ROOM_CREATED, Room) == room
        assert await gateway.chat.room(id=2) == room
        assert await gateway.chat.room(name="games") == room
        open_one = await gateway.chat.create_room(CreateRoom("news"))
        assert (open_one.kind, open_one.creator_id) == (RoomKind.PUBLIC, None)


async def test_a_room_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        await place(gateway, "games", bob)
        for name in ("games", "public"):
            with refused(ChatError.ROOM_EXISTS):
                await gateway.chat.create_room(CreateRoom(name, creator_id=bob.id))
        await gateway.hears_nothing()
        await place(gateway, "Games", bob)


@pytest.mark.parametrize(
    ("room", "code"),
    [
        (CreateRoom(""), ChatError.BAD_NAME),
        (CreateRoom(" games"), ChatError.BAD_NAME),
        (CreateRoom("\u200b"), ChatError.BAD_NAME),
        (CreateRoom("ga\nmes"), ChatError.BAD_NAME),
        (CreateRoom("x" * (MAX_ROOM_NAME_LENGTH + 1)), ChatError.BAD_NAME),
        (CreateRoom("games", "x" * (MAX_DESCRIPTION_LENGTH + 1)), ChatError.BAD_NAME),
        (CreateRoom("games", "\0"), ChatError.BAD_NAME),
        (CreateRoom("games", password=""), ChatError.BAD_PASSWORD),
        (CreateRoom("games", password="x" * (MAX_PASSWORD_LENGTH + 1)), ChatError.BAD_PASSWORD),
        (CreateRoom("games", creator_id=77), ChatError.NO_USER),
        (CreateRoom("games", creator_id=2**80), ChatError.NO_USER),
    ],
)
async def test_what_makes_no_room(room: CreateRoom, code: ChatError, tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        with refused(code):
            await gateway.chat.create_room(room)
        await gateway.hears_nothing()


async def test_an_unknown_room_is_refused(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        for id in (77, 0, -1, 2**80):
            with refused(ChatError.NO_ROOM):
                await gateway.chat.room(id=id)
            with refused(ChatError.NO_ROOM):
                await gateway.chat.update_room(UpdateRoom(id, bob.id, "name"))
            with refused(ChatError.NO_ROOM):
                await gateway.chat.remove_room(id, bob.id)
        for name in ("none", "", "\0"):
            with refused(ChatError.NO_ROOM):
                await gateway.chat.room(name=name)
        with refused(ChatError.NO_ROOM):
            await gateway.chat.room()


async def test_rooms_are_listed(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob, eve = await person(gateway, "bob"), await person(gateway, "eve")
        public = await gateway.chat.room(id=1)
        games = await place(gateway, "games", bob, "a password")
        private = await gateway.chat.private_room(bob.id, eve.id)
        page = await gateway.chat.rooms(ListRooms())
        assert (page.rooms, page.total) == ((public, games), 2)
        page = await gateway.chat.rooms(ListRooms(1, 5, kinds=tuple(RoomKind)))
        assert (page.rooms, page.total) == ((games, private), 3)
        await gateway.chat.join(JoinRoom("s", bob.id, id=1))
        page = await gateway.chat.rooms(ListRooms(of_user_id=bob.id))
        assert ([room.id for room in page.rooms], page.total) == ([1], 1)
        assert (await gateway.chat.rooms(ListRooms(-5, 2**80))).total == 2
        assert (await gateway.chat.rooms(ListRooms(2**80, 5))).rooms == ()


async def test_a_page_of_long_rooms_fits_into_an_answer(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        for number in range(150):
            description = "\x01" * MAX_DESCRIPTION_LENGTH
            await gateway.chat.create_room(CreateRoom(f"room {number}", description))
        found: list[Room] = []
        pages = 0
        while True:
            page = await gateway.chat.rooms(ListRooms(len(found)))
            assert page.total == 151
            found += page.rooms
            pages += 1
            if not page.rooms or len(found) == page.total:
                break
        assert [room.id for room in found] == list(range(1, 152))
        assert pages > 1


async def test_only_the_creator_changes_a_room(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob, eve = await person(gateway, "bob"), await person(gateway, "eve")
        room = await place(gateway, "games", bob)
        await place(gateway, "taken", bob)
        changed = await gateway.chat.update_room(UpdateRoom(room.id, bob.id, "toys", "for fun"))
        assert (changed.name, changed.description) == ("toys", "for fun")
        assert await gateway.hears(ChatEvent.ROOM_UPDATED, Room) == changed
        with refused(ChatError.NOT_ALLOWED):
            await gateway.chat.update_room(UpdateRoom(room.id, eve.id, "mine"))
        with refused(ChatError.NOT_ALLOWED):
            await gateway.chat.remove_room(room.id, eve.id)
        with refused(ChatError.ROOM_EXISTS):
            await gateway.chat.update_room(UpdateRoom(room.id, bob.id, "taken"))
        for update in (
            UpdateRoom(room.id, bob.id, ""),
            UpdateRoom(room.id, bob.id, description="x" * 2000),
        ):
            with refused(ChatError.BAD_NAME):
                await gateway.chat.update_room(update)
        await gateway.hears_nothing()
        await gateway.chat.remove_room(room.id, bob.id)
        assert await gateway.hears(ChatEvent.ROOM_DELETED, RoomRemoved) == RoomRemoved(
            room.id, "toys"
        )
        with refused(ChatError.NO_ROOM):
            await gateway.chat.room(id=room.id)


async def test_the_public_room_stays_as_it_is(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        with refused(ChatError.NOT_ALLOWED):
            await gateway.chat.update_room(UpdateRoom(1, bob.id, "mine"))
        with refused(ChatError.NOT_ALLOWED):
            await gateway.chat.remove_room(1, bob.id)


async def _private(gateway: Gateway) -> tuple[Room, int, int, int]:
    bob, eve, mallory = [await person(gateway, name) for name in ("bob", "eve", "mallory")]
    room = await gateway.chat.private_room(bob.id, eve.id)
    assert await gateway.hears(ChatEvent.ROOM_CREATED, Room) == room
    return room, bob.id, eve.id, mallory.id


async def test_a_private_room_is_between_two(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        room, bob, eve, mallory = await _private(gateway)
        assert (room.kind, room.participants) == (RoomKind.PRIVATE, (bob, eve))
        assert await gateway.chat.private_room(eve, bob) == room
        await gateway.hears_nothing()
        assert await gateway.chat.room(id=room.id, reader_id=eve) == room
        assert await gateway.chat.room(name=room.name, reader_id=bob) == room
        for reader in (mallory, None):
            with refused(ChatError.NO_ROOM):
                await gateway.chat.room(id=room.id, reader_id=reader)
            with refused(ChatError.NOT_ALLOWED):
                await gateway.chat.room_users(room.id, reader)
        with refused(ChatError.NO_ROOM):
            await gateway.chat.join(JoinRoom("s", mallory, id=room.id))
        with refused(ChatError.NO_ROOM):
            await gateway.chat.join(JoinRoom("s", mallory, name=room.name, create=True))
        for user in (bob, eve):
            with refused(ChatError.NOT_ALLOWED):
                await gateway.chat.update_room(UpdateRoom(room.id, user, "ours"))
            with refused(ChatError.NOT_ALLOWED):
                await gateway.chat.remove_room(room.id, user)
        await gateway.hears_nothing()
        await gateway.chat.join(JoinRoom("s", eve, id=room.id))
        await gateway.hears(ChatEvent.PRESENCE_CHANGED, PresenceChanged)
        assert [user.id for user in (await gateway.chat.room_users(room.id, bob)).users] == [eve]


async def test_a_private_room_needs_two(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        with refused(ChatError.NOT_ALLOWED):
            await gateway.chat.private_room(bob.id, bob.id)
        for pair in ((bob.id, 77), (77, bob.id), (bob.id, 2**80)):
            with refused(ChatError.NO_USER):
                await gateway.chat.private_room(*pair)
