"""A broker that goes and comes back: the real one, on the same port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from broker.core.authentication import hash_token
from broker.core.settings import ListenerSettings, Settings, TimingSettings, TokenSettings
from broker.server import Server
from services.sdk import (
    Backoff,
    ConnectionLost,
    Disconnected,
    Mesh,
    PeerGone,
    Service,
    Snapshot,
    State,
    Up,
    connect,
)
from tests.sdk.real_broker import TOKEN

QUICK = Backoff(first=0.001, longest=0.01)


class Town:
    """A broker that can be replaced, and the address that stays."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._ended: trio.Event | None = None
        self.server: Server | None = None
        self.url = "tcp://127.0.0.1:0"

    async def start(self) -> None:
        settings = Settings(
            listeners=(ListenerSettings(self.url),),
            tokens=(TokenSettings(hash_token(TOKEN)),),
            timing=TimingSettings(drain_ms=100),
        )
        self.server = Server(settings)
        self._ended = trio.Event()
        await self._nursery.start(self._run, self.server, self._ended)
        (self.url,) = self.server.addresses

    async def _run(
        self, server: Server, ended: trio.Event, *, task_status: trio.TaskStatus[None]
    ) -> None:
        await server.run(task_status=task_status)
        ended.set()

    async def stop(self, *, politely: bool) -> None:
        assert self.server is not None
        assert self._ended is not None
        if politely:
            self.server.drain()
        else:
            self.server.stop()
        await self._ended.wait()

    def connect(self, group: str = "web") -> Mesh:
        return connect(self.url, group=group, token=TOKEN, reconnect=QUICK)


@asynccontextmanager
async def town() -> AsyncIterator[Town]:
    async with trio.open_nursery() as nursery:
        made = Town(nursery)
        await made.start()
        yield made
        await made.stop(politely=False)


async def reach(mesh: Mesh, state: State) -> None:
    async with mesh.states() as states:
        async for change in states:
            if change.state is state:
                return


class Counter:
    """A service with a handler that ends, and one that does not."""

    def __init__(self) -> None:
        self.service = Service("counters")
        self.count = 0
        self.begun = trio.Event()
        self.stopped = trio.Event()
        self.service.on("COUNT")(self.add)
        self.service.on("HANG")(self.hang)

    async def add(self) -> int:
        self.count += 1
        return self.count

    async def hang(self) -> None:
        self.begun.set()
        try:
            await trio.sleep_forever()
        finally:
            self.stopped.set()


@pytest.mark.parametrize("politely", [False, True])
async def test_a_service_serves_again(politely: bool) -> None:
    counter = Counter()
    async with (
        town() as place,
        counter.service.serve(place.url, token=TOKEN, reconnect=QUICK) as member,
        place.connect() as mesh,
    ):
        before = mesh.id
        assert await mesh.request("COUNT", group="counters") == 1
        await place.stop(politely=politely)
        await reach(member, State.CONNECTING)
        await reach(mesh, State.CONNECTING)
        await place.start()
        await member.wait_connected()
        await mesh.wait_connected()
        assert await mesh.request("COUNT", group="counters") == 2
        assert mesh.id != before
        assert mesh.statistics().connections == 2


async def test_what_is_under_way_fails_and_its_handler_stops() -> None:
    counter = Counter()
    async with (
        town() as place,
        counter.service.serve(place.url, token=TOKEN, reconnect=QUICK),
        place.connect() as mesh,
        trio.open_nursery() as nursery,
    ):

        async def ask() -> None:
            with pytest.raises(ConnectionLost) as caught:
                await mesh.request("HANG", group="counters")
            assert caught.value.may_have_arrived

        nursery.start_soon(ask)
        await counter.begun.wait()
        await place.stop(politely=False)
        await counter.stopped.wait()
        await place.start()


async def test_a_watch_begins_anew() -> None:
    async with town() as place, place.connect() as mesh, mesh.watch() as changes:
        assert isinstance(await changes.receive(), Snapshot)
        await place.stop(politely=False)
        await place.start()
        again = await changes.receive()
        assert isinstance(again, Snapshot)
        assert [service.id for service in again.services] == [mesh.id]
        async with place.connect("billing") as billing:
            up = await changes.receive()
            assert isinstance(up, Up)
            assert up.service.id == billing.id


async def test_the_callee_comes_back_under_another_id() -> None:
    counter = Counter()
    async with (
        town() as place,
        place.connect() as mesh,
        trio.open_nursery() as nursery,
        counter.service.serve(place.url, token=TOKEN, reconnect=QUICK) as member,
    ):
        callee = member.id

        async def ask() -> None:
            with pytest.raises(PeerGone):
                await mesh.request("HANG", to=callee)

        nursery.start_soon(ask)
        await counter.begun.wait()
        # As if the network had cut it off: no goodbye.
        await member._connected._stream.aclose()
        await counter.stopped.wait()
        await reach(member, State.CONNECTED)
        assert member.id != callee
        assert await mesh.request("COUNT", to=member.id) == 1


async def test_being_told_why() -> None:
    async with town() as place, place.connect() as mesh, mesh.states() as states:
        assert (await anext(states)).state is State.CONNECTED
        await place.stop(politely=True)
        change = await anext(states)
        assert change.state is State.CONNECTING
        assert isinstance(change.error, Disconnected)
        assert change.error.reason == "SERVER_RESTART"
        assert change.url == place.url
        await place.start()
        await mesh.wait_connected()
