"""Keenchat on a mesh: its REST API on one port, its events on another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import attrs

from services.gateways.keenchat.realtime import Realtime
from services.gateways.keenchat.rest import make_api
from services.gateways.web import serve_web
from services.sdk import Mesh

__all__ = ["KeenchatGateway", "Ports"]


@attrs.frozen
class Ports:
    """Where Keenchat listens.

    Attributes:
        rest: for HTTP.
        events: for Socket.IO.
    """

    rest: int
    events: int


class KeenchatGateway:
    """Keenchat, on a mesh.

    Args:
        mesh: connected, in the group of the gateways.
        origins: web pages of these origins may use both ports, and those of a port's own address;
            `*` for all.
    """

    def __init__(self, mesh: Mesh, origins: Sequence[str] = ()) -> None:
        self._realtime = Realtime(mesh, origins)
        self._api = make_api(self._realtime.hub.chat, origins)

    def refresh_page(self) -> None:
        """Tell web clients that there is a new one of them."""
        self._realtime.refresh_page()

    @asynccontextmanager
    async def serving(self, host: str, ports: Ports) -> AsyncIterator[Ports]:
        """Serve for the body of an `async with`.

        Args:
            host: the address to listen on.
            ports: 0 lets the system choose.

        Yields:
            The ports that it listens on.

        Raises:
            ProgramError: it cannot listen there.
            MeshError: the mesh has ended for good.
        """
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._realtime.hub.run)
            tasks.start_soon(self._realtime.channels.run)
            async with (
                self._realtime.clients.serving(host, ports.events) as events,
                serve_web(self._api, host, ports.rest) as rest,
            ):
                yield Ports(rest, events)
            tasks.cancel_scope.cancel()
