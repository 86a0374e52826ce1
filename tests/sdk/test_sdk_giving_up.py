"""Requests that are taken back, and handlers that nobody waits for any more."""

from __future__ import annotations

import logging

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

from broker.protocol.frames import Frame, OpCode, Source
from services.sdk import Event, Mesh, PeerGone, Service
from tests.sdk.loops import on_both_loops, on_trio, run_on_trio
from tests.sdk.real_broker import TOKEN, broker, join
from tests.sdk.scripted import PEER, ScriptedBroker, event, reply, request


class Kitchen:
    """A service whose handlers go on until they are stopped."""

    def __init__(self, group: str = "kitchen") -> None:
        self.service = Service(group)
        self.begun = anyio.Event()
        self.stopped = anyio.Event()
        self.served: list[object] = []
        self.timeouts: list[float] = []
        self.service.on("COOK")(self.cook)
        self.service.on("SERVE")(self.serve)
        self.service.on("DELEGATE")(self.delegate)

    async def cook(self, event: Event) -> None:
        self.timeouts.append(event.timeout or 0)
        self.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.stopped.set()

    async def serve(self, what: object) -> object:
        self.served.append(what)
        return what

    async def delegate(self, to: str, mesh: Mesh, event: Event) -> object:
        self.timeouts.append(event.timeout or 0)
        try:
            return await mesh.request("COOK", group=to, timeout=60)
        finally:
            self.stopped.set()


async def give_up(mesh: Mesh, kitchen: Kitchen, event: str = "COOK", data: object = None) -> None:
    """Ask, wait until the handler is at it, and lose interest."""
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            await mesh.request(event, data, group=kitchen.service.group, timeout=20)

        nursery.start_soon(ask)
        await kitchen.begun.wait()
        nursery.cancel_scope.cancel()


# With the real broker.


async def test_a_cancelled_request_stops_its_handler() -> None:
    kitchen = Kitchen()
    async with (
        broker() as server,
        kitchen.service.serve(server.addresses[0], token=TOKEN) as member,
        join(server) as mesh,
    ):
        await give_up(mesh, kitchen)
        await kitchen.stopped.wait()
        assert await mesh.request("SERVE", "tea", group="kitchen") == "tea"
        # There was no answer to what nobody waits for, so nothing came too late.
        assert (mesh.statistics().late_replies, mesh.statistics().pending) == (0, 0)
        assert (await member.whoami()).in_flight == 0


async def test_a_requester_that_leaves_stops_its_handlers() -> None:
    kitchen = Kitchen()
    async with broker() as server, kitchen.service.serve(server.addresses[0], token=TOKEN):
        with trio.CancelScope() as scope:
            async with join(server) as mesh, trio.open_nursery() as nursery:

                async def leave() -> None:
                    await kitchen.begun.wait()
                    scope.cancel()

                nursery.start_soon(leave)
                await mesh.request("COOK", group="kitchen", timeout=20)
        await kitchen.stopped.wait()


async def test_a_handler_ends_with_its_request() -> None:
    kitchen = Kitchen()
    async with (
        broker() as server,
        kitchen.service.serve(server.addresses[0], token=TOKEN),
        join(server) as mesh,
    ):
        with trio.move_on_after(0.05) as scope:
            await mesh.request("COOK", group="kitchen", timeout=60)
        assert scope.cancelled_caught
        await kitchen.stopped.wait()
        assert kitchen.timeouts[0] <= 0.05


async def test_giving_up_goes_all_the_way_down() -> None:
    first, second, third = Kitchen("first"), Kitchen("second"), Kitchen("third")

    @first.service.on("CHAIN")
    async def chain(mesh: Mesh) -> None:
        await mesh.request("DELEGATE", "third", group="second", timeout=60)

    async with broker() as server, join(server) as mesh:
        url = server.addresses[0]
        async with (
            first.service.serve(url, token=TOKEN),
            second.service.serve(url, token=TOKEN),
            third.service.serve(url, token=TOKEN),
            trio.open_nursery() as nursery,
        ):

            async def ask() -> None:
                await mesh.request("CHAIN", group="first", timeout=20)

            nursery.start_soon(ask)
            await third.begun.wait()
            # What each of them has is what its own caller had left.
            (given,), (left,) = second.timeouts, third.timeouts
            assert 20 >= given >= left
            nursery.cancel_scope.cancel()
            await second.stopped.wait()
            await third.stopped.wait()


