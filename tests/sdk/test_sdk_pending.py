"""Requests end when their time is over, with one task for all of them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from services.sdk import ConnectionLost, Expired, MeshClosed
from services.sdk.pending import IdSource, PendingRequests, Waiter
from services.sdk.tasks import BackgroundTasks
from tests.sdk.loops import on_trio
from tests.sdk.scripted import ScriptedBroker


@asynccontextmanager
async def pending_requests() -> AsyncIterator[PendingRequests]:
    async with BackgroundTasks() as tasks:
        pending = PendingRequests()
        tasks.start_soon(pending.run)
        await anyio.wait_all_tasks_blocked()
        yield pending


def waiter(seconds: float) -> Waiter:
    return Waiter(anyio.Event(), anyio.current_time() + seconds)


@on_trio
async def test_each_ends_on_time_whatever_the_order() -> None:
    async with pending_requests() as pending, anyio.create_task_group() as tasks:
        begun = anyio.current_time()
        ended: dict[float, float] = {}

        async def wait(seconds: float) -> None:
            one = waiter(seconds)
            pending.open(f"id {seconds}", one)
            await one.done.wait()
            assert one.reply is None
            assert not one.lost
            ended[seconds] = anyio.current_time() - begun

        for seconds in (30.0, 5.0, 60.0, 0.5, 5.25):
            tasks.start_soon(wait, seconds)
        await anyio.sleep(1)
        # Before the one that is due next.
        tasks.start_soon(wait, 2.0)
        await anyio.sleep(100)
        assert ended.pop(2.0) == pytest.approx(3.0)
        assert ended == pytest.approx({seconds: seconds for seconds in ended})
        assert len(ended) == 5
        assert len(pending) == 0


@on_trio
async def test_one_that_was_there_before_the_task_ends_on_time() -> None:
    pending = PendingRequests()
    one = waiter(3)
    pending.open("id", one)
    async with BackgroundTasks() as tasks:
        tasks.start_soon(pending.run)
        before = anyio.current_time()
        await one.done.wait()
        assert anyio.current_time() - before == pytest.approx(3)


@on_trio
async def test_one_without_a_deadline_does_not_end() -> None:
    async with pending_requests() as pending:
        patient, other = Waiter(anyio.Event(), math.inf), waiter(1)
        pending.open("patient", patient)
        pending.open("other", other)
        await anyio.sleep(1000)
        assert other.done.is_set()
        assert not patient.done.is_set()


@on_trio
async def test_requests_of_many_lengths_end_on_time() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh, anyio.create_task_group() as tasks:

            async def ask(timeout: float) -> None:
                before = anyio.current_time()
                with pytest.raises(Expired):
                    await mesh.request("WORK", group="work", timeout=timeout)
                assert anyio.current_time() - before == pytest.approx(timeout + 0.5)

            for timeout in (20.0, 3.0, 7.5, 0.001, 3.0):
                tasks.start_soon(ask, timeout)


@on_trio
async def test_a_request_made_while_the_program_ends_ends_too() -> None:
    """The body's cleanup asks in a shield: whoever watches the time must not be cancelled yet."""
    with ScriptedBroker() as scripted, anyio.CancelScope() as program:
        async with scripted.connect() as mesh:
            program.cancel()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    before = anyio.current_time()
                    with pytest.raises(Expired):
                        await mesh.request("GOODBYE", group="work", timeout=2)
                    assert anyio.current_time() - before == pytest.approx(2.5)


@on_trio
async def test_the_end_wakes_everyone() -> None:
    with ScriptedBroker() as scripted:
        async with anyio.create_task_group() as tasks, scripted.connect() as mesh:
            woken: list[int] = []

            async def ask(number: int) -> None:
                with pytest.raises(MeshClosed):
                    await mesh.request("WORK", group="work", timeout=60)
                woken.append(number)

            for number in range(20):
                tasks.start_soon(ask, number)
            await anyio.wait_all_tasks_blocked()
            assert mesh.statistics().pending == 20
            before = anyio.current_time()
        assert sorted(woken) == list(range(20))
        assert anyio.current_time() - before < 5


@on_trio
async def test_a_lost_connection_wakes_everyone_at_once() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh, anyio.create_task_group() as tasks:

            async def ask() -> None:
                before = anyio.current_time()
                with pytest.raises(ConnectionLost):
                    await mesh.request("WORK", group="work", timeout=60)
                assert anyio.current_time() == before

            for _ in range(20):
                tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            scripted.hang_up()


@on_trio
async def test_a_cancelled_caller_sends_nothing() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh:
            before = mesh.statistics().sent
            with anyio.CancelScope() as scope:
                scope.cancel()
                await mesh.request("WORK", group="work")
            assert scope.cancelled_caught
            with anyio.CancelScope() as scope:
                scope.cancel()
                await mesh.emit("WORK")
            assert scope.cancelled_caught
            assert mesh.statistics().sent == before
            assert mesh.statistics().pending == 0


def test_ids_that_are_known_beforehand() -> None:
    ids = IdSource("test")
    assert [ids.make() for _ in range(3)] == ["test-1", "test-2", "test-3"]
    assert ids.made("test-7")
    assert not ids.made("other-7")
    assert IdSource().make() != IdSource().make()
