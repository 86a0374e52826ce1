"""The composition root: start, ready, drain, stop."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from ssl import SSLContext
from typing import Final

import trio

from broker.core.dispatcher import Dispatcher
from broker.core.request_trace import RequestTrace
from broker.core.settings import Settings
from broker.protocol.errors import Reason
from broker.transport.accepting import Acceptor
from broker.transport.activation import ActivationError, InheritedSockets
from broker.transport.admission import Admission
from broker.transport.door import Door
from broker.transport.listener import Listener, ListenError, open_listeners
from broker.transport.reactor import Reactor
from broker.transport.tls_context import TlsEntrance, TlsSettingsError, load_contexts

__all__ = ["ActivationError", "ListenError", "Server", "TlsSettingsError"]

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

    Attributes:
        addresses: where it listens, once it has started, such as `tcp://127.0.0.1:8420`.
        dispatcher: the broker without its sockets.
    """

    def __init__(
        self,
        settings: Settings,
        trace: RequestTrace | None = None,
        inherited: InheritedSockets | None = None,
    ) -> None:
        self.addresses: list[str] = []
        self.dispatcher = Dispatcher(
            settings,
            time.time() - trio.current_time(),
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
        self._serving = trio.CancelScope()
        # Beside each of them, the listener's address as the settings have it.
        self._entrances: list[tuple[str, list[TlsEntrance]]] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until drained or stopped.

        Raises:
            ListenError: an address cannot be listened on.
            TlsSettingsError: a certificate or a key can't be used.
            ActivationError: a socket was handed over that no listener has the address of.
        """
        with self._serving:
            async with self._listening() as listeners:
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
                for listener in listeners:
                    admit = partial(self._door.admit, tls=listener.tls)
                    accepting.start_soon(self._acceptor.serve, listener.sock, admit)
                task_status.started()
                await self._draining.wait()
                accepting.cancel_scope.cancel()
            for listener in listeners:
                listener.close()
            await self._take_leave()
            serving.cancel_scope.cancel()

    def drain(self) -> None:
        """Begin to stop: accept nobody, take leave of everybody. Can be said more than once."""
        self._draining.set()

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
            self.dispatcher.close_all(Reason.SERVER_RESTART, "the broker is going down")
            self._reactor.flush()
            await self._reactor.wait_empty()

    async def _wait_for_answers(self) -> None:
        """Wait until no request is in flight."""
        # Looked at now and then, so that the hot path need not tell when the last one has ended.
        while len(self.dispatcher.requests.ledger):  # noqa: ASYNC110
            await trio.sleep(_LOOK_AGAIN)

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[list[Listener]]:
        contexts = load_contexts(self._settings.listeners)
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
    return {"listeners": addresses, "timing.ping_ms": settings.timing.ping_ms}
