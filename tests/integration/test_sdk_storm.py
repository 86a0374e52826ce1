"""Two thousand clients lose their broker at one moment, and come back when it does."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.to_thread import run_sync

from services.sdk import Backoff, Mesh, State, connect
from services.sdk.dialing import dial
from services.sdk.urls import Address
from tests.integration.broker_process import TOKEN, BrokerProcess, broker_process

pytestmark = pytest.mark.alone

CLIENTS: Final = 2000

# A broker is back within a second or so; most of the pauses end behind that.
PAUSES: Final = Backoff(first=4, longest=4)


@contextmanager
def room_for_sockets() -> Iterator[None]:
    """Let this process have a socket for each client, for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CLIENTS + 500), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """The clients, each in a task of its own.

    Attributes:
        meshes: those that have connected.
        attempts: when each of them began to connect, each time.
        pauses: how long each of those that are back had waited, its attempts apart.
        complete: set when all are connected.
        complete_again: set when all are connected for the second time.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = anyio.Event()
        self.meshes: list[Mesh] = []
        self.attempts: list[list[float]] = []
        self.pauses: list[float] = []
        self.complete = anyio.Event()
        self.complete_again = anyio.Event()

    async def join(self) -> None:
        """Be one of them, until all may leave."""
        attempts: list[float] = []

        async def look_at_the_clock(address: Address) -> ByteStream:
            attempts.append(anyio.current_time())
            return await dial(address)

        async with (
            connect(
                self._url,
                group="crowd",
                token=TOKEN,
                timeout=60,
                reconnect=PAUSES,
                dial=look_at_the_clock,
            ) as mesh,
            mesh.states() as states,
        ):
            self.meshes.append(mesh)
            self.attempts.append(attempts)
            if len(self.meshes) == CLIENTS:
                self.complete.set()
            pause = 0.0
            async for change in states:
                pause += change.retry_in or 0
                if mesh.state is State.CONNECTED and mesh.statistics().connections == 2:
                    break
            self.pauses.append(pause)
            if len(self.pauses) == CLIENTS:
                self.complete_again.set()
            await self._over.wait()

    def leave(self) -> None:
        self._over.set()


async def lose_the_broker(broker: BrokerProcess) -> None:
    with anyio.fail_after(120):
        async with anyio.create_task_group() as tasks:
            crowd = Crowd(broker.address)
            for _ in range(CLIENTS):
                tasks.start_soon(crowd.join)
            await crowd.complete.wait()
            await run_sync(broker.kill)
            await run_sync(broker.start)
            back = anyio.current_time()
            await crowd.complete_again.wait()

            services = await crowd.meshes[0].services()
            assert {service.id for service in services} == {mesh.id for mesh in crowd.meshes}
            assert len(services) == CLIENTS

            # Who came when the broker was there again was let in, at the first attempt.
            tries = [sum(attempt > back for attempt in attempts) for attempts in crowd.attempts]
            assert sum(number - 1 for number in tries if number) <= CLIENTS // 100

            # No tenth of the time has a third of them. When each of them was due is counted here;
            # when it got its turn depends on how busy this machine is with all of them.
            tenth = max(crowd.pauses) / 10
            shares = Counter(int(pause / tenth) for pause in crowd.pauses)
            assert max(shares.values()) < CLIENTS / 3, shares
            crowd.leave()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_two_thousand_clients_come_back_one_after_the_other(backend: str, tmp_path: Path) -> None:
    with room_for_sockets(), broker_process(tmp_path) as broker:
        anyio.run(lose_the_broker, broker, backend=backend)
