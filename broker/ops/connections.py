"""HTTP connections to the ops port, bounded in every way.

Hypercorn speaks HTTP; what it is given to speak through is guarded here, since the port shares its
process with all messages. There are at most so many connections, and the one that has been still
for the longest makes room for the next. A client that does not read is cut. Connections and
requests are taken up at a bounded rate.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final, NoReturn

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

__all__ = ["MOST_CONNECTIONS", "Connections", "Pace"]

MOST_CONNECTIONS: Final = 64
"""Some probes, scrapers and browsers. A scraper that is slow keeps its place until another one
needs it."""

# How long a client may take for what is being sent to it, in seconds; what the system takes for it
# at once, some hundred kilobytes, does not count.
_WRITE_SECONDS: Final = 5.0

# A head with cookies and a token.
_HEAD_BYTES: Final = 8 * 1024

_READ_BYTES: Final = 4 * 1024

# Without a request, or with one that does not come to its end, in seconds.
_IDLE_SECONDS: Final = 5

# While the system has no means for another connection, in seconds.
_BACK_OFF: Final = 0.1


class Pace:
    """Lets so many through a second, and the others wait.

    Args:
        rate: how many; as much as comes to half a second at once.
        clock: returns the time in seconds, monotonic.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = trio.current_time) -> None:
        self._step = 1 / rate
        self._clock = clock
        self._due = 0.0

    async def wait(self) -> None:
        """Wait for one's turn."""
        now = self._clock()
        self._due = max(self._due, now - 0.5) + self._step
        if self._due > now:
            await trio.sleep(self._due - now)


class _Stream(trio.abc.HalfCloseableStream):
    """A connection, as Hypercorn has it.

    Attributes:
        socket: Hypercorn asks it for the addresses.
        moved: when something last came or went, in seconds.
    """

    def __init__(self, stream: trio.SocketStream, on_data: Callable[[], None]) -> None:
        self.socket = stream.socket
        self.moved = trio.current_time()
        self._stream = stream
        self._on_data = on_data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        # Hypercorn shields this from being cancelled, but not from a scope within.
        with trio.move_on_after(_WRITE_SECONDS) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            raise trio.BrokenResourceError("the client does not read")
        self.moved = trio.current_time()

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        # h11 looks at the size of a head only while it is not complete.
        data = await self._stream.receive_some(min(max_bytes or _READ_BYTES, _READ_BYTES))
        self.moved = trio.current_time()
        if data:
            self._on_data()
        return data

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def cut(self) -> None:
        """Close it under whoever uses it."""
        self.socket.close()


class Connections:
    """Serves an application.

    Args:
        app: what answers.
        report: is told of what should not have happened.
        pace: how fast connections are taken up.
        hurry: called when somebody begins to wait for an answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        report: Callable[[Exception, str], None],
        pace: Pace,
        hurry: Callable[[], None],
    ) -> None:
        self._config = Config()
        self._config.include_server_header = False
        self._config.errorlog = None
        self._config.h11_max_incomplete_size = _HEAD_BYTES
        self._config.h2_max_header_list_size = _HEAD_BYTES
        self._config.h2_max_concurrent_streams = 4
        self._config.keep_alive_timeout = _IDLE_SECONDS
        self._config.keep_alive_max_requests = 100
        self._app = wrap_app(app, 0, "asgi")  # type: ignore[arg-type] # the same, typed apart
        self._report = report
        self._pace = pace
        self._hurry = hurry
        self._streams: dict[_Stream, None] = {}

    def __len__(self) -> int:
        return len(self._streams)

    async def serve(self, listening: socket.socket) -> NoReturn:
        """Accept and serve until cancelled.

        Args:
            listening: must be non-blocking.
        """
        async with trio.open_nursery() as nursery:
            try:
                while True:
                    await trio.lowlevel.wait_readable(listening)
                    await self._pace.wait()
                    try:
                        accepted, _ = listening.accept()
                    except BlockingIOError:
                        continue
                    except OSError:
                        # It has gone already; or there is no file number for it.
                        await trio.sleep(_BACK_OFF)
                        continue
                    self._hurry()
                    accepted.setblocking(False)
                    self._make_room()
                    stream = _Stream(
                        trio.SocketStream(trio.socket.from_stdlib_socket(accepted)), self._hurry
                    )
                    self._streams[stream] = None
                    nursery.start_soon(self._serve_one, stream)
            finally:
                # A write that is shielded would hold up the end.
                for stream in self._streams:
                    stream.cut()
        raise AssertionError  # pragma: no cover - a loop without an end

    async def _serve_one(self, stream: _Stream) -> None:
        server = TCPServer(
            self._app,
            self._config,
            WorkerContext(None),
            ConnectionState({}),
            stream,  # type: ignore[arg-type] # it asks for no more than that
        )
        try:
            await server.run()
        except Exception as error:  # noqa: BLE001 - what a client brings about must not end the broker
            if not _is_of_the_network(error):
                self._report(error, "answering at the ops port")
        finally:
            self._streams.pop(stream, None)
            stream.cut()

    def _make_room(self) -> None:
        """Cut the connection that has been still for the longest, if there are too many."""
        if len(self._streams) >= MOST_CONNECTIONS:
            stillest = min(self._streams, key=lambda stream: stream.moved)
            del self._streams[stillest]
            stillest.cut()


def _is_of_the_network(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_of_the_network, error.exceptions))
    return isinstance(error, (OSError, trio.BrokenResourceError, trio.ClosedResourceError))
