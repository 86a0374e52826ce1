"""`TestMesh`: a whole mesh in memory, for tests."""

from __future__ import annotations

import itertools
from types import TracebackType
from typing import Any, Final, Literal, Unpack

import anyio
import attrs
from anyio.abc import ByteStream

from broker.core.authentication import hash_token
from broker.core.settings import Settings, TokenSettings
from broker.core.statistics import Statistics
from services.sdk import Mesh, Service, connect
from services.sdk.service import ServeOptions
from services.sdk.tasks import BackgroundTasks
from services.sdk.urls import parse_url
from services.testing.broker import MemoryBroker, Network
from services.testing.endpoints import Direction, Endpoint
from services.testing.members import Members
from services.testing.registry import ConnectedService, list_services

__all__ = ["TOKEN", "Framing", "TestMesh"]

Framing = Literal["stream", "websocket"]
"""How a member's messages are framed: as on a bare TCP socket, or as on a WebSocket."""

TOKEN: Final = "token-of-the-test-mesh"  # noqa: S105 - it opens nothing but a mesh in memory
"""Is good for every group of a test mesh."""

_URLS: Final[dict[Framing, str]] = {"stream": "tcp://memory", "websocket": "ws://memory"}


class TestMesh:
    """The real broker, in this process, with its members, over memory.

    Usable inside its `async with`, on trio and on asyncio. Its time is the event loop's: under
    trio's `MockClock` nothing in it waits in earnest.

    Args:
        settings: the broker's. Listeners play no part; to the tokens, `TOKEN` is added.
        framing: of members that do not say otherwise.

    Example:
        >>> async with TestMesh() as mesh:
        ...     await mesh.run(billing)
        ...     client = await mesh.client(group="web")
        ...     await client.request("INVOICE_CREATE", order, group="billing")
    """

    __test__ = False  # For pytest: the name says what it is for, not that it is a test.

    def __init__(self, settings: Settings | None = None, *, framing: Framing = "stream") -> None:
        settings = settings or Settings()
        own = TokenSettings(hash_token(TOKEN), name="test mesh")
        self._settings = attrs.evolve(settings, tokens=(*settings.tokens, own))
        self._framing: Framing = framing
        self._numbers = itertools.count(1)
        self._background = BackgroundTasks()
        self._epoch = 0.0

    async def __aenter__(self) -> TestMesh:
        tasks = await self._background.__aenter__()
        self._tasks = tasks
        self._epoch = anyio.current_time()
        self._network = Network(tasks, anyio.current_time)
        self._members = Members(tasks)
        self.start_broker()
        tasks.start_soon(self._network.run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        with anyio.CancelScope(shield=True):
            for member in self._members.all():
                member.endpoint.heal()
                if error is not None:
                    # Nobody looks at how it ends any more; so let it be quick.
                    member.endpoint.drop(reset=True)
            await self._members.stop(*self._members.all())
            self._end_broker()
        return await self._background.__aexit__(kind, error, traceback)

    # Members.

    async def run(
        self, service: Service, *, framing: Framing | None = None, **options: Unpack[ServeOptions]
    ) -> Mesh:
        """Put a service on the mesh, until `stop` or the end.

        The same service can run more than once: each time is a member of its group.

        Args:
            service: whose handlers.
            framing: the mesh's own where absent.
            options: those of `Service.serve`, but for `dial`.

        Returns:
            The service's own mesh: it has its `id`, and it is what the faults take.

        Raises:
            CannotConnect, IdentifyFailed, TypeError: as for `Service.serve`.
        """
        endpoint = Endpoint(self._network)
        options["dial"] = endpoint.dial
        context = service.serve(self._url(framing), token=TOKEN, **options)
        return await self._members.start(context, endpoint)

    async def client(
        self,
        group: str | None = "tests",
        *,
        framing: Framing | None = None,
        token: str = TOKEN,
        **options: Any,  # noqa: ANN401 - as `connect` has them
    ) -> Mesh:
        """Connect a client, until `stop` or the end.

        Args:
            group: the group to join.
            framing: the mesh's own where absent.
            token: another one than the mesh's own; the settings have to know it.
            options: the others of `connect`, but for `dial`.

        Raises:
            CannotConnect, IdentifyFailed, Disconnected: as for `connect`.
        """
        endpoint = Endpoint(self._network)
        options["dial"] = endpoint.dial
        context = connect(self._url(framing), group=group, token=token, **options)
        return await self._members.start(context, endpoint)

    async def stop(self, member: Mesh) -> None:
        """Let a member leave in good order, and wait until it has."""
        await self._members.stop(self._members.find(member))

    async def dial(self) -> ByteStream:
        """Open a connection and say nothing: for clients that do not use the SDK.

        What is sent first decides on the framing, as on the broker's port. `TOKEN` is good for any
        group. Closing the stream is up to the caller.

        Raises:
            CannotConnect: the broker is not running.
        """
        return await Endpoint(self._network).dial(parse_url(_URLS["stream"]))

    # The broker.

    def statistics(self) -> Statistics:
        """Return the broker's counts since it started; of the last one while there is none."""
        return self._dispatcher.statistics()

    def services(self, group: str | None = None) -> list[ConnectedService]:
        """Return who is connected and identified, oldest first; nobody while there is no broker.

        Args:
            group: of this group only.
        """
        broker = self._network.broker
        return [] if broker is None else list_services(broker.dispatcher.registry, group)

    async def stop_broker(self) -> None:
        """Stop the broker in good order, as SIGTERM does; members get SERVER_RESTART."""
        broker = self._network.broker
        if broker is not None:
            await broker.take_leave()
            self._end_broker()

    def kill_broker(self) -> None:
        """End the broker at once, as SIGKILL does: connections end without a word."""
        self._end_broker()

    def start_broker(self) -> None:
        """Start a new broker after `stop_broker` or `kill_broker`. It knows of nobody yet."""
        if self._network.broker is None:
            broker = MemoryBroker(self._settings, self._new_id, anyio.current_time, self._epoch)
            self._dispatcher = broker.dispatcher
            # As the process would: it ends when it has taken leave of everybody.
            self._dispatcher.drains.drain_broker = self._drain_broker
            self._network.broker = broker

    def _drain_broker(self) -> None:
        self._tasks.start_soon(self.stop_broker)

    async def settle(self) -> None:
        """Wait until every task of the event loop waits for something, and no byte is on its way.

        Bytes that a fault keeps back do not count.
        """
        await anyio.wait_all_tasks_blocked()

    # Faults.

    async def drop(self, member: Mesh, *, reset: bool = False) -> None:
        """End a member's connection, and wait until the broker has noticed.

        Args:
            member: a client or a service.
            reset: break it, instead of ending it in good order. What is on its way is lost.
        """
        endpoint = self._members.find(member).endpoint
        endpoint.drop(reset=reset)
        await endpoint.wait_dropped()

    def kill_on_event(self, member: Mesh, number: int = 1, *, event: str | None = None) -> None:
        """Let a member's connection vanish right behind an EVENT that arrives there.

        The member still gets that EVENT, and whatever it does about it comes to nothing: that is
        how a service dies in the middle of a request.

        Args:
            member: a client or a service.
            number: which EVENT, counted from now on; the broker's own ones do not count.
            event: count those of this name only.
        """
        self._members.find(member).endpoint.kill_on_event(number, event)

    def delay(self, member: Mesh, seconds: float, direction: Direction = Direction.BOTH) -> None:
        """Let everything that is sent from now on take some time; nothing overtakes anything.

        Args:
            member: a client or a service.
            seconds: for each direction; 0 ends the delay.
            direction: for one direction only.
        """
        self._members.find(member).endpoint.delay(seconds, direction)

    def partition(self, *members: Mesh) -> None:
        """Cut members off from the broker: what is sent, either way, is held until `heal`."""
        for member in members:
            self._members.find(member).endpoint.partition(partitioned=True)

    def freeze(self, *members: Mesh) -> None:
        """Let members neither read nor send until `heal`, as SIGSTOP does.

        Their tasks go on, since they are this process's; nobody learns of it.
        """
        for member in members:
            self._members.find(member).endpoint.freeze(frozen=True)

    def heal(self, *members: Mesh) -> None:
        """Take back delays, partitions and freezes; of all members where none is given."""
        found = [self._members.find(member) for member in members] or self._members.all()
        for member in found:
            member.endpoint.heal()

    # How it is done.

    def _url(self, framing: Framing | None) -> str:
        return _URLS[framing or self._framing]

    def _new_id(self) -> str:
        # Of the form that real ones have, and the same in every run.
        return f"00000000-0000-4000-8000-{next(self._numbers):012x}"

    def _end_broker(self) -> None:
        broker = self._network.broker
        if broker is not None:
            broker.abandon()
            self._network.broker = None
