"""What waits for a client is bounded."""

from __future__ import annotations

import trio
import trio.testing

from services.gateways.outbox import Outbox


async def take_all(outbox: Outbox) -> list[str]:
    taken = []
    while outbox.size:
        taken.append(await outbox.take())
    return taken


async def test_texts_come_in_order() -> None:
    outbox = Outbox(100)
    for text in ("a", "b", "c"):
        assert outbox.send(text)
    assert await take_all(outbox) == ["a", "b", "c"]


async def test_there_is_a_bound_for_events() -> None:
    outbox = Outbox(10)
    assert outbox.send("x" * 6)
    assert not outbox.send("y" * 5)
    assert outbox.send("z" * 4)
    assert await take_all(outbox) == ["x" * 6, "z" * 4]


async def test_one_event_is_always_let_in() -> None:
    outbox = Outbox(10)
    assert outbox.send("x" * 100)
    assert not outbox.send("y")


async def test_an_answer_is_always_let_in() -> None:
    outbox = Outbox(10)
    outbox.send("x" * 10)
    outbox.answer("y" * 100)
    assert await take_all(outbox) == ["x" * 10, "y" * 100]


async def test_what_is_held_comes_after_the_answer_and_counts() -> None:
    outbox = Outbox(10)
    outbox.send("before")
    with outbox.hold():
        outbox.send("3")
        assert not outbox.send("too much")
        outbox.answer("1")
        outbox.answer("2")
    outbox.send("4")
    assert await take_all(outbox) == ["before", "1", "2", "3", "4"]


async def test_taking_waits_for_something(autojump_clock: trio.testing.MockClock) -> None:
    outbox = Outbox(10)
    with trio.move_on_after(1) as scope:
        await outbox.take()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:

        async def put_later() -> None:
            await trio.sleep(1)
            outbox.send("late")

        nursery.start_soon(put_later)
        assert await outbox.take() == "late"


async def test_who_waits_for_room_goes_on_when_half_is_free(
    autojump_clock: trio.testing.MockClock,
) -> None:
    outbox = Outbox(10)
    for _ in range(10):
        outbox.send("x")
    went_on = trio.Event()
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            await outbox.wait_low()
            went_on.set()

        nursery.start_soon(wait)
        for _ in range(4):
            await outbox.take()
            await trio.testing.wait_all_tasks_blocked()
            assert not went_on.is_set()
        await outbox.take()
        await went_on.wait()
