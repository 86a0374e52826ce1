"""The composition root: start, ready, drain, stop."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from broker.core.dispatcher import Dispatcher
from broker.core.settings import Settings
from broker.protocol.errors import Reason
from broker.transport.door import Door
from broker.transport.listener import Listener, ListenError, open_listeners
from broker.transport.reactor import Reactor

__all__ = ["ListenError", "Server"]

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

    Attributes:
        addresses: where it listens, once it has started, such as `tcp://127.0.0.1:8420`.
        dispatcher: the broker without its sockets.
    """

    def __init__(self, settings: Settings) -> None:
        self.addresses: list[str] = []
        self.dispatcher = Dispatcher(settings, time.time() - trio.current_time())
        self._settings = settings
        self._reactor = Reactor(self.dispatcher, settings)
        self._door = Door(self.dispatcher, self._reactor, settings)
        self._draining = trio.Event()
        self._serving = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until drained or stopped.

        Raises:
            ListenError: an address cannot be listened on.
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
                    accepting.start_soon(
                        trio.serve_listeners, self._door.admit, [listener.accepting]
                    )
                task_status.started()
                await self._draining.wait()
                accepting.cancel_scope.cancel()
            for listener in listeners:
                await listener.aclose()
            await self._take_leave()
            serving.cancel_scope.cancel()

    def drain(self) -> None:
        """Begin to stop: accept nobody, take leave of everybody. Can be said more than once."""
        self._draining.set()

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
        listeners: list[Listener] = []
        try:
            for settings in self._settings.listeners:
                listeners += await open_listeners(settings)
            yield listeners
        finally:
            # Closing has checkpoints, and a cancelled one would leave the others open.
            with trio.CancelScope(shield=True):
                for listener in listeners:
                    await listener.aclose()
