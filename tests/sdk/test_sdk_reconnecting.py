"""What happens between connections, on a clock that the tests turn."""

from __future__ import annotations

import random
from functools import partial
from itertools import pairwise

import anyio
import pytest
from anyio.abc import ByteStream

from broker.protocol.errors import Reason
from broker.protocol.frames import OpCode
from services.sdk import (
    Backoff,
    CannotConnect,
    ConnectionLost,
    Disconnected,
    IdentifyFailed,
    Mesh,
    MeshClosed,
    MeshError,
    State,
    StateChange,
    UnsentEvents,
    connect,
)
from services.sdk.outbox import HIGH_BYTES
from services.sdk.urls import Address
from tests.sdk.brokers import NOBODY, Brokers, last_word, longest_pauses, turned_away
from tests.sdk.loops import on_both_loops, on_trio, run_on_trio
from tests.sdk.scripted import ScriptedBroker, event, reply, welcome

HEALING = {
    Reason.SERVER_RESTART,
    Reason.TRY_AGAIN_LATER,
    Reason.UNKNOWN_ERROR,
    Reason.PING_TIMEOUT,
    Reason.IDENTIFY_TIMEOUT,
    Reason.SLOW_CONSUMER,
}


# Pauses.


def test_a_pause_is_drawn_from_the_whole_range() -> None:
    drawn = iter([0.0, 0.5, 0.999, 0.5, 0.5])
    backoff = Backoff(first=0.5, longest=3, random=lambda: next(drawn))
    pauses = [backoff.pause(attempt) for attempt in range(5)]
    assert pauses == pytest.approx([0.0, 0.5, 1.998, 1.5, 1.5])


def test_however_many_attempts_there_were() -> None:
    assert longest_pauses(longest=7).pause(10**9) == 7
    assert 0 <= Backoff().pause(3) < 4
    assert Backoff().random is random.random


@pytest.mark.parametrize("options", [{"first": 0}, {"first": -1}, {"first": 2, "longest": 1}])
def test_pauses_that_make_no_sense(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"first|longest"):
        Backoff(**options)  # type: ignore[arg-type]


@on_trio
async def test_pauses_grow_up_to_a_bound() -> None:
    with Brokers(ScriptedBroker(), *[NOBODY] * 7, last := ScriptedBroker()) as brokers:
        async with brokers.connect(reconnect=longest_pauses(longest=10)) as mesh:
            brokers._entered[0].hang_up()
            await wait_for(mesh, State.CONNECTING)
            await mesh.wait_connected()
            times = [time for time, _ in brokers.attempts]
            pauses = [later - time for time, later in pairwise(times)]
            assert pauses == [0.5, 1, 2, 4, 8, 10, 10, 10]
            await mesh.emit("NEWS")
            assert (await last.receive_until(OpCode.EVENT)).event == "NEWS"


async def wait_for(mesh: Mesh, state: State) -> None:
    async with mesh.states() as states:
        async for change in states:
            if change.state is state:
                return


@pytest.mark.parametrize(("stood", "pause"), [(9, 1), (10, 0.5)])
def test_a_connection_that_stood_for_long_begins_anew(stood: float, pause: float) -> None:
    async def run() -> None:
        first, second = ScriptedBroker(), ScriptedBroker()
        with Brokers(first, second, ScriptedBroker()) as brokers:
            async with brokers.connect(reconnect=longest_pauses(longest=10)) as mesh:
                first.hang_up()
                await wait_for(mesh, State.CONNECTING)
                await mesh.wait_connected()
                await anyio.sleep(stood)
                before = anyio.current_time()
                second.hang_up()
                await wait_for(mesh, State.CONNECTING)
                await mesh.wait_connected()
                assert anyio.current_time() - before == pause

    run_on_trio(run)


# Where to.


