"""listen, services, top and drain on a mesh in memory."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from broker.core.access_settings import PermissionSettings
from broker.core.authentication import hash_token
from broker.core.settings import Settings, TokenSettings
from services.cli.drain import order_drain
from services.cli.exits import CommandError, Exit
from services.cli.listen import Listening, follow
from services.cli.services import list_services, since, watch_services
from services.cli.target import Target
from services.cli.top import Watching, watch_load
from services.sdk import Mesh, RequestError, UnknownEvent
from services.testing import TestMesh
from tests.cli.commands import HOSTILE, invoke, make_billing, target_of

Capture = pytest.CaptureFixture[str]


class Stream(io.StringIO):
    """Takes what is written, and wakes who waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = trio.Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        self.written.set()
        return count


class Output:
    """What a command that goes on has written so far."""

    def __init__(self) -> None:
        self._out, self._errors = Stream(), Stream()

    def take_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdout", self._out)
        monkeypatch.setattr("sys.stderr", self._errors)

    def lines(self) -> list[str]:
        return self._out.getvalue().splitlines()

    async def until_lines(self, count: int) -> list[str]:
        """Wait until it has written so many lines."""
        while len(self.lines()) < count:
            self._out.written = trio.Event()
            await self._out.written.wait()
        return self.lines()

    async def until_error(self, text: str) -> str:
        """Wait until it has said something on stderr; return all that it has said there."""
        while text not in self._errors.getvalue():
            self._errors.written = trio.Event()
            await self._errors.written.wait()
        return self._errors.getvalue()


@pytest.fixture
async def output() -> AsyncIterator[Output]:
    # Asynchronous, so that it begins with the test itself: before that, pytest takes stdout over.
    output = Output()
    with pytest.MonkeyPatch.context() as monkeypatch:
        output.take_over(monkeypatch)
        yield output


# -- listen ----------------------------------------------------------------------------------------


async def test_listen_shows_events_and_who_sent_them(
    mesh: TestMesh, target: Target, nursery: trio.Nursery, output: Output
) -> None:
    web = await mesh.client("web")
    nursery.start_soon(follow, target, Listening(count=2))
    await mesh.settle()
    await web.emit("USER_UPDATED", {"id": 7})
    await web.emit("NOTHING")
    await output.until_lines(2)
    first, second = (line.split(" ", 1)[1] for line in output.lines())
    assert first == f'USER_UPDATED from web {web.id[:8]} {{"id":7}}'
    assert second == f"NOTHING from web {web.id[:8]}"


async def test_listen_neutralises_what_comes(
    mesh: TestMesh, target: Target, nursery: trio.Nursery, output: Output
) -> None:
    hostile = await mesh.client(HOSTILE)
    nursery.start_soon(follow, target, Listening(count=2))
    await mesh.settle()
    await hostile.emit(HOSTILE, {HOSTILE: HOSTILE})
    await hostile.emit("[bold red]x[/]", "[link=http://x]y[/link]")
    await output.until_lines(2)
    assert all(line.isprintable() for line in output.lines())
    # Not taken for rich's markup, either.
    assert "[bold red]x[/]" in output.lines()[1]
    assert '"[link=http://x]y[/link]"' in output.lines()[1]


async def test_listen_as_json_lines(
    mesh: TestMesh, target: Target, nursery: trio.Nursery, output: Output
) -> None:
    web = await mesh.client("web")
    nursery.start_soon(follow, target, Listening(count=1, as_json=True))
    await mesh.settle()
    id = await web.emit("A", {"x": HOSTILE})
    await output.until_lines(1)
    (line,) = output.lines()
    assert line.isprintable()
    event = json.loads(line)
    assert datetime.fromisoformat(event.pop("time")).tzinfo is not None
    assert event == {
        "event": "A",
        "id": id,
        "source": {"id": web.id, "group": "web"},
        "data": {"x": HOSTILE},
    }


