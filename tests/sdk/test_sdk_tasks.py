from __future__ import annotations

import anyio
import pytest

from services.sdk.tasks import BackgroundTasks
from tests.sdk.loops import on_both_loops


@on_both_loops
async def test_the_body_s_end_cancels_the_tasks() -> None:
    ended = False

    async def wait() -> None:
        nonlocal ended
        try:
            await anyio.sleep_forever()
        finally:
            ended = True

    async with BackgroundTasks() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
    assert ended


@on_both_loops
async def test_the_body_s_error_is_not_wrapped() -> None:
    async def raise_inside() -> None:
        async with BackgroundTasks() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await raise_inside()


@on_both_loops
async def test_the_body_s_error_survives_a_cancellation_from_outside() -> None:
    caught: list[str] = []
    with anyio.CancelScope() as scope:
        try:
            async with BackgroundTasks() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                scope.cancel()
                raise KeyError("mine")  # noqa: TRY301 - it is what is tested
        except KeyError as error:
            caught.append(str(error))
    assert caught == ["'mine'"]


@on_both_loops
async def test_cancellation_passes_through() -> None:
    behind = False
    with anyio.CancelScope() as scope:
        async with BackgroundTasks() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            scope.cancel()
            await anyio.sleep_forever()
        behind = True
    assert scope.cancelled_caught
    assert not behind


@on_both_loops
async def test_a_task_s_error_cancels_the_body() -> None:
    async def fail() -> None:
        raise KeyError("the task's")

    async def wait_inside() -> None:
        async with BackgroundTasks() as tasks:
            tasks.start_soon(fail)
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await wait_inside()
    assert caught.group_contains(KeyError, match="the task's")
