"""Which rooms are Keenchat's channels: what happens in others is nobody's business there."""

from __future__ import annotations

import functools
from pathlib import Path

import anyio

from services.chat.messages import CreateRoom
from services.gateways.keenchat.channels import Channels
from tests.gateways.world import on_asyncio, world


@on_asyncio
async def test_what_happens_in_a_room_of_unknown_kind_waits_until_it_is_known(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as behind:
        chat = behind.chat
        bob = (await chat.register("bob", "secret")).user
        eve = (await chat.register("eve", "secret")).user
        private = await chat.private_room(bob.id, eve.id)
        protected = await chat.create_room(CreateRoom("closed", password="open sesame"))
        channels = Channels(chat)
        told: list[str] = []
        done = anyio.Event()
        # While the chat is away, nothing is known, and nothing told.
        await behind.stop_chat()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channels.run)
            for room_id in (private.id, protected.id, 999):
                channels.when_channel(room_id, lambda: told.append("secret"))
            channels.when_channel(1, lambda: told.append("first"))
            channels.when_channel(1, lambda: told.append("second"))
            await anyio.wait_all_tasks_blocked()
            assert told == []
            await behind.start_chat()
            channels.when_channel(1, done.set)
            await done.wait()
            tasks.cancel_scope.cancel()
        # Now that it is known, it is told at once.
        channels.when_channel(1, lambda: told.append("third"))
        for room_id in (private.id, protected.id):
            channels.when_channel(room_id, lambda: told.append("secret"))
        assert told == ["first", "second", "third"]


@on_asyncio
async def test_what_waits_is_bounded_and_the_newest_of_it_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as behind:
        channels = Channels(behind.chat)
        told: list[int] = []
        for number in range(1000):
            channels.when_channel(1, functools.partial(told.append, number))
        channels.learn(await behind.chat.room(id=1))
        assert told == list(range(900, 1000))


@on_asyncio
async def test_a_room_that_has_gone_is_forgotten(tmp_path: Path) -> None:
    async with world(tmp_path) as behind:
        room = await behind.chat.create_room(CreateRoom("open"))
        channels = Channels(behind.chat)
        told: list[str] = []
        channels.learn(room)
        channels.forget(room.id)
        channels.when_channel(room.id, lambda: told.append("late"))
        assert told == []
