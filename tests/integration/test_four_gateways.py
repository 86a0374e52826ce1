"""One chat through four protocols: all see the same, in the same order, whatever is restarted."""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from services.demo.talkers.systems import System
from services.demo.talkers.talker import Talker
from tests.integration.broker_process import ROOT
from tests.integration.four_gateways import AWAY, Chat, Writer, four_gateways, talkers

# Against what hangs; all of it takes some seconds, on a busy machine some more.
GUARD = 300.0

ROUNDS = 10
USERS_EACH = 5
MESSAGES_EACH = 50
SOME = 15


def patiently(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test, which may take fixtures, on asyncio, as two of the four clients need it."""

    async def guarded(fixtures: Mapping[str, Any]) -> None:
        with anyio.fail_after(GUARD):
            await test(**fixtures)

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        anyio.run(guarded, fixtures, backend="asyncio")

    return run


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Chat]:
    with four_gateways(tmp_path) as running:
        yield running


def heard_by(talker: Talker) -> list[tuple[str, str]]:
    return [(heard.author, heard.text) for heard in talker.heard]


async def hear_so_many(talker: Talker, count: int) -> None:
    """Wait until somebody has heard so many."""
    await talker.wait_until(lambda: len(talker.heard) >= count)


async def hear(talker: Talker, messages: Sequence[tuple[str, str]]) -> None:
    """Wait until somebody has heard all of these."""
    wanted = set(messages)
    await talker.wait_until(lambda: wanted <= set(heard_by(talker)))


@patiently
async def test_a_message_through_any_gateway_is_seen_through_each(chat: Chat) -> None:
    delays: list[float] = []
    said: list[tuple[str, str]] = []
    async with talkers(chat) as people:
        for number in range(ROUNDS):
            for author in people:
                text = f"{author.name} says: <b>{number}</b> ' ; ✓"
                sent = anyio.current_time()
                await author.say(text)
                said.append((author.name, text))
                for reader in people:
                    await hear(reader, said)
                    delays.append(reader.heard[-1].at - sent)
        for reader in people:
            assert heard_by(reader) == said
        assert await chat.stored() == said
    print(
        f"\nseen after: median {statistics.median(delays) * 1000:.0f} ms, "
        f"slowest {max(delays) * 1000:.0f} ms"
    )


@patiently
async def test_a_thousand_messages_by_twenty_users_come_once_and_in_one_order(chat: Chat) -> None:
    async with talkers(chat, USERS_EACH) as people:
        assert len(people) == 20

        async def write(author: Talker) -> None:
            for number in range(MESSAGES_EACH):
                await author.say(str(number))

        began = anyio.current_time()
        async with anyio.create_task_group() as writing:
            for author in people:
                writing.start_soon(write, author)
        for reader in people:
            await hear_so_many(reader, 20 * MESSAGES_EACH)
        print(f"\n1,000 messages in {anyio.current_time() - began:.1f} s")
        stored = await chat.stored()
        assert len(stored) == len(set(stored)) == 1000
        for author in people:
            own = [text for name, text in stored if name == author.name]
            assert own == [str(number) for number in range(MESSAGES_EACH)]
        for reader in people:
            assert heard_by(reader) == stored, reader.name


def test_anybody_can_talk_on_each_from_a_terminal(chat: Chat) -> None:
    for system in System:
        name = f"Ada on {system.label}"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "services.demo.talk", system.value),
                *(*chat.addresses(system), "--name", name),
            ],
            input="hello\n\nis anybody there?",
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            f"{name} is there",
            f"{name}: hello",
            f"{name}: is anybody there?",
        ]


async def insist(writers: Sequence[Writer]) -> None:
    """Let each say something until it has been acknowledged."""
    async with anyio.create_task_group() as writing:
        for writer in writers:
            writing.start_soon(writer.insist)


async def check_all(chat: Chat, writers: Sequence[Writer]) -> None:
    """See that all have heard what is stored, and that what was acknowledged is there once."""
    stored = await chat.stored()
    assert len(stored) == len(set(stored))
    for writer in writers:
        assert {(writer.talker.name, text) for text in writer.acknowledged} <= set(stored)
        await hear(writer.talker, stored)
        assert heard_by(writer.talker) == stored
        assert not writer.talker.lost


@pytest.mark.parametrize("victim", ["the chat service", "the broker"])
@patiently
async def test_what_all_depend_on_is_killed_and_comes_back(chat: Chat, victim: str) -> None:
    process = chat.broker if victim == "the broker" else chat.service
    async with talkers(chat) as people:
        writers = [Writer(person) for person in people]
        async with anyio.create_task_group() as writing:
            for writer in writers:
                writing.start_soon(writer.run)
            for writer in writers:
                await writer.until_acknowledged(SOME)
            # In the middle of what they write.
            await anyio.to_thread.run_sync(process.kill)
            for writer in writers:
                writer.stop()
        for writer in writers:
            known = len(writer.refused)
            asked = anyio.current_time()
            # Far less than the time that is given to a request.
            with anyio.fail_after(10):
                assert not await writer.say()
            print(f"\n{writer.talker.name}: no after {anyio.current_time() - asked:.3f} s")
            assert len(writer.refused) == known + 1
            assert {why.lower() for why in writer.refused} == {AWAY}
        await anyio.to_thread.run_sync(process.start)
        await insist(writers)
        await check_all(chat, writers)
