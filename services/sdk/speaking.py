"""What a mesh says: emit, request, gather, reply."""

# ruff: noqa: ANN401 - `returns` takes any type form
from __future__ import annotations

from typing import Any, Final, TypedDict, TypeVar, Unpack, overload

from broker.protocol.codec import Envelope, encode, encode_frame
from broker.protocol.frames import Frame, OpCode
from services.sdk.asking import ask, read_reply
from services.sdk.errors import MeshClosed
from services.sdk.events import Event
from services.sdk.gathering import Replies
from services.sdk.inbox import Inbox
from services.sdk.link import Link
from services.sdk.outgoing import (
    Picking,
    check_id,
    check_name,
    encode_reply,
    make_intent,
    to_milliseconds,
)
from services.sdk.payloads import PayloadError, dump
from services.sdk.pending import IdSource
from services.sdk.request_errors import RequestError
from services.sdk.tracing import find_tracing

__all__ = ["NOT_ENTERED", "GatherOptions", "RequestOptions", "Speaker"]

NOT_ENTERED: Final = "not connected yet: use `async with connect(...) as mesh`"

# The enumeration's members are slower to write.
_EVENT: Final = int(OpCode.EVENT)

T = TypeVar("T")

# Without a `timeout`: longer than people wait, so whoever needs less will notice and say so.
_REQUEST_SECONDS: Final = 30.0


class GatherOptions(TypedDict, total=False):
    """What `gather` takes beside the event, its data and `returns`."""

    group: str | None
    timeout: float


class RequestOptions(GatherOptions, total=False):
    """What `request` takes beside the event, its data and `returns`."""

    to: str | None
    key: str | None


