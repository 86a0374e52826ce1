"""A WebSocket server for a gateway: one path, many clients, none of which holds up the others.

The gateway's own part is `talk`, which runs once for each client, for as long as that is there.
"""

from __future__ import annotations

import errno
import logging
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import Final

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import ProtocolError

from services.gateways.http_front import (
    BadHeadError,
    Head,
    ReplayedStream,
    Response,
    read_head,
    respond,
    say,
)
from services.gateways.outbox import Outbox
from services.programs import ProgramError

__all__ = ["Client", "Limits", "WebSocketServer"]

_LOG: Final = logging.getLogger(__name__)

_GOING_AWAY: Final = 1001
_RECEIVE_BYTES: Final = 64 * 1024
_HANDSHAKE_SECONDS: Final = 10.0
_CLOSING_SECONDS: Final = 2.0

# Connections above the limit that are told so. Beyond, they are closed without a word.
_TOLD: Final = 100


@attrs.frozen
class Limits:
    """What clients may use.

    Attributes:
        max_clients: connections at the same time.
        max_message_bytes: of one message of a client; a greater one closes its connection. Well
            above what the chat takes, so that what is too long is told in the gateway's own words.
        max_outbox_bytes: what may wait for a client that is slow, before it is closed.
        ping_seconds: how often a client is asked whether it is there.
        pong_seconds: how long it may take to answer.
    """

    max_clients: int = 10_000
    max_message_bytes: int = 4 * 1024 * 1024
    max_outbox_bytes: int = 4 * 1024 * 1024
    ping_seconds: float = 30.0
    pong_seconds: float = 30.0


class Client:
    """One client. Iterating over it gives its messages, until it has gone.

    Attributes:
        session: its name, unique everywhere.
    """

    def __init__(
        self, connection: WebSocketConnection, limits: Limits, scope: trio.CancelScope
    ) -> None:
        self.session = str(uuid.uuid4())
        self._connection = connection
        self._limits = limits
        self._scope = scope
        self._outbox = Outbox(limits.max_outbox_bytes)
        self._leaving = False
        self._left = trio.Event()

    def __aiter__(self) -> Client:
        return self

    async def __anext__(self) -> str | bytes:
        # Who does not take its answers is not read from either.
        await self._outbox.wait_low()
        try:
            return await self._connection.get_message()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    def answer(self, text: str) -> None:
        """Answer the message that is being handled."""
        self._outbox.answer(text)

    def send(self, text: str) -> None:
        """Send what nobody has asked for. Where too much waits already, the client is closed."""
        if not self._outbox.send(text):
            self._drop("it is too slow: %d bytes wait for it", self._outbox.size)

    def hold(self) -> AbstractContextManager[None]:
        """Let what is sent, but for answers, wait until the end of a `with`."""
        return self._outbox.hold()

    async def write(self) -> None:
        """Write what there is to write, until the connection is closed."""
        while True:
            text = await self._outbox.take()
            try:
                await self._connection.send_message(text)
            except (ConnectionClosed, ProtocolError):
                return

    async def keep_alive(self) -> None:
        """Ask now and then whether the client is there; close the connection where it is not."""
        while True:
            await trio.sleep(self._limits.ping_seconds)
            with trio.move_on_after(self._limits.pong_seconds) as scope:
                try:
                    await self._connection.ping()
                except (ConnectionClosed, ProtocolError):
                    return
            if scope.cancelled_caught:
                self._drop("it has not answered for %.0f s", self._limits.pong_seconds)

    async def close(self, code: int, reason: str) -> None:
        """Close the connection in good order, and let what uses it end."""
        self._leaving = True
        try:
            await self._connection.aclose(code, reason)
        except (ConnectionClosed, ProtocolError):
            pass
        finally:
            self._left.set()

    async def wait_closed(self) -> None:
        """Wait until somebody else's `close` is done, or else close it."""
        if self._leaving:
            await self._left.wait()
        else:
            await self.close(1000, "")

    def _drop(self, why: str, *values: float) -> None:
        # No closing handshake: what is stuck half-way cannot be followed by anything.
        _LOG.info("client %s is closed: %s", self.session, why % values)
        self._scope.cancel()


