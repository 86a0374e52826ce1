"""The chat service killed with -9 under load: what it has acknowledged is there, exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from services.chat.client import ChatClient
from services.chat.messages import GATEWAYS_GROUP, ListMessages
from services.chat.model import Message
from services.gateways.hub import Audience, Hub
from services.sdk import MeshError, connect
from tests.chat.servers import postgres_server, redis_server
from tests.integration.broker_process import TOKEN, broker_process
from tests.integration.chat_process import ChatProcess

_WRITERS = 8
_BEFORE = 120
_AFTER = 120


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        match request.param:
            case "sqlite":
                yield f"sqlite:///{tmp_path}/chat.db"
            case "postgresql":
                yield stack.enter_context(postgres_server()).url("postgres")
            case _:
                # It writes every change to the disk before it answers.
                yield stack.enter_context(redis_server()).url


class Load:
    """Posts as fast as answers come, and counts.

    Attributes:
        acknowledged: what has been answered, by its text.
        failures: what has not.
    """

    def __init__(self, chat: ChatClient, user_id: int) -> None:
        self.acknowledged: dict[str, Message] = {}
        self.failures: list[MeshError] = []
        self._chat = chat
        self._user_id = user_id
        self._stopped = False
        self._more = trio.Event()

    async def write(self, writer: int) -> None:
        number = 0
        while not self._stopped:
            text = f"{writer}-{number}"
            number += 1
            try:
                message = await self._chat.post(1, self._user_id, text)
            except MeshError as error:
                self.failures.append(error)
                await trio.sleep(0.01)
                continue
            self.acknowledged[text] = message
            self._more.set()
            self._more = trio.Event()

    async def until(self, count: int) -> None:
        """Wait until so many have been acknowledged."""
        while len(self.acknowledged) < count:
            await self._more.wait()

    def stop(self) -> None:
        self._stopped = True


class Reader(Audience):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Message] = []
        self.more = trio.Event()

    def on_posted(self, posted: object) -> None:
        self.told.append(posted.message)  # type: ignore[attr-defined]
        self.more.set()
        self.more = trio.Event()

    async def until(self, count: int) -> None:
        while len(self.told) < count:
            await self.more.wait()


async def _all_messages(chat: ChatClient) -> list[Message]:
    found: list[Message] = []
    while True:
        page = await chat.messages(ListMessages(room_id=1, after=len(found) - 1))
        if not page.messages:
            return found
        found += page.messages


async def test_what_was_acknowledged_is_there_once(store_url: str, tmp_path: Path) -> None:
    with broker_process(tmp_path) as broker, trio.fail_after(60):
        instances = [
            ChatProcess(broker.address, store_url, tmp_path, f"chat-{number}")
            for number in range(2)
        ]
        try:
            for instance in instances:
                await trio.to_thread.run_sync(instance.start)
            async with (
                connect(broker.address, group=GATEWAYS_GROUP, token=TOKEN) as mesh,
                trio.open_nursery() as nursery,
            ):
                reader = Reader()
                hub = Hub(mesh, reader)
                await nursery.start(hub.run)
                bob = (await hub.chat.register("bob", "a password")).user
                load = Load(hub.chat, bob.id)
                async with trio.open_nursery() as writers:
                    for writer in range(_WRITERS):
                        writers.start_soon(load.write, writer)
                    for victim in instances:
                        await load.until(len(load.acknowledged) + _BEFORE)
                        await trio.to_thread.run_sync(victim.kill)
                        await load.until(len(load.acknowledged) + _AFTER)
                        await trio.to_thread.run_sync(victim.start)
                    load.stop()
                stored = await _all_messages(hub.chat)
                # One instance was there all the time, so nobody has noticed a thing.
                assert load.failures == []
                assert [message.number for message in stored] == list(range(len(stored)))
                texts = [message.text for message in stored]
                assert len(set(texts)) == len(texts)
                assert {message.text: message for message in stored} == load.acknowledged
                # And each has been told, once and in order.
                await reader.until(len(stored))
                assert reader.told == stored
                nursery.cancel_scope.cancel()
        finally:
            for instance in instances:
                await trio.to_thread.run_sync(instance.kill)


async def test_with_the_only_instance_killed_what_was_acknowledged_is_there(
    store_url: str, tmp_path: Path
) -> None:
    with broker_process(tmp_path) as broker, trio.fail_after(60):
        chat = ChatProcess(broker.address, store_url, tmp_path)
        try:
            await trio.to_thread.run_sync(chat.start)
            async with connect(broker.address, group=GATEWAYS_GROUP, token=TOKEN) as mesh:
                client = ChatClient(mesh)
                bob = (await client.register("bob", "a password")).user
                load = Load(client, bob.id)
                async with trio.open_nursery() as writers:
                    for writer in range(_WRITERS):
                        writers.start_soon(load.write, writer)
                    await load.until(_BEFORE)
                    await trio.to_thread.run_sync(chat.kill)
                    acknowledged = dict(load.acknowledged)
                    await trio.to_thread.run_sync(chat.start)
                    await load.until(len(acknowledged) + _AFTER)
                    load.stop()
                # Who wrote meanwhile was told at once that nobody is there.
                assert load.failures
                stored = await _all_messages(client)
                assert [message.number for message in stored] == list(range(len(stored)))
                by_text = {message.text: message for message in stored}
                assert len(by_text) == len(stored)
                assert load.acknowledged.items() <= by_text.items()
        finally:
            await trio.to_thread.run_sync(chat.kill)
