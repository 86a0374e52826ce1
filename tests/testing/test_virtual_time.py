"""Time that passes only when everybody waits for it."""

from __future__ import annotations

import socket
from collections.abc import Callable

import anyio
import anyio.to_thread
import pytest

from services.testing import virtual_time
from tests.testing.worlds import Backend


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_sleeping_is_exact(backend: Backend) -> None:
    woken: list[tuple[int, float]] = []

    async def sleep(seconds: int, start: float) -> None:
        await anyio.sleep(seconds)
        woken.append((seconds, round(anyio.current_time() - start, 6)))

    async def main() -> None:
        start = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for seconds in (86_400, 1, 3_600):
                tasks.start_soon(sleep, seconds, start)

    anyio.run(main, backend=backend, backend_options=virtual_time(backend))
    assert woken == [(1, 1), (3_600, 3_600), (86_400, 86_400)]


async def in_thread(function: Callable[[], object]) -> None:
    await anyio.to_thread.run_sync(function)


def test_asyncio_still_waits_for_sockets_and_threads() -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(in_thread, lambda: far.send(b"x"))
                await anyio.wait_readable(near)
            assert near.recv(1) == b"x"

    anyio.run(main, backend="asyncio", backend_options=virtual_time("asyncio"))