class Speaker:
    """One half of `Mesh`, which see: what it says."""

    def __init__(self, link: Link, inbox: Inbox, ids: IdSource, patience: float) -> None:
        self._link = link
        self._inbox = inbox
        self._ids = ids
        self._patience = patience
        self._tracing = find_tracing()

    @property
    def _entered(self) -> Link:
        if self._link.connection is None:
            raise MeshClosed(NOT_ENTERED)
        return self._link

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
        patience: float | None = None,
    ) -> str:
        """Send an event that awaits no reply: to everyone, to `group=`, or to one connection `to=`.

        It waits while a megabyte is on its way already, and while there is no connection: for as
        long as `patience` says, and only if no more than a megabyte waits with others. When the
        event reaches nobody, when the broker refuses it, or when the connection ends before it was
        written, the mesh's `on_error` is told. (What was written on a connection that then breaks
        may be lost without a trace; who must know sends a request.)

        Args:
            event: the event's name, of 1 to 128 characters.
            data: whatever has a form in JSON; attrs classes and dataclasses too.
            group: the name of a group.
            to: a connection id.
            pick: with `group`: "ALL" of its members (the default) or "ONE".
            key: with `group`: events of one key go to one member.
            id: to go on under the id of another frame; made up where absent.
            patience: seconds to wait for a connection where there is none; 0 fails at once. Without
                it, what `connect` was told.

        Returns:
            The event's id: the error that `on_error` may be told has it as `error.call.id`.

        Raises:
            ConnectionLost, MeshClosed: there is no connection. The event was not sent.
            MessageTooBig: the broker does not take messages of that size.
            PayloadError: the data has no form in JSON.
            ValueError: the arguments contradict each other, or a name is too long.

        Example:
            >>> await mesh.emit("USER_UPDATED", {"id": 7}, group="web")
        """
        intent = make_intent(group, to, pick, key)
        chosen = self._ids.make() if id is None else check_id(id)
        name = check_name("event", event)
        envelope = Envelope(_EVENT, chosen, name, dump(data), intent)
        self._inbox.sent.add(chosen, name, intent)
        seconds = self._patience if patience is None else patience
        link = self._entered
        span = None if self._tracing is None else self._tracing.begin_emit(envelope)
        sending = link.send(encode(envelope), patience=seconds, id=chosen)
        await (sending if span is None else span.around(sending))
        return chosen

    @overload
    async def request(
        self,
        event: str,
        data: object = None,
        *,
        returns: type[T],
        **options: Unpack[RequestOptions],
    ) -> T: ...
    @overload
    async def request(
        self,
        event: str,
        data: object = None,
        *,
        returns: Any = None,
        **options: Unpack[RequestOptions],
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
        second after `timeout` by itself, when even the broker has fallen silent. When the caller is
        cancelled meanwhile, the request is taken back (`$cancel`), and its handler is cancelled.

        The time is the smaller of `timeout` and what the caller's own cancel scopes leave. In a
        handler that is at most what is left of the request that it handles.

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
            ConnectionLost, MeshClosed: the connection ended meanwhile, or there was none; what
                `may_have_arrived` says is whether the callee may have got the request.
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
        question = Envelope(_EVENT, id, name, dump(data), intent, timeout=milliseconds)
        link = self._entered
        span = None if self._tracing is None else self._tracing.begin_request(question)
        asking = ask(link, self._inbox, question, timeout, patience=self._patience)
        reply = await (asking if span is None else span.around(asking))
        return read_reply(reply, question, returns)

    @overload
    def gather(
        self, event: str, data: object = None, *, returns: type[T], **options: Unpack[GatherOptions]
    ) -> Replies[T]: ...
    @overload
    def gather(
        self,
        event: str,
        data: object = None,
        *,
        returns: Any = None,
        **options: Unpack[GatherOptions],
    ) -> Replies[Any]: ...
    def gather(
        self,
        event: str,
        data: object = None,
        *,
        group: str | None = None,
        timeout: float = _REQUEST_SECONDS,
        returns: Any = None,
    ) -> Replies[Any]:
        """Ask every member of `group=`, or everyone, and take their replies as they come.

        Entering sends the request and waits for the broker's word on who was asked. Iterating ends
        when all of them have answered or are lost; `missing` then says who gave no answer, and why.
        Leaving the block early takes the request back from those who are still at it. The asker is
        asked too where it is a member, unless it connected with `echo=False`.

        Args:
            event: the event's name, of 1 to 128 characters.
            data: whatever has a form in JSON; attrs classes and dataclasses too.
            group: the name of a group; None asks everyone.
            timeout: seconds for which replies are of use; less where the caller has less.
            returns: the type to read each reply's data into; plain Python values without.

        Raises (on entering):
            NoRoute: there was nobody to ask.
            Overloaded, Draining, InvalidFrame, ...: the broker did not take the request.
            Expired: not even the broker has answered.
            ConnectionLost, MeshClosed, MessageTooBig: as for `emit`.

        Raises (at once):
            PayloadError, ValueError: as for `emit`.

        Example:
            >>> async with mesh.gather("STATS", group="shards", timeout=1) as replies:
            ...     async for reply in replies:
            ...         print(reply.source.id, reply.data)
            >>> for missing in replies.missing:
            ...     print(missing.source.id, missing.code)
        """
        to_milliseconds(timeout)
        intent = make_intent(group, None, None, None)
        name = check_name("event", event)
        envelope = Envelope(_EVENT, self._ids.make(), name, dump(data), intent)
        return Replies(
            lambda: self._entered,
            self._inbox,
            envelope,
            timeout=timeout,
            patience=self._patience,
            kind=returns,
            tracing=self._tracing,
        )

    async def reply(
        self, event: Event, data: object = None, *, error: RequestError | None = None
    ) -> None:
        """Send the REPLY to an event that a listener has heard. Handlers just return instead.

        It does not wait for a connection: who asked on the last one is not waiting any more.

        Raises:
            ConnectionLost, MeshClosed, MessageTooBig, PayloadError: as for `emit`.
        """
        await self._entered.send(encode_reply(event.envelope, data, error), patience=0)

    async def send(self, frame: Frame) -> None:
        """Send a frame as it is: for what the other methods do not say.

        Raises:
            ConnectionLost, MeshClosed, MessageTooBig, PayloadError: as for `emit`.
        """
        try:
            message = encode_frame(frame)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise PayloadError(f"not to be written as JSON: {error}") from error
        await self._entered.send(message, patience=self._patience, id=frame.id)
