"""Reading from a socket: waiting until there is something, and taking it.

On asyncio, `anyio.wait_readable` enters the socket in the selector for each wait and takes it out
again, which is a fifth of what a request costs there. So a reader stays entered, for as long as
there is somebody to read.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

import anyio
from anyio.lowlevel import current_token

__all__ = ["Reader", "open_reader"]


class Reader(Protocol):
    """Reads from one socket, for one task at a time."""

    async def receive(self, max_bytes: int) -> bytes:
        """Wait for bytes; return none at the end of the stream.

        Raises:
            OSError: the connection broke.
            anyio.ClosedResourceError: it has been closed meanwhile.
            anyio.BusyResourceError: another task receives.
        """
        ...

    def close(self) -> None:
        """Let whoever waits learn that the socket is about to be closed."""
        ...


def open_reader(sock: socket.socket) -> Reader:
    """Return what reads from a non-blocking socket in the running event loop."""
    loop = current_token().native_token
    if isinstance(loop, asyncio.AbstractEventLoop):
        reader = _AsyncioReader(sock, loop)
        try:
            reader.register()
        except NotImplementedError:
            # Windows' default loop has no selector; anyio runs one for it in a thread.
            return _AnyioReader(sock)
        return reader
    return _AnyioReader(sock)


class _AnyioReader:
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    async def receive(self, max_bytes: int) -> bytes:
        while True:
            await anyio.wait_readable(self._socket)
            try:
                return self._socket.recv(max_bytes)
            except BlockingIOError:
                continue

    def close(self) -> None:
        anyio.notify_closing(self._socket)  # Twice is no matter: the writers are told so, too.


class _AsyncioReader:
    """The selector's callback reads, and hands what it has read to the task that waits."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._socket = sock
        self._loop = loop
        self._registered = False
        self._max_bytes = 0
        self._waiting: asyncio.Future[None] | None = None
        # What was read and not taken yet: its task may have been cancelled in that moment.
        self._data: bytes | None = None

    def register(self) -> None:
        """Enter the socket in the selector."""
        self._loop.add_reader(self._socket, self._on_readable)
        self._registered = True

    async def receive(self, max_bytes: int) -> bytes:
        if self._waiting is not None:
            raise anyio.BusyResourceError("reading from")
        if self._data is None:
            if not self._registered:
                self.register()
            self._max_bytes = max_bytes
            self._waiting = self._loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        data, self._data = self._data, None
        return data or b""

    def close(self) -> None:
        self._unregister()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(anyio.ClosedResourceError())

    def _on_readable(self) -> None:
        waiting = self._waiting
        if waiting is None or waiting.done():
            # Nobody reads at present, and the selector would report this again and again.
            self._unregister()
            return
        try:
            self._data = self._socket.recv(self._max_bytes)
        except BlockingIOError:
            return
        except OSError as error:
            waiting.set_exception(error)
        else:
            waiting.set_result(None)

    def _unregister(self) -> None:
        if self._registered:
            self._loop.remove_reader(self._socket)
            self._registered = False
