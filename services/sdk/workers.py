"""A bounded pool of tasks that work off a bounded backlog.

Operations: `submit` and `withdraw` (synchronous), `drain`.

Goals: at most `concurrency` items at a time, at most `backlog` waiting; no task is made or woken
for an item that the one before has not held up. A worker about to begin an item calls one more
worker if there is more to do. If the item turns out to need no waiting, the same worker takes the
next one at once, and the one called finds little or nothing left: a batch of quick items costs two
task switches, not one each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

__all__ = ["Workers"]

T = TypeVar("T")

# After so many items without a pause the reader and the writer of the connection get their turn.
_FAIR_SHARE: Final = 64


class Workers(Generic[T]):
    """The pool.

    The work itself is shielded from cancellation from outside: `drain`, which its owner must call,
    says when it ends, so that what has begun can be brought to its end.

    Args:
        tasks: where the workers run.
        work: what is done with an item; must not raise. It may set the deadline of the cancel scope
            that it is handed, and cancel it, until it ends. Several items get the same scope, one
            after another: a scope for each would cost more than the work on a quick one.
        concurrency: how many items are worked on at a time.
        backlog: how many more may wait.

    Raises:
        ValueError: one of the two is less than one.
    """

    def __init__(
        self,
        tasks: TaskGroup,
        work: Callable[[T, anyio.CancelScope], Awaitable[None]],
        *,
        concurrency: int,
        backlog: int,
    ) -> None:
        if concurrency < 1 or backlog < 1:
            raise ValueError("concurrency and backlog: at least one each")
        self._tasks = tasks
        self._work = work
        self._concurrency = concurrency
        self._limit = backlog
        self._backlog: deque[T] = deque()
        self._busy = 0
        self._called = False
        self._draining = False
        self._stopped = False
        self._idle: list[anyio.Event] = []
        self._scopes: set[anyio.CancelScope] = set()
        self._quiet = anyio.Event()

    @property
    def busy(self) -> int:
        """How many items are being worked on."""
        return self._busy

    @property
    def draining(self) -> bool:
        """Whether it takes nothing new."""
        return self._draining

    def submit(self, item: T) -> bool:
        """Take an item; False when the backlog is full."""
        if len(self._backlog) >= self._limit:
            return False
        self._backlog.append(item)
        self._call()
        return True

    def withdraw(self, item: T) -> bool:
        """Take an item out of the backlog; False where it is not there (any more)."""
        try:
            self._backlog.remove(item)
        except ValueError:
            return False
        return True

    async def drain(self, grace: float) -> None:
        """Take nothing new, work off what there is within `grace` seconds, then cancel the rest."""
        self._draining = True
        if self._busy or self._backlog:
            self._quiet = anyio.Event()
            with anyio.move_on_after(grace):
                await self._quiet.wait()
        self._backlog.clear()
        self._stopped = True
        for scope in self._scopes:
            scope.cancel()

    def _call(self) -> None:
        """Call one more worker, unless one is on its way or all are busy."""
        if self._called or not self._has_work():
            return
        self._called = True
        if self._idle:
            self._idle.pop().set()
        else:
            self._tasks.start_soon(self._run)

    async def _run(self) -> None:
        with anyio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            try:
                while True:
                    self._called = False
                    await self._take_turn()
                    if not self._busy and not self._backlog:
                        self._quiet.set()
                    if self._stopped:
                        break
                    wake = anyio.Event()
                    self._idle.append(wake)
                    await wake.wait()
            finally:
                self._scopes.discard(scope)

    async def _take_turn(self) -> None:
        while self._has_work():
            with anyio.CancelScope() as scope:
                await self._work_off(scope)
            if self._backlog:
                await checkpoint()

    async def _work_off(self, scope: anyio.CancelScope) -> None:
        """Work off items until there are no more, or one was cancelled, or it is time to pause."""
        for _ in range(_FAIR_SHARE):
            if scope.cancel_called or not self._has_work():
                return
            item = self._backlog.popleft()
            self._busy += 1
            self._call()
            try:
                await self._work(item, scope)
            finally:
                self._busy -= 1

    def _has_work(self) -> bool:
        return bool(self._backlog) and self._busy < self._concurrency