async def test_listen_by_name_and_by_the_senders_group(
    mesh: TestMesh, target: Target, nursery: trio.Nursery, output: Output
) -> None:
    web, other = await mesh.client("web"), await mesh.client("other")
    wanted = Listening(["USER_*", "USER_PAID", "X"], ["web"], count=3, as_json=True)
    nursery.start_soon(follow, target, wanted)
    await mesh.settle()
    await other.emit("USER_OTHER")
    await mesh.settle()
    for name in ("USERS", "USER_PAID", "Y", "X", "USER_"):
        await web.emit(name)
    await output.until_lines(3)
    assert [json.loads(line)["event"] for line in output.lines()] == ["USER_PAID", "X", "USER_"]


async def test_a_requester_does_not_wait_for_who_only_listens(
    mesh: TestMesh, target: Target, nursery: trio.Nursery, output: Output
) -> None:
    web = await mesh.client("web", echo=False)
    nursery.start_soon(follow, target, Listening(["X"], count=1, as_json=True))
    await mesh.settle()
    with trio.fail_after(10):
        for event in ("Y", "X"):
            with pytest.raises(RequestError, match="this client only listens"):
                await web.request(event, group="cli", timeout=3600)
    await output.until_lines(1)
    assert 0 < json.loads(output.lines()[0])["timeout"] <= 10_000


async def test_listen_says_that_it_has_reconnected(
    mesh: TestMesh,
    target: Target,
    nursery: trio.Nursery,
    output: Output,
    autojump_clock: MockClock,
) -> None:
    nursery.start_soon(follow, target, Listening(count=1))
    await mesh.settle()
    mesh.kill_broker()
    await output.until_error("trying again in ")
    mesh.start_broker()
    await output.until_error("connected again to tcp://memory")
    await (await mesh.client("web")).emit("A")
    await output.until_lines(1)
    assert (await output.until_error("")).splitlines()[0] == (
        "listening on tcp://memory as a member of cli; Ctrl-C ends it"
    )


async def test_listen_hears_what_is_sent_to_its_group(
    mesh: TestMesh, nursery: trio.Nursery, output: Output
) -> None:
    web = await mesh.client("web")
    nursery.start_soon(follow, target_of(mesh, "mail"), Listening(count=1, as_json=True))
    await mesh.settle()
    await web.emit("A", group="mail")
    await output.until_lines(1)


def test_listen_to_the_brokers_own_events_is_refused() -> None:
    outcome = invoke("listen", "$up", "--token", "t")
    assert outcome.code == 2
    assert "services --watch" in outcome.stderr


# -- services --------------------------------------------------------------------------------------


async def test_services_lists_everyone_else(
    mesh: TestMesh, target: Target, capsys: Capture
) -> None:
    billing = await mesh.run(make_billing(), name="b-1", meta={"v": 2}, concurrency=4)
    web = await mesh.client("web")
    assert await list_services(target, as_json=False) == Exit.DONE
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["GROUP", "NAME", "ID", "SINCE", "IN", "FLIGHT", "OF", "META"]
    words = first.split()
    assert words[:3] == ["billing", "b-1", billing.id]
    assert words[4:] == ["0", "4", '{"v":2}']
    assert second.split()[:2] == ["web", web.id]
    assert all(line == line.rstrip() for line in (header, first, second))


