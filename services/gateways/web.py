"""HTTP servers for the gateways on asyncio: uvicorn, on a socket that is bound here."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import click
import uvicorn
from anyio.abc import TaskStatus

from services.programs import ProgramError

__all__ = ["MAX_WEBSOCKET_BYTES", "origin_option", "serve_web"]

# What is larger than this is no event that somebody has meant: the connection ends. What is smaller
# and still too large is answered in the words of the protocol.
MAX_WEBSOCKET_BYTES: Final = 4 * 1024 * 1024

# For requests under way when the program ends.
_GRACE_SECONDS: Final = 2

_BACKLOG: Final = 1024

origin_option: Final = click.option(
    "--allow-origin",
    multiple=True,
    metavar="ORIGIN",
    help=(
        "Web pages of this origin (https://chat.example.org, say) may connect, besides those of "
        "the gateway's own address; * for all. May be given several times."
    ),
)


class _Server(uvicorn.Server):
    """Uvicorn, inside a program that minds the signals itself."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = anyio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def serve_web(app: Any, host: str, port: int) -> AsyncIterator[int]:  # noqa: ANN401 - ASGI
    """Serve an ASGI application for the body of an `async with`.

    Args:
        app: the application.
        host: the address to listen on.
        port: 0 lets the system choose.

    Yields:
        The port that it listens on.

    Raises:
        ProgramError: the address is taken, or is not one of this machine's.
    """
    listener = _bind(host, port)
    config = uvicorn.Config(
        app,
        # Logs go where those of the program go. Addresses hold tokens: they are not logged.
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        ws_max_size=MAX_WEBSOCKET_BYTES,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with listener:
        async with anyio.create_task_group() as tasks:
            await tasks.start(_serve, server, listener)
            try:
                yield int(listener.getsockname()[1])
            finally:
                # Its clients are told; it ends by itself, within the grace.
                server.should_exit = True


async def _serve(
    server: _Server,
    listener: socket.socket,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            await server.listening.wait()
            task_status.started()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ProgramError(
            f"cannot listen on {host}, port {port}: {reason}; another --port or --host?"
        ) from error
