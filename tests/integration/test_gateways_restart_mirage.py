"""Mirage as a program, while the chat service and the broker are killed and come back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from services.chat.client import ChatClient
from services.chat.messages import ListMessages
from services.sdk import connect
from tests.gateways.socket_client import Ears, connected
from tests.gateways.world import on_asyncio
from tests.integration.broker_process import TOKEN
from tests.integration.chat_programs import ChatPrograms, chat_programs

ROOM = "garden"


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[ChatPrograms]:
    """A broker and the chat service."""
    with chat_programs(tmp_path) as running:
        yield running


async def insist(client: Ears, event: str, data: dict[str, str], answer: str) -> None:
    """Ask until it works."""
    while True:
        name, said = await client.ask(event, data, answers=(answer, "error"))
        if name == answer:
            return
        assert said["code"] in {"AWAY", "NO_ROOM"}, said
        await asyncio.sleep(0.02)


async def write(client: Ears, username: str, text: str) -> bool:
    """Write a message; return whether it has been acknowledged."""
    data = {"username": username, "room_name": ROOM, "message": text}
    name, said = await client.ask("send_message", data, answers=("message_sent", "error"))
    assert name == "message_sent" or said["code"] == "AWAY", said
    return name == "message_sent"


async def stored(programs: ChatPrograms) -> list[str]:
    """The messages of the room, from the store."""
    async with connect(programs.broker.address, token=TOKEN, group="tests") as mesh:
        chat = ChatClient(mesh)
        room = await chat.room(name=ROOM)
        page = await chat.messages(ListMessages(room.id, trusted=True))
        return [message.text for message in page.messages]


async def hear_to(client: Ears, last: str) -> list[str]:
    """Hear everything up to a message."""
    heard: list[str] = []
    while last not in heard:
        heard.append((await client.next("new_message"))["message"])
    return heard


@on_asyncio
async def test_the_chat_service_is_killed_in_the_middle(programs: ChatPrograms) -> None:
    gateway = await anyio.to_thread.run_sync(lambda: programs.gateway("mirage"))
    acknowledged: list[str] = []
    async with connected(gateway.port) as ann, connected(gateway.port) as ben:
        people = {"ann": ann, "ben": ben}
        await insist(ann, "create_room", {"username": "ann", "room_name": ROOM}, "room_created")
        await insist(ben, "join_room_route", {"username": "ben", "room_name": ROOM}, "joined_room")
        refused, writing = anyio.Event(), anyio.Event()

        async def write_on(name: str) -> None:
            number = 0
            while number < 40 or not refused.is_set():
                text = f"{name} {number}"
                if await write(people[name], name, text):
                    acknowledged.append(text)
                else:
                    refused.set()
                number += 1
                if number == 5:
                    writing.set()

        async with anyio.create_task_group() as tasks:
            for name in people:
                tasks.start_soon(write_on, name)
            await writing.wait()
            await anyio.to_thread.run_sync(programs.chat.kill)
            await refused.wait()
        await anyio.to_thread.run_sync(programs.chat.start)
        last = {"username": "ann", "room_name": ROOM, "message": "the end"}
        await insist(ann, "send_message", last, "message_sent")
        heard = [await hear_to(person, "the end") for person in people.values()]
        kept = await stored(programs)
        assert len(set(kept)) == len(kept)
        assert set(acknowledged) <= set(kept)
        assert heard == [kept, kept]
        assert ann.is_connected
        assert ben.is_connected


@on_asyncio
async def test_the_broker_is_restarted(programs: ChatPrograms) -> None:
    gateway = await anyio.to_thread.run_sync(lambda: programs.gateway("mirage"))
    async with connected(gateway.port) as ann, connected(gateway.port) as ben:
        await insist(ann, "create_room", {"username": "ann", "room_name": ROOM}, "room_created")
        await insist(ben, "join_room_route", {"username": "ben", "room_name": ROOM}, "joined_room")
        for turn in range(2):
            await anyio.to_thread.run_sync(programs.broker.kill)
            assert not await write(ann, "ann", "lost")
            await anyio.to_thread.run_sync(programs.broker.start)
            text = {"username": "ann", "room_name": ROOM, "message": f"after {turn}"}
            await insist(ann, "send_message", text, "message_sent")
            for person in (ann, ben):
                assert await hear_to(person, f"after {turn}") == [f"after {turn}"]
        assert ann.is_connected
        assert ben.is_connected


@on_asyncio
async def test_the_gateway_stops_in_good_order(programs: ChatPrograms) -> None:
    gateway = await anyio.to_thread.run_sync(lambda: programs.gateway("mirage"))
    assert gateway.said == f"listening on http://127.0.0.1:{gateway.port}"
    async with connected(gateway.port) as client, connected(gateway.port):
        gone = anyio.Event()
        client.client.on("disconnect", gone.set)
        code = await anyio.to_thread.run_sync(lambda: gateway.stop(signal.SIGTERM))
        await gone.wait()
    assert code == 0, gateway.log
    assert '"level": "error"' not in gateway.log
