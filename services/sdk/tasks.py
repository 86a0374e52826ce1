"""A task group for the inside of a context manager."""

from __future__ import annotations

from types import TracebackType

import anyio
from anyio.abc import TaskGroup

__all__ = ["BackgroundTasks"]


class BackgroundTasks:
    """Tasks that serve the body of an `async with`, and end with it.

    It differs from a plain task group in two ways, so that a caller need not know that there are
    tasks at all: the body's end cancels them, and an exception of the body comes out as it is, not
    wrapped in an `ExceptionGroup`. An exception of a task cancels the body, as usual.
    """

    def __init__(self) -> None:
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> TaskGroup:
        self._group = anyio.create_task_group()
        return await self._group.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        group = self._group
        if group is None:
            raise RuntimeError("left without having been entered")
        group.cancel_scope.cancel()
        if error is not None and not isinstance(error, anyio.get_cancelled_exc_class()):
            # The tasks are cancelled and so end at once; without the shield, a cancellation from
            # outside that comes in just now would replace the body's own exception.
            group.cancel_scope.shield = True
            await group.__aexit__(None, None, None)
            return False
        return await group.__aexit__(kind, error, traceback)
