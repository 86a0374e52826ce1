"""Saying that the connection is lost, and that it is back."""

from __future__ import annotations

from services.cli.output import note
from services.sdk import Mesh, State

__all__ = ["tell_states"]


async def tell_states(mesh: Mesh, afterwards: str) -> None:
    """Say on stderr when the connection is lost, and when it is back; until cancelled.

    Args:
        mesh: the one to watch.
        afterwards: what has to be known when it is back.
    """
    lost = False
    async with mesh.states() as states:
        async for change in states:
            if change.state is State.CONNECTED and lost:
                note(f"connected again to {change.url}; {afterwards}")
                lost = False
            elif change.state is State.CONNECTING and change.retry_in is not None:
                note(f"{change.error}; trying again in {change.retry_in:.1f} s")
                lost = True
