"""A gateway whose clients come by plain WebSockets, from its mesh to its port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import attrs
import trio

from services.gateways.http_front import Head, Response
from services.gateways.websocket_server import Client, Limits, WebSocketServer

__all__ = ["Listening", "WebSocketGateway", "serving"]


class WebSocketGateway(Protocol):
    """What a gateway does."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hear the chat until the mesh is closed. Started when all is in place."""

    async def talk(self, client: Client) -> None:
        """Answer a client until it has gone."""


@attrs.frozen
class Listening:
    """A gateway that listens.

    Attributes:
        port: the real one, where the system has chosen.
    """

    server: WebSocketServer
    port: int


@asynccontextmanager
async def serving(
    gateway: WebSocketGateway,
    path: str,
    host: str,
    port: int,
    *,
    limits: Limits | None = None,
    serve_http: Callable[[Head], Awaitable[Response]] | None = None,
) -> AsyncIterator[Listening]:
    """Run a gateway for the body of an `async with`, and then tell its clients that it stops.

    Args:
        gateway: the gateway.
        path: where its WebSocket is.
        host: the address to listen on.
        port: 0 lets the system choose.
        limits: what clients may use.
        serve_http: answers what is not for the WebSocket.

    Raises:
        ProgramError: it cannot listen there.
        MeshError: the mesh has ended for good.
    """
    server = WebSocketServer(path, gateway.talk, limits=limits, serve_http=serve_http)
    async with trio.open_nursery() as nursery:
        await nursery.start(gateway.run)
        bound = await nursery.start(server.run, host, port)
        yield Listening(server, bound)
        nursery.cancel_scope.cancel()
