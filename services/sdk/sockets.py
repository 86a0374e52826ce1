"""Sockets: bytes with no more system calls and task switches than they need, and connecting.

anyio's own streams look for bytes before they wait for them (a call in vain for each message that
comes alone), give way to other tasks after each write, and on asyncio change the selector twice for
every read. With one request in flight that is a quarter of its time.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import anyio
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from services.sdk.readers import open_reader

__all__ = ["PlainStream", "connect_tcp", "connect_unix"]

# What a new attempt waits for the one before: long enough for a handshake across the world, short
# enough not to be noticed where the first address of a name is dead.
_STAGGER_SECONDS: Final = 0.25

# A Unix socket whose queue of connections is full says so at once, and never that it has room.
_FULL_QUEUE_SECONDS: Final = 0.01

# A connection that is being made; the second word is Windows'.
_UNDER_WAY: Final = {errno.EINPROGRESS, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS)}

_IpAddress: TypeAlias = tuple[socket.AddressFamily, tuple[str, int]]


class PlainStream(ByteStream):
    """The bytes of a connected socket. One task may receive, any number may send.

    Sending is no task switch unless the system's buffer is full; what two tasks send never mixes.
    A send that is cancelled half-way breaks the stream: what followed would be taken for the rest.

    Args:
        sock: connected and non-blocking; the stream's own from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._reader = open_reader(sock)
        self._turn = anyio.Lock(fast_acquire=True)
        self._broken = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Wait for bytes.

        Raises:
            anyio.EndOfStream: the other side sends no more.
            anyio.BrokenResourceError: the connection broke.
            anyio.ClosedResourceError: this side has closed it, before or meanwhile.
            anyio.BusyResourceError: another task receives.
        """
        self._check_open()
        try:
            data = await self._reader.receive(max_bytes)
        except OSError as error:
            raise anyio.BrokenResourceError(str(error)) from error
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """Write all of it.

        Raises:
            anyio.BrokenResourceError: the connection broke, or a send was cancelled half-way.
            anyio.ClosedResourceError: this side has closed it, before or meanwhile.
        """
        if self._turn.locked():
            await self._turn.acquire()
            written = 0
        else:
            written = self._write(item)
            if written == len(item):
                return
            self._turn.acquire_nowait()
        try:
            await self._write_rest(memoryview(item), written)
        finally:
            self._turn.release()

    def send_nowait(self, item: bytes) -> int:
        """Write what the system takes at once; return how many bytes that is. It raises nothing.

        Nothing is written while another task sends. What stands in the way of writing is for the
        next `send` to say.
        """
        if self._turn.locked():
            return 0
        try:
            return self._write(item)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return 0

    async def send_eof(self) -> None:
        """Tell the other side that nothing more will be sent.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: as for `send`.
        """
        self._check_open()
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise anyio.BrokenResourceError(str(error)) from error

    async def aclose(self) -> None:
        """Close. Tasks that wait to receive or send get `anyio.ClosedResourceError`."""
        if self._socket.fileno() >= 0:
            self._reader.close()
            anyio.notify_closing(self._socket)
            self._socket.close()
        await checkpoint()

    def _check_open(self) -> None:
        if self._socket.fileno() < 0:
            raise anyio.ClosedResourceError

    def _write(self, data: bytes | memoryview) -> int:
        self._check_open()
        if self._broken:
            raise anyio.BrokenResourceError("a send was cancelled half-way")
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise anyio.BrokenResourceError(str(error)) from error

    async def _write_rest(self, item: memoryview, written: int) -> None:
        try:
            while written < len(item):
                self._check_open()
                await anyio.wait_writable(self._socket)
                written += self._write(item[written:])
        finally:
            if 0 < written < len(item):
                self._broken = True


async def connect_tcp(host: str, port: int) -> PlainStream:
    """Connect to the first address of a host that answers.

    The addresses are tried in the system's order, each as soon as the one before has failed or let
    a quarter of a second pass: one that never answers does not hold up the others.

    Raises:
        OSError: the name is not known, or none of its addresses could be reached. The text has the
            cause for each.
    """
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [(family, address) for family, _, _, _, address in found]
    if len(addresses) == 1:
        return PlainStream(await _open(*addresses[0]))
    return PlainStream(await _open_first(addresses))


async def connect_unix(path: str) -> PlainStream:
    """Connect to a Unix socket. Where its queue is full, wait for room.

    Raises:
        OSError: there is none, or nobody listens on it.
    """
    return PlainStream(await _open(socket.AF_UNIX, path))


async def _open_first(addresses: Sequence[_IpAddress]) -> socket.socket:
    connected: list[socket.socket] = []
    failures: list[str] = []

    async def attempt(
        family: socket.AddressFamily, address: tuple[str, int], over: anyio.Event
    ) -> None:
        try:
            sock = await _open(family, address)
        except OSError as error:
            failures.append(f"{address[0]}: {error}")
        else:
            connected.append(sock)
            tasks.cancel_scope.cancel()
        finally:
            over.set()

    try:
        async with anyio.create_task_group() as tasks:
            for family, address in addresses:
                over = anyio.Event()
                tasks.start_soon(attempt, family, address, over)
                with anyio.move_on_after(_STAGGER_SECONDS):
                    await over.wait()
    except BaseException:
        _close_all(connected)
        raise
    if not connected:
        raise OSError("; ".join(failures) or "the name has no address")
    # Two may have come through in one moment.
    _close_all(connected[1:])
    return connected[0]


async def _open(family: socket.AddressFamily, address: Any) -> socket.socket:  # noqa: ANN401
    """Return a socket that is connected to an address, in the form of its family."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if family != socket.AF_UNIX:
            # Messages are put together before they get here; what is written shall go at once.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = sock.connect_ex(address)
        while number == errno.EAGAIN and family == socket.AF_UNIX:
            await anyio.sleep(_FULL_QUEUE_SECONDS)
            number = sock.connect_ex(address)
        if number in _UNDER_WAY:
            await anyio.wait_writable(sock)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))  # noqa: TRY301 - it is closed below
    except BaseException:
        sock.close()
        raise
    return sock


def _close_all(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
