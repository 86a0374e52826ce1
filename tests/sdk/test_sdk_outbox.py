from __future__ import annotations

import anyio

from services.sdk.outbox import HIGH_BYTES, Outbox
from tests.sdk.loops import on_both_loops


async def write(outbox: Outbox, taken: list[bytes]) -> None:
    """Be the writer: take whatever there is, until it is finished."""
    while data := await outbox.take():
        taken.append(data)


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

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, outbox, taken)
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


class System:
    """Takes so many bytes of each write."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.written.append(data[: self.room])
        return min(self.room, len(data))


@on_both_loops
async def test_what_is_pushed_is_written_at_once_while_the_writer_waits() -> None:
    system = System(room=5)
    outbox = Outbox(system.write)
    taken: list[bytes] = []

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, outbox, taken)
        await anyio.wait_all_tasks_blocked()
        first = outbox.push(b"all", "1")
        assert outbox.written == first
        assert outbox.unwritten == []
        second = outbox.push(b"partly", "2")
        # The writer is about to write the rest of the second: nothing may overtake that.
        third = outbox.push(b"not", "3")
        assert (outbox.written, outbox.unwritten) == (first, ["2", "3"])
        await anyio.wait_all_tasks_blocked()
        assert outbox.written == third == second + 1 == first + 2
        outbox.finish()
    assert system.written == [b"all", b"partl"]
    assert taken == [b"ynot"]


@on_both_loops
async def test_what_is_pushed_while_the_writer_writes_waits() -> None:
    system = System(room=100)
    outbox = Outbox(system.write)
    outbox.push(b"a")
    assert await outbox.take() == b"a"
    outbox.push(b"b")
    assert await outbox.take() == b"b"
    assert system.written == []
