from __future__ import annotations

import anyio
import pytest

from broker.protocol.codec import Envelope
from services.sdk import ConnectionLost, Event, ListenerOverflow, MeshClosed
from services.sdk.listeners import Listener, Listeners, compile_pattern
from tests.sdk.loops import on_both_loops


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("USER", "USER", True),
        ("USER", "USERS", False),
        ("USER_*", "USER_UPDATED", True),
        ("USER_*", "USER_", True),
        ("USER_*", "THE_USER_UPDATED", False),
        ("*_UPDATED", "USER_UPDATED", True),
        ("*A*B*", "xAxBx", True),
        ("*A*B*", "xBxA", False),
        ("*", "", True),
        ("**", "anything\nat all", True),
        ("A**B", "AxB", True),
        ("A*B", "A\nB", True),
        ("A.C", "ABC", False),
        ("A?[B]", "A?[B]", True),
        ("", "", True),
        ("", "A", False),
    ],
)
def test_patterns(pattern: str, name: str, matches: bool) -> None:
    assert compile_pattern(pattern)(name) is matches


def envelope(name: str, number: str = "") -> Envelope:
    return Envelope(0, number or None, name)


def listen(listeners: Listeners, pattern: str, buffer: int = 10) -> Listener[Event]:
    return Listener(listeners, pattern, buffer, Event)


@on_both_loops
async def test_each_listener_gets_what_its_pattern_says() -> None:
    listeners = Listeners()
    async with listen(listeners, "A*") as first, listen(listeners, "AB") as second:
        assert listeners.deliver(envelope("AA", "1"))
        assert listeners.deliver(envelope("AB", "2"))
        assert not listeners.deliver(envelope("B", "3"))
        assert [(await first.receive()).id, (await first.receive()).id] == ["1", "2"]
        assert (await second.receive()).id == "2"
        assert (first.received, second.received) == (2, 1)


@on_both_loops
async def test_it_hears_from_entering_to_leaving() -> None:
    listeners = Listeners()
    listener = listen(listeners, "*")
    assert not listeners.deliver(envelope("A"))
    async with listener:
        assert listeners.deliver(envelope("A"))
    assert not listeners.deliver(envelope("A"))
    with pytest.raises(MeshClosed, match="was left"):
        await listener.receive()


@on_both_loops
async def test_not_entered() -> None:
    with pytest.raises(MeshClosed, match="async with"):
        await listen(Listeners(), "*").receive()


@on_both_loops
async def test_waiting_for_the_next_one() -> None:
    listeners = Listeners()
    names: list[str] = []

    async with listen(listeners, "*") as events, anyio.create_task_group() as tasks:

        async def consume() -> None:
            async for event in events:
                names.append(event.name)
                if event.name == "LAST":
                    break

        tasks.start_soon(consume)
        await anyio.wait_all_tasks_blocked()
        listeners.deliver(envelope("A"))
        listeners.deliver(envelope("B"))
        await anyio.wait_all_tasks_blocked()
        assert names == ["A", "B"]
        listeners.deliver(envelope("LAST"))
    assert names == ["A", "B", "LAST"]


@on_both_loops
async def test_overflow_ends_it_after_what_it_holds() -> None:
    listeners = Listeners()
    async with listen(listeners, "*", buffer=2) as events, listen(listeners, "*") as other:
        for number in ("1", "2", "3", "4"):
            listeners.deliver(envelope("A", number))
        assert [(await events.receive()).id, (await events.receive()).id] == ["1", "2"]
        for _ in range(2):
            with pytest.raises(ListenerOverflow, match=r"listener to \* was 2 events behind"):
                await events.receive()
        assert events.received == 3
        # Somebody else's slowness is no concern of this one's.
        assert [(await other.receive()).id for _ in range(4)] == ["1", "2", "3", "4"]


@on_both_loops
async def test_the_end_of_the_connection_comes_after_what_it_holds() -> None:
    listeners = Listeners()
    async with listen(listeners, "*") as events:
        listeners.deliver(envelope("A"))
        listeners.end(lambda: ConnectionLost("gone"))
        assert (await events.receive()).name == "A"
        with pytest.raises(ConnectionLost, match="gone"):
            await events.receive()
    async with listen(listeners, "*") as late:
        with pytest.raises(ConnectionLost, match="gone"):
            await late.receive()


@on_both_loops
async def test_the_end_wakes_who_waits() -> None:
    listeners = Listeners()
    async with listen(listeners, "*") as events, anyio.create_task_group() as tasks:

        async def consume() -> None:
            with pytest.raises(ConnectionLost, match="gone"):
                await events.receive()

        tasks.start_soon(consume)
        await anyio.wait_all_tasks_blocked()
        listeners.end(lambda: ConnectionLost("gone"))


@on_both_loops
async def test_one_consumer_at_a_time() -> None:
    listeners = Listeners()
    async with listen(listeners, "*") as events, anyio.create_task_group() as tasks:

        async def consume() -> None:
            await events.receive()

        tasks.start_soon(consume)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await events.receive()
        tasks.cancel_scope.cancel()


@on_both_loops
async def test_a_cancelled_wait_loses_nothing() -> None:
    listeners = Listeners()
    async with listen(listeners, "*") as events:
        async with anyio.create_task_group() as tasks:

            async def consume() -> None:
                await events.receive()

            tasks.start_soon(consume)
            await anyio.wait_all_tasks_blocked()
            listeners.deliver(envelope("A"))
            tasks.cancel_scope.cancel()
        # Either it was taken by the task, whose cancellation came too late, or it is still there.
        listeners.deliver(envelope("B"))
        assert (await events.receive()).name in ("A", "B")


def test_many_names_are_not_remembered_for_ever() -> None:
    listeners = Listeners()
    for number in range(5000):
        listeners.deliver(envelope(f"NAME_{number}"))
    assert len(listeners._by_name) <= 1024


def test_a_buffer_has_room() -> None:
    with pytest.raises(ValueError, match="one event at least"):
        listen(Listeners(), "*", buffer=0)
