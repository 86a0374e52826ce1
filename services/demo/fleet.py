"""The programs, started in their order, watched over, and ended in good order."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

import anyio
import attrs
from anyio.abc import TaskStatus

from services.demo.child import Child, start_child
from services.demo.errors import DemoError
from services.demo.programs import BROKER, Program
from services.sdk import Backoff
from services.sdk.tasks import BackgroundTasks

__all__ = ["Fleet", "Member", "Watcher"]

# A busy machine may take long to start an interpreter.
_START_SECONDS: Final = 60.0

# For what each has been asked at the end; none takes as long.
_GRACE_SECONDS: Final = 5.0

# Without chance: there is one of each.
_BACKOFF: Final = Backoff(first=0.25, longest=10.0, random=lambda: 1.0)

_READY: Final = "listening on "


class _NotReadyError(Exception):
    """A program has not become ready; it says how it has ended, and its last words."""


class Watcher(Protocol):
    """Is told of what happens to the programs."""

    def ready(self, member: Member, seconds: float) -> None:
        """It is ready; it has taken so long."""

    def ended(self, member: Member, how: str, pause: float) -> None:
        """It has ended, and is started again after so many seconds."""

    def back(self, member: Member) -> None:
        """It is ready again."""


@attrs.define
class Member:
    """A program of the fleet.

    Attributes:
        program: which one.
        ports: where it listens; 0 until the system has chosen.
        addresses: those that it has said.
        said: the lines that it has said when it was ready.
        restarts: how often it has been started again.
        child: the process; None while there is none.
    """

    program: Program
    ports: list[int]
    addresses: list[str] = attrs.field(factory=list)
    said: list[str] = attrs.field(factory=list)
    restarts: int = 0
    child: Child | None = None

    @property
    def name(self) -> str:
        """Of the program."""
        return self.program.name


class Fleet:
    """Programs that run.

    Args:
        watcher: is told.
        directory: for the logs.
        environment: of all of them.
    """

    def __init__(self, watcher: Watcher, directory: Path, environment: Mapping[str, str]) -> None:
        self._watcher = watcher
        self._directory = directory
        self._environment = environment
        self._groups: list[list[Member]] = []

    @property
    def members(self) -> list[Member]:
        """All of them, in the order in which they were started."""
        return [member for group in self._groups for member in group]

    def member(self, name: str) -> Member:
        """Return one of them."""
        return next(member for member in self.members if member.name == name)

    @asynccontextmanager
    async def sail(
        self, groups: Sequence[Sequence[Program]], ports: Mapping[str, int]
    ) -> AsyncIterator[None]:
        """Keep programs running for the body of an `async with`.

        Args:
            groups: the first is started first, and all others at once when it is ready; they are
                ended one after another, the last one first.
            ports: numbers by name.

        Raises:
            DemoError: one of them does not start.
        """
        try:
            async with BackgroundTasks() as tasks:
                self._groups = [
                    [Member(program, [ports[name] for name in program.ports]) for program in group]
                    for group in groups
                ]
                first, *others = self._groups
                await self._start_all(tasks, first)
                await self._start_all(tasks, [member for group in others for member in group])
                yield
        finally:
            with anyio.CancelScope(shield=True):
                await self._end()

    def kill(self) -> None:
        """End all at once, by force."""
        for member in self.members:
            if member.child is not None:
                member.child.send(signal.SIGKILL)

    async def _start_all(self, tasks: anyio.abc.TaskGroup, group: Sequence[Member]) -> None:
        errors: list[DemoError] = []

        async def start(member: Member) -> None:
            try:
                await tasks.start(self._keep, member)
            except DemoError as error:
                errors.append(error)

        async with anyio.create_task_group() as starting:
            for member in group:
                starting.start_soon(start, member)
        if errors:
            raise DemoError("; ".join(str(error) for error in errors))

    async def _keep(
        self, member: Member, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Start a program, and start it again whenever it ends."""
        began = anyio.current_time()
        try:
            child = await self._start(member)
        except _NotReadyError as error:
            raise DemoError(f"{member.name} does not start: {error}") from error
        self._watcher.ready(member, anyio.current_time() - began)
        task_status.started()
        attempt = 0
        while True:
            ready_at = anyio.current_time()
            how = await _wait(member, child)
            if anyio.current_time() - ready_at >= _BACKOFF.longest:
                attempt = 0
            while True:
                pause = _BACKOFF.pause(attempt)
                attempt += 1
                member.restarts += 1
                self._watcher.ended(member, how, pause)
                await anyio.sleep(pause)
                try:
                    child = await self._start(member)
                except _NotReadyError as error:
                    how = str(error)
                    continue
                self._watcher.back(member)
                break

    async def _start(self, member: Member) -> Child:
        """Start a program, and return when it is ready.

        Raises:
            _NotReadyError: it will not be.
        """
        program = member.program
        broker_url = "" if program is BROKER else self.member(BROKER.name).addresses[0]
        # Whatever comes meanwhile, nobody is started whom `_end` does not know of.
        with anyio.CancelScope(shield=True):
            member.child = child = await start_child(
                program.command(member.ports, broker_url),
                self._environment,
                self._directory / f"{program.name}.log",
            )
        said: list[str] = []
        with anyio.move_on_after(_START_SECONDS):
            while len(said) < program.ready_lines:
                line = await child.read_line()
                if line is None:
                    how = await _wait(member, child)
                    raise _NotReadyError(_with_last_words(how, child))
                said.append(line)
        if len(said) < program.ready_lines:
            child.send(signal.SIGKILL)
            await _wait(member, child)
            how = f"not ready within {_START_SECONDS:g} s"
            raise _NotReadyError(_with_last_words(how, child))
        member.said = said
        member.addresses = [line.removeprefix(_READY) for line in said if line.startswith(_READY)]
        # When it is started again, it is to be found where it was.
        member.ports = [int(address.rpartition(":")[2]) for address in member.addresses]
        return child

    async def _end(self) -> None:
        for group in reversed(self._groups):
            children = [member.child for member in group if member.child is not None]
            for child in children:
                child.send(signal.SIGTERM)
            async with anyio.create_task_group() as ending:
                for child in children:
                    ending.start_soon(child.end, _GRACE_SECONDS)


async def _wait(member: Member, child: Child) -> str:
    """Wait until a program has ended; return how."""
    how = await child.wait()
    with anyio.CancelScope(shield=True):
        await child.end(0)
        member.child = None
    return how


def _with_last_words(how: str, child: Child) -> str:
    words = child.last_words().removeprefix("Error: ")
    return f"{how}: {words}" if words else how
