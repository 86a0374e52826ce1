"""The composition root: start, ready, drain, stop."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from ssl import SSLContext
from typing import TYPE_CHECKING, Final

import trio

from broker.core.dispatcher import Dispatcher
from broker.core.draining import GOODBYE_STEP, goodbyes_at_a_time
from broker.core.request_trace import RequestTrace
from broker.core.settings import Settings
from broker.ops.binding import OpsPortError, open_port
from broker.ops.readiness import DRAINING, STARTING, Readiness
from broker.ops.source import Source
from broker.protocol.errors import Reason
from broker.transport.accepting import Acceptor
from broker.transport.activation import ActivationError, InheritedSockets
from broker.transport.admission import Admission
from broker.transport.door import Door
from broker.transport.listener import Listener, ListenError, open_listeners
from broker.transport.reactor import Reactor
from broker.transport.tls_context import TlsEntrance, TlsSettingsError, load_contexts

if TYPE_CHECKING:
    from broker.ops.port import OpsPort

__all__ = ["ActivationError", "ListenError", "OpsPortError", "Server", "TlsSettingsError"]

# While the broker drains, in seconds.
_LOOK_AGAIN: Final = 0.01


class Server:
    """A broker.

    ```python
    async with trio.open_nursery() as nursery:
        server = Server(Settings(tokens=(TokenSettings(hash_token("secret")),)))
        await nursery.start(server.run)
        print(server.addresses)
    ```

    Args:
        settings: to begin with.
        trace: is told what becomes of each request.
        inherited: sockets that listen already.
        ops_by_default: whether there is an ops port where the settings have no address for one.

    Attributes:
        addresses: where it listens, once it has started, such as `tcp://127.0.0.1:8420`.
        ops_addresses: where the ops port listens, such as `http://127.0.0.1:8421`.
        ops_failure: why there is none at the address where one is by default.
        dispatcher: the broker without its sockets.
        readiness: whether it is ready to take traffic, and why not.
    """

    def __init__(
        self,
        settings: Settings,
        trace: RequestTrace | None = None,
        inherited: InheritedSockets | None = None,
        *,
        ops_by_default: bool = False,
    ) -> None:
        self.addresses: list[str] = []
        self.ops_addresses: list[str] = []
        self.ops_failure: OpsPortError | None = None
        self.readiness = Readiness()
        self._ops_by_default = ops_by_default
        self._ops: OpsPort | None = None
        self._epoch = time.time() - trio.current_time()
        self.dispatcher = Dispatcher(
            settings,
            self._epoch,
            wall_clock=time.time,
            trace=trace,
        )
        self._settings = settings
        self._inherited = inherited or InheritedSockets()
        self._fixed = _fixed(settings)
        self._reactor = Reactor(self.dispatcher, settings)
        self._admission = Admission(settings.limits, self.dispatcher.counters)
        self._acceptor = Acceptor(self._admission, self.dispatcher.counters)
        self._door = Door(self.dispatcher, self._reactor, settings, self._admission)
        self._draining = trio.Event()
        self.dispatcher.drains.drain_broker = self.drain
        self._serving = trio.CancelScope()
        # Beside each of them, the listener's address as the settings have it.
        self._entrances: list[tuple[str, list[TlsEntrance]]] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until drained or stopped.

        Raises:
            ListenError: an address cannot be listened on.
            OpsPortError: nor can that of the ops port.
            TlsSettingsError: a certificate or a key can't be used.
            ActivationError: a socket was handed over that no listener has the address of.
        """
        with self._serving:
            contexts = load_contexts(self._settings.listeners)
            async with self._operable(), self._listening(contexts) as listeners:
                self.addresses = [listener.address for listener in listeners]
                await self._serve(listeners, task_status)

    async def _serve(
        self, listeners: Sequence[Listener], task_status: trio.TaskStatus[None]
    ) -> None:
        # Two nurseries, one in the other: when the inner one has stopped to accept, the outer one's
        # reactor still takes leave of the connections.
        async with trio.open_nursery() as serving:
            serving.start_soon(self._reactor.run)
            async with trio.open_nursery() as accepting:
                self._accept(listeners, accepting)
                self.readiness.remove(STARTING)
                task_status.started()
                await self._draining.wait()
                # Load balancers have yet to notice.
                await trio.sleep(self._settings.timing.grace_ms / 1000)
                accepting.cancel_scope.cancel()
            self._admission.closed = True
            async with trio.open_nursery() as refusing:
                self._accept(self._our_own(listeners), refusing)
                await self._take_leave()
                refusing.cancel_scope.cancel()
            serving.cancel_scope.cancel()

    def _accept(self, listeners: Sequence[Listener], nursery: trio.Nursery) -> None:
        for listener in listeners:
            admit = partial(self._door.admit, tls=listener.tls)
            nursery.start_soon(self._acceptor.serve, listener.sock, admit)

    def _our_own(self, listeners: Sequence[Listener]) -> list[Listener]:
        """Let go of the sockets that a successor inherits: it lets in who knocks there now."""
        for listener in listeners:
            if listener.inherited:
                listener.close()
        return [listener for listener in listeners if not listener.inherited]

    def drain(self) -> None:
        """Begin to stop: let nobody in, take leave of everybody. Can be said more than once."""
        self.readiness.add(DRAINING)
        self._draining.set()

    async def wait_draining(self) -> None:
        """Wait until somebody has said so: a signal, or an operator over the mesh."""
        await self._draining.wait()

    def reload(self, settings: Settings) -> list[str]:
        """Go by other settings from now on; see `Dispatcher.reload`.

        Returns:
            The settings that are different and take a restart.

        Raises:
            ValueError: the keys for JWTs are no good; nothing has changed.
            TlsSettingsError: a certificate or a key can't be used; nothing has changed.
        """
        contexts = load_contexts(settings.listeners)
        self.dispatcher.reload(settings, trio.current_time())
        self._present(settings, contexts)
        self._door.reload(settings)
        self._reactor.reload(settings)
        self._reactor.flush()
        if self._ops is not None:
            self._ops.reload(settings.ops)
        self._settings = settings
        return [name for name, value in _fixed(settings).items() if value != self._fixed[name]]

    def _present(self, settings: Settings, contexts: Sequence[SSLContext | None]) -> None:
        """Greet new connections with other certificates, where the address has not changed."""
        entrances = list(self._entrances)
        for listener, context in zip(settings.listeners, contexts, strict=True):
            for entry in entrances:
                if context is not None and entry[0] == listener.address:
                    # The first of several with the same, which only port 0 can be.
                    entrances.remove(entry)
                    for entrance in entry[1]:
                        entrance.context = context
                    break

    def stop(self) -> None:
        """End at once."""
        self._serving.cancel()

    async def _take_leave(self) -> None:
        drain = self._settings.timing.drain_ms / 1000
        with trio.move_on_after(drain):
            self.dispatcher.drain()
            with trio.move_on_after(drain / 2):
                await self._wait_for_answers()
            self.dispatcher.end_requests()
            await self._say_goodbyes(drain / 4)
            await self._reactor.wait_empty()

    async def _say_goodbyes(self, seconds: float) -> None:
        """Tell everybody to leave, not all at once; see `goodbyes_at_a_time`."""
        most = goodbyes_at_a_time(
            len(self._reactor), seconds, self._settings.limits.accepts_per_second
        )
        while True:
            left = self.dispatcher.close_some(
                most, Reason.SERVER_RESTART, "the broker is going down"
            )
            self._reactor.flush()
            if not left:
                return
            await trio.sleep(GOODBYE_STEP)

    async def _wait_for_answers(self) -> None:
        """Wait until no request is in flight."""
        # Looked at now and then, so that the hot path need not tell when the last one has ended.
        while len(self.dispatcher.requests.ledger):  # noqa: ASYNC110
            await trio.sleep(_LOOK_AGAIN)

    @asynccontextmanager
    async def _operable(self) -> AsyncIterator[None]:
        """Serve the ops port, before anything else and to the very end."""
        ops = self._settings.ops
        sockets = []
        try:
            sockets = await open_port(ops, by_default=self._ops_by_default)
        except OpsPortError as error:
            if ops.address is not None:
                raise
            # Another broker has it, most likely.
            self.ops_failure = error
        if not sockets:
            yield
            return
        # What it takes to speak HTTP takes a third of a second to import: only who serves waits.
        from broker.ops.port import OpsPort  # noqa: PLC0415

        source = Source(self.dispatcher, self.readiness, self._epoch, time.time())
        self._ops = OpsPort(sockets, source, ops, self._reactor.faults.report, self._reactor.hurry)
        self.ops_addresses = self._ops.addresses
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ops.run)
            try:
                yield
            except Exception as error:  # noqa: BLE001 - it is raised again below, as it was
                # Out of the nursery, it would be wrapped in a group.
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    @asynccontextmanager
    async def _listening(
        self, contexts: Sequence[SSLContext | None]
    ) -> AsyncIterator[list[Listener]]:
        listeners: list[Listener] = []
        try:
            for settings, context in zip(self._settings.listeners, contexts, strict=True):
                opened = await open_listeners(settings, context, self._inherited)
                greeting = [listener.tls for listener in opened if listener.tls is not None]
                self._entrances.append((settings.address, greeting))
                listeners += opened
            self._inherited.check_empty()
            yield listeners
        finally:
            self._inherited.close()
            for listener in listeners:
                listener.close()


def _fixed(settings: Settings) -> dict[str, object]:
    """What stays as it is for as long as the broker runs."""
    addresses = [listener.address for listener in settings.listeners]
    return {
        "listeners": addresses,
        "timing.ping_ms": settings.timing.ping_ms,
        "ops.address": settings.ops.address,
        "ops.metrics": settings.ops.metrics,
    }
