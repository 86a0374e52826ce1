"""`python -m benchmarks.fairness`: who of a group gets the work, and what a slow member costs.

A real broker in a process of its own; four members, each a process with one connection that works
on one request at a time; and here the requester, which keeps a fixed number of requests in flight.
Measured in turns: the broker picks (`pick: "ONE"`), or the requester picks at random (DIRECT).
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import click
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from benchmarks.processes import ServerError, running
from benchmarks.report import stdout_console
from benchmarks.subjects import REPOSITORY, TOKEN, SubjectError, switchboard

MEMBERS = 4

# How long one request takes a member. A slow one takes so many times as long.
WORK = 0.002
SLOWNESS = 5

# Requests that are under way at a time: enough that nobody who is free ever lacks work.
WINDOW = 64

# In hand of each member, where it says so: one that it works on, and as many as it takes to have
# the next one there when that is done: a round trip takes some milliseconds, with two busy cores.
CONCURRENCY = 4

# One measurement ends within this, in seconds. Picking at random takes far longer with a slow
# member; what has been answered by then shows it.
LIMIT = 3.0

# All together end within this, whatever happens.
DEADLINE = 17.0

# Far more than any request takes: one that expires is a failure.
TIMEOUT_MS = 15_000

# Of the equal members' shares, from a quarter.
TOLERANCE = 0.05


@attrs.frozen
class Way:
    """How a member is found for a request."""

    name: str
    concurrency: int | None = None
    at_random: bool = False


WAYS = (
    Way(f"broker, {CONCURRENCY} at a time", concurrency=CONCURRENCY),
    Way("broker, any number"),
    Way("at random", at_random=True),
)


@attrs.frozen
class Outcome:
    """One measurement."""

    way: Way
    # Of each member: how many times as long as the fast ones it takes.
    slowness: tuple[int, ...]
    # Of each member: the requests that it answered.
    answered: tuple[int, ...]
    # Of each request, in seconds, sorted.
    latencies: tuple[float, ...]
    seconds: float
    finished: bool

    @property
    def total(self) -> int:
        """All requests that were answered."""
        return sum(self.answered)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.total / self.seconds

    def share(self, member: int) -> float:
        """Return the part of the requests that a member answered."""
        return self.answered[member] / self.total

    def fair_share(self, member: int) -> float:
        """Return the part that is a member's by its speed."""
        return (1 / self.slowness[member]) / sum(1 / slow for slow in self.slowness)

    def latency(self, part: float) -> float:
        """Return the latency that a part of the requests does not exceed, in milliseconds."""
        return 1000 * self.latencies[min(self.total - 1, int(self.total * part))]


class FairnessError(Exception):
    """A measurement that cannot be trusted."""


