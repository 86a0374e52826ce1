"""The client: emit, request, listen."""

# ruff: noqa: ANN401 - `id` is the protocol's word; `returns` takes any type form
from __future__ import annotations

from types import TracebackType
from typing import Any, Final, TypeVar, overload

import anyio

from broker.protocol.codec import Envelope, encode, encode_frame
from broker.protocol.frames import Frame, OpCode
from broker.protocol.identify import Identification
from services.sdk.asking import ask, read_reply
from services.sdk.connection import Connection
from services.sdk.dialing import Dial
from services.sdk.errors import Call, MeshClosed, RequestError
from services.sdk.events import Event, read_frame
from services.sdk.inbox import ErrorCallback, Inbox
from services.sdk.listeners import Listener
from services.sdk.opening import open_connection
from services.sdk.outgoing import (
    Picking,
    check_id,
    check_name,
    describe,
    encode_reply,
    make_intent,
    to_milliseconds,
)
from services.sdk.payloads import PayloadError, dump
from services.sdk.pending import IdSource
from services.sdk.statistics import MeshStatistics, count
from services.sdk.tasks import BackgroundTasks
from services.sdk.urls import parse_url

__all__ = ["Mesh"]

T = TypeVar("T")

# Without a `timeout`: longer than people wait, so whoever needs less will notice and say so.
_REQUEST_SECONDS: Final = 30.0

# Without a `buffer`: a second of a busy event.
_LISTENER_BUFFER: Final = 4096


