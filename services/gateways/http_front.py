"""The little HTTP that a WebSocket server needs: the head of a request, and a short answer."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs
import h11
import trio

__all__ = ["BadHeadError", "Head", "ReplayedStream", "Response", "read_head", "respond", "say"]

_MAX_HEAD_BYTES: Final = 16 * 1024
_CHUNK_BYTES: Final = 64 * 1024

# For one chunk: who takes in less than that has gone, as good as.
_CHUNK_SECONDS: Final = 30.0


class BadHeadError(Exception):
    """What came is no request."""

    def __init__(self, status: int) -> None:
        super().__init__(f"no request: {status}")
        self.status = status


@attrs.frozen
class Head:
    """The head of a request.

    Attributes:
        path: without the query, not decoded.
        wants_websocket: whether it asks to upgrade the connection.
        raw: the bytes that have been read so far, and maybe some of what follows.
    """

    method: str
    path: str
    wants_websocket: bool
    raw: bytes = b""


@attrs.frozen
class Response:
    """An answer.

    Attributes:
        body: the bytes themselves, or a file with them.
    """

    status: HTTPStatus
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Path = b""


def say(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Response:
    """Make an answer that people read."""
    plain = ("Content-Type", "text/plain; charset=utf-8")
    return Response(status, (plain, *headers), f"{text}\n".encode())


async def read_head(stream: trio.abc.ReceiveStream) -> Head | None:
    """Read the head of a request; None where the client has gone before its end.

    Raises:
        BadHeadError: it is none, or too long.
    """
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
    raw = bytearray()
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            raise BadHeadError(error.error_status_hint) from error
        if isinstance(event, h11.Request):
            return _to_head(event, bytes(raw))
        data = await stream.receive_some(_CHUNK_BYTES)
        if not data:
            return None
        raw += data
        try:
            parser.receive_data(bytes(data))
        except h11.RemoteProtocolError as error:
            raise BadHeadError(error.error_status_hint) from error


def _to_head(request: h11.Request, raw: bytes) -> Head:
    upgrades = [value.lower() for name, value in request.headers if name == b"upgrade"]
    try:
        path = urlsplit(request.target.decode("ascii")).path
    except ValueError as error:
        raise BadHeadError(HTTPStatus.BAD_REQUEST) from error
    return Head(request.method.decode("ascii"), path, b"websocket" in upgrades, raw)


async def respond(stream: trio.abc.SendStream, method: str, response: Response) -> None:
    """Answer; the connection is to be closed after it.

    Raises:
        trio.BrokenResourceError: the client has gone.
        OSError: the file cannot be read.
    """
    if isinstance(response.body, Path):
        async with await trio.open_file(response.body, "rb") as file:
            size = await file.seek(0, 2)
            await file.seek(0)
            await _send(stream, _render(response, size))
            left = 0 if method == "HEAD" else size
            while left and (chunk := await file.read(min(left, _CHUNK_BYTES))):
                await _send(stream, chunk)
                left -= len(chunk)
    else:
        head = _render(response, len(response.body))
        await _send(stream, head if method == "HEAD" else head + response.body)


def _render(response: Response, size: int) -> bytes:
    # A parser of its own: the answer to a request that is none has no other.
    writer = h11.Connection(h11.SERVER)
    writer.receive_data(b"GET / HTTP/1.1\r\nHost: any\r\n\r\n")
    writer.next_event()
    head = h11.Response(
        status_code=response.status,
        reason=response.status.phrase,
        headers=[
            *response.headers,
            ("Content-Length", str(size)),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
        ],
    )
    return writer.send(head) or b""


async def _send(stream: trio.abc.SendStream, data: bytes) -> None:
    with trio.move_on_after(_CHUNK_SECONDS) as scope:
        await stream.send_all(data)
    if scope.cancelled_caught:
        raise trio.BrokenResourceError("the client does not take its answer")


class ReplayedStream(trio.abc.Stream):
    """A stream some of which has been read already, and is to be read again."""

    def __init__(self, stream: trio.abc.Stream, read: bytes) -> None:
        self._stream = stream
        self._read = read
        self._closed = trio.Event()

    async def wait_closed(self) -> None:
        """Wait until it is closed from this end."""
        await self._closed.wait()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """What has been read already comes first."""
        if not self._read:
            return await self._stream.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        end = len(self._read) if max_bytes is None else max_bytes
        data, self._read = self._read[:end], self._read[end:]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As the stream's."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream's."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """As the stream's."""
        self._closed.set()
        await self._stream.aclose()