async def test_a_request_of_which_the_callee_leaves_is_not_taken_back() -> None:
    async with (
        broker() as server,
        join(server) as mesh,
        join(server, "silent") as callee,
        callee.listen("COOK") as orders,
        trio.open_nursery() as nursery,
    ):

        async def ask() -> None:
            with pytest.raises(PeerGone):
                await mesh.request("COOK", to=callee.id)

        nursery.start_soon(ask)
        await orders.receive()
        await callee._connected.close()


# With a broker that says what a test tells it to: what exactly is sent, and when.


@on_both_loops
async def test_what_a_cancelled_request_says() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh:
            async with anyio.create_task_group() as tasks:

                async def ask() -> None:
                    await mesh.request("COOK", group="kitchen")

                tasks.start_soon(ask)
                asked = await scripted.receive_until(OpCode.EVENT)
                tasks.cancel_scope.cancel()
            taken_back = await scripted.receive_until(OpCode.EVENT)
            assert taken_back == Frame(op=OpCode.EVENT, id=asked.id, event="$cancel")


@on_trio
async def test_a_request_that_ends_by_itself_is_taken_back() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh, anyio.create_task_group() as tasks:

            async def ask() -> None:
                with pytest.raises(TimeoutError), anyio.fail_after(3):
                    await mesh.request("COOK", group="kitchen", timeout=60)

            tasks.start_soon(ask)
            asked = await scripted.receive_until(OpCode.EVENT)
            assert asked.timeout == 3000
            before = anyio.current_time()
            taken_back = await scripted.receive_until(OpCode.EVENT)
            assert (taken_back.event, taken_back.id) == ("$cancel", asked.id)
            assert anyio.current_time() - before == 3


@on_both_loops
async def test_an_answered_request_is_not_taken_back() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh, anyio.create_task_group() as tasks:

            async def ask() -> None:
                await mesh.request("COOK", group="kitchen")
                await anyio.sleep_forever()

            tasks.start_soon(ask)
            scripted.send(reply(await scripted.receive_until(OpCode.EVENT)))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert (await scripted.receive()).op is OpCode.DISCONNECT


@on_both_loops
async def test_a_request_that_was_never_sent_is_not_taken_back() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await mesh.request("COOK", group="kitchen")
            assert (mesh.statistics().sent, mesh.statistics().pending) == (0, 0)


@on_trio
async def test_what_a_handler_starts_elsewhere_has_its_own_time() -> None:
    kitchen = Kitchen()
    with ScriptedBroker() as scripted:
        async with anyio.create_task_group() as tasks:

            @kitchen.service.on("START")
            async def start(mesh: Mesh) -> None:
                async def ask() -> None:
                    await mesh.request("COOK", group="elsewhere", timeout=60)

                tasks.start_soon(ask)
                await ask()

            async with kitchen.service.serve("tcp://broker", token="t", dial=scripted.dial):
                scripted.send(request("START"))
                asked = [await scripted.receive_until(OpCode.EVENT) for _ in range(2)]
                assert sorted(one.timeout or 0 for one in asked) == [2000, 60_000]
                tasks.cancel_scope.cancel()


@on_trio
async def test_who_has_no_time_left_asks_for_as_little_as_can_be_said() -> None:
    with ScriptedBroker() as scripted:
        async with scripted.connect() as mesh:
            with anyio.CancelScope(deadline=anyio.current_time() + 1e-9) as scope:
                await mesh.request("COOK", group="kitchen")
            assert scope.cancelled_caught
            assert (await scripted.receive_until(OpCode.EVENT)).timeout == 1


def cancel(id: str, source: Source = PEER) -> Frame:
    return Frame(op=OpCode.EVENT, id=id, event="$cancel", source=source)


def serve_and_send(*frames: Frame, concurrency: int = 10) -> tuple[Kitchen, list[Frame]]:
    """Let a service meet some frames; return what it has replied."""
    kitchen = Kitchen()
    replies: list[Frame] = []

    async def run() -> None:
        with ScriptedBroker() as scripted:
            async with kitchen.service.serve(
                "tcp://broker", token="t", dial=scripted.dial, concurrency=concurrency, grace=1
            ):
                for frame in frames:
                    scripted.send(frame)
                    await anyio.wait_all_tasks_blocked()
            while (frame := await scripted.receive()).op is not OpCode.DISCONNECT:
                if frame.op is OpCode.REPLY:
                    replies.append(frame)

    run_on_trio(run)
    return kitchen, replies