@on_trio
async def test_several_brokers_are_tried_in_turn() -> None:
    urls = ["tcp://a", "tcp://b", "tcp://c"]
    first, second = ScriptedBroker(), ScriptedBroker()
    with Brokers(NOBODY, first, NOBODY, NOBODY, NOBODY, NOBODY, second) as brokers:
        async with brokers.connect(urls) as mesh:
            assert mesh.state is State.CONNECTED
            first.hang_up()
            await wait_for(mesh, State.CONNECTING)
            await mesh.wait_connected()
        # It begins behind the one that was lost; there is a pause only after a whole round.
        assert brokers.attempts == [
            (0, "tcp://a"),
            (0, "tcp://b"),
            *((0.5, url) for url in ("tcp://c", "tcp://a", "tcp://b")),
            *((1.5, url) for url in ("tcp://c", "tcp://a")),
        ]


@on_trio
async def test_none_of_several_brokers() -> None:
    with Brokers(NOBODY, turned_away("TRY_AGAIN_LATER"), NOBODY) as brokers:
        with pytest.raises(CannotConnect, match="tcp://c") as caught:
            async with brokers.connect(["tcp://a", "tcp://b", "tcp://c"]):
                raise AssertionError("entered")
        assert len(brokers.attempts) == 3
        assert [note[:12] for note in caught.value.__notes__] == ["before that:"] * 2


def test_no_url_at_all() -> None:
    with pytest.raises(ValueError, match="no URL"):
        connect([], token="t")


@on_trio
async def test_who_insists_waits_for_the_first_connection() -> None:
    with Brokers(NOBODY, turned_away("SERVER_RESTART"), ScriptedBroker()) as brokers:
        async with brokers.connect(insist=True) as mesh:
            assert mesh.state is State.CONNECTED
        assert [time for time, _ in brokers.attempts] == [0, 0.5, 1.5]


@on_trio
async def test_insisting_is_of_no_use_with_a_wrong_token() -> None:
    with Brokers(NOBODY, turned_away("IDENTIFY_FAILED"), ScriptedBroker()) as brokers:
        with pytest.raises(IdentifyFailed):
            async with brokers.connect(["tcp://a", "tcp://b", "tcp://c"], insist=True):
                raise AssertionError("entered")
        assert len(brokers.attempts) == 2


# What heals and what does not.


@pytest.mark.parametrize("reason", list(Reason))
def test_being_sent_away(reason: Reason) -> None:
    async def run() -> None:
        first = ScriptedBroker()
        with Brokers(first, ScriptedBroker()) as brokers:
            async with brokers.connect() as mesh, mesh.listen("*") as events:
                first.send_bytes(last_word(reason))
                first.hang_up()
                if reason in HEALING:
                    await wait_for(mesh, State.CONNECTING)
                    await mesh.wait_connected()
                    assert len(brokers.attempts) == 2
                    return
                with pytest.raises(Disconnected, match=reason):
                    await mesh.wait_closed()
                with pytest.raises(Disconnected, match=reason):
                    await mesh.wait_connected()
                with pytest.raises(Disconnected, match=reason):
                    await events.receive()
                with pytest.raises(Disconnected, match=reason):
                    await mesh.emit("NEWS")
                assert mesh.state is State.CLOSED
                await anyio.sleep(1000)
                assert len(brokers.attempts) == 1

    run_on_trio(run)


@on_trio
async def test_not_being_let_in_again() -> None:
    first = ScriptedBroker()
    with Brokers(first, NOBODY, turned_away("IDENTIFY_FAILED"), ScriptedBroker()) as brokers:
        async with brokers.connect() as mesh, mesh.listen("*") as events:
            first.hang_up()
            with pytest.raises(IdentifyFailed):
                await mesh.wait_closed()
            for _ in range(2):
                with pytest.raises(IdentifyFailed):
                    await events.receive()
            assert len(brokers.attempts) == 3


# States.


