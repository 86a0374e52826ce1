from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.lowlevel import checkpoint

from services.sdk.tasks import BackgroundTasks
from services.sdk.workers import Workers
from tests.sdk.loops import on_both_loops, on_trio


@asynccontextmanager
async def workers(
    work: Callable[[int, anyio.CancelScope], Awaitable[None]],
    *,
    concurrency: int = 2,
    backlog: int = 100,
) -> AsyncIterator[Workers[int]]:
    async with BackgroundTasks() as tasks:
        pool = Workers(tasks, work, concurrency=concurrency, backlog=backlog)
        try:
            yield pool
        finally:
            with anyio.CancelScope(shield=True):
                await pool.drain(1)


class Gate:
    """Work that waits until it is let through."""

    def __init__(self) -> None:
        self.open = anyio.Event()
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.cancelled: list[int] = []
        self.most = 0

    async def work(self, item: int, scope: anyio.CancelScope) -> None:
        self.begun.append(item)
        self.most = max(self.most, len(self.begun) - len(self.ended))
        try:
            await self.open.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(item)
            raise
        self.ended.append(item)


@on_both_loops
async def test_so_many_at_a_time() -> None:
    gate = Gate()
    async with workers(gate.work, concurrency=3) as pool:
        for item in range(10):
            assert pool.submit(item)
        await anyio.wait_all_tasks_blocked()
        assert gate.begun == [0, 1, 2]
        assert pool.busy == 3
        gate.open.set()
        await anyio.wait_all_tasks_blocked()
        assert sorted(gate.ended) == list(range(10))
        assert gate.most == 3


@on_both_loops
async def test_a_full_backlog_refuses() -> None:
    gate = Gate()
    async with workers(gate.work, concurrency=1, backlog=2) as pool:
        assert pool.submit(0)
        await anyio.wait_all_tasks_blocked()
        assert [pool.submit(item) for item in (1, 2, 3)] == [True, True, False]
        gate.open.set()
        await anyio.wait_all_tasks_blocked()
        assert gate.ended == [0, 1, 2]
        assert pool.submit(4)


@on_both_loops
async def test_quick_work_needs_few_tasks() -> None:
    names: set[int] = set()
    done: list[int] = []

    async def work(item: int, _scope: anyio.CancelScope) -> None:
        names.add(anyio.get_current_task().id)
        done.append(item)

    async with workers(work, concurrency=50, backlog=1000) as pool:
        for item in range(1000):
            pool.submit(item)
        await anyio.wait_all_tasks_blocked()
        assert done == list(range(1000))
        # Two, and one for each pause that lets other tasks have their turn.
        assert len(names) <= 2 + 1000 // 64


@on_both_loops
async def test_quick_work_lets_other_tasks_have_their_turn() -> None:
    done: list[int] = []
    turns = 0

    async def work(item: int, _scope: anyio.CancelScope) -> None:
        done.append(item)

    async with workers(work, backlog=1000) as pool:
        for item in range(1000):
            pool.submit(item)
        while len(done) < 1000:
            turns += 1
            await checkpoint()
    assert turns >= 5


@on_both_loops
async def test_a_worker_that_is_called_in_a_pause_does_not_exceed_the_bound() -> None:
    gate = Gate()
    quick = 0

    async def work(item: int, _scope: anyio.CancelScope) -> None:
        nonlocal quick
        if item < 64:
            quick += 1
        else:
            await gate.work(item, _scope)

    async with workers(work, concurrency=1) as pool:
        for item in range(66):
            pool.submit(item)
        while quick < 64:
            await checkpoint()
        # Now the worker pauses, and is not busy.
        pool.submit(66)
        await anyio.wait_all_tasks_blocked()
        assert gate.most == 1
        gate.open.set()


@on_both_loops
async def test_idle_workers_are_used_again() -> None:
    names: set[int] = set()

    async def work(item: int, _scope: anyio.CancelScope) -> None:
        names.add(anyio.get_current_task().id)

    async with workers(work) as pool:
        for item in range(5):
            pool.submit(item)
            await anyio.wait_all_tasks_blocked()
        assert len(names) == 1


@on_both_loops
async def test_draining_brings_work_to_its_end() -> None:
    gate = Gate()
    async with workers(gate.work, concurrency=2) as pool:
        for item in range(5):
            pool.submit(item)
        async with anyio.create_task_group() as tasks:

            async def let_through() -> None:
                await anyio.wait_all_tasks_blocked()
                gate.open.set()

            tasks.start_soon(let_through)
            await pool.drain(60)
        assert pool.draining
        assert sorted(gate.ended) == [0, 1, 2, 3, 4]


@on_trio
async def test_draining_cancels_what_does_not_end() -> None:
    gate = Gate()
    before = anyio.current_time()
    async with workers(gate.work, concurrency=2) as pool:
        for item in range(5):
            pool.submit(item)
        await pool.drain(7)
        assert anyio.current_time() - before == 7
        await anyio.wait_all_tasks_blocked()
        assert sorted(gate.cancelled) == [0, 1]
        assert gate.ended == []


@on_both_loops
async def test_draining_at_once_after_submitting() -> None:
    done: list[int] = []

    async def work(item: int, _scope: anyio.CancelScope) -> None:
        done.append(item)

    async with workers(work) as pool:
        for item in range(3):
            pool.submit(item)
    assert done == [0, 1, 2]


@on_both_loops
async def test_cancellation_from_outside_waits_for_the_drain() -> None:
    gate = Gate()
    with anyio.CancelScope() as scope:
        async with workers(gate.work) as pool:
            pool.submit(0)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            gate.open.set()
            await anyio.sleep_forever()
    assert (gate.ended, gate.cancelled) == ([0], [])


@on_both_loops
async def test_quick_work_shares_a_scope() -> None:
    scopes: set[int] = set()
    kept: list[anyio.CancelScope] = []

    async def work(_item: int, scope: anyio.CancelScope) -> None:
        kept.append(scope)
        scopes.add(id(scope))

    async with workers(work) as pool:
        for item in range(20):
            pool.submit(item)
        await anyio.wait_all_tasks_blocked()
        assert len(kept) == 20
        assert len(scopes) == 1


@on_both_loops
async def test_an_item_that_is_cancelled_does_not_take_the_next_with_it() -> None:
    done: list[int] = []

    async def work(item: int, scope: anyio.CancelScope) -> None:
        if item % 2:
            scope.cancel()
        # One of the cancelled is done before it notices.
        if item != 3:
            await checkpoint()
        done.append(item)

    async with workers(work, concurrency=1) as pool:
        for item in range(6):
            pool.submit(item)
        await anyio.wait_all_tasks_blocked()
        assert done == [0, 2, 3, 4]
        assert pool.busy == 0


@on_trio
async def test_the_deadline_of_an_item_is_over_with_it() -> None:
    names: list[int] = []

    async def work(_item: int, scope: anyio.CancelScope) -> None:
        names.append(anyio.get_current_task().id)
        scope.deadline = anyio.current_time() + 1

    async with workers(work) as pool:
        pool.submit(0)
        await anyio.sleep(10)
        # The worker, which waited beyond that, is still there.
        pool.submit(1)
        await anyio.wait_all_tasks_blocked()
        assert names == [names[0]] * 2
