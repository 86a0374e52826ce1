"""The chat service about who is where."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chat.messages import (
    ChatError,
    ChatEvent,
    JoinRoom,
    ListRooms,
    PresenceChanged,
    RoomRemoved,
    Session,
    SyncSessions,
    Users,
)
from services.chat.model import Room, RoomKind, User
from tests.chat.chat_world import Gateway, chat_world, person, place, refused


def ids(users: tuple[User, ...]) -> list[int]:
    return [user.id for user in users]


async def presence(gateway: Gateway) -> tuple[int, list[int], tuple[int, ...], tuple[int, ...]]:
    """The next event, which has to be about presence: the room, who is there, joined, left."""
    change = await gateway.hears(ChatEvent.PRESENCE_CHANGED, PresenceChanged)
    return change.room_id, ids(change.users), change.joined, change.left


async def test_who_joins_is_in_the_room(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob, eve = await person(gateway, "bob"), await person(gateway, "eve")
        joined = await gateway.chat.join(JoinRoom("s", bob.id, id=1))
        assert (joined.room.name, ids(joined.users), joined.created) == ("public", [bob.id], False)
        assert joined.users[0].online
        assert await presence(gateway) == (1, [bob.id], (bob.id,), ())
        joined = await gateway.chat.join(JoinRoom("t", eve.id, name="public"))
        assert ids(joined.users) == [bob.id, eve.id]
        assert await presence(gateway) == (1, [bob.id, eve.id], (eve.id,), ())
        assert await gateway.chat.room_users(1) == Users(joined.users, 2)
        assert (await gateway.chat.user(id=bob.id)).online


async def test_joining_again_is_no_error_and_no_news(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        for session in ("s", "s", "t"):
            await gateway.chat.join(JoinRoom(session, bob.id, id=1))
        await presence(gateway)
        await gateway.hears_nothing()
        # There by two sessions, bob goes with the second.
        await gateway.chat.leave("s", 1)
        await gateway.hears_nothing()
        await gateway.chat.leave("t", 1)
        assert await presence(gateway) == (1, [], (), (bob.id,))


async def test_a_protected_room_takes_its_password(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        room = await place(gateway, "games", bob, "a password")
        for password in (None, "", "A password", "x" * 100_000):
            with refused(ChatError.WRONG_PASSWORD):
                await gateway.chat.join(JoinRoom("s", bob.id, id=room.id, password=password))
        await gateway.hears_nothing()
        assert (await gateway.chat.room_users(room.id)).total == 0
        await gateway.chat.join(JoinRoom("s", bob.id, id=room.id, password="a password"))
        assert await presence(gateway) == (room.id, [bob.id], (bob.id,), ())


async def test_a_room_is_made_by_joining(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        join = JoinRoom("s", bob.id, name="games", create=True, ephemeral=True)
        joined = await gateway.chat.join(join)
        assert joined.created
        assert (joined.room.kind, joined.room.ephemeral) == (RoomKind.PUBLIC, True)
        assert joined.room.creator_id == bob.id
        assert (await gateway.hears(ChatEvent.ROOM_CREATED, Room)).id == joined.room.id
        await presence(gateway)
        assert not (await gateway.chat.join(join)).created
        await gateway.hears_nothing()


async def test_an_ephemeral_room_goes_with_the_last_one(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob, eve = await person(gateway, "bob"), await person(gateway, "eve")
        join = JoinRoom("s", bob.id, name="games", create=True, ephemeral=True)
        room = (await gateway.chat.join(join)).room
        await gateway.hears(ChatEvent.ROOM_CREATED, Room)
        await presence(gateway)
        await gateway.chat.join(JoinRoom("t", eve.id, id=room.id))
        await presence(gateway)
        await gateway.chat.leave("s", room.id)
        assert await presence(gateway) == (room.id, [eve.id], (), (bob.id,))
        await gateway.chat.close_session("t")
        removed = await gateway.hears(ChatEvent.ROOM_DELETED, RoomRemoved)
        assert removed == RoomRemoved(room.id, "games")
        await gateway.hears_nothing()
        with refused(ChatError.NO_ROOM):
            await gateway.chat.room(name="games")


@pytest.mark.parametrize(
    ("join", "code"),
    [
        (JoinRoom("s", 2, id=77), ChatError.NO_ROOM),
        (JoinRoom("s", 2, id=2**80), ChatError.NO_ROOM),
        (JoinRoom("s", 2, id=77, name="games", create=True), ChatError.NO_ROOM),
        (JoinRoom("s", 2, name="none"), ChatError.NO_ROOM),
        (JoinRoom("s", 2), ChatError.NO_ROOM),
        (JoinRoom("s", 2, create=True), ChatError.NO_ROOM),
        (JoinRoom("s", 2, name="", create=True), ChatError.BAD_NAME),
        (JoinRoom("s", 2, name="x" * 1000, create=True), ChatError.BAD_NAME),
        (JoinRoom("s", 77, id=1), ChatError.NO_USER),
        (JoinRoom("s", 2**80, id=1), ChatError.NO_USER),
        (JoinRoom("s", 77, name="games", create=True), ChatError.NO_USER),
    ],
)
async def test_what_cannot_be_joined(join: JoinRoom, code: ChatError, tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        assert (await person(gateway, "bob")).id == 2
        with refused(code):
            await gateway.chat.join(join)
        await gateway.hears_nothing()
        assert (await gateway.chat.rooms(ListRooms())).total == 1


async def test_a_session_is_one_users(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob, eve = await person(gateway, "bob"), await person(gateway, "eve")
        await gateway.chat.join(JoinRoom("s", bob.id, id=1))
        with refused(ChatError.NOT_ALLOWED):
            await gateway.chat.join(JoinRoom("s", eve.id, id=1))


async def test_only_who_is_in_a_room_leaves_it(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (world, gateway), world.gateway("another") as another:
        bob = await person(gateway, "bob")
        await gateway.chat.join(JoinRoom("s", bob.id, id=1))
        await presence(gateway)
        with refused(ChatError.NOT_IN_ROOM):
            await gateway.chat.leave("t", 1)
        # The sessions of another gateway are others.
        with refused(ChatError.NOT_IN_ROOM):
            await another.chat.leave("s", 1)
        await another.chat.close_session("s")
        for absent in (77, 2**80):
            with refused(ChatError.NO_ROOM):
                await gateway.chat.leave("s", absent)
            with refused(ChatError.NO_ROOM):
                await gateway.chat.room_users(absent)
        await gateway.hears_nothing()


async def test_a_user_is_online_by_a_session(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob, eve = await person(gateway, "bob"), await person(gateway, "eve")
        await gateway.chat.open_session("s", bob.id)
        assert (await gateway.chat.user(id=bob.id)).online
        await gateway.chat.join(JoinRoom("s", bob.id, id=1))
        await presence(gateway)
        # Somebody else at the same client: bob is there no more.
        await gateway.chat.open_session("s", eve.id)
        assert await presence(gateway) == (1, [], (), (bob.id,))
        assert not (await gateway.chat.user(id=bob.id)).online
        await gateway.chat.close_session("s")
        await gateway.chat.close_session("s")
        assert not (await gateway.chat.user(id=eve.id)).online
        for absent in (77, 2**80):
            with refused(ChatError.NO_USER):
                await gateway.chat.open_session("s", absent)
        await gateway.hears_nothing()


async def test_a_gateway_that_comes_back_tells_its_sessions(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (world, gateway), world.gateway("another") as former:
        bob, eve = await person(gateway, "bob"), await person(gateway, "eve")
        await former.chat.join(JoinRoom("s", bob.id, id=1))
        await presence(gateway)
        await former.chat.join(JoinRoom("t", eve.id, name="games", create=True, ephemeral=True))
        room = await gateway.hears(ChatEvent.ROOM_CREATED, Room)
        await presence(gateway)
        async with world.gateway("another") as back:
            sessions = (Session("s", bob.id, (1, 77)), Session("u", eve.id, (1,)))
            synced = await back.chat.sync_sessions(SyncSessions(sessions, former.mesh.id))
            assert synced.gone == (77,)
            assert await presence(gateway) == (1, [bob.id, eve.id], (eve.id,), ())
            removed = await gateway.hears(ChatEvent.ROOM_DELETED, RoomRemoved)
            assert removed.id == room.id
            await gateway.hears_nothing()
            # Whose sessions they are now.
            await back.chat.leave("s", 1)
            with refused(ChatError.NOT_IN_ROOM):
                await former.chat.leave("u", 1)