@on_trio
async def test_the_states_that_it_goes_through() -> None:
    first = ScriptedBroker()
    seen: list[StateChange] = []
    with Brokers(first, NOBODY, ScriptedBroker()) as brokers:
        async with anyio.create_task_group() as tasks, brokers.connect() as mesh:

            async def listen() -> None:
                async with mesh.states() as states:
                    seen.extend([change async for change in states])
                    assert [change async for change in states] == []

            tasks.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            first.hang_up()
            await wait_for(mesh, State.CONNECTING)
            await mesh.wait_connected()
    assert [(change.state.name, change.retry_in) for change in seen] == [
        ("CONNECTED", None),
        ("CONNECTING", None),
        ("CONNECTING", 0.5),
        ("CONNECTING", None),
        ("CONNECTING", 1.0),
        ("CONNECTING", None),
        ("CONNECTED", None),
        ("CLOSED", None),
    ]
    kinds = [type(change.error).__name__ for change in seen]
    assert kinds == [
        "NoneType",
        *["ConnectionLost"] * 3,
        *["CannotConnect"] * 2,
        "NoneType",
        "MeshClosed",
    ]


@on_trio
async def test_closing_between_connections() -> None:
    first = ScriptedBroker()
    with Brokers(first) as brokers:
        async with anyio.create_task_group() as tasks:
            async with brokers.connect(patience=1000) as mesh, mesh.listen("*") as events:
                first.hang_up()
                await wait_for(mesh, State.CONNECTING)

                async def emit() -> None:
                    with pytest.raises(MeshClosed):
                        await mesh.emit("NEWS")

                async def hear() -> None:
                    with pytest.raises(MeshClosed):
                        await events.receive()

                async def await_the_end() -> None:
                    with pytest.raises(MeshClosed):
                        await mesh.wait_closed()

                for wait in (emit, hear, await_the_end):
                    tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                before = anyio.current_time()
            assert anyio.current_time() == before


@on_trio
async def test_closing_while_a_connection_is_being_made() -> None:
    first, silent = ScriptedBroker(), ScriptedBroker(first=b"")
    with Brokers(first, silent) as brokers:
        async with brokers.connect() as mesh:
            first.hang_up()
            assert (await silent.receive()).op is OpCode.IDENTIFY
            before = anyio.current_time()
        assert anyio.current_time() == before
        assert mesh.state is State.CLOSED


class PromptStream(ByteStream):
    """A broker that lets in at once: there is no moment at which connecting could be cancelled."""

    def __init__(self) -> None:
        self._first = welcome()
        self.closed = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        first, self._first = self._first, b""
        if not first:
            await anyio.sleep_forever()
        return first

    async def send(self, item: bytes) -> None: ...

    async def send_eof(self) -> None: ...

    async def aclose(self) -> None:
        self.closed = True


@on_trio
async def test_closing_in_the_moment_in_which_a_connection_stands() -> None:
    first, prompt, closing = ScriptedBroker(), PromptStream(), anyio.Event()

    async def dial(address: Address) -> ByteStream:
        if not first.stream.receives:
            return await first.dial(address)
        with anyio.CancelScope(shield=True):
            await closing.wait()
        return prompt

    with first:
        async with anyio.create_task_group() as tasks:
            async with connect("tcp://broker", token="t", dial=dial) as mesh:

                async def stand_when_closed() -> None:
                    await wait_for(mesh, State.CLOSED)
                    closing.set()

                tasks.start_soon(stand_when_closed)
                first.hang_up()
                await wait_for(mesh, State.CONNECTING)
                await anyio.sleep(1)
                before = anyio.current_time()
            assert anyio.current_time() == before
        assert prompt.closed


@on_trio
async def test_a_cancelled_program_between_connections() -> None:
    first = ScriptedBroker()
    with Brokers(first) as brokers, anyio.CancelScope() as scope:
        async with brokers.connect() as mesh:
            first.hang_up()
            await wait_for(mesh, State.CONNECTING)
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


# What is sent meanwhile.