class Connection:
    """A plain raw stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.id = ""

    @classmethod
    async def open(cls, port: int, group: str, **said: object) -> Connection:
        """Connect and identify."""
        connection = cls(*await asyncio.open_connection("127.0.0.1", port))
        connection.send(op=1, data={"token": TOKEN, "group": group, **said})
        connection.id = (await connection.receive())["data"]["id"]
        return connection

    def send(self, **frame: Any) -> None:  # noqa: ANN401 - a frame is JSON
        """Send one frame."""
        self._writer.write(json.dumps(frame).encode() + b"\n")

    async def receive(self) -> dict[str, Any]:
        """Return the next frame that is no PING."""
        while line := await self._reader.readline():
            frame: dict[str, Any] = json.loads(line)
            if frame["op"] == 2:
                raise FairnessError(f"sent away: {frame['data']}")
            if frame["op"] != 3:
                return frame
            self.send(op=4)
        raise FairnessError("the broker has gone")

    def close(self) -> None:
        """Be gone."""
        self._writer.close()


async def _work(port: int, group: str, seconds: float, concurrency: int | None) -> None:
    """Be a member: work on one request after the other, for as long as the connection lasts.

    Work is waiting here, so that members on one machine don't take the processor from each other.
    It begins when a request has come and the one before it should have been done: so what a timer
    or the system adds to one wait is made up for by the next, and members are as fast as they say.
    """
    connection = await Connection.open(port, group, concurrency=concurrency)
    print(connection.id, flush=True)
    loop = asyncio.get_running_loop()
    hand: asyncio.Queue[tuple[float, dict[str, Any]]] = asyncio.Queue()

    async def receive() -> None:
        while True:
            frame = await connection.receive()
            hand.put_nowait((loop.time(), frame))

    async def answer() -> None:
        free_at = loop.time()
        while True:
            came_at, frame = await hand.get()
            free_at = max(free_at, came_at) + seconds
            if (left := free_at - loop.time()) > 0:
                await asyncio.sleep(left)
            to = {"target": "DIRECT", "identifier": frame["source"]["id"]}
            connection.send(op=5, id=frame["id"], event=frame["event"], intent=to)

    await asyncio.gather(receive(), answer())


@asynccontextmanager
async def _member(
    port: int, group: str, seconds: float, concurrency: int | None
) -> AsyncIterator[str]:
    """Run a member as a process; its connection id."""
    words = ["--member", f"{port}", group, f"{seconds}", f"{concurrency or 0}"]
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "benchmarks.fairness", *words],
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise FairnessError("a member did not come up")
        yield line.decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _measure(
    port: int, way: Way, slowness: tuple[int, ...], *, requests: int, deadline: float, seed: int
) -> Outcome:
    group = f"workers {seed}"
    async with AsyncExitStack() as stack:
        members = await asyncio.gather(
            *(
                stack.enter_async_context(_member(port, group, WORK * slow, way.concurrency))
                for slow in slowness
            )
        )
        requester = await Connection.open(port, "requesters")
        stack.callback(requester.close)
        dice = random.Random(seed)
        sent_at: dict[str, float] = {}
        answered: Counter[str] = Counter()
        latencies: list[float] = []
        begin = time.perf_counter()
        deadline = min(deadline, asyncio.get_running_loop().time() + LIMIT)

        def ask(number: int) -> None:
            if way.at_random:
                intent = {"target": "DIRECT", "identifier": dice.choice(members)}
            else:
                intent = {"target": "GROUP", "identifier": group, "pick": "ONE"}
            sent_at[str(number)] = time.perf_counter()
            requester.send(op=0, id=str(number), event="WORK", intent=intent, timeout=TIMEOUT_MS)

        for number in range(WINDOW):
            ask(number)
        sent = WINDOW
        finished = True
        while len(latencies) < requests:
            try:
                async with asyncio.timeout_at(deadline):
                    frame = await requester.receive()
            except TimeoutError:
                finished = False
                break
            if "error" in frame:
                raise FairnessError(f"{way.name}: {frame['error']}")
            latencies.append(time.perf_counter() - sent_at.pop(frame["id"]))
            answered[frame["source"]["id"]] += 1
            if sent < requests:
                ask(sent)
                sent += 1
        if not latencies:
            raise FairnessError(f"{way.name}: the time was up before the first answer")
        return Outcome(
            way,
            slowness,
            tuple(answered[member] for member in members),
            tuple(sorted(latencies)),
            time.perf_counter() - begin,
            finished,
        )


async def _measure_all(port: int, requests: int) -> list[Outcome]:
    deadline = asyncio.get_running_loop().time() + DEADLINE
    plans = [
        (way, slowness)
        for slowness in ((1,) * MEMBERS, (1,) * (MEMBERS - 1) + (SLOWNESS,))
        for way in WAYS
    ]
    outcomes = []
    for number, (way, slowness) in enumerate(plans):
        # Where the broker has no part in the picking, a quarter says as much.
        count = max(WINDOW, requests // 4) if way.at_random else requests
        outcomes.append(
            await _measure(port, way, slowness, requests=count, deadline=deadline, seed=number)
        )
    return outcomes


def table_of(outcomes: Sequence[Outcome]) -> Table:
    """Return the table for people."""
    table = Table(title="Who gets the work, and how long it takes", box=box.SIMPLE)
    table.add_column("members", no_wrap=True)
    table.add_column("picked by", no_wrap=True)
    table.add_column("answers of each member", no_wrap=True)
    table.add_column("share of the last\n(by its speed)", justify="right", no_wrap=True)
    table.add_column("a second", justify="right", no_wrap=True)
    table.add_column("p50 / p99 / max ms", justify="right", no_wrap=True)
    table.add_column("p99 beside\n4 equal", justify="right", no_wrap=True)
    equal = {outcome.way: outcome for outcome in outcomes if len(set(outcome.slowness)) == 1}
    for outcome in outcomes:
        last = len(outcome.slowness) - 1
        is_equal = outcome is equal[outcome.way]
        ratio = outcome.latency(0.99) / equal[outcome.way].latency(0.99)
        table.add_row(
            "4 equal" if is_equal else "3 equal, 1 slow",
            outcome.way.name,
            " ".join(f"{count:,}" for count in outcome.answered)
            + ("" if outcome.finished else " (time was up)"),
            f"{outcome.share(last):.1%} ({outcome.fair_share(last):.1%})",
            f"{outcome.rate:,.0f}",
            " / ".join(f"{outcome.latency(part):.1f}" for part in (0.5, 0.99, 1)),
            "" if is_equal else f"x {ratio:.1f}",
        )
    return table


def complaints(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what is not as it should be."""
    found = []
    for outcome in outcomes:
        if outcome.way.at_random:
            continue
        slow = [slow for slow in outcome.slowness if slow > 1]
        if not outcome.finished:
            found.append(f"{outcome.way.name}: the time was up")
        elif not slow:
            for member in range(MEMBERS):
                off = outcome.share(member) * MEMBERS - 1
                if abs(off) > TOLERANCE:
                    found.append(f"{outcome.way.name}: an equal member is off by {off:+.1%}")
    return found


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--requests", default=4_000, type=click.IntRange(WINDOW), help="Of each measurement.")
@click.option("--member", nargs=4, hidden=True, help="Be a member (for its own use).")
def main(*, requests: int, member: tuple[str, str, str, str] | None) -> None:
    """Measure how the broker shares requests among a group, beside picking at random.

    Exits with status 1 when equal members did not get equal shares.
    """
    if member:
        port, group, seconds, concurrency = member
        try:
            asyncio.run(_work(int(port), group, float(seconds), int(concurrency) or None))
        except (FairnessError, ConnectionError):
            sys.exit(1)
    try:
        with tempfile.TemporaryDirectory(prefix="switchboard-bench-") as directory:
            temporary = Path(directory)
            subject = switchboard(temporary)
            with running(subject.label, subject.command, temporary / "log") as server:
                outcomes = asyncio.run(_measure_all(server.port, requests))
    except (FairnessError, ServerError, SubjectError) as error:
        raise click.ClickException(str(error)) from error
    wrong = complaints(outcomes)
    shown = [Text(f"failed: {complaint}") for complaint in wrong]
    middle = statistics.median(
        outcome.rate for outcome in outcomes if len(set(outcome.slowness)) == 1
    )
    note = Text(f"4 equal members could answer {MEMBERS / WORK:,.0f}/s; they did {middle:,.0f}/s")
    stdout_console().print(Group(table_of(outcomes), note, *shown))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
