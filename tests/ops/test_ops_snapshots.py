"""What `/events` shows, and to how many."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.core.settings import LimitSettings, Settings
from broker.ops.feed import MOST_VIEWERS
from tests.core.memory_mesh import TOKENS, Client
from tests.ops.rig import EPOCH, Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()


def direct(client: Client) -> dict[str, str]:
    return {"target": "DIRECT", "identifier": client.id}


def of(snapshot: dict[str, Any], group: str) -> dict[str, Any]:
    (found,) = [entry for entry in snapshot["groups"] if entry["group"] == group]
    return dict(found)


# -- Snapshots -------------------------------------------------------------------------------------


async def test_rates_are_since_the_last_look(rig: Rig) -> None:
    web, work = rig.mesh.join("web"), rig.mesh.join("work", name="w1", concurrency=8)
    first = await rig.snapshots.take()
    assert (first["interval"], first["rates"]["messages_in"]) == (0.0, 0.0)
    for number in range(10):
        web.send(op=0, id=str(number), event="E", intent=direct(work), timeout=60_000)
    for number in range(4):
        rig.mesh.now += 0.1
        work.send(op=5, id=str(number), data=1, intent=direct(web))
    error = {"code": "HANDLER_ERROR", "message": "x"}
    work.send(op=5, id="4", error=error, intent=direct(web))
    rig.mesh.now += 1.6
    snapshot = await rig.snapshots.take()

    assert snapshot["interval"] == pytest.approx(2.0)
    assert snapshot["time"] == EPOCH + rig.mesh.now
    assert snapshot["started"] == EPOCH + 5
    assert snapshot["rates"]["messages_in"] == pytest.approx(7.5)
    assert snapshot["rates"]["requests"] == pytest.approx(5.0)
    assert snapshot["totals"]["requests_in_flight"] == 5
    assert snapshot["latency"]["requests"]["count"] == 5
    assert snapshot["latency"]["requests"]["p99"] == 0.5
    (edge,) = snapshot["edges"]
    assert edge == {
        "caller": "web",
        "callee": "work",
        "requests": 5.0,
        "errors": 0.5,
        "requests_total": 10,
        "errors_total": 1,
    }
    group = of(snapshot, "work")
    assert (group["requests"], group["errors"], group["in_flight"]) == (5.0, 0.5, 5)
    assert group["messages_in"] == pytest.approx(2.5)
    assert group["latency"]["count"] == 5
    (service,) = group["services"]
    assert (service["name"], service["concurrency"], service["slow"]) == ("w1", 8, None)

    rig.mesh.now += 1
    later = await rig.snapshots.take()
    assert later["latency"]["requests"] == {"count": 0, "p50": None, "p90": None, "p99": None}
    assert later["edges"][0]["requests"] == 0.0
    assert msgspec.json.decode(msgspec.json.encode(later)) == later


async def test_a_member_that_leaves_too_much_unread_is_slow() -> None:
    limits = LimitSettings(outbox_high_bytes=1024, message_bytes=1024, outbox_bytes=1 << 20)
    rig = Rig(Settings(tokens=TOKENS, limits=limits))
    web, work = rig.mesh.join("web"), rig.mesh.join("work")
    for number in range(20):
        web.send(op=0, id=str(number), event="E", data="x" * 100, intent=direct(work))
    group = of(await rig.snapshots.take(), "work")
    assert group["slow"] == 1
    assert group["services"][0]["slow"] == "unread"


async def test_a_member_that_lets_requests_expire_is_slow(rig: Rig) -> None:
    web, work = rig.mesh.join("web"), rig.mesh.join("work")
    web.send(op=0, id="1", event="E", intent=direct(work), timeout=1000)
    rig.mesh.pass_time(1.1)
    snapshot = await rig.snapshots.take()
    assert of(snapshot, "work")["services"][0]["slow"] == "expiring"
    (error,) = snapshot["errors"]
    assert (error["code"], error["caller"], error["callee"]) == ("EXPIRED", "web", "work")


async def test_who_was_lost_is_shown_with_the_reason(rig: Rig) -> None:
    work = rig.mesh.join("work", name="w1")
    work.leave()
    snapshot = await rig.snapshots.take()
    assert snapshot["groups"] == []
    (ending,) = snapshot["ended"]
    assert ending == {
        "time": EPOCH + 1000,
        "group": "work",
        "name": "w1",
        "id": work.id,
        "reason": "LOST",
        "message": "the connection ended without a goodbye",
        "since": EPOCH + 1000,
        "count": 1,
    }


async def test_waiting_requests_and_draining_members_are_shown(rig: Rig) -> None:
    web, work = rig.mesh.join("web"), rig.mesh.join("work", concurrency=1)
    for number in range(3):
        intent = {"target": "GROUP", "identifier": "work", "pick": "ONE"}
        web.send(op=0, id=str(number), event="E", intent=intent, timeout=60_000)
    snapshot = await rig.snapshots.take()
    assert (of(snapshot, "work")["waiting"], snapshot["totals"]["waiting"]) == (2, 2)
    work.peer.draining = True
    assert of(await rig.snapshots.take(), "work")["draining"] == 1


async def test_a_page_is_of_a_bounded_size(rig: Rig) -> None:
    for number in range(400):
        rig.mesh.join(f"g{number:03}")
    for _ in range(100):
        rig.mesh.join("g000")
    snapshot = await rig.snapshots.take()
    assert len(snapshot["groups"]) == 200
    assert snapshot["groups_left_out"] == 200
    assert len(snapshot["groups"][0]["services"]) == 50
    assert snapshot["groups"][0]["members"] == 101


async def test_others_have_their_turn_while_very_many_are_looked_at(rig: Rig) -> None:
    for _ in range(2000):
        rig.mesh.join("work")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await rig.snapshots.take()
        nursery.cancel_scope.cancel()
    assert turns >= 6


# -- The feed --------------------------------------------------------------------------------------


async def test_all_viewers_get_the_same_bytes_once_a_second(
    rig: Rig, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    seen: list[list[bytes]] = [[], []]

    async def watch(number: int) -> None:
        async with aclosing(rig.feed.watch()) as pieces:
            async for piece in pieces:
                seen[number].append(piece)

    nursery.start_soon(rig.feed.run)
    nursery.start_soon(watch, 0)
    nursery.start_soon(watch, 1)
    await wait_all_tasks_blocked()
    for _ in range(3):
        mock_clock.jump(1)
        await wait_all_tasks_blocked()
    assert seen[0] == seen[1]
    retry, *events = seen[0]
    assert retry == b"retry: 1000\n\n"
    assert [event.split(b"\n")[1] for event in events] == [b"id: %d" % n for n in (1, 2, 3, 4)]
    assert all(mine is theirs for mine, theirs in zip(*seen, strict=True) if mine is not retry)
    name, _, data, end = events[0].split(b"\n", 3)
    assert (name, end) == (b"event: snapshot", b"\n")
    assert msgspec.json.decode(data.removeprefix(b"data: "))["ready"] is True


async def test_nothing_is_looked_at_while_nobody_looks_on(
    rig: Rig, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    nursery.start_soon(rig.feed.run)
    mock_clock.jump(10)
    await wait_all_tasks_blocked()
    assert rig.feed._number == 0
    async with aclosing(rig.feed.watch()) as pieces:
        await anext(pieces)
        assert (await anext(pieces)).startswith(b"event: snapshot\nid: 1\n")
    for _ in range(5):
        mock_clock.jump(1)
        await wait_all_tasks_blocked()
    assert rig.feed._number == 1


async def test_viewers_are_bounded(rig: Rig) -> None:
    viewers = [rig.feed.watch() for _ in range(MOST_VIEWERS)]
    for viewer in viewers:
        await anext(viewer)
    response = await rig.get("/events")
    assert response.status_code == 503
    assert response.headers["retry-after"]
    await viewers[0].aclose()
    assert not rig.feed.full
    for viewer in viewers[1:]:
        await viewer.aclose()