@on_trio
async def test_what_is_sent_meanwhile_waits() -> None:
    first, second = ScriptedBroker(), ScriptedBroker()
    with Brokers(first, NOBODY, second) as brokers:
        async with brokers.connect() as mesh, anyio.create_task_group() as tasks:
            first.hang_up()
            await wait_for(mesh, State.CONNECTING)
            results: list[int] = []

            async def ask() -> None:
                results.append(await mesh.request("SUM", group="maths", timeout=20))

            tasks.start_soon(ask)
            tasks.start_soon(mesh.emit, "NEWS")
            await anyio.wait_all_tasks_blocked()
            asked = [await second.receive_until(OpCode.EVENT) for _ in range(2)]
            assert {frame.event for frame in asked} == {"SUM", "NEWS"}
            second.send(*(reply(frame, 7) for frame in asked if frame.event == "SUM"))
            await anyio.wait_all_tasks_blocked()
            assert results == [7]
            assert mesh.statistics().connections == 2
            assert mesh.statistics().sent == 2


@on_trio
async def test_how_long_it_waits() -> None:
    first = ScriptedBroker()
    with Brokers(first) as brokers:
        async with brokers.connect(patience=3) as mesh:
            first.hang_up()
            await wait_for(mesh, State.CONNECTING)
            for send, seconds in (
                (partial(mesh.emit, "NEWS"), 3),
                (partial(mesh.emit, "NEWS", patience=7), 7),
                (partial(mesh.emit, "NEWS", patience=0), 0),
                (partial(mesh.request, "SUM", group="maths"), 3),
                (partial(mesh.request, "SUM", group="maths", timeout=2), 2),
                (mesh.gather("SUM").__aenter__, 3),
            ):
                before = anyio.current_time()
                with pytest.raises(ConnectionLost, match="no connection") as caught:
                    await send()
                assert not caught.value.may_have_arrived
                assert anyio.current_time() - before == pytest.approx(seconds)
                # It says what is the matter.
                assert isinstance(caught.value.__cause__, ConnectionLost)
            assert mesh.statistics().pending == 0


@on_trio
async def test_how_much_may_wait() -> None:
    first, second = ScriptedBroker(), ScriptedBroker(message_bytes=2 * HIGH_BYTES)
    with Brokers(first, second) as brokers:
        async with brokers.connect() as mesh, anyio.create_task_group() as tasks:
            first.hang_up()
            await wait_for(mesh, State.CONNECTING)
            tasks.start_soon(mesh.emit, "MUCH", "x" * HIGH_BYTES)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(ConnectionLost, match=r"there is no connection, and \d+ bytes wait"):
                await mesh.emit("MORE")
            assert (await second.receive_until(OpCode.EVENT)).event == "MUCH"
            await mesh.emit("MORE")


@on_trio
async def test_who_waits_for_room_goes_on_with_the_next_connection() -> None:
    first, second = ScriptedBroker(message_bytes=2**20, room=1), ScriptedBroker(message_bytes=2**20)
    errors: list[MeshError] = []
    with Brokers(first, second) as brokers:
        async with (
            brokers.connect(on_error=errors.append) as mesh,
            anyio.create_task_group() as tasks,
        ):
            numbers: list[int] = []

            async def flood() -> None:
                for number in range(20):
                    await mesh.emit("FLOOD", [number, "x" * 2**18])
                    numbers.append(number)

            tasks.start_soon(flood)
            await anyio.wait_all_tasks_blocked()
            waiting = len(numbers)
            first.hang_up()
            arrived = [(await second.receive_until(OpCode.EVENT)).data[0] for _ in range(3)]
            assert arrived == [waiting, waiting + 1, waiting + 2]
            await wait_for(mesh, State.CONNECTED)
        # What the first connection had not written is told, each by its name.
        (error,) = errors
        assert isinstance(error, UnsentEvents)
        assert [call.event for call in error.calls] == ["FLOOD"] * len(error.calls)
        assert str(error).startswith(f"not sent before the connection ended: {len(error.calls)} ")
        assert 0 < len(error.calls) <= waiting


# What is under way when a connection is lost.