class Mesh:
    """A client of the mesh, usable inside its `async with`. Made by `connect`.

    Any number of tasks may use it at a time.
    """

    def __init__(
        self,
        url: str,
        identification: Identification,
        *,
        on_error: ErrorCallback | None,
        connect_timeout: float,
        dial: Dial,
    ) -> None:
        self._address = parse_url(url)
        self._identification = identification
        self._connect_timeout = connect_timeout
        self._dial = dial
        self._ids = IdSource()
        self._inbox = Inbox(self._ids, on_error)
        self._background = BackgroundTasks()
        self._connection: Connection | None = None

    @property
    def inbox(self) -> Inbox:
        """For the SDK itself: where incoming frames are handed on."""
        return self._inbox

    async def __aenter__(self) -> Mesh:
        if self._connection is not None:
            raise RuntimeError("a mesh is entered once: connect() again for another one")
        connection = await open_connection(
            self._address,
            self._identification,
            self._inbox,
            dial=self._dial,
            timeout=self._connect_timeout,
        )
        self._connection = connection
        self._inbox.answer = connection.send_nowait
        tasks = await self._background.__aenter__()
        tasks.start_soon(connection.run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        with anyio.CancelScope(shield=True):
            await self._connected.close()
        return await self._background.__aexit__(kind, error, traceback)

    @property
    def _connected(self) -> Connection:
        if self._connection is None:
            raise MeshClosed("not connected yet: use `async with connect(...) as mesh`")
        return self._connection

    # Who this is.

    @property
    def id(self) -> str:
        """This connection's id, by which others reach it with `to=`."""
        return self._connected.welcome.id

    @property
    def group(self) -> str:
        """The group that this connection is a member of."""
        return self._connected.welcome.group

    def statistics(self) -> MeshStatistics:
        """Return a snapshot of the counts."""
        return count(self._connected, self._inbox)

    async def wait_lost(self) -> None:
        """Wait until the connection is gone, and raise why.

        Raises:
            ConnectionLost: it broke, or the broker ended it.
            MeshClosed: this program closed it.
        """
        await self._connected.wait_ended()
        self._connected.check()

    # Sending.

    async def emit(
        self,
        event: str,
        data: object = None,
        *,
        group: str | None = None,
        to: str | None = None,
        pick: Picking | None = None,
        key: str | None = None,
        id: str | None = None,
    ) -> str:
        """Send an event that awaits no reply: to everyone, to `group=`, or to one connection `to=`.

        It waits only while a megabyte is on its way already. When the event reaches nobody, or the
        broker refuses it, the mesh's `on_error` is told.

        Args:
            event: the event's name, of 1 to 128 characters.
            data: whatever has a form in JSON; attrs classes and dataclasses too.
            group: the name of a group.
            to: a connection id.
            pick: with `group`: "ALL" of its members (the default) or "ONE".
            key: with `group`: events of one key go to one member.
            id: to go on under the id of another frame; made up where absent.

        Returns:
            The event's id: the error that `on_error` may be told has it as `error.call.id`.

        Raises:
            ConnectionLost, MeshClosed: there is no connection any more.
            MessageTooBig: the broker does not take messages of that size.
            PayloadError: the data has no form in JSON.
            ValueError: the arguments contradict each other, or a name is too long.

        Example:
            >>> await mesh.emit("USER_UPDATED", {"id": 7}, group="web")
        """
        intent = make_intent(group, to, pick, key)
        chosen = self._ids.make() if id is None else check_id(id)
        name = check_name("event", event)
        envelope = Envelope(OpCode.EVENT, chosen, name, dump(data), intent)
        self._inbox.sent.add(chosen, name, intent)
        await self._connected.send(encode(envelope))
        return chosen

    @overload
    async def request(
        self,
        event: str,
        data: object = None,
        *,
        group: str | None = None,
        to: str | None = None,
        key: str | None = None,
        timeout: float = _REQUEST_SECONDS,
        returns: type[T],
    ) -> T: ...
    @overload
    async def request(
        self,
        event: str,
        data: object = None,
        *,
        group: str | None = None,
        to: str | None = None,
        key: str | None = None,
        timeout: float = _REQUEST_SECONDS,
        returns: Any = None,
    ) -> Any: ...
    async def request(
        self,
        event: str,
        data: object = None,
        *,
        group: str | None = None,
        to: str | None = None,
        key: str | None = None,
        timeout: float = _REQUEST_SECONDS,
        returns: Any = None,
    ) -> Any:
        """Ask one member of `group=`, or the connection `to=`, and wait for its reply.

        It always ends: with the reply, or with the one error that says why there is none; half a
        second after `timeout` by itself, when even the broker has fallen silent.

        Args:
            event: the event's name, of 1 to 128 characters.
            data: whatever has a form in JSON; attrs classes and dataclasses too.
            group: the name of a group; the broker picks the least busy of its members.
            to: a connection id.
            key: with `group`: requests of one key go to one member.
            timeout: seconds for which the reply is of use.
            returns: the type to read the reply's data into; plain Python values without.

        Returns:
            The reply's data.

        Raises:
            NoRoute, PeerGone, Expired, Overloaded, Forbidden, RateLimited, Draining, ...: the
                broker's errors, all of them `RequestError`.
            UnknownEvent, BadRequest, HandlerError, ServiceError: the callee's.
            InvalidReply: the reply is not what `returns` asks for.
            ConnectionLost, MeshClosed: the connection ended meanwhile.
            MessageTooBig, PayloadError, ValueError: as for `emit`.

        Example:
            >>> invoice = await mesh.request(
            ...     "INVOICE_CREATE", order, group="billing", returns=Invoice, timeout=2
            ... )
        """
        if group is None and to is None:
            raise ValueError("a request is for one: give group= or to=")
        intent = make_intent(group, to, None if group is None else "ONE", key)
        id = self._ids.make()
        name = check_name("event", event)
        milliseconds = to_milliseconds(timeout)
        envelope = Envelope(OpCode.EVENT, id, name, dump(data), intent, timeout=milliseconds)
        call = Call(name, describe(intent), id)
        reply = await ask(self._connected, self._inbox, encode(envelope), call, timeout)
        return read_reply(reply, call, returns)

    async def reply(
        self, event: Event, data: object = None, *, error: RequestError | None = None
    ) -> None:
        """Send the REPLY to an event that a listener has heard. Handlers just return instead.

        Raises:
            ConnectionLost, MeshClosed, MessageTooBig, PayloadError: as for `emit`.
        """
        await self._connected.send(encode_reply(event.envelope, data, error))

    async def send(self, frame: Frame) -> None:
        """Send a frame as it is: for what the other methods do not say.

        Raises:
            ConnectionLost, MeshClosed, MessageTooBig, PayloadError: as for `emit`.
        """
        try:
            message = encode_frame(frame)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise PayloadError(f"not to be written as JSON: {error}") from error
        await self._connected.send(message)

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
