"""Keenchat as a program, while the chat service and the broker are killed and come back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import httpx
import pytest

from tests.gateways.socket_client import Ears, connected
from tests.gateways.world import on_asyncio
from tests.integration.chat_programs import ChatPrograms, GatewayProcess, chat_programs


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[ChatPrograms]:
    """A broker and the chat service."""
    with chat_programs(tmp_path) as running:
        yield running


@attrs.frozen
class Person:
    """Someone who is signed in, and hears what is new."""

    http: httpx.AsyncClient
    ears: Ears
    token: str

    async def write(self, text: str) -> bool:
        """Write a message; return whether it has been acknowledged."""
        body = {"channel_id": 1, "message_text": text}
        answer = await self.http.post("/message", params={"auth": self.token}, json=body)
        assert answer.status_code in {201, 503}, answer.text
        return answer.status_code == 201

    async def insist(self, text: str) -> None:
        """Write a message until it works."""
        while True:
            if await self.write(text):
                return
            await asyncio.sleep(0.02)

    async def hear_to(self, last: str) -> list[str]:
        """Hear everything up to a message."""
        heard: list[str] = []
        while last not in heard:
            heard.append((await self.ears.next("post message"))["message_text"])
        return heard


async def start(programs: ChatPrograms) -> tuple[GatewayProcess, int]:
    """Start the gateway; return it, and its port for events."""

    def run() -> tuple[GatewayProcess, int]:
        gateway = programs.gateway("keenchat", "--websockets-port", "0")
        return gateway, int(gateway.next_line().rpartition(":")[2])

    return await anyio.to_thread.run_sync(run)


@asynccontextmanager
async def person(gateway: GatewayProcess, events: int, name: str) -> AsyncIterator[Person]:
    """Sign up, and connect."""
    url = f"http://127.0.0.1:{gateway.port}"
    async with httpx.AsyncClient(base_url=url, timeout=30) as http, connected(events) as ears:
        credentials: dict[str, Any] = {"username": name, "password": "a password"}
        await http.post("/user", json=credentials)
        token = (await http.post("/auth", json=credentials)).json()["token_value"]
        await ears.say("identify", token)
        await ears.next("identified")
        await ears.say("change channel", {"id": 1})
        await ears.next("channel movement")
        yield Person(http, ears, token)


@on_asyncio
async def test_the_chat_service_is_killed_in_the_middle(programs: ChatPrograms) -> None:
    gateway, events = await start(programs)
    acknowledged: list[str] = []
    async with person(gateway, events, "ann") as ann, person(gateway, events, "ben") as ben:
        refused, writing = anyio.Event(), anyio.Event()

        async def write_on(name: str, someone: Person) -> None:
            number = 0
            while number < 40 or not refused.is_set():
                text = f"{name} {number}"
                if await someone.write(text):
                    acknowledged.append(text)
                else:
                    refused.set()
                number += 1
                if number == 5:
                    writing.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_on, "ann", ann)
            tasks.start_soon(write_on, "ben", ben)
            await writing.wait()
            await anyio.to_thread.run_sync(programs.chat.kill)
            await refused.wait()
        await anyio.to_thread.run_sync(programs.chat.start)
        await ann.insist("the end")
        heard = [await someone.hear_to("the end") for someone in (ann, ben)]
        listed = await ann.http.get("/message", params={"channel_id": 1})
        kept = [message["message_text"] for message in listed.json()]
        assert len(set(kept)) == len(kept)
        assert set(acknowledged) <= set(kept)
        assert heard == [kept, kept]
        # The token is good still, and the connection the same.
        await ann.ears.say("start typing", {"channel_id": 1})
        await ben.ears.next("start typing")
        assert ann.ears.is_connected


@on_asyncio
async def test_the_broker_is_restarted(programs: ChatPrograms) -> None:
    gateway, events = await start(programs)
    async with person(gateway, events, "ann") as ann, person(gateway, events, "ben") as ben:
        for turn in range(2):
            await anyio.to_thread.run_sync(programs.broker.kill)
            assert not await ann.write("lost")
            await anyio.to_thread.run_sync(programs.broker.start)
            await ann.insist(f"after {turn}")
            for someone in (ann, ben):
                assert await someone.hear_to(f"after {turn}") == [f"after {turn}"]
        assert ann.ears.is_connected
        assert ben.ears.is_connected


@on_asyncio
async def test_a_hangup_signal_refreshes_the_pages_and_a_termination_ends_in_good_order(
    programs: ChatPrograms,
) -> None:
    gateway, events = await start(programs)
    assert gateway.said == f"listening on http://127.0.0.1:{gateway.port}"
    async with connected(events) as client, connected(events):
        gone = anyio.Event()
        client.client.on("disconnect", gone.set)
        gateway.signal(signal.SIGHUP)
        assert await client.next("refresh page") is None
        code = await anyio.to_thread.run_sync(lambda: gateway.stop(signal.SIGTERM))
        await gone.wait()
    assert code == 0, gateway.log
    assert '"level": "error"' not in gateway.log
