"""emit, request and gather on a mesh in memory: what they send, show and exit with."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from broker.core.settings import LimitSettings, Settings
from services.cli.emit import Emission, emit_event
from services.cli.exits import CommandError, Exit
from services.cli.failures import explain
from services.cli.gather import Survey, survey
from services.cli.request import Question, ask
from services.cli.target import Target
from services.sdk import NoRoute, RequestError, Service
from services.testing import TestMesh
from tests.cli.commands import HOSTILE, make_billing, target_of

Capture = pytest.CaptureFixture[str]


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


# -- emit ------------------------------------------------------------------------------------------


async def test_emit_reaches_everyone(mesh: TestMesh, target: Target, capsys: Capture) -> None:
    web = await mesh.client("web")
    async with web.listen("USER_*") as events:
        assert await emit_event(target, Emission("USER_UPDATED", raw({"id": 7}))) == Exit.DONE
        event = await events.receive()
    assert (event.name, event.data, event.source.group) == ("USER_UPDATED", {"id": 7}, "cli")
    assert capsys.readouterr() == ("", "")


async def test_emit_to_a_group_to_one_and_to_a_connection(mesh: TestMesh, target: Target) -> None:
    web, other = await mesh.client("web"), await mesh.client("other")
    async with web.frames() as frames, other.listen("*") as others:
        for emission in (
            Emission("A", group="web"),
            Emission("B", group="web", one=True),
            Emission("C", group="web", sticky="k"),
            Emission("D", to=web.id),
            Emission("E", to=other.id),
        ):
            await emit_event(target, emission)
        intents = [(await frames.receive()).intent for _ in range(4)]
        assert (await others.receive()).name == "E"
    said = [(str(one.target), one.pick, one.key) for one in intents if one is not None]
    assert said == [
        ("GROUP", None, None),
        ("GROUP", "ONE", None),
        ("GROUP", "ONE", "k"),
        ("DIRECT", None, None),
    ]


async def test_emit_shows_the_id_as_json(mesh: TestMesh, target: Target, capsys: Capture) -> None:
    web = await mesh.client("web")
    async with web.listen("A") as events:
        await emit_event(target, Emission("A", as_json=True))
        event = await events.receive()
    assert json.loads(capsys.readouterr().out) == {"id": event.id}


async def test_emit_to_nobody_fails(target: Target) -> None:
    with pytest.raises(NoRoute) as caught:
        await emit_event(target, Emission("A", group="nobody"))
    failure = explain(caught.value)
    assert failure is not None
    assert failure.exit == Exit.FAILED
    assert failure.text.endswith(
        "NO_ROUTE: there is no member of group 'nobody'; `switchboard services` lists who is there"
    )


@pytest.mark.parametrize(
    ("emission", "said"),
    [
        (Emission(""), "event: a name has 1 to 128 characters"),
        (Emission("A", to="x", group="g"), "--to names one connection"),
        (Emission("A", one=True), "give --group"),
    ],
)
async def test_emit_with_contradictions(target: Target, emission: Emission, said: str) -> None:
    with pytest.raises(CommandError, match=said) as caught:
        await emit_event(target, emission)
    assert caught.value.exit == Exit.USAGE


# -- request ---------------------------------------------------------------------------------------


async def test_request_shows_the_data_of_the_reply(
    mesh: TestMesh, target: Target, capsys: Capture
) -> None:
    await mesh.run(make_billing())
    data = raw({"id": 7, "text": HOSTILE})
    assert await ask(target, Question("ECHO", data, group="billing")) == Exit.DONE
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"id": 7, "text": HOSTILE}
    assert shown.splitlines()[0] == "{"
    assert all(line.isprintable() for line in shown.splitlines())


async def test_request_of_a_connection_as_json(
    mesh: TestMesh, target: Target, capsys: Capture
) -> None:
    billing = await mesh.run(make_billing())
    await ask(target, Question("ECHO", raw([1, None]), to=billing.id, as_json=True))
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    answer = json.loads(shown)
    assert answer["data"] == [1, None]
    assert answer["ms"] >= 0


async def test_request_of_the_broker(target: Target, capsys: Capture) -> None:
    await ask(target, Question("WHOAMI", to="$broker"))
    assert json.loads(capsys.readouterr().out)["group"] == "cli"


async def test_request_that_is_refused(mesh: TestMesh, target: Target, capsys: Capture) -> None:
    await mesh.run(make_billing())
    with pytest.raises(RequestError) as caught:
        await ask(target, Question("REFUSE", group="billing", as_json=True))
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == {"code": "OUT_OF_STOCK", "message": f"none {HOSTILE}", "again": "tomorrow"}
    failure = explain(caught.value)
    assert failure is not None
    assert failure.exit == Exit.FAILED


async def test_request_without_an_answer(
    mesh: TestMesh, target: Target, autojump_clock: MockClock
) -> None:
    web = await mesh.client("web")
    async with web.listen("SLOW"):
        with pytest.raises(RequestError) as caught:
            await ask(target, Question("SLOW", to=web.id, timeout=2))
    failure = explain(caught.value)
    assert failure is not None
    assert failure.exit == Exit.EXPIRED
    assert failure.text.endswith("--timeout gives it more time")


async def test_a_request_that_is_cancelled_is_taken_back(mesh: TestMesh, target: Target) -> None:
    begun, cancelled = trio.Event(), trio.Event()
    slow = Service("slow")

    @slow.on("SLOW")
    async def wait() -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    await mesh.run(slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, target, Question("SLOW", group="slow"))
        await begun.wait()
        nursery.cancel_scope.cancel()
    await cancelled.wait()


async def test_data_that_is_too_big(capsys: Capture) -> None:
    settings = Settings(limits=LimitSettings(message_bytes=5000))
    async with TestMesh(settings) as mesh:
        await mesh.run(make_billing())
        with pytest.raises(Exception, match="the broker takes at most 5000") as caught:
            await ask(target_of(mesh), Question("ECHO", raw("x" * 6000), group="billing"))
    failure = explain(caught.value)
    assert failure is not None
    assert "limits.message_bytes" in failure.text


# -- gather ----------------------------------------------------------------------------------------


def make_shard(answer: Any) -> Service:
    shard = Service("shards")

    @shard.on("STATS")
    async def stats() -> Any:
        return answer

    return shard


async def run_shards(mesh: TestMesh, *answers: Any) -> list[str]:
    return [(await mesh.run(make_shard(answer))).id for answer in answers]


async def test_gather_shows_every_reply(mesh: TestMesh, target: Target, capsys: Capture) -> None:
    ids = await run_shards(mesh, {"users": 1}, {"users": HOSTILE})
    assert await survey(target, Survey("STATS", group="shards")) == Exit.DONE
    out, errors = capsys.readouterr()
    lines = [line.split("  ", 1) for line in out.splitlines()]
    assert sorted(who for who, _ in lines) == sorted(f"shards {id}" for id in ids)
    assert {"users": HOSTILE} in [json.loads(data) for _, data in lines]
    assert out.replace("\n", "").isprintable()
    assert errors == "2 of 2 answered\n"


async def test_gather_names_those_who_give_no_answer(
    mesh: TestMesh, target: Target, capsys: Capture
) -> None:
    (id,) = await run_shards(mesh, 1)
    web = await mesh.client("web")
    assert await survey(target, Survey("STATS")) == Exit.FAILED
    out, errors = capsys.readouterr()
    assert out == (f"shards {id}  1\nweb {web.id}  UNKNOWN_EVENT: nothing here handles STATS\n")
    assert errors == "1 of 2 answered; the others: 1 UNKNOWN_EVENT\n"


async def test_gather_as_json(mesh: TestMesh, target: Target, capsys: Capture) -> None:
    (id,) = await run_shards(mesh, 1)
    web = await mesh.client("web")
    await survey(target, Survey("STATS", as_json=True))
    out, errors = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"source": {"id": id, "group": "shards"}, "data": 1},
        {
            "source": {"id": web.id, "group": "web"},
            "error": {"code": "UNKNOWN_EVENT", "message": "nothing here handles STATS"},
        },
    ]
    assert errors == ""


async def test_gather_from_nobody(target: Target) -> None:
    with pytest.raises(NoRoute):
        await survey(target, Survey("STATS", group="nobody"))


async def test_those_who_do_not_answer_in_time(
    mesh: TestMesh, target: Target, autojump_clock: MockClock, capsys: Capture
) -> None:
    web = await mesh.client("web")
    async with web.listen("STATS"):
        assert await survey(target, Survey("STATS", timeout=3)) == Exit.FAILED
    assert "EXPIRED" in capsys.readouterr().out
