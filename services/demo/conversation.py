"""A conversation of four people, each on a system of their own."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final, Protocol

import anyio
import attrs

from services.demo.errors import DemoError
from services.demo.report import Report, Said, judge
from services.demo.talkers.systems import System, open_talker
from services.demo.talkers.talker import Talker, TalkError

__all__ = ["Listener", "converse"]

_NAMES: Final = {
    System.MIRAGE: "Mia",
    System.KEENCHAT: "Ken",
    System.ROOMS: "Rosa",
    System.REDIS_CHAT: "Rex",
}

# One after another.
_IN_TURN: Final = (
    (System.MIRAGE, "Good morning! Is anybody there?"),
    (System.KEENCHAT, "I am, over REST. Hello, Mia!"),
    (System.ROOMS, "And I, in plain JSON."),
    (System.REDIS_CHAT, "Me too. Who has brought the tea?"),
)

# At the same time: whose comes first is open, but not that it is the same for all.
_TOGETHER: Final = (
    (System.MIRAGE, "I have!"),
    (System.KEENCHAT, "No, I have!"),
    (System.ROOMS, "So have I!"),
    (System.REDIS_CHAT, "Four pots, then."),
)

# It takes milliseconds, unless it is broken.
_HEAR_SECONDS: Final = 10.0


class Listener(Protocol):
    """Is told how the conversation goes."""

    def entered(self, system: System, name: str) -> None:
        """Somebody is there."""

    def said(self, said: Said) -> None:
        """Something has been said, and acknowledged."""


@attrs.define
class _Table:
    """Who talks, and what has been said so far, in the order of the acknowledgements."""

    listener: Listener
    talkers: dict[System, Talker] = attrs.field(factory=dict)
    said: list[Said] = attrs.field(factory=list)
    problems: list[str] = attrs.field(factory=list)

    async def say(self, system: System, text: str) -> None:
        talker = self.talkers[system]
        said = Said(system, talker.name, text, anyio.current_time())
        try:
            with anyio.fail_after(_HEAR_SECONDS):
                await talker.say(text)
        except (TalkError, TimeoutError) as error:
            why = str(error) or f"no answer within {_HEAR_SECONDS:g} s"
            self.problems.append(f"{talker.name} could not say {text!r} on {system.label}: {why}")
            return
        self.said.append(said)
        self.listener.said(said)

    async def wait_heard(self) -> None:
        """Wait until all have heard everything, for as long as there is hope."""
        everything = {(said.author, said.text) for said in self.said}
        with anyio.move_on_after(_HEAR_SECONDS):
            async with anyio.create_task_group() as waiting:
                for talker in self.talkers.values():
                    waiting.start_soon(_wait_heard, talker, everything)


async def _wait_heard(talker: Talker, everything: set[tuple[str, str]]) -> None:
    try:
        await talker.wait_until(
            lambda: everything <= {(one.author, one.text) for one in talker.heard}
        )
    except TalkError:
        return  # What is missing is told in the report.


async def converse(
    addresses: Mapping[System, Sequence[str]], listener: Listener, *, new_names: bool
) -> Report:
    """Let four people talk, and see who hears what.

    Args:
        addresses: of each system, as its gateway has said them.
        listener: is told.
        new_names: make up names that nobody can have yet.

    Raises:
        DemoError: somebody cannot come in.
    """
    suffix = f"-{secrets.token_hex(3)}" if new_names else ""
    async with AsyncExitStack() as stack:
        table = _Table(listener)
        for system, name in _NAMES.items():
            try:
                table.talkers[system] = await stack.enter_async_context(
                    open_talker(system, addresses[system], name + suffix)
                )
            except TalkError as error:
                raise DemoError(f"{name} cannot come into {system.label}: {error}") from error
            listener.entered(system, name + suffix)
        for system, text in _IN_TURN:
            await table.say(system, text)
            await table.wait_heard()
        async with anyio.create_task_group() as speaking:
            for system, text in _TOGETHER:
                speaking.start_soon(table.say, system, text)
        await table.wait_heard()
        heard = {system: list(talker.heard) for system, talker in table.talkers.items()}
    return Report(table.said, heard, [*table.problems, *judge(table.said, heard)])