class WebSocketServer:
    """Listens, and lets clients talk to the gateway.

    Args:
        path: where the WebSocket is.
        talk: runs for each client; when it ends, the client is closed.
        limits: what clients may use.
        serve_http: answers the other requests; without it they get 404.
    """

    def __init__(
        self,
        path: str,
        talk: Callable[[Client], Awaitable[None]],
        *,
        limits: Limits | None = None,
        serve_http: Callable[[Head], Awaitable[Response]] | None = None,
    ) -> None:
        self._path = path
        self._talk = talk
        self._limits = limits or Limits()
        self._serve_http = serve_http
        self._clients: set[Client] = set()
        self._connections = 0
        self._stopped = trio.Event()

    @property
    def connections(self) -> int:
        """How many there are."""
        return self._connections

    async def run(
        self,
        host: str,
        port: int,
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until it is cancelled; then tell the clients (code 1001). Starts with the port.

        Raises:
            ProgramError: it cannot listen there.
        """
        listeners = await _listen(host, port)
        async with trio.open_nursery() as nursery:
            connections = await nursery.start(self._hold_connections)
            try:
                task_status.started(listeners[0].socket.getsockname()[1])
                await trio.serve_listeners(self._serve, listeners, handler_nursery=connections)
            finally:
                self._stopped.set()

    async def _hold_connections(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """Keep the connections' tasks beyond the cancellation, while clients are told."""
        with trio.CancelScope(shield=True) as scope:
            async with trio.open_nursery() as connections:
                task_status.started(connections)
                await self._stopped.wait()
                scope.deadline = trio.current_time() + _CLOSING_SECONDS
                for client in list(self._clients):
                    connections.start_soon(client.close, _GOING_AWAY, "the gateway stops")

    async def _serve(self, stream: trio.SocketStream) -> None:
        """See to one connection. Whatever goes wrong with it is no other one's business."""
        self._connections += 1
        try:
            await self._admit(stream)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionClosed):
            pass  # The client has gone.
        except* ProtocolError as error:
            _LOG.debug("a connection ends in disorder: %s", error)
        except* Exception:  # noqa: BLE001 - see above
            _LOG.exception("a connection ends by a mistake of the gateway")
        finally:
            self._connections -= 1
            await trio.aclose_forcefully(stream)

    async def _admit(self, stream: trio.SocketStream) -> None:
        if self._connections > self._limits.max_clients + _TOLD:
            return
        head: Head | None = None
        method = "GET"
        try:
            with trio.move_on_after(_HANDSHAKE_SECONDS):
                head = await read_head(stream)
            if head is None:
                return
            method = head.method
            response = await self._judge(head)
        except BadHeadError as error:
            response = say(HTTPStatus(error.status), "that is no HTTP request")
        if response is None:
            await self._converse(stream, head)
        else:
            await respond(stream, method, response)
            await _linger(stream)

    async def _judge(self, head: Head) -> Response | None:
        """Return the answer to a request; None for one that opens a WebSocket."""
        if self._connections > self._limits.max_clients:
            return say(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients; try again later")
        if head.path == self._path:
            if head.wants_websocket:
                return None
            return say(
                HTTPStatus.UPGRADE_REQUIRED,
                "this is a WebSocket",
                ("Upgrade", "websocket"),
            )
        if self._serve_http is None or head.wants_websocket:
            return say(HTTPStatus.NOT_FOUND, f"the WebSocket is at {self._path}")
        return await self._serve_http(head)

    async def _converse(self, stream: trio.SocketStream, head: Head | None) -> None:
        replayed = ReplayedStream(stream, b"" if head is None else head.raw)
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(_HANDSHAKE_SECONDS) as scope:
                nursery.start_soon(_give_up_when_closed, scope, replayed)
                request = await wrap_server_stream(
                    nursery,
                    replayed,
                    max_message_size=self._limits.max_message_bytes,
                    receive_buffer_size=_RECEIVE_BYTES,
                )
                connection = await request.accept()
            if not scope.cancelled_caught:
                await self._run_client(connection, nursery)
            nursery.cancel_scope.cancel()

    async def _run_client(self, connection: WebSocketConnection, nursery: trio.Nursery) -> None:
        client = Client(connection, self._limits, nursery.cancel_scope)
        nursery.start_soon(client.write)
        nursery.start_soon(client.keep_alive)
        self._clients.add(client)
        try:
            await self._talk(client)
        finally:
            self._clients.discard(client)
        with trio.move_on_after(_CLOSING_SECONDS):
            await client.wait_closed()


async def _listen(host: str, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
        raise ProgramError(f"{host}:{port} {why}; --host and --port name another") from error


async def _give_up_when_closed(handshake: trio.CancelScope, stream: ReplayedStream) -> None:
    # A request that is no handshake is refused by the library, which then waits for one for ever.
    await stream.wait_closed()
    handshake.cancel()


async def _linger(stream: trio.SocketStream) -> None:
    """Let the client read its answer: to close upon what it sends would take that away."""
    with trio.move_on_after(_CLOSING_SECONDS):
        await stream.send_eof()
        while await stream.receive_some(_RECEIVE_BYTES):
            pass
