"""The Redis chat as a program, while the chat service and the broker are killed and come back."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from services.gateways.redis_chat.codes import ErrorCode
from services.gateways.redis_chat.main import PATH
from tests.gateways.talkers import PATIENCE, Talker, in_thread, talker
from tests.integration.chat_programs import (
    ChatPrograms,
    GatewayProcess,
    chat_programs,
    check_stops_gently,
    write_through_a_kill,
)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[ChatPrograms]:
    """A broker and the chat service."""
    with chat_programs(tmp_path) as running:
        yield running


class Person:
    """A client who has signed in, and all that it has heard."""

    def __init__(self, client: Talker) -> None:
        self.client = client
        self.key: dict[str, str] = {}
        self.heard: list[str] = []

    async def ask(self, kind: str, data: Any = None) -> Any:
        """Return the answer: it is what is no `sys`."""
        await self.client.say({"type": kind, kind: data, **self.key})
        while True:
            said = await self.client.hear()
            self._note(said)
            if said["type"] == "channelMessage":
                if kind == said["type"] and said[kind]["message"] == data["message"]:
                    return said
            elif said["type"] not in {"sys", "ready"}:
                return said

    def _note(self, said: Any) -> None:
        if said["type"] == "channelMessage":
            self.heard.append(said["channelMessage"]["message"])

    async def come_in(self, username: str) -> None:
        signed = await self.ask("signIn", {"username": username, "password": "a password"})
        who = signed["authorized"]
        self.key = {"userUUID": who["userUUID"], "userAccessKey": who["accessKey"]}
        assert (await self.ask("channelJoin", {}))["type"] == "channelJoin"

    async def write(self, text: str) -> bool:
        """Write a message; return whether it has been acknowledged."""
        said = await self.ask("channelMessage", {"recipientUUID": "", "message": text})
        if said["type"] == "error":
            assert said["error"]["code"] == ErrorCode.AWAY, said
        return bool(said["type"] == "channelMessage")

    async def hear_to(self, last: str) -> None:
        while last not in self.heard:
            self._note(await self.client.hear())

    async def history(self) -> list[str]:
        """All messages, oldest first."""
        found: list[str] = []
        while True:
            page = {"recipientUUID": "", "limit": 99, "offset": len(found)}
            got = (await self.ask("channelMessages", page))["channelMessages"]
            found += [message["message"] for message in got["messages"]]
            if len(found) >= got["messagesTotal"]:
                return found[::-1]


async def test_the_chat_service_is_killed_in_the_middle(programs: ChatPrograms) -> None:
    gateway = await in_thread(lambda: programs.gateway("redis_chat"))
    with trio.fail_after(2 * PATIENCE):
        async with talker(gateway.port, PATH) as one, talker(gateway.port, PATH) as other:
            ann, ben = Person(one), Person(other)
            await ann.come_in("Ann")
            await ben.come_in("Ben")
            writers = {"Ann": ann.write, "Ben": ben.write}
            acknowledged = await write_through_a_kill(programs.chat, writers)
            while not await ann.write("the end"):
                pass
            await ann.hear_to("the end")
            await ben.hear_to("the end")
            kept = await ann.history()
            assert len(set(kept)) == len(kept)
            assert acknowledged <= set(kept)
            assert ann.heard == ben.heard == kept


async def test_the_broker_is_restarted(programs: ChatPrograms) -> None:
    gateway = await in_thread(lambda: programs.gateway("redis_chat"))
    with trio.fail_after(2 * PATIENCE):
        async with talker(gateway.port, PATH) as one, talker(gateway.port, PATH) as other:
            ann, ben = Person(one), Person(other)
            await ann.come_in("Ann")
            await ben.come_in("Ben")
            for turn in range(2):
                await in_thread(programs.broker.kill)
                assert not await ann.write("lost")
                assert not await ben.write("lost")
                await in_thread(programs.broker.start)
                while not await ann.write(f"after {turn}"):
                    pass
                await ben.hear_to(f"after {turn}")
            assert ben.heard == ["after 0", "after 1"]


def fetch(gateway: GatewayProcess, path: str) -> str:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{gateway.port}{path}", timeout=PATIENCE
    ) as response:
        body: bytes = response.read()
        return body.decode()


async def test_a_web_client_is_served_beside_the_websocket(
    programs: ChatPrograms, tmp_path: Path
) -> None:
    files = tmp_path / "client"
    files.mkdir()
    (files / "index.html").write_text("<title>chat</title>")
    gateway = await in_thread(lambda: programs.gateway("redis_chat", "--static", str(files)))
    assert await in_thread(lambda: fetch(gateway, "/")) == "<title>chat</title>"
    async with talker(gateway.port, PATH) as client:
        await Person(client).come_in("Ann")
        await check_stops_gently(gateway, client)