async def test_services_of_a_group_as_json(mesh: TestMesh, target: Target, capsys: Capture) -> None:
    billing = await mesh.run(make_billing())
    await mesh.client("web")
    await list_services(target, ["billing"], as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    service = json.loads(line)
    datetime.fromisoformat(service.pop("since"))
    assert service == {
        "id": billing.id,
        "group": "billing",
        "name": None,
        "meta": {},
        "in_flight": 0,
        "concurrency": 100,
        "draining": False,
    }


async def test_services_with_hostile_names(mesh: TestMesh, target: Target, capsys: Capture) -> None:
    await mesh.client(HOSTILE, name=HOSTILE, meta={HOSTILE: HOSTILE})
    for as_json in (False, True):
        await list_services(target, as_json=as_json)
        lines = capsys.readouterr().out.splitlines()
        assert all(line.isprintable() for line in lines)
        assert "[bold]" in lines[-1]


async def test_watching_services_says_who_comes_and_goes(
    mesh: TestMesh, target: Target, nursery: trio.Nursery, output: Output
) -> None:
    web = await mesh.client("web")
    await mesh.client("unwatched")
    command = trio.CancelScope()

    async def watch() -> None:
        with command:
            await watch_services(target, ["web"], 1.0, as_json=False)

    nursery.start_soon(watch)
    assert await output.until_lines(1) == [f"+ web {web.id}"]
    await mesh.stop(web)
    assert (await output.until_lines(2))[1] == f"- web {web.id}  NO_REASON"
    command.cancel()


async def test_watching_services_as_json(
    mesh: TestMesh, target: Target, nursery: trio.Nursery, output: Output
) -> None:
    web = await mesh.client("web")
    command = trio.CancelScope()

    async def watch() -> None:
        with command:
            await watch_services(target, [], 1.0, as_json=True)

    nursery.start_soon(watch)
    await output.until_lines(1)
    await mesh.drop(web, reset=True)
    await output.until_lines(2)
    up, down = (json.loads(line) for line in output.lines()[:2])
    assert (up["change"], up["id"]) == ("up", web.id) == ("up", down["id"])
    assert (down["change"], down["reason"]) == ("down", "NO_REASON")
    command.cancel()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0s"),
        (59, "59s"),
        (60, "1m0s"),
        (3599, "59m59s"),
        (3600, "1h0m"),
        (90_000, "1d1h"),
    ],
)
def test_how_long_ago(seconds: int, said: str) -> None:
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    assert since(begun, begun + timedelta(seconds=seconds)) == said


# -- top -------------------------------------------------------------------------------------------


def once(*, as_json: bool, sort: str = "in-flight") -> Watching:
    return Watching(once=True, interval=2.0, sort=sort, rows=None, as_json=as_json)


async def keep_busy(client: Mesh, times: int) -> None:
    """Leave requests in flight."""
    async with trio.open_nursery() as nursery:
        for _ in range(times):
            nursery.start_soon(_wait_for_answer, client)


async def _wait_for_answer(client: Mesh) -> None:
    await client.request("SLOW", group="slow", timeout=3600)


@pytest.fixture
def permissions() -> TokenSettings:
    """A token that may read STATS."""
    return TokenSettings(hash_token("operator"), permissions=PermissionSettings(stats=True))


async def test_top_counts_between_two_looks(
    permissions: TokenSettings, autojump_clock: MockClock, capsys: Capture
) -> None:
    async with TestMesh(Settings(tokens=(permissions,))) as mesh:
        target = Target("tcp://memory", "operator", dial=target_of(mesh).dial)
        web = await mesh.client("web", echo=False)
        slow = await mesh.client("slow", concurrency=4)
        async with trio.open_nursery() as nursery, slow.listen("SLOW"):
            nursery.start_soon(keep_busy, web, 3)

            async def emit_often() -> None:
                for _ in range(10):
                    await trio.sleep(0.19)
                    await web.emit("A")

            await mesh.settle()
            nursery.start_soon(emit_often)
            assert await watch_load(target, once(as_json=True)) == Exit.DONE
            nursery.cancel_scope.cancel()
    look = json.loads(capsys.readouterr().out)
    assert look["seconds"] == 2.0
    assert look["statistics"]["requests_in_flight"] == 3
    # Ten events, and the command's own questions: three a look.
    assert look["rates"]["frames_in"] == pytest.approx((10 + 3) / 2)
    assert look["rates"]["requests"] == 0.0
    assert look["note"] is None
    assert look["groups"] == [
        {"name": "slow", "members": 1, "in_flight": 3, "capacity": 4, "busiest": 3},
        {"name": "web", "members": 1, "in_flight": 0, "capacity": None, "busiest": 0},
    ]