@on_trio
async def test_whether_a_request_may_have_arrived() -> None:
    first = ScriptedBroker(message_bytes=2**20, room=1)
    with Brokers(first) as brokers:
        async with brokers.connect() as mesh, anyio.create_task_group() as tasks:
            fates: dict[str, bool] = {}
            assert (await first.receive()).op is OpCode.IDENTIFY

            async def ask(name: str) -> None:
                with pytest.raises(ConnectionLost) as caught:
                    await mesh.request(name, group="maths", timeout=100)
                fates[name] = caught.value.may_have_arrived
                says = "is not known" if fates[name] else "it was not sent"
                assert says in caught.value.__notes__[0]

            for name in ("WRITTEN", "IN_HAND", "WAITING"):
                tasks.start_soon(ask, name)
                await anyio.wait_all_tasks_blocked()
            first.hang_up()
        assert fates == {"WRITTEN": True, "IN_HAND": True, "WAITING": False}


@on_both_loops
async def test_listeners_go_on() -> None:
    first, second = ScriptedBroker(), ScriptedBroker()
    with Brokers(first, second) as brokers:
        # On the event loop of asyncio, time is real.
        async with (
            brokers.connect(reconnect=Backoff(first=1e-6, longest=1e-6)) as mesh,
            mesh.listen("*") as events,
            mesh.frames() as frames,
        ):
            first.send(event("ONE"))
            first.hang_up()
            assert (await events.receive()).name == "ONE"
            await wait_for(mesh, State.CONNECTING)
            await mesh.wait_connected()
            second.send(event("TWO"))
            assert (await events.receive()).name == "TWO"
            assert [(await frames.receive()).event for _ in range(2)] == ["ONE", "TWO"]


@on_trio
async def test_a_connection_that_is_lost_again_at_once() -> None:
    row = [ScriptedBroker() for _ in range(5)]
    with Brokers(*row) as brokers:
        async with brokers.connect() as mesh:
            for broker in row[:4]:
                broker.hang_up()
                await wait_for(mesh, State.CONNECTING)
                await mesh.wait_connected()
            assert [time for time, _ in brokers.attempts] == [0, 0.5, 1.5, 3.5, 7.5]


async def test_it_can_be_told_to_end_with_its_connection() -> None:
    first = ScriptedBroker()
    with Brokers(first, ScriptedBroker()) as brokers:
        async with brokers.connect(reconnect=None) as mesh:
            first.hang_up()
            with pytest.raises(ConnectionLost):
                await mesh.wait_closed()
            assert len(brokers.attempts) == 1


# Tokens that are renewed.


async def shown(broker: ScriptedBroker) -> object:
    """The token that a broker was shown."""
    identify = await broker.receive_until(OpCode.IDENTIFY)
    assert isinstance(identify.data, dict)
    return identify.data["token"]


@on_trio
async def test_a_function_is_asked_for_the_token_of_each_connection() -> None:
    tokens = iter(["first", "second"])
    first, second = ScriptedBroker(), ScriptedBroker()
    with Brokers(first, second) as brokers:
        async with brokers.connect(token=lambda: next(tokens)) as mesh:
            first.send_bytes(last_word(Reason.UNAUTHORIZED))
            await wait_for(mesh, State.CONNECTING)
            await mesh.wait_connected()
            assert [await shown(first), await shown(second)] == ["first", "second"]


@on_trio
async def test_an_expired_token_that_is_not_renewed_is_the_end() -> None:
    first = ScriptedBroker()
    with Brokers(first, ScriptedBroker()) as brokers:
        async with brokers.connect() as mesh:
            first.send_bytes(last_word(Reason.UNAUTHORIZED))
            with pytest.raises(Disconnected, match="UNAUTHORIZED"):
                await mesh.wait_closed()
        assert len(brokers.attempts) == 1


@on_trio
async def test_where_there_is_no_token_the_attempt_has_failed() -> None:
    def no_token() -> str:
        raise FileNotFoundError("token.jwt")

    with Brokers(ScriptedBroker()) as brokers:
        with pytest.raises(CannotConnect, match=r"no token to identify with.*token\.jwt"):
            async with brokers.connect(token=no_token):
                raise AssertionError("entered")


@on_trio
async def test_without_a_token_none_is_shown() -> None:
    broker = ScriptedBroker()
    with Brokers(broker) as brokers:
        async with brokers.connect(token=None):
            identify = await broker.receive_until(OpCode.IDENTIFY)
            assert identify.data == {"group": "web"}