@pytest.mark.parametrize(
    ("named", "stops"),
    [
        (cancel("7"), True),
        (cancel("8"), False),
        (cancel("7", Source("somebody", "else")), False),
    ],
)
def test_only_the_request_that_is_named_stops(named: Frame, stops: bool) -> None:
    after: list[bool] = []
    kitchen = Kitchen()

    @kitchen.service.on("LOOK")
    async def look() -> None:
        after.append(kitchen.stopped.is_set())

    async def run() -> None:
        with ScriptedBroker() as scripted:
            async with kitchen.service.serve(
                "tcp://broker", token="t", dial=scripted.dial, grace=0
            ):
                scripted.send(request("COOK", id="7"))
                await kitchen.begun.wait()
                scripted.send(named)
                await anyio.wait_all_tasks_blocked()
                scripted.send(event("LOOK"))
                await anyio.wait_all_tasks_blocked()

    run_on_trio(run)
    assert after == [stops]


def test_a_request_is_taken_out_of_the_backlog() -> None:
    kitchen, replies = serve_and_send(
        request("COOK", id="1"),
        request("SERVE", "tea", id="2"),
        request("SERVE", "cake", id="3"),
        cancel("2"),
        cancel("1"),
        concurrency=1,
    )
    assert kitchen.served == ["cake"]
    assert [answer.id for answer in replies] == ["3"]


def test_an_id_can_be_used_again() -> None:
    kitchen, replies = serve_and_send(
        request("COOK", id="1"),
        cancel("1"),
        request("SERVE", "tea", id="1"),
        cancel("1"),
        cancel("unheard-of"),
    )
    assert kitchen.served == ["tea"]
    assert [(answer.id, answer.data) for answer in replies] == [("1", "tea")]


def test_an_event_that_awaits_no_answer_is_not_taken_back() -> None:
    kitchen, _ = serve_and_send(event("COOK", id="1"), cancel("1"), request("SERVE", 1, id="2"))
    assert kitchen.served == [1]


@pytest.mark.parametrize("how", ["returns", "raises", "passes on"])
def test_what_a_stopped_handler_says_is_not_sent(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    kitchen = Kitchen()
    done: list[str] = []

    @kitchen.service.on("STUBBORN")
    async def stubborn() -> str:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await checkpoint()
                done.append(how)
            if how == "raises":
                raise KeyError("on the way out") from None
            if how == "passes on":
                raise
        return "too late"

    async def run() -> None:
        with ScriptedBroker() as scripted:
            async with kitchen.service.serve("tcp://broker", token="t", dial=scripted.dial):
                scripted.send(request("STUBBORN", id="1"))
                await anyio.wait_all_tasks_blocked()
                scripted.send(cancel("1"), request("SERVE", id="2"))
                assert (await scripted.receive_until(OpCode.REPLY)).id == "2"
                await anyio.wait_all_tasks_blocked()
            assert (await scripted.receive()).op is OpCode.DISCONNECT

    with caplog.at_level(logging.INFO):
        run_on_trio(run)
    assert done == [how]
    assert "STUBBORN (id 1) was not answered: nobody awaits a reply any more" in caplog.text


def test_the_time_of_a_request_counts_from_its_arrival() -> None:
    kitchen = Kitchen()

    async def run() -> None:
        with ScriptedBroker() as scripted:
            async with kitchen.service.serve("tcp://broker", token="t", dial=scripted.dial):
                scripted.send(request("COOK"))
                before = anyio.current_time()
                await kitchen.stopped.wait()
                assert anyio.current_time() - before == 2

    run_on_trio(run)


def test_a_handler_that_fails_while_it_is_stopped_ends_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kitchen = Kitchen()

    @kitchen.service.on("CLEAR")
    async def clear() -> None:
        async def wait() -> None:
            await trio.sleep_forever()

        async def fail() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("the plates")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(fail)

    replies: list[Frame] = []

    async def run() -> None:
        with ScriptedBroker() as scripted:
            async with kitchen.service.serve("tcp://broker", token="t", dial=scripted.dial):
                scripted.send(request("CLEAR", id="7"))
                await anyio.wait_all_tasks_blocked()
                scripted.send(cancel("7"))
                await anyio.wait_all_tasks_blocked()
                scripted.send(request("SERVE", "soup", id="8"))
                replies.append(await scripted.receive_until(OpCode.REPLY))

    run_on_trio(run)
    assert [(answer.id, answer.data) for answer in replies] == [("8", "soup")]
    assert "the handler of CLEAR failed" in caplog.text