async def test_top_without_the_permission_for_stats(
    mesh: TestMesh, target: Target, autojump_clock: MockClock, capsys: Capture
) -> None:
    await mesh.run(make_billing(), concurrency=4)
    await mesh.client(HOSTILE)
    await watch_load(target, once(as_json=False, sort="group"))
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0] == "switchboard top  tcp://memory"
    assert lines[1].endswith("identified 2   groups 2   in flight 0")
    assert lines[2] == "no rates: the token may not ask for STATS (stats = true permits it)"
    assert lines[4].split() == ["GROUP", "MEMBERS", "IN", "FLIGHT", "OF", "LOAD", "BUSIEST"]
    assert lines[-1].split() == ["billing", "1", "0", "4", "0%", "0"]
    assert all(line.isprintable() for line in lines)
    await watch_load(target, once(as_json=True))
    look = json.loads(capsys.readouterr().out)
    assert (look["rates"], look["statistics"]) == (None, None)


async def test_top_goes_on_where_nobody_looks(
    mesh: TestMesh,
    target: Target,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    output: Output,
) -> None:
    command = trio.CancelScope()

    async def watch() -> None:
        with command:
            await watch_load(target, Watching(False, 5.0, "group", None, True))

    nursery.start_soon(watch)
    await output.until_lines(3)
    assert [json.loads(line)["seconds"] for line in output.lines()] == [5.0, 5.0, 5.0]
    command.cancel()


async def test_top_and_services_come_back(
    mesh: TestMesh,
    target: Target,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    output: Output,
) -> None:
    async with trio.open_nursery() as commands:
        commands.start_soon(watch_load, target, Watching(False, 5.0, "group", None, True))
        commands.start_soon(partial(watch_services, target, [], 1.0, as_json=True))
        await output.until_lines(2)
        mesh.kill_broker()
        said = await output.until_error("looking again in 5 s")
        said = await output.until_error("trying again in ")
        mesh.start_broker()
        said = await output.until_error("; all who are there now follow")
        assert "connected again to tcp://memory" in said
        shown = len(output.lines())
        assert "seconds" in (await output.until_lines(shown + 3))[-1]
        commands.cancel_scope.cancel()


# -- drain -----------------------------------------------------------------------------------------


class Draining:
    """What a broker that can drain would answer, in the place of one that can not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
        self.asked: list[tuple[str, Any, Any]] = []
        real = Mesh.request

        async def request(mesh: Mesh, event: str, data: Any = None, **options: Any) -> Any:
            if event != "DRAIN":
                return await real(mesh, event, data, **options)
            self.asked.append((event, data, options["to"]))
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(Mesh, "request", request)


async def test_a_broker_that_can_not_drain(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    old = UnknownEvent("$broker knows SERVICES, not 'DRAIN'")
    Draining(monkeypatch, old)
    with pytest.raises(CommandError, match="this broker can't drain") as caught:
        await order_drain(target, {"group": "billing"}, 5.0, as_json=False)
    assert caught.value.exit == Exit.FAILED


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"group": "billing"}, "draining billing\n"),
        ({"id": "x"}, "draining x\n"),
        ({"broker": True}, "draining the broker\n"),
    ],
)
async def test_drain_tells_the_broker(
    target: Target,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    data: dict[str, Any],
    said: str,
) -> None:
    draining = Draining(monkeypatch, b'{"members": 2}')
    assert await order_drain(target, data, 5.0, as_json=False) == Exit.DONE
    assert draining.asked == [("DRAIN", data, "$broker")]
    assert capsys.readouterr().out == said
    await order_drain(target, data, 5.0, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"members": 2}


@pytest.mark.parametrize("arguments", [(), ("billing", "--broker"), ("--id", "x", "--broker")])
def test_drain_wants_one_of_three(arguments: tuple[str, ...]) -> None:
    outcome = invoke("drain", *arguments, "--token", "t")
    assert outcome.code == 2
    assert "say one of them: GROUP, --id ID, or --broker" in outcome.stderr


def test_the_whole_broker_is_not_drained_unasked() -> None:
    outcome = invoke("drain", "--broker", "--token", "t")
    assert outcome.code == 2
    assert "add --yes" in outcome.stderr
