"""A service whose handler blocks the event loop, as a process of its own, and those around it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.to_thread import run_sync

from services.sdk import Down, NoRoute, PeerGone, Service, Up, Watch, connect
from tests.integration.broker_process import ROOT, TOKEN, broker_process

PING = "[timing]\nping_ms = 1000\n"

# BLOCK opens a pipe to read it: that lasts until somebody opens it to write.
SERVICE = """
import sys, time
import anyio
from services.sdk import Service

url, token, backend, pipe = sys.argv[1:]
slow = Service("slow")

@slow.on("BLOCK")
async def block() -> None:
    print("blocked", flush=True)
    open(pipe).close()
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        print("cancelled", flush=True)
        raise

@slow.on("NAP")
async def nap() -> str:
    time.sleep(0.5)
    return "rested"

@slow.on("ECHO")
async def echo(what: str) -> str:
    return what

slow.run(url, token=token, backend=backend)
"""

quick = Service("quick")


@quick.on("ECHO")
async def echo(what: int) -> int:
    return what


@asynccontextmanager
async def slow_service(
    url: str, backend: str, pipe: Path
) -> AsyncIterator[BufferedByteReceiveStream]:
    """Run the process; yield what it prints."""
    command = [sys.executable, "-c", SERVICE, url, TOKEN, backend, str(pipe)]
    async with await anyio.open_process(command, cwd=ROOT, stderr=None) as process:
        assert process.stdout is not None
        try:
            yield BufferedByteReceiveStream(process.stdout)
        finally:
            process.kill()


async def next_up(changes: Watch) -> str:
    """Wait for a member of the group to come; return its id."""
    async for change in changes:
        if isinstance(change, Up) and change.service.group == "slow":
            return change.service.id
    raise AssertionError("the watch has ended")


async def next_down(changes: Watch) -> tuple[str, str]:
    """Wait for a member of the group to go; return its id, and the reason."""
    async for change in changes:
        if isinstance(change, Down) and change.service.group == "slow":
            return change.service.id, change.reason
    raise AssertionError("the watch has ended")


async def block(url: str, backend: str, pipe: Path) -> None:
    with anyio.fail_after(30):
        async with (
            quick.serve(url, token=TOKEN) as other,
            connect(url, group="web", token=TOKEN) as mesh,
            mesh.watch() as changes,
            slow_service(url, backend, pipe) as says,
        ):
            blocked = await next_up(changes)
            answered = 0
            over = anyio.Event()

            async def go_on() -> None:
                nonlocal answered
                while not over.is_set():
                    assert await mesh.request("ECHO", answered, group="quick") == answered
                    answered += 1
                    await anyio.sleep(0.01)

            async def is_lost(event: str, data: object = None) -> None:
                with pytest.raises(PeerGone):
                    await mesh.request(event, data, group="slow", timeout=600)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(go_on)
                async with anyio.create_task_group() as lost:
                    lost.start_soon(is_lost, "BLOCK")
                    assert await says.receive_until(b"\n", 100) == b"blocked"
                    before = answered
                    # This one lies in its socket, unread.
                    lost.start_soon(is_lost, "ECHO", "anybody?")
                assert await next_down(changes) == (blocked, "PING_TIMEOUT")
                with pytest.raises(NoRoute):
                    await mesh.request("ECHO", "anybody?", group="slow")
                # Nobody else has noticed anything.
                assert answered > before + 10
                over.set()
            assert other.statistics().connections == mesh.statistics().connections == 1

            # It comes back by itself when it can, and does not go on with what nobody awaits.
            await run_sync(release, pipe)
            assert await says.receive_until(b"\n", 100) == b"cancelled"
            assert await next_up(changes) != blocked
            assert await mesh.request("ECHO", "again", group="slow") == "again"


def release(pipe: Path) -> None:
    pipe.open("w").close()


async def nap(url: str, backend: str, pipe: Path) -> None:
    with anyio.fail_after(30):
        async with (
            connect(url, group="web", token=TOKEN) as mesh,
            mesh.watch() as changes,
            slow_service(url, backend, pipe),
        ):
            member = await next_up(changes)
            assert await mesh.request("NAP", to=member, timeout=600) == "rested"
            assert await mesh.request("ECHO", "still", to=member) == "still"


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_service_that_blocks_for_longer_than_the_heartbeat(backend: str, tmp_path: Path) -> None:
    """It is cut; what it was asked ends with PEER_GONE; it comes back when it is free again."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with broker_process(tmp_path, PING) as broker:
        anyio.run(block, broker.address, backend, pipe, backend=backend)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_service_that_blocks_for_a_moment(backend: str, tmp_path: Path) -> None:
    """It is only late."""
    with broker_process(tmp_path, PING) as broker:
        anyio.run(nap, broker.address, backend, tmp_path / "pipe", backend=backend)
