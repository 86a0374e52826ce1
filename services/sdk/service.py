"""A service: a group of the mesh, and a handler for each of its events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, TypeVar, Unpack

import anyio

from broker.protocol.codec import Envelope
from services.sdk.answering import handle
from services.sdk.backoff import Backoff
from services.sdk.dialing import Dial, dial
from services.sdk.entry import (
    DEFAULT_BACKOFF,
    DEFAULT_PATIENCE,
    CommonOptions,
    Token,
    connect,
)
from services.sdk.handlers import Handler, HandlerFunction, check_async
from services.sdk.inbox import ErrorCallback
from services.sdk.jobs import Job, Jobs
from services.sdk.mesh import Mesh
from services.sdk.request_errors import Call, Draining, Overloaded, RequestError
from services.sdk.running import run_until_signal
from services.sdk.tasks import BackgroundTasks
from services.sdk.tls import TlsOption
from services.sdk.tracing import find_tracing
from services.sdk.workers import Workers

__all__ = ["Service"]

F = TypeVar("F", bound=HandlerFunction)

# Handlers mostly wait for something else (a database, another service), so one process can have
# many of them under way; but each holds memory, and often a connection of some pool.
_CONCURRENCY: Final = 100

# What may wait for a free handler: some turns for each of them. More would only wait until it is
# of no use any more.
_BACKLOG: Final = 1000

# For handlers under way when the service ends: more than an ordinary one takes, and less than the
# time after which process managers use force (10 s with Docker).
_GRACE_SECONDS: Final = 5.0


class ServeOptions(CommonOptions, total=False):
    """What `Service.run` takes beside the URL and the token; see `Service.serve`."""

    concurrency: int
    backlog: int
    grace: float


class Service:
    """A named service. Its handlers are registered with `on`; `serve` or `run` puts it on the mesh.

    A handler takes the event's data, read into the type that its parameter is annotated with, and
    returns the reply's data. By annotation it gets the `Event` and the `Mesh` too. Handlers run
    concurrently. To a request (an event with `timeout`) the reply is what the handler returns, or
    an error: `BAD_REQUEST` where the data does not fit the annotation, what the handler raises as
    `ServiceError` or `BadRequest`, and `HANDLER_ERROR` for whatever else it raises. An event
    without `timeout` gets no reply; what goes wrong is in the log, as it is for a request.

    The handler of a request is cancelled when nobody waits for its reply any more: the time is
    over, or the requester has given up or gone. So are the requests that it has made itself, and
    their handlers in turn. What must not stop half-way belongs in a shielded cancel scope.

    Example:
        >>> billing = Service("billing")
        >>> @billing.on("INVOICE_CREATE")
        ... async def create_invoice(order: Order) -> Invoice:
        ...     return Invoice(order.id, sum(line.price for line in order.lines))
        >>> billing.run("ws://127.0.0.1:8420", token="...")
    """

    def __init__(self, group: str) -> None:
        self.group = group
        self._functions: dict[str, HandlerFunction] = {}

    def on(self, event: str) -> Callable[[F], F]:
        """Register the handler of an event.

        Raises:
            ValueError: the event has a handler already.
            TypeError: what is decorated is not an async function.
        """

        def register(function: F) -> F:
            if event in self._functions:
                raise ValueError(f"{event} has a handler already: {self._functions[event]!r}")
            check_async(function)
            self._functions[event] = function
            return function

        return register

    @asynccontextmanager
    async def serve(
        self,
        url: str | Sequence[str],
        *,
        token: Token,
        name: str | None = None,
        meta: Mapping[str, Any] | None = None,
        echo: bool | None = None,
        concurrency: int = _CONCURRENCY,
        backlog: int = _BACKLOG,
        grace: float = _GRACE_SECONDS,
        on_error: ErrorCallback | None = None,
        timeout: float = 10.0,
        reconnect: Backoff | None = DEFAULT_BACKOFF,
        insist: bool = False,
        patience: float = DEFAULT_PATIENCE,
        tls: TlsOption = None,
        dial: Dial = dial,
    ) -> AsyncIterator[Mesh]:
        """Be on the mesh for the body of an `async with`, which gets the service's own mesh.

        Leaving it takes nothing new (requests get `DRAINING`), lets the handlers under way finish,
        and says goodbye. Losing the connection does not cancel the body: it is made again, and
        `Mesh.state` tells. The handlers of requests that came on a lost connection are cancelled,
        since their requesters have been told that this service has gone.

        Args:
            url: as for `connect`, as are `reconnect`, `insist` and `patience`.
            token: as for `connect`.
            name: a name for people.
            meta: a small object, shown to whoever may list the services.
            echo: False: no copies of one's own broadcasts.
            concurrency: how many handlers run at a time; the broker is told.
            backlog: how many events may wait for a handler. Past it, requests get `OVERLOADED`, and
                `on_error` is told of every other event that finds no room. A request whose time is
                over before a handler is free gets `EXPIRED`, and its handler does not run.
            grace: seconds for the handlers under way at the end.
            on_error: as for `connect`.
            timeout: seconds for a connection to stand.
            reconnect: pauses between attempts to connect again; None: a lost connection is the end.
            insist: whether the first connection is tried for as long as it takes.
            patience: seconds that sending waits for a connection where there is none.
            tls: as for `connect`.
            dial: opens the bytes to the broker; for tests.

        Raises:
            CannotConnect, IdentifyFailed, Disconnected: as for `connect`.
            TypeError: a handler's signature is none.
        """
        handlers = {
            event: Handler.from_function(event, function)
            for event, function in self._functions.items()
        }
        mesh = connect(
            url,
            group=self.group,
            token=token,
            name=name,
            meta=meta,
            echo=echo,
            concurrency=concurrency,
            on_error=on_error,
            timeout=timeout,
            reconnect=reconnect,
            insist=insist,
            patience=patience,
            tls=tls,
            dial=dial,
        )
        async with BackgroundTasks() as tasks:
            jobs = Jobs()
            tracing = find_tracing()

            async def work(job: Job, scope: anyio.CancelScope) -> None:
                if job.called_off:
                    return
                event = job.envelope
                span = None if tracing is None else tracing.begin_handling(event, self.group)
                handling = handle(handlers[event.event or ""], job, mesh, scope, span)
                try:
                    await (handling if span is None else span.around(handling))
                finally:
                    jobs.done(job)

            workers = Workers(tasks, work, concurrency=concurrency, backlog=backlog)
            # Before the mesh is entered: an event may come close behind the broker's welcome.
            sink = _Sink(handlers, jobs, workers, mesh)
            mesh.inbox.sink = sink
            mesh.inbox.on_cancel = sink.call_off
            mesh.inbox.on_lost = sink.call_all_off
            async with mesh:
                try:
                    yield mesh
                finally:
                    with anyio.CancelScope(shield=True):
                        await workers.drain(grace)

    def run(
        self,
        url: str | Sequence[str],
        *,
        token: Token,
        backend: Literal["trio", "asyncio"] = "trio",
        **options: Unpack[ServeOptions],
    ) -> None:
        """Be on the mesh until Ctrl-C or SIGTERM; a second one ends it at once.

        Args:
            url: as for `serve`.
            token: as for `serve`.
            backend: the event loop that the handlers are written for.
            options: the others of `serve`.

        Raises:
            ConnectionLost: the broker sent this service away for good.
            CannotConnect, IdentifyFailed, TypeError: as for `serve`.
        """

        async def serve() -> None:
            async with self.serve(url, token=token, **options) as mesh:
                await mesh.wait_closed()

        run_until_signal(serve, backend)


class _Sink:
    """Takes a service's events out of the inbox, without waiting."""

    def __init__(
        self, handlers: Mapping[str, Handler], jobs: Jobs, workers: Workers[Job], mesh: Mesh
    ) -> None:
        self._handlers = handlers
        self._jobs = jobs
        self._workers = workers
        self._mesh = mesh

    def __call__(self, event: Envelope, now: float) -> bool:
        if event.event not in self._handlers:
            return False
        if self._workers.draining:
            self._turn_away(event, Draining, "the service is about to stop")
        else:
            self._submit(event, now)
        return True

    def call_off(self, cancel: Envelope) -> None:
        """Let a handler stop whose requester has taken its request back."""
        job = self._jobs.call_off(cancel)
        if job is not None:
            self._workers.withdraw(job)

    def call_all_off(self) -> None:
        """Let the handlers of all requests stop: the connection that they came on has ended."""
        for job in self._jobs.call_all_off():
            self._workers.withdraw(job)

    def _submit(self, event: Envelope, now: float) -> None:
        job = Job(event, now)
        if self._workers.submit(job):
            self._jobs.add(job)
        else:
            self._turn_away(event, Overloaded, "the service has more to do than it can remember")

    def _turn_away(self, event: Envelope, kind: type[RequestError], text: str) -> None:
        if event.timeout is not None:
            self._mesh.inbox.refuse(event, kind(text))
        else:
            call = Call(event.event or "", "this service", event.id or "")
            self._mesh.inbox.report(kind(f"{text}; the event was not handled", call=call))
