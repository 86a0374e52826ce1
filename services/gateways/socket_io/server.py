"""A Socket.IO server for a gateway.

The events of one client are handled one after the other, so that its messages are in the order in
which it has sent them; those of different clients at the same time. What is sent to a client waits
in a queue with bounds. A client that is too slow for them is disconnected, and nobody else notices.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import socketio  # type: ignore[import-untyped]
from anyio.abc import TaskGroup
from engineio.packet import NOOP, Packet  # type: ignore[import-untyped]

from services.gateways.socket_io.client import Client, Outgoing
from services.gateways.socket_io.guard import PATH, Guard
from services.gateways.socket_io.packets import StrictPacket
from services.gateways.web import MAX_WEBSOCKET_BYTES, serve_web

__all__ = ["Conversation", "SocketIoServer"]

_LOG: Final = logging.getLogger(__name__)

# For what clients had still asked when the program ends.
_GRACE_SECONDS: Final = 2.0

_NAMESPACE: Final = "/"


class Conversation(ABC):
    """What a gateway says to its clients. One task calls the methods for a client, in order."""

    @abstractmethod
    async def opened(self, sid: str) -> None:
        """A client has come."""

    @abstractmethod
    async def said(self, sid: str, event: str, arguments: Sequence[Any]) -> None:
        """A client has sent an event. What it fails with is logged, and the client told."""

    @abstractmethod
    async def closed(self, sid: str) -> None:
        """A client has gone, and all that it had sent has been handled."""


class SocketIoServer:
    """Connections, as they come and go.

    Args:
        conversation: what is said.
        origins: web pages of these origins may connect, and those of the server's own; `*` for all.

    Attributes:
        app: for uvicorn. It serves nothing but Socket.IO.
    """

    def __init__(self, conversation: Conversation, origins: Sequence[str] = ()) -> None:
        self._conversation = conversation
        self._clients: dict[str, Client] = {}
        self._tasks: TaskGroup | None = None
        # Of packets that are none, which both would report. The gateway's own failures are logged
        # here. Below a warning they would write down what people say to each other.
        loggers = [logging.getLogger(name) for name in ("socketio.server", "engineio.server")]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        self._server = socketio.AsyncServer(
            async_mode="asgi",
            # One event after the other, each client's; while there is no room for the next one,
            # nothing more is read of it.
            async_handlers=False,
            cors_allowed_origins=_origins(origins),
            max_http_buffer_size=MAX_WEBSOCKET_BYTES,
            serializer=StrictPacket,
            logger=loggers[0],
            engineio_logger=loggers[1],
        )
        self._server.on("connect", self._connect)
        self._server.on("disconnect", self._disconnect)
        self._server.on("*", self._hear)
        self.app = Guard(socketio.ASGIApp(self._server, socketio_path=PATH))

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve clients for the body of an `async with`.

        Args:
            host: the address to listen on.
            port: 0 lets the system choose.

        Yields:
            The port that it listens on.

        Raises:
            ProgramError: it cannot listen there.
        """
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            async with serve_web(self.app, host, port) as bound:
                try:
                    yield bound
                finally:
                    with anyio.CancelScope(shield=True):
                        for client in list(self._clients.values()):
                            await self._hang_up(client)
                        await self._server.shutdown()
            tasks.cancel_scope.deadline = anyio.current_time() + _GRACE_SECONDS

    # What the gateway says.

    def emit(self, sid: str, event: str, data: object = None) -> None:
        """Send an event to a client, if it is still there. Does not wait."""
        self._put([sid], Outgoing.of(event, data))

    def emit_to(self, sids: Iterable[str], event: str, data: object = None) -> None:
        """Send an event to some clients. Does not wait."""
        self._put(list(sids), Outgoing.of(event, data))

    def emit_to_all(self, event: str, data: object = None) -> None:
        """Send an event to every client. Does not wait."""
        self._put(list(self._clients), Outgoing.of(event, data))

    def _put(self, sids: Iterable[str], outgoing: Outgoing) -> None:
        for sid in sids:
            client = self._clients.get(sid)
            if client is not None and not client.put(outgoing):
                _LOG.info("a client reads too slowly, and is disconnected")
                self._part(client)
                self._start(self._hang_up, client)

    # What clients do. Called by the library.

    async def _connect(self, sid: str, _environ: object, _auth: object = None) -> bool:
        # Without a pause: the library tells the client that it is connected right after this.
        transport_id = self._server.manager.eio_sid_from_sid(sid, _NAMESPACE)
        if self._tasks is None or transport_id is None:
            return False
        client = self._clients[sid] = Client(sid, transport_id)
        self._start(self._converse, client)
        self._start(self._send, client)
        return True

    async def _disconnect(self, sid: str, _reason: str = "") -> None:
        client = self._clients.get(sid)
        if client is None:
            return
        self._part(client)
        transport = self._server.eio.sockets.get(client.transport_id)
        if transport is not None and not transport.upgraded:
            # Else the answer to a client's last long poll would keep it waiting for half a minute.
            await transport.send(Packet(NOOP))

    async def _hear(self, event: str, sid: str, *arguments: object) -> None:
        client = self._clients.get(sid)
        if client is not None:
            try:
                await client.asked.send((event, arguments))
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                _LOG.debug("an event of a client that has gone")

    # Tasks of a client.

    def _start(self, task: Any, client: Client) -> None:  # noqa: ANN401 - an async method
        if self._tasks is not None:
            self._tasks.start_soon(task, client)

    def _part(self, client: Client) -> None:
        """Send nothing more to a client, and take nothing more from it."""
        self._clients.pop(client.sid, None)
        client.sending.cancel()
        client.asked.close()

    async def _converse(self, client: Client) -> None:
        try:
            await self._attempt(client, self._conversation.opened(client.sid))
            async for event, arguments in client.to_answer:
                await self._attempt(client, self._conversation.said(client.sid, event, arguments))
        finally:
            client.to_answer.close()
            with anyio.move_on_after(_GRACE_SECONDS, shield=True):
                await self._attempt(client, self._conversation.closed(client.sid))

    async def _attempt(self, client: Client, step: Any) -> None:  # noqa: ANN401 - a coroutine
        try:
            await step
        except Exception:  # noqa: BLE001 - one client's event must not end the gateway
            _LOG.exception("a client's event could not be handled")
            failure = {"error": "this has failed, and the gateway's log says how"}
            self.emit(client.sid, "error", failure)

    async def _send(self, client: Client) -> None:
        with client.sending:
            while True:
                for outgoing in await client.take():
                    await self._server.emit(outgoing.event, outgoing.data, to=client.sid)
                # Until the transport has taken it: what waits is to wait here, where it is counted.
                transport = self._server.eio.sockets.get(client.transport_id)
                if transport is None:
                    return
                await transport.queue.join()

    async def _hang_up(self, client: Client) -> None:
        transport = self._server.eio.sockets.get(client.transport_id)
        if transport is not None:
            await transport.close(wait=False)


def _origins(origins: Sequence[str]) -> str | list[str] | None:
    # For the library, None means the server's own origin, and an empty list whichever.
    if "*" in origins:
        return "*"
    return list(origins) or None
