"""A lock that many may share, or one have alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

__all__ = ["SharedLock"]


class SharedLock:
    """Lets many go on together, but nobody while one wants to be alone.

    Who wants to be alone waits for those inside, and holds up those who come later: so it cannot be
    kept waiting for ever.
    """

    def __init__(self) -> None:
        self._condition = anyio.Condition()
        self._inside = 0
        self._closed = False

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Be inside with others."""
        async with self._condition:
            while self._closed:
                await self._condition.wait()
            self._inside += 1
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                async with self._condition:
                    self._inside -= 1
                    self._condition.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Be inside alone."""
        async with self._condition:
            while self._closed:
                await self._condition.wait()
            self._closed = True
        try:
            async with self._condition:
                while self._inside:
                    await self._condition.wait()
            yield
        finally:
            with anyio.CancelScope(shield=True):
                async with self._condition:
                    self._closed = False
                    self._condition.notify_all()
