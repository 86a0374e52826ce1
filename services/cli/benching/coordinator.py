"""The processes of a benchmark: started, told what to do, and ended whatever happens."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from services.cli.benching.lines import LineReader
from services.cli.benching.plan import Figures, Plan, Share, Summary
from services.cli.exits import CommandError, Exit
from services.cli.target import Target

__all__ = ["measure"]

Progress = Callable[[int], None]
"""Is told how many messages have been routed since the measurement began."""

_MODULE: Final = "services.cli.benching.worker"

# A worker that does not say so by then that it is done will not.
_GRACE_SECONDS: Final = 30.0


async def measure(target: Target, group: str, plan: Plan, progress: Progress) -> Summary:
    """Measure once.

    Args:
        target: the broker.
        group: the group that all connections join.
        plan: what to measure.
        progress: is told, now and then, how far it is.

    Raises:
        CommandError: there is no connection, or a worker has ended early.
    """
    shares = [share for share in plan.shares() if share != Share()]
    async with _workers(len(shares)) as workers:
        door = {
            "url": target.url,
            "token": target.token,
            "group": group,
            "tls": None if target.tls is None else attrs.asdict(target.tls),
        }
        described = {**attrs.asdict(plan), "mode": plan.mode.value}
        for worker, share in zip(workers, shares, strict=True):
            await worker.tell({"plan": described, "share": attrs.asdict(share), "door": door})
        peers = await _introduce(workers, shares)
        for worker in workers:
            await worker.tell({"peers": peers})
        for worker in workers:
            await worker.hear()
        for worker in workers:
            await worker.tell({"go": True})
        return Summary.of(await _collect(workers, plan, progress))


async def _introduce(workers: list[_Worker], shares: list[Share]) -> dict[str, Any]:
    """Wait until all connections stand; return who is who, for all to know."""
    asking: dict[str, str] = {}
    answering: dict[str, str] = {}
    sender: str | None = None
    for worker in workers:
        opened = (await worker.hear())["opened"]
        asking |= opened["asking"]
        answering |= opened["answering"]
        sender = sender or opened["sender"]
    receiving = sum(1 for share in shares if share.receiving)
    return {"asking": asking, "answering": answering, "sender": sender, "processes": receiving}


async def _collect(workers: list[_Worker], plan: Plan, progress: Progress) -> list[Figures]:
    routed = [0] * len(workers)
    figures: dict[int, Figures] = {}

    async def follow(number: int, worker: _Worker) -> None:
        while number not in figures:
            said = await worker.hear()
            if "progress" in said:
                routed[number] = said["progress"]
                progress(sum(routed))
            else:
                counts = {int(bucket): count for bucket, count in said["figures"]["counts"].items()}
                figures[number] = Figures(**{**said["figures"], "counts": counts})

    with trio.move_on_after(plan.warm_up + plan.seconds + _GRACE_SECONDS) as scope:
        async with trio.open_nursery() as nursery:
            for number, worker in enumerate(workers):
                nursery.start_soon(follow, number, worker)
    if scope.cancelled_caught:
        raise CommandError("the measurement did not come to an end; is the broker still there?")
    return [figures[number] for number in range(len(workers))]


@attrs.frozen
class _Worker:
    """A process, and the words with it."""

    process: trio.Process
    orders: trio.abc.SendStream
    lines: LineReader

    async def tell(self, order: Mapping[str, Any]) -> None:
        """Give it something to do.

        Raises:
            CommandError: it has ended.
        """
        try:
            await self.orders.send_all(json.dumps(order).encode() + b"\n")
        except trio.BrokenResourceError:
            raise await self._ended() from None

    async def hear(self) -> dict[str, Any]:
        """Wait for what it says.

        Raises:
            CommandError: it can't do it, or has ended.
        """
        try:
            said: dict[str, Any] = json.loads(await self.lines.read_line())
        except EOFError:
            raise await self._ended() from None
        if "error" in said:
            raise CommandError(said["error"], Exit(said["exit"]))
        return said

    async def _ended(self) -> CommandError:
        with trio.move_on_after(1):
            await self.process.wait()
        return CommandError(f"a process of the benchmark ended early ({self.process.returncode})")


@asynccontextmanager
async def _workers(count: int) -> AsyncIterator[list[_Worker]]:
    processes: list[trio.Process] = []
    try:
        for _ in range(count):
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", _MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Ctrl-C is for the parent, which ends them.
                start_new_session=True,
            )
            processes.append(process)
        yield [
            _Worker(process, process.stdin, LineReader(process.stdout))
            for process in processes
            if process.stdin is not None and process.stdout is not None
        ]
    finally:
        with trio.CancelScope(shield=True):
            for process in processes:
                await _end(process)


async def _end(process: trio.Process) -> None:
    """Let a process end, or end it; it holds nothing that would be lost."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            await stream.aclose()
    with trio.move_on_after(1):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
