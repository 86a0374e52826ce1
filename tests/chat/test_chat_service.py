"""The chat service as a service: instances, gateways that go, a store that goes, order."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import trio

from services.chat.messages import (
    ChatError,
    ChatEvent,
    ChatRequest,
    JoinRoom,
    ListMessages,
    Posted,
    PresenceChanged,
    RoomRemoved,
    Session,
    SyncSessions,
)
from services.chat.model import Message, Room
from services.chat.service import ChatService
from services.chat.store import Departure, Store, StoreDownError
from services.sdk import Mesh
from services.testing import TestMesh
from tests.chat.chat_world import ChatWorld, chat_world, person, refused


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the database's lock: nobody else can write."""
    with closing(sqlite3.connect(directory / "chat.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_every_request_has_a_handler(tmp_path: Path) -> None:
    from services.chat.sql_store import SqlStore

    service = ChatService(SqlStore(f"sqlite:///{tmp_path}/chat.db"))
    assert set(service._service._functions) == {request.value for request in ChatRequest}


async def test_a_store_that_is_away_is_said_and_comes_back(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        with held(tmp_path):
            with refused(ChatError.STORE_DOWN):
                await gateway.chat.post(1, bob.id, "hello")
            with refused(ChatError.STORE_DOWN):
                await gateway.chat.join(JoinRoom("s", bob.id, id=1))
            assert await gateway.chat.user(id=bob.id) == bob
        await gateway.hears_nothing()
        assert (await gateway.chat.post(1, bob.id, "hello")).number == 0


async def test_sessions_end_with_their_gateway(tmp_path: Path) -> None:
    async with TestMesh() as mesh:
        world = ChatWorld(mesh, f"sqlite:///{tmp_path}/chat.db")
        with trio.fail_after(20):
            async with world.instance(grace=0.05), world.gateway() as gateway:
                bob, eve = await person(gateway, "bob"), await person(gateway, "eve")
                async with world.gateway("another") as another:
                    await another.chat.join(JoinRoom("s", bob.id, id=1))
                    await another.chat.join(
                        JoinRoom("t", eve.id, name="games", create=True, ephemeral=True)
                    )
                    await mesh.drop(another.mesh)
                    await mesh.stop(another.mesh)
                left: set[object] = set()
                while left != {(1, (bob.id,)), "games"}:
                    event = await gateway._events.receive()
                    if event.name == ChatEvent.ROOM_DELETED:
                        left.add(event.parse(RoomRemoved).name)
                    elif event.name == ChatEvent.PRESENCE_CHANGED:
                        change = event.parse(PresenceChanged)
                        if change.left:
                            assert change.users == ()
                            left.add((change.room_id, change.left))
                assert not (await gateway.chat.user(id=bob.id)).online


async def test_a_gateway_that_is_back_in_time_loses_nobody(tmp_path: Path) -> None:
    async with TestMesh() as mesh:
        world = ChatWorld(mesh, f"sqlite:///{tmp_path}/chat.db")
        with trio.fail_after(20):
            async with world.instance(grace=0.5) as (_, store), world.gateway() as gateway:
                closed, failed = _watch_closing(store)
                bob = await person(gateway, "bob")
                async with world.gateway("another") as back:
                    async with world.gateway("another") as former:
                        await former.chat.join(JoinRoom("s", bob.id, id=1))
                        await gateway.hears(ChatEvent.PRESENCE_CHANGED, PresenceChanged)
                        await mesh.stop(former.mesh)
                    assert former.mesh.id is not None
                    sessions = SyncSessions((Session("s", bob.id, (1,)),), former.mesh.id)
                    await back.chat.sync_sessions(sessions)
                    assert not closed.is_set()
                    await closed.wait()
                    await gateway.hears_nothing()
                    assert (await gateway.chat.room_users(1)).total == 1
                assert not failed.is_set()


async def test_sessions_of_gateways_that_went_unseen_end(tmp_path: Path) -> None:
    async with TestMesh() as mesh:
        world = ChatWorld(mesh, f"sqlite:///{tmp_path}/chat.db")
        with trio.fail_after(20):
            async with world.instance() as (first, _), world.gateway() as gateway:
                bob = await person(gateway, "bob")
                async with world.gateway("another") as another:
                    await another.chat.join(JoinRoom("s", bob.id, id=1))
                    await gateway.hears(ChatEvent.PRESENCE_CHANGED, PresenceChanged)
                    # The chat service is away when the gateway goes.
                    await mesh.drop(first)
                    mesh.partition(first)
                    await mesh.stop(another.mesh)
                async with world.instance(grace=0):
                    change = await gateway.hears_until(ChatEvent.PRESENCE_CHANGED, PresenceChanged)
                    assert (change.users, change.left) == ((), (bob.id,))
                mesh.heal()


async def test_the_store_is_asked_until_it_answers(tmp_path: Path) -> None:
    async with TestMesh() as mesh:
        world = ChatWorld(mesh, f"sqlite:///{tmp_path}/chat.db?timeout=0.01")
        with trio.fail_after(20):
            async with world.instance(grace=0) as (_, store), world.gateway() as gateway:
                bob = await person(gateway, "bob")
                closed, failed = _watch_closing(store)
                async with world.gateway("another") as another:
                    await another.chat.join(JoinRoom("s", bob.id, id=1))
                    await gateway.hears(ChatEvent.PRESENCE_CHANGED, PresenceChanged)
                    with held(tmp_path):
                        await mesh.stop(another.mesh)
                        await failed.wait()
                        assert not closed.is_set()
                change = await gateway.hears(ChatEvent.PRESENCE_CHANGED, PresenceChanged)
                assert change.left == (bob.id,)


def _watch_closing(store: Store) -> tuple[trio.Event, trio.Event]:
    """Events for a gateway's sessions having been ended, and for that having failed."""
    close = store.close_gateway
    closed, failed = trio.Event(), trio.Event()

    async def closing_gateway(gateway: str) -> list[Departure]:
        try:
            departures = await close(gateway)
        except StoreDownError:
            failed.set()
            raise
        closed.set()
        return departures

    store.close_gateway = closing_gateway  # type: ignore[method-assign]
    return closed, failed


async def test_what_is_stored_is_told_though_nobody_waits_for_the_answer(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (world, gateway), world.gateway("another") as another:
        bob = await person(gateway, "bob")
        for number in range(20):
            # Cancelled at another moment each time: before it is stored, or after.
            with trio.move_on_after(0.001 * number):
                await another.chat.post(1, bob.id, f"message {number}", f"key {number}")
        await gateway.chat.post(1, bob.id, "last")
        numbers = []
        while True:
            posted = await gateway.hears_until(ChatEvent.MESSAGE_POSTED, Posted)
            numbers.append(posted.message.number)
            if posted.message.text == "last":
                break
        assert sorted(numbers) == list(range(len(numbers)))


async def test_a_post_whose_answer_is_lost_is_repeated_and_stored_once(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (world, gateway):
        bob = await person(gateway, "bob")
        async with world.instance() as (one, store), world.instance() as (other, other_store):
            lost: list[str] = []

            def lose_the_answer(member: Mesh, store: Store) -> None:
                add = store.add_message

                async def adding(*args: Any) -> tuple[Message, bool]:
                    stored = await add(*args)
                    if not lost:
                        lost.append(stored[0].text)
                        await world.mesh.drop(member)
                    return stored

                store.add_message = adding  # type: ignore[method-assign, assignment]

            lose_the_answer(one, store)
            lose_the_answer(other, other_store)
            for number in range(9):
                # One of three instances takes it, whichever is the least busy.
                await gateway.chat.post(1, bob.id, str(number))
            page = await gateway.chat.messages(ListMessages(1))
            assert "".join(message.text for message in page.messages) == "012345678"
            assert lost


async def test_two_instances_are_one_chat(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (world, gateway), world.instance() as (second, _):
        bob = await person(gateway, "bob")

        async def post(number: int) -> None:
            await gateway.chat.post(1, bob.id, str(number))

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(post, number)
        told = [await gateway.hears(ChatEvent.MESSAGE_POSTED, Posted) for _ in range(100)]
        assert sorted(posted.message.number for posted in told) == list(range(100))
        # Both have had a part in it.
        assert second.statistics().received > 10
        await gateway.hears_nothing()


async def test_one_of_two_instances_makes_the_room_that_many_enter(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (world, gateway), world.instance():
        bob = await person(gateway, "bob")
        made: list[bool] = []

        async def join(number: int) -> None:
            joined = await gateway.chat.join(
                JoinRoom(f"s{number}", bob.id, name="games", create=True, ephemeral=True)
            )
            made.append(joined.created)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(join, number)
        assert made.count(True) == 1
        events = {(await gateway._events.receive()).name for _ in range(2)}
        assert events == {ChatEvent.ROOM_CREATED, ChatEvent.PRESENCE_CHANGED}
        await gateway.hears_nothing()
        assert (await gateway.chat.room(name="games")).name == "games"


async def test_the_mesh_is_not_told_what_is_the_gateways_business(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (world, gateway):
        bystander = await world.mesh.client("somebody else")
        async with bystander.listen("*") as events:
            bob = await person(gateway, "bob")
            await gateway.chat.post(1, bob.id, "hello")
            await world.mesh.settle()
            assert events.received == 0


async def test_a_room_that_is_gone_is_told_by_name(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        join = JoinRoom("s", bob.id, name="games", create=True)
        await gateway.chat.join(join)
        room = await gateway.hears(ChatEvent.ROOM_CREATED, Room)
        await gateway.chat.close_session("s")
        # Not ephemeral: it stays.
        assert (await gateway.chat.room(id=room.id)).messages == 0
