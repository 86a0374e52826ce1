"""The client of the mesh."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final

import anyio
from msgspec import Raw

from broker.protocol.codec import Envelope, EnvelopeIntent, encode
from broker.protocol.frames import Frame, OpCode
from services.sdk.asking import ask, read_reply
from services.sdk.connection import Connection
from services.sdk.errors import MeshClosed
from services.sdk.events import Event, read_frame
from services.sdk.inbox import ErrorCallback, Inbox
from services.sdk.link import Link
from services.sdk.listeners import Listener
from services.sdk.outgoing import BROKER_ID
from services.sdk.pending import IdSource, Waiter
from services.sdk.registry import ServiceInfo, Services
from services.sdk.rounds import LinkOptions
from services.sdk.speaking import NOT_ENTERED, Speaker
from services.sdk.states import State, StatesFeed
from services.sdk.statistics import MeshStatistics, count
from services.sdk.tasks import BackgroundTasks
from services.sdk.watching import Watch, Watches

__all__ = ["Mesh"]

# Without a `buffer`: a second of a busy event.
_LISTENER_BUFFER: Final = 4096

# For what the broker answers by itself, at once.
_BROKER_SECONDS: Final = 10.0


class Mesh(Speaker):
    """A client of the mesh, usable inside its `async with`. Made by `connect`.

    Any number of tasks may use it at a time.
    """

    def __init__(
        self, options: LinkOptions, *, on_error: ErrorCallback | None, patience: float
    ) -> None:
        ids = IdSource()
        inbox = Inbox(ids, on_error)
        super().__init__(Link(options, inbox), inbox, ids, patience)
        self._background = BackgroundTasks()
        self._watches = Watches(self._ask_to_watch, self._stop_watching)
        self._inbox.watches = self._watches
        self._link.on_connected = self._renew_watches

    @property
    def inbox(self) -> Inbox:
        """For the SDK itself: where incoming frames are handed on."""
        return self._inbox

    @property
    def link(self) -> Link:
        """For the SDK itself: the way to the broker."""
        return self._link

    async def __aenter__(self) -> Mesh:
        if self._link.connection is not None:
            raise RuntimeError("a mesh is entered once: connect() again for another one")
        await self._link.open()
        tasks = await self._background.__aenter__()
        tasks.start_soon(self._link.run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        with anyio.CancelScope(shield=True):
            await self._link.close()
        return await self._background.__aexit__(kind, error, traceback)

    # Who this is.

    @property
    def _connected(self) -> Connection:
        connection = self._link.connection
        if connection is None:
            raise MeshClosed(NOT_ENTERED)
        return connection

    @property
    def id(self) -> str:
        """The connection's id, by which others reach it with `to=`. A new connection has another.

        While there is no connection, it is that of the last one.
        """
        return self._connected.welcome.id

    @property
    def group(self) -> str:
        """The group that this connection is a member of."""
        return self._connected.welcome.group

    def statistics(self) -> MeshStatistics:
        """Return a snapshot of the counts."""
        return count(self._link, self._inbox)

    # Whether there is a connection.

    @property
    def state(self) -> State:
        """CONNECTED, CONNECTING (again), or CLOSED for good."""
        return self._link.states.last.state

    def states(self, *, buffer: int = _LISTENER_BUFFER) -> StatesFeed:
        """Listen to the state: first as it is, then every change; it ends after CLOSED.

        Args:
            buffer: how many changes it holds while its consumer is busy; see `listen`.

        Example:
            >>> async with mesh.states() as states:
            ...     async for change in states:
            ...         print(change.state, change.error, change.retry_in)
        """
        return StatesFeed(self._link.states, buffer)

    async def wait_connected(self) -> None:
        """Wait until there is a connection.

        Raises:
            ConnectionLost, MeshClosed: there will be none any more.
        """
        await self._entered.ready()

    async def wait_lost(self) -> None:
        """Wait until the present connection, or the last, has ended, and raise why.

        Whether another one follows, `state` tells.

        Raises:
            ConnectionLost: it broke, or the broker ended it.
            MeshClosed: this program closed it.
        """
        connection = self._connected
        await connection.wait_ended()
        raise connection.error()

    async def wait_closed(self) -> None:
        """Wait until there is no connection and will be none, and raise why.

        Raises:
            ConnectionLost: the broker sent this client away for good; or the connection was lost,
                and `connect` was told to make one only.
            MeshClosed: this program closed it.
        """
        await self._entered.wait_closed()
        self._link.check()

    # Listening.

    def listen(self, pattern: str, *, buffer: int = _LISTENER_BUFFER) -> Listener[Event]:
        """Listen to events by name; `*` in the pattern stands for any run of characters.

        Args:
            pattern: an event's name, or a pattern such as "USER_*" or "*".
            buffer: how many events it holds while its consumer is busy. When one more comes, the
                listener ends with `ListenerOverflow`, after delivering what it holds: neither is an
                event lost silently, nor does a slow consumer hold up the connection for the others.

        Example:
            >>> async with mesh.listen("USER_*") as events:
            ...     async for event in events:
            ...         print(event.name, event.data)
        """
        return Listener(self._inbox.listeners, pattern, buffer, Event)

    def frames(self, *, buffer: int = _LISTENER_BUFFER) -> Listener[Frame]:
        """Listen to every EVENT and REPLY as it comes, whoever else it concerns.

        One whose data has no form in Python (1e999, say) raises PayloadError; the next one follows.
        """
        return Listener(self._inbox.frames, "*", buffer, read_frame)

    # Who is there.

    async def services(self) -> list[ServiceInfo]:
        """Return everyone who is connected.

        Raises:
            Expired: the broker does not answer.
            ConnectionLost, MeshClosed: there is no connection any more.

        Example:
            >>> [service.id for service in await mesh.services() if service.group == "billing"]
        """
        services: Services = read_reply(*await self._ask_broker("SERVICES"), Services)
        return services.services

    async def whoami(self) -> ServiceInfo:
        """Return this connection as the others see it.

        Raises:
            Expired, ConnectionLost, MeshClosed: as for `services`.
        """
        me: ServiceInfo = read_reply(*await self._ask_broker("WHOAMI"), ServiceInfo)
        return me

    def watch(self, *, buffer: int = _LISTENER_BUFFER) -> Watch:
        """Watch who comes and goes: first a `Snapshot`, then an `Up` or `Down` for each change.

        Nothing is left out between the snapshot and the changes, and nothing comes twice.

        Args:
            buffer: how many changes it holds while its consumer is busy; see `listen`.

        Raises (on entering):
            Expired, ConnectionLost, MeshClosed: as for `services`.

        Example:
            >>> async with mesh.watch() as changes:
            ...     async for change in changes:
            ...         match change:
            ...             case Snapshot(services):
            ...                 known = {service.id: service for service in services}
            ...             case Up(service):
            ...                 known[service.id] = service
            ...             case Down(service, reason):
            ...                 del known[service.id]
        """
        return Watch(self._watches, buffer)

    async def _ask_broker(
        self, event: str, hook: Callable[[Envelope], None] | None = None
    ) -> tuple[Envelope, Envelope]:
        """Return the broker's answer, and the question."""
        question = _question(event, self._ids.make())
        reply = await ask(
            self._entered,
            self._inbox,
            question,
            _BROKER_SECONDS,
            patience=self._patience,
            hook=hook,
        )
        return reply, question

    async def _ask_to_watch(self, begin: Callable[[Envelope], None]) -> None:
        read_reply(*await self._ask_broker("WATCH", begin), Raw)

    def _stop_watching(self) -> None:
        connection = self._link.connection
        if connection is not None and connection.alive:
            self._tell_broker(connection, "UNWATCH", None)

    def _renew_watches(self, connection: Connection) -> None:
        if self._watches:
            self._tell_broker(connection, "WATCH", self._watches.renew)

    def _tell_broker(
        self, connection: Connection, event: str, hook: Callable[[Envelope], None] | None
    ) -> None:
        id = self._ids.make()
        self._inbox.pending.open(id, Waiter(anyio.Event(), hook=hook))
        connection.send_nowait(encode(_question(event, id)))


def _question(event: str, id: str) -> Envelope:
    """Put a question to the broker. It answers at once, so there is no time to bound."""
    return Envelope(OpCode.EVENT, id, event, intent=EnvelopeIntent("DIRECT", BROKER_ID))
