"""A broker killed with a thousand requests of the SDK's in flight, and started again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync

from services.sdk import (
    Backoff,
    CannotConnect,
    ConnectionLost,
    Disconnected,
    Mesh,
    MeshError,
    NoRoute,
    PeerGone,
    Service,
    State,
    connect,
)
from services.sdk.dialing import dial
from services.sdk.outbox import HIGH_BYTES
from services.sdk.urls import Address
from tests.integration.broker_process import TOKEN, BrokerProcess, broker_process

QUICK = Backoff(first=0.05, longest=0.2)

# With this beside each number, some hundred requests are more than the sockets' buffers and the
# SDK's outbox have room for.
PADDING = "x" * 32_000

Story = Callable[[BrokerProcess, str], Awaitable[None]]


class Desk:
    """A service that keeps a book of what it was asked and what it has answered.

    Attributes:
        asked: how often each number came.
        answered: the last answer to each number; noted before it is sent.
        holding: handlers that are at it and will never end by themselves.
    """

    def __init__(self) -> None:
        self.service = Service("desk")
        self.asked: Counter[int] = Counter()
        self.answered: dict[int, str] = {}
        self.holding = 0
        self.service.on("ANSWER")(self.answer)
        self.service.on("HOLD")(self.hold)

    async def answer(self, question: tuple[int, str]) -> str:
        number, _ = question
        self.asked[number] += 1
        # So that some are at work when the broker dies.
        await checkpoint()
        self.answered[number] = f"{number} for the time {self.asked[number]}"
        return self.answered[number]

    async def hold(self, question: tuple[int, str]) -> None:
        self.asked[question[0]] += 1
        self.holding += 1
        try:
            await anyio.sleep_forever()
        finally:
            self.holding -= 1


class Callers:
    """Those who ask, each number once, and what became of it."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self.asked = 0
        self.answers: dict[int, str] = {}
        self.errors: dict[int, MeshError] = {}

    @property
    def ended(self) -> int:
        return len(self.answers) + len(self.errors)

    def lost(self, *, may_have_arrived: bool) -> set[int]:
        return {
            number
            for number, error in self.errors.items()
            if isinstance(error, ConnectionLost) and error.may_have_arrived is may_have_arrived
        }

    async def ask(self, number: int, event: str = "ANSWER", padding: str = "") -> None:
        self.asked += 1
        try:
            self.answers[number] = await self._mesh.request(
                event, (number, padding), group="desk", returns=str, timeout=60
            )
        except MeshError as error:
            self.errors[number] = error

    def check(self, desk: Desk) -> None:
        """What the callers were told is the truth, by the book of the one who was asked."""
        assert self.ended == self.asked
        for number, answer in self.answers.items():
            assert desk.answered[number] == answer
        # Nothing is asked twice, so a request that came came on the one connection it was sent on.
        assert set(desk.asked.values()) <= {1}
        # Before the service is back itself there is no route to it; with its end its caller knows.
        kinds = {type(error) for error in self.errors.values()}
        # On a machine that is too busy for the heartbeat, the broker says goodbye itself.
        assert kinds <= {ConnectionLost, Disconnected, NoRoute, PeerGone}
        assert not self.lost(may_have_arrived=False) & desk.asked.keys()
        for number, error in self.errors.items():
            if isinstance(error, NoRoute):
                assert number not in desk.asked


class Door:
    """Lets a client dial, or wait before it does."""

    def __init__(self) -> None:
        self._opened = anyio.Event()
        self._opened.set()

    def close(self) -> None:
        self._opened = anyio.Event()

    def open(self) -> None:
        self._opened.set()

    async def dial(self, address: Address) -> ByteStream:
        await self._opened.wait()
        return await dial(address)


async def until(mesh: Mesh, state: State) -> None:
    async with mesh.states() as states:
        async for change in states:
            if change.state is state:
                return


async def until_connected_again(mesh: Mesh, connections: int) -> None:
    while mesh.state is not State.CONNECTED or mesh.statistics().connections < connections:
        await checkpoint()


async def until_asked(desk: Desk, count: int) -> None:
    while desk.asked.total() < count:
        await checkpoint()


async def works(mesh: Mesh, desk: Desk) -> None:
    """A thousand more, all of them answered."""
    callers = Callers(mesh)
    async with anyio.create_task_group() as tasks:
        for number in range(10**6, 10**6 + 1000):
            tasks.start_soon(callers.ask, number)
    callers.check(desk)
    assert len(callers.answers) == 1000


