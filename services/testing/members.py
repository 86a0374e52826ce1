"""The members of a mesh in memory, each in a task of its own.

A member's `async with` is entered and left in that task. So a test may begin and end members in
any order and from any task, as it could not with `async with` itself.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import anyio
import attrs
from anyio.abc import TaskGroup, TaskStatus

from services.sdk import Mesh
from services.testing.endpoints import Endpoint

__all__ = ["Member", "Members"]


@attrs.define(eq=False)
class Member:
    """A client, or a service.

    Attributes:
        mesh: its own.
        endpoint: its way to the broker.
        stop: set to let it leave.
        ended: set when it has left.
    """

    mesh: Mesh
    endpoint: Endpoint
    stop: anyio.Event = attrs.field(factory=anyio.Event)
    ended: anyio.Event = attrs.field(factory=anyio.Event)


class Members:
    """All of them.

    Args:
        tasks: where they live.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._by_mesh: dict[int, Member] = {}

    async def start(self, context: AbstractAsyncContextManager[Mesh], endpoint: Endpoint) -> Mesh:
        """Enter a member; whatever that raises is raised here."""
        member: Member = await self._tasks.start(self._live, context, endpoint)
        return member.mesh

    def find(self, mesh: Mesh) -> Member:
        """Return the member that a mesh belongs to.

        Raises:
            ValueError: it is of another test mesh, or has left this one.
        """
        member = self._by_mesh.get(id(mesh))
        if member is None:
            raise ValueError("that is no member of this mesh: it did not begin here, or has left")
        return member

    async def stop(self, *members: Member) -> None:
        """Let members leave in good order, all at the same time."""
        for member in members:
            member.stop.set()
        for member in members:
            await member.ended.wait()

    def all(self) -> tuple[Member, ...]:
        """Return those that have not left."""
        return tuple(self._by_mesh.values())

    async def _live(
        self,
        context: AbstractAsyncContextManager[Mesh],
        endpoint: Endpoint,
        *,
        task_status: TaskStatus[Member],
    ) -> None:
        member: Member | None = None
        try:
            async with context as mesh:
                member = self._by_mesh[id(mesh)] = Member(mesh, endpoint)
                task_status.started(member)
                await member.stop.wait()
        finally:
            if member is not None:
                del self._by_mesh[id(member.mesh)]
                member.ended.set()
