"""Gathering: one question to many, and their answers as they come."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from broker.protocol.codec import Envelope, encode
from broker.protocol.frames import Source
from services.sdk.asking import GRACE_SECONDS, lost, read_reply, send
from services.sdk.collecting import Collector, Missing, Reply
from services.sdk.errors import InvalidReply, MeshClosed, MeshError
from services.sdk.inbox import Inbox
from services.sdk.link import Link
from services.sdk.outgoing import call_of, cancel_message, to_milliseconds
from services.sdk.request_errors import Expired, RequestError
from services.sdk.sent import Sent
from services.sdk.time_left import time_left
from services.sdk.tracing import Span, Tracing

__all__ = ["Replies"]

T = TypeVar("T")


class Replies(Generic[T]):
    """The answers to a gather, as they come. Made by `Mesh.gather`; asks when it is entered.

    Iterating ends when every member has answered or is known to be lost, and at the latest half a
    second after the time is over. Leaving the block earlier takes the request back, so that those
    who are still at it can stop. One task at a time may iterate.
    """

    def __init__(
        self,
        link: Callable[[], Link],
        inbox: Inbox,
        envelope: Envelope,
        *,
        timeout: float,
        patience: float,
        kind: Any,  # noqa: ANN401 - any type form goes in
        tracing: Tracing | None,
    ) -> None:
        self._link = link
        self._patience = patience
        self._inbox = inbox
        self._envelope = envelope
        self._timeout = timeout
        self._kind = kind
        self._id = envelope.id or ""
        self._collector = Collector()
        self._entered = False
        self._sent: Sent | None = None
        self._deadline = 0.0
        self._missing: list[Missing] = []
        self._tracing = tracing
        self._span: Span | None = None

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError("a gather is entered once: gather() again for another one")
        self._entered = True
        link = self._link()
        timeout = time_left(self._timeout, link.loop)
        self._envelope.timeout = to_milliseconds(timeout)
        self._deadline = anyio.current_time() + timeout + GRACE_SECONDS
        collector = self._collector
        if self._tracing is not None:
            self._span = self._tracing.begin_request(self._envelope)
        message = encode(self._envelope)
        patience = min(self._patience, timeout)
        try:
            with anyio.CancelScope(deadline=self._deadline):
                self._sent = await send(link, message, self._envelope, patience=patience)
                # No answer can have come yet: no other task has run since.
                self._inbox.pending.open(self._id, collector)
                while collector.members is None and not collector.over:
                    await self._wait()
            self._check_expected()
        except BaseException as error:
            self._give_up(error)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_up(error)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Reply[T]:
        """Return the next answer.

        Raises:
            ConnectionLost: the connection broke, and the rest of the answers with it.
            MeshClosed: this program closed the mesh.
        """
        await checkpoint_if_cancelled()
        collector = self._collector
        while True:
            while collector.arrived:
                reply = self._read(*collector.arrived.popleft())
                if reply is not None:
                    return reply
            if not collector.waiting:
                raise StopAsyncIteration
            if collector.over:
                raise self._why_over()
            with anyio.CancelScope(deadline=self._deadline):
                await self._wait()
                continue
            if not collector.arrived:
                self._expire()

    # Who was asked.

    @property
    def members(self) -> tuple[Source, ...]:
        """Everyone who was asked, in the broker's word."""
        return self._collector.members or ()

    @property
    def waiting(self) -> tuple[Source, ...]:
        """Those of the members from whom nothing has come yet."""
        return tuple(self._collector.waiting.values())

    @property
    def missing(self) -> tuple[Missing, ...]:
        """Those who gave no answer, and why. It is complete when iterating has ended."""
        return tuple(self._missing)

    # How it is done.

    def _read(self, source: Source, reply: Envelope) -> Reply[T] | None:
        try:
            return Reply(source, read_reply(reply, self._envelope, self._kind))
        except (RequestError, InvalidReply) as error:
            self._missing.append(Missing(source, error))
            return None

    async def _wait(self) -> None:
        self._collector.changed = anyio.Event()
        await self._collector.changed.wait()

    def _check_expected(self) -> None:
        """See that the broker has said whom to expect.

        Raises:
            RequestError: it has said that it will not ask anybody, or nothing at all.
            InvalidReply: what it has said makes no sense.
            ConnectionLost, MeshClosed: the connection ended.
        """
        collector = self._collector
        if collector.members is not None:
            return
        if collector.over:
            raise self._why_over()
        raise Expired("no word from the broker", call=call_of(self._envelope))

    def _why_over(self) -> MeshError:
        """Say why nothing more comes, although somebody has yet to answer."""
        if self._collector.refusal is not None:
            try:
                read_reply(self._collector.refusal, self._envelope)
            except MeshError as error:
                return error
            return InvalidReply(f"{call_of(self._envelope)}: the broker did not say whom it asked")
        if self._sent is not None and not self._sent.connection.alive:
            return lost(self._sent, self._envelope)
        return MeshClosed(f"{call_of(self._envelope)}: this gather was left")

    def _expire(self) -> None:
        """Give up those from whom there is no word, not even the broker's."""
        self._give_up()
        for source in self._collector.waiting.values():
            error = Expired("no reply, and no word from the broker", call=call_of(self._envelope))
            self._missing.append(Missing(source, error))
        self._collector.waiting = {}

    def _give_up(self, error: BaseException | None = None) -> None:
        """Take the request back, unless it is over."""
        if self._span is not None:
            if error is not None:
                self._span.fail(error)
            self._span.end()
            self._span = None
        if self._sent is not None:
            self._inbox.pending.close(self._id)
            if not self._collector.over:
                self._sent.connection.send_nowait(cancel_message(self._id))
        self._collector.over = True
