from __future__ import annotations

import anyio

from services.sdk.outbox import HIGH_BYTES, Outbox
from tests.sdk.loops import on_both_loops


@on_both_loops
async def test_all_that_has_gathered_is_taken_at_once() -> None:
    outbox = Outbox()
    for part in (b"a", b"b", b"c"):
        outbox.append(part)
    outbox.prepend(b"!")
    assert outbox.size == 4
    assert await outbox.take() == b"!abc"
    assert outbox.size == 0


@on_both_loops
async def test_taking_waits_for_something() -> None:
    outbox = Outbox()
    taken: list[bytes] = []

    async def write() -> None:
        while data := await outbox.take():
            taken.append(data)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await anyio.wait_all_tasks_blocked()
        outbox.append(b"a")
        outbox.append(b"b")
        await anyio.wait_all_tasks_blocked()
        outbox.append(b"c")
        outbox.finish()
    assert taken == [b"ab", b"c"]


@on_both_loops
async def test_room() -> None:
    outbox = Outbox()
    outbox.append(b"x" * HIGH_BYTES)
    assert not outbox.full
    outbox.append(b"x")
    assert outbox.full
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outbox.room)
        tasks.start_soon(outbox.room)
        await anyio.wait_all_tasks_blocked()
        assert len(await outbox.take()) == HIGH_BYTES + 1
    assert not outbox.full


@on_both_loops
async def test_the_end_wakes_who_waits_for_room() -> None:
    outbox = Outbox()
    outbox.append(b"x" * (HIGH_BYTES + 1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outbox.room)
        await anyio.wait_all_tasks_blocked()
        outbox.wake_all()