async def freeze_and_kill(broker: BrokerProcess, url: str) -> None:
    desk, door = Desk(), Door()
    async with (
        desk.service.serve(url, token=TOKEN, concurrency=500, reconnect=QUICK) as member,
        connect(
            url, group="web", token=TOKEN, reconnect=QUICK, patience=60, dial=door.dial
        ) as mesh,
    ):
        callers = Callers(mesh)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in range(100):
                    tasks.start_soon(callers.ask, number)
                for number in range(100, 500):
                    tasks.start_soon(callers.ask, number, "HOLD")
                while len(callers.answers) < 100 or desk.holding < 400:
                    await checkpoint()
                # It stands still with its sockets open, so that there will be some of each kind:
                # seen by the service, written but not seen, handed over but not written, and
                # waiting for room.
                broker.freeze()
                for number in range(500, 1100):
                    tasks.start_soon(callers.ask, number, "ANSWER", PADDING)
                await anyio.wait_all_tasks_blocked()
                assert callers.ended == 100
                before = mesh.statistics()
                assert before.unsent > HIGH_BYTES
                assert before.pending < 1000
                door.close()
                await run_sync(broker.kill)
                await until(mesh, State.CONNECTING)
                await anyio.wait_all_tasks_blocked()
                written, unwritten = (
                    callers.lost(may_have_arrived=arrived) for arrived in (True, False)
                )
                assert written > set(range(100, 500))
                # Of those in its outbox none may have arrived.
                in_hand = before.unsent // (len(PADDING) + 500)
                assert len(written) <= before.pending - in_hand
                # A megabyte of those that have not even been handed over wait for a connection.
                waiting = 1000 - len(written) - len(unwritten)
                assert waiting == HIGH_BYTES // len(PADDING)
                await run_sync(broker.start)
                await until(member, State.CONNECTED)
                door.open()
            callers.check(desk)
            assert len(callers.answers) == 100 + waiting
            assert desk.holding == 0
            await works(mesh, desk)


async def kill_in_full_flight(broker: BrokerProcess, url: str) -> None:
    desk = Desk()
    async with (
        desk.service.serve(url, token=TOKEN, reconnect=QUICK) as member,
        connect(url, group="web", token=TOKEN, reconnect=QUICK, patience=60) as mesh,
    ):
        callers = Callers(mesh)
        over = False

        async def ask_on_and_on(first: int) -> None:
            number = first
            while not over:
                await callers.ask(number)
                number += 1000

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for first in range(1000):
                    tasks.start_soon(ask_on_and_on, first)
                for killed in range(1, 3):
                    await until_asked(desk, desk.asked.total() + 1500)
                    await run_sync(broker.kill)
                    await run_sync(broker.start)
                    for one in (member, mesh):
                        await until_connected_again(one, connections=killed + 1)
                await until_asked(desk, desk.asked.total() + 1500)
                over = True
            callers.check(desk)
            assert callers.lost(may_have_arrived=True)
            await works(mesh, desk)


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("story", [freeze_and_kill, kill_in_full_flight])
def test_every_request_ends_and_is_told_the_truth(
    story: Story, backend: str, scheme: str, tmp_path: Path
) -> None:
    with broker_process(tmp_path) as broker:
        url = broker.address if scheme == "tcp" else broker.websocket_address
        anyio.run(story, broker, url, backend=backend)


async def freeze_and_thaw(broker: BrokerProcess) -> None:
    desk = Desk()
    async with (
        desk.service.serve(broker.address, token=TOKEN, timeout=1, reconnect=QUICK) as member,
        connect(
            broker.websocket_address, group="web", token=TOKEN, timeout=1, reconnect=QUICK
        ) as mesh,
        mesh.states() as states,
    ):
        callers = Callers(mesh)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(callers.ask, number, "HOLD")
                while desk.holding < 10:
                    await checkpoint()
                broker.freeze()
            # Nobody has hung up, but both have noticed.
            assert callers.lost(may_have_arrived=True) == set(range(10))
            assert all("silent" in str(error) for error in callers.errors.values())
            while desk.holding:
                await checkpoint()
            # What is frozen still accepts connections: that is the system's doing.
            async for change in states:
                if isinstance(change.error, CannotConnect):
                    assert "did not answer within 1 s" in str(change.error)
                    break
            broker.thaw()
            for one in (member, mesh):
                await until_connected_again(one, connections=2)
            await works(mesh, desk)
            services = await mesh.services()
            assert {service.id for service in services} == {member.id, mesh.id}


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_broker_that_freezes_is_noticed_and_found_again(backend: str, tmp_path: Path) -> None:
    with broker_process(tmp_path, "[timing]\nping_ms = 500\n") as broker:
        anyio.run(freeze_and_thaw, broker, backend=backend)
