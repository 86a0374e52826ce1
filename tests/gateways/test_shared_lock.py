"""The lock that many share, or one has alone."""

from __future__ import annotations

import anyio
import pytest
import trio

from services.gateways.shared_lock import SharedLock
from tests.sdk.loops import on_both_loops


async def _shared_by_many() -> None:
    lock = SharedLock()
    async with lock.shared(), lock.shared():
        pass


test_many_are_inside_together = on_both_loops(_shared_by_many)


class Visitor:
    """Somebody who goes in, and stays until told."""

    def __init__(self, lock: SharedLock, *, alone: bool) -> None:
        self._lock = lock
        self._alone = alone
        self.inside = False
        self.may_go = anyio.Event()

    async def visit(self) -> None:
        async with self._lock.alone() if self._alone else self._lock.shared():
            self.inside = True
            await self.may_go.wait()
        self.inside = False


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_who_is_alone_waits_for_those_inside_and_keeps_others_out() -> None:
    lock = SharedLock()
    first, alone, late = (
        Visitor(lock, alone=False),
        Visitor(lock, alone=True),
        Visitor(lock, alone=False),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.visit)
        await settle()
        nursery.start_soon(alone.visit)
        await settle()
        assert (first.inside, alone.inside) == (True, False)
        # Who comes later does not keep the other one waiting.
        nursery.start_soon(late.visit)
        await settle()
        assert not late.inside
        first.may_go.set()
        await settle()
        assert (alone.inside, late.inside) == (True, False)
        alone.may_go.set()
        await settle()
        assert late.inside
        late.may_go.set()


async def test_only_one_is_alone() -> None:
    lock = SharedLock()
    one, other = Visitor(lock, alone=True), Visitor(lock, alone=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.visit)
        nursery.start_soon(other.visit)
        await settle()
        assert one.inside != other.inside
        first, second = (one, other) if one.inside else (other, one)
        first.may_go.set()
        await settle()
        assert second.inside
        second.may_go.set()


async def test_who_gives_up_waiting_leaves_the_door_open() -> None:
    lock = SharedLock()
    inside, late = Visitor(lock, alone=False), Visitor(lock, alone=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inside.visit)
        await settle()
        with trio.CancelScope() as impatient:
            async with trio.open_nursery() as waiting:
                waiting.start_soon(Visitor(lock, alone=True).visit)
                waiting.start_soon(Visitor(lock, alone=False).visit)
                await settle()
                impatient.cancel()
        nursery.start_soon(late.visit)
        await settle()
        assert late.inside
        inside.may_go.set()
        late.may_go.set()
        await settle()
        async with lock.alone():
            pass


async def test_an_error_inside_leaves_the_door_open() -> None:
    lock = SharedLock()
    for door in (lock.shared, lock.alone):
        with pytest.raises(ValueError, match="inside"):
            async with door():
                raise ValueError("inside")
    with trio.fail_after(10):
        async with lock.alone():
            pass
        async with lock.shared():
            pass
