"""The rooms as a program, while the chat service and the broker are killed and come back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from services.chat.client import ChatClient
from services.chat.messages import ListMessages
from services.gateways.rooms.main import PATH
from services.sdk import connect
from tests.gateways.talkers import PATIENCE, Talker, in_thread, talker
from tests.integration.broker_process import ROOT, TOKEN
from tests.integration.chat_programs import (
    ChatPrograms,
    chat_programs,
    check_stops_gently,
    write_through_a_kill,
)

AWAY = "The chat is away at the moment; try again in a moment"


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[ChatPrograms]:
    """A broker and the chat service."""
    with chat_programs(tmp_path) as running:
        yield running


class Person:
    """A client in the room `public`, and all that it has said and heard."""

    def __init__(self, client: Talker, nickname: str) -> None:
        self.client = client
        self.nickname = nickname
        self.heard: list[tuple[str, str]] = []
        self.answers: list[Any] = []

    async def ask(self, **request: Any) -> Any:
        """Return the answer; note what is heard before it."""
        await self.client.say(request)
        while (said := await self.client.hear())["action"] == "GET MESSAGE":
            self._note(said)
        assert said["request"] == request
        return said

    def _note(self, said: Any) -> None:
        self.heard.append((said["author"], said["text"]))

    async def insist(self, **request: Any) -> None:
        """Ask until it works."""
        while (said := await self.ask(**request))["action"] == "ERROR":
            assert said["message"] == AWAY

    async def come_in(self) -> None:
        await self.insist(action="LOGIN NICK", nickname=self.nickname)
        await self.insist(action="JOIN ROOM", room_id="public")

    async def write(self, text: str) -> bool:
        """Write a message; return whether it has been acknowledged."""
        said = await self.ask(action="SEND MESSAGE", room_id="public", text=text)
        if said["action"] == "ERROR":
            assert said["message"] == AWAY
        return bool(said["action"] == "RESPONSE")

    async def hear_to(self, last: tuple[str, str]) -> None:
        """Hear everything up to a message."""
        while last not in self.heard:
            self._note(await self.client.hear())


async def stored(programs: ChatPrograms) -> list[tuple[str, str]]:
    """The messages of the room `public`, from the store."""
    async with connect(programs.broker.address, token=TOKEN, group="tests") as mesh:
        chat = ChatClient(mesh)
        room = await chat.room(name="public")
        page = await chat.messages(ListMessages(room.id, trusted=True))
        assert len(page.messages) == page.total
        return [(message.username, message.text) for message in page.messages]


async def test_the_chat_service_is_killed_in_the_middle(programs: ChatPrograms) -> None:
    gateway = await in_thread(lambda: programs.gateway("rooms"))
    with trio.fail_after(2 * PATIENCE):
        async with AsyncExitStack() as stack:
            people = [
                Person(await stack.enter_async_context(talker(gateway.port, PATH)), name)
                for name in ("Ann", "Ben", "Cat")
            ]
            for person in people:
                await person.come_in()
            writers = {person.nickname: person.write for person in people}
            acknowledged = await write_through_a_kill(programs.chat, writers)
            await people[0].insist(action="SEND MESSAGE", room_id="public", text="the end")
            last = ("Ann", "the end")
            for person in people:
                await person.hear_to(last)
            kept = await stored(programs)
            kept = kept[: kept.index(last) + 1]
            assert len(set(kept)) == len(kept)
            assert acknowledged <= {text for _, text in kept}
            for person in people:
                # What was said before somebody came in is not for them.
                assert person.heard == kept[-len(person.heard) :]
                assert acknowledged <= {text for _, text in person.heard}


async def test_the_broker_is_restarted(programs: ChatPrograms) -> None:
    gateway = await in_thread(lambda: programs.gateway("rooms"))
    with trio.fail_after(2 * PATIENCE):
        async with talker(gateway.port, PATH) as one, talker(gateway.port, PATH) as other:
            ann, ben = Person(one, "Ann"), Person(other, "Ben")
            await ann.come_in()
            await ben.come_in()
            for turn in range(2):
                await in_thread(programs.broker.kill)
                for person in (ann, ben):
                    answer = await person.ask(action="JOIN ROOM", room_id="elsewhere")
                    assert answer["message"] == AWAY
                await in_thread(programs.broker.start)
                text = f"after {turn}"
                await ann.insist(action="SEND MESSAGE", room_id="public", text=text)
                for person in (ann, ben):
                    await person.hear_to(("Ann", text))
            # The nickname is still nobody else's.
            async with talker(gateway.port, PATH) as another:
                cat = Person(another, "Cat")
                await cat.come_in()
                answer = await cat.ask(action="LOGIN NICK", nickname="Ann")
                assert answer["message"] == "Nickname already in use"


async def test_the_gateway_stops_in_good_order(programs: ChatPrograms) -> None:
    gateway = await in_thread(lambda: programs.gateway("rooms"))
    assert gateway.said.startswith("listening on http://127.0.0.1:")
    async with talker(gateway.port, PATH) as client:
        await Person(client, "Ann").come_in()
        await check_stops_gently(gateway, client)


async def test_a_port_in_use_is_one_line_and_exit_code_1(programs: ChatPrograms) -> None:
    gateway = await in_thread(lambda: programs.gateway("rooms"))
    options = ["--url", programs.broker.address, "--port", str(gateway.port), "--token", TOKEN]
    command = [sys.executable, "-m", "services.gateways.rooms", *options]
    run = partial(subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False)
    result = await in_thread(run)
    said = f"Error: 127.0.0.1:{gateway.port} is in use; --host and --port name another\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", said)
