"""`switchboard check` against brokers of every kind: the exit code, and one line that says why."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
from trio.testing import MockClock

from broker.core.settings import LimitSettings, TimingSettings
from services.cli.probe import probe
from services.cli.probe_findings import Expectations, Finding, Level
from services.cli.target import Target
from services.sdk import Service, Tls
from tests.integration.broker_process import TOKEN, BrokerProcess, broker_process
from tests.integration.cli_process import environment, run, running
from tests.integration.conftest import StartBroker
from tests.integration.mesh import TOKEN as SERVERS_TOKEN
from tests.integration.mesh import Broker

PATIENT = Expectations(timeout=20)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_process(tmp_path_factory.mktemp("broker")) as process:
        yield process


async def checked(url: str, token: str = TOKEN, expectations: Expectations = PATIENT) -> Finding:
    """The probe in this process: what it finds has to be one line."""
    finding = await probe(Target(url, token), expectations)
    assert "\n" not in finding.reason
    return finding


# -- the command -----------------------------------------------------------------------------------


async def test_a_good_broker_and_one_that_is_not_there(
    shared: BrokerProcess, tmp_path: Path
) -> None:
    env = environment(shared.websocket_address, tmp_path)
    done = await run("check", env=env)
    assert (done.code, done.stderr) == (0, "")
    assert re.fullmatch(
        rf"OK - {shared.websocket_address}: round trip \d+\.\d ms; "
        r"connected and identified in \d+\.\d ms\n",
        done.stdout,
    )
    done = await run("check", "--json", env=env)
    found = json.loads(done.stdout)
    assert (found["status"], found["exit"]) == ("OK", 0)
    assert list(found["ms"]) == ["connect", "handshake", "identify", "whoami", "route"]
    done = await run("check", "--url", "ws://127.0.0.1:1", env=env)
    assert (done.code, done.stdout, done.stderr) == (
        2,
        "CRITICAL - ws://127.0.0.1:1: cannot connect: Connection refused\n",
        "",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--group", "x"), "--group and --event go together"),
        (("--warn", "2", "--crit", "1"), "--warn is the lower of the two"),
    ],
)
async def test_wrong_usage_is_critical(
    shared: BrokerProcess, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = await run("check", *arguments, env=environment(shared.address, tmp_path))
    assert (done.code, done.stdout) == (2, "")
    assert said in done.stderr


async def test_ctrl_c_ends_a_probe_cleanly(tmp_path: Path) -> None:
    async with silent() as (url, came):
        arguments = ("check", "--timeout", "600")
        async with running(*arguments, env=environment(url, tmp_path)) as command:
            await came.wait()
            code, said = await command.end()
    assert (code, said) == (130, [])


# -- good ones -------------------------------------------------------------------------------------


async def test_through_each_door(broker: Broker) -> None:
    for url in (
        f"ws://127.0.0.1:{broker.port}",
        f"tcp://127.0.0.1:{broker.port}",
        f"unix://{broker.path}",
    ):
        finding = await checked(url, SERVERS_TOKEN)
        assert finding.level is Level.OK, finding


async def test_thresholds(broker: Broker) -> None:
    url = f"tcp://127.0.0.1:{broker.port}"
    for warn, crit, level in (
        (1e6, 2e6, Level.OK),
        (0.0, 2e6, Level.WARNING),
        (0.0, 0.0, Level.CRITICAL),
        (None, 0.0, Level.CRITICAL),
    ):
        expectations = Expectations(warn=warn, crit=crit, timeout=20)
        finding = await checked(url, SERVERS_TOKEN, expectations)
        assert finding.level is level
        if level is not Level.OK:
            assert re.search(r"round trip [\d.]+ ms \(\w+\), more than 0 ms;", finding.reason)


async def test_a_probe_reaches_nobody_else(broker: Broker) -> None:
    other = await broker.join("tcp", "cli")
    await checked(f"tcp://127.0.0.1:{broker.port}", SERVERS_TOKEN)
    await other.send(b'{"op":3,"id":"nothing came before"}')
    assert (await other.receive_json())["id"] == "nothing came before"


# -- a service behind it ---------------------------------------------------------------------------


@asynccontextmanager
async def billing(url: str, token: str) -> AsyncIterator[trio.Event]:
    service = Service("billing")
    asked = trio.Event()

    @service.on("PING_ME")
    async def answer() -> str:
        return "here"

    @service.on("SLOW")
    async def slow() -> None:
        asked.set()
        await trio.sleep_forever()

    async with service.serve(url, token=token, reconnect=None):
        yield asked


async def test_a_service_that_answers_and_others(broker: Broker) -> None:
    url = f"tcp://127.0.0.1:{broker.port}"
    async with billing(url, SERVERS_TOKEN):
        for group, event, seconds, level, said in (
            ("billing", "PING_ME", 20, Level.OK, "round trip"),
            ("nobody", "PING_ME", 20, Level.CRITICAL, "PING_ME to nobody: NO_ROUTE: there is no"),
            ("billing", "WHAT", 20, Level.CRITICAL, "WHAT to billing: UNKNOWN_EVENT"),
            ("billing", "SLOW", 0.3, Level.CRITICAL, "no reply to SLOW from billing within 0.3 s"),
        ):
            expectations = Expectations(group, event, timeout=seconds)
            finding = await checked(url, SERVERS_TOKEN, expectations)
            assert finding.level is level, finding
            # The broker's own word may come just before the probe's time is over.
            assert said in finding.reason or "EXPIRED" in finding.reason


async def test_a_broker_that_drains_while_it_is_asked(start_broker: StartBroker) -> None:
    broker = await start_broker(timing=TimingSettings(drain_ms=2000))
    url = f"tcp://127.0.0.1:{broker.port}"
    findings: list[Finding] = []

    async def check() -> None:
        expectations = Expectations("billing", "SLOW", timeout=20)
        findings.append(await checked(url, SERVERS_TOKEN, expectations))

    async with billing(url, SERVERS_TOKEN) as asked, trio.open_nursery() as nursery:
        nursery.start_soon(check)
        await asked.wait()
        broker.server.drain()
    (finding,) = findings
    assert finding.level is Level.WARNING
    assert "draining" in finding.reason


# -- bad ones --------------------------------------------------------------------------------------


async def test_a_wrong_token_is_critical(shared: BrokerProcess) -> None:
    finding = await checked(shared.websocket_address, "wrong")
    assert finding.level is Level.CRITICAL
    assert finding.reason == (
        f"{shared.websocket_address}: the broker ended the connection: IDENTIFY_FAILED: "
        "data.token: is not known here"
    )


async def test_a_broker_that_stands_still_is_critical(tmp_path: Path) -> None:
    with broker_process(tmp_path) as broker:
        broker.freeze()
        finding = await checked(broker.websocket_address, expectations=Expectations(timeout=1))
    assert finding.level is Level.CRITICAL
    assert finding.reason == (
        f"{broker.websocket_address}: it accepts connections, but says nothing within 1 s"
    )


@asynccontextmanager
async def silent() -> AsyncIterator[tuple[str, trio.Event]]:
    """Something that accepts connections, and never says a word."""
    came = trio.Event()

    async def say_nothing(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        came.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, say_nothing, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        yield f"ws://127.0.0.1:{listener.socket.getsockname()[1]}", came
        nursery.cancel_scope.cancel()


async def time_passes(clock: MockClock, silent: trio.Event) -> None:
    """Let the probe's time be over, as soon as there is nothing more to come."""
    await silent.wait()
    clock.jump(PATIENT.timeout + 1)


async def test_one_that_accepts_and_is_silent_is_critical(mock_clock: MockClock) -> None:
    async with silent() as (url, came), trio.open_nursery() as nursery:
        nursery.start_soon(time_passes, mock_clock, came)
        finding = await checked(url)
    assert finding.level is Level.CRITICAL
    assert finding.reason == f"{url}: it accepts connections, but says nothing within 20 s"


@asynccontextmanager
async def scripted(*answers: Any) -> AsyncIterator[tuple[str, trio.Event]]:
    """A broker that answers each message with the next of these, and then falls silent."""
    fallen_silent = trio.Event()

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        try:
            for answer in answers:
                await connection.get_message()
                await connection.send_message(json.dumps(answer))
            await connection.get_message()
            fallen_silent.set()
            await trio.sleep_forever()
        except trio_websocket.ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        start = partial(trio_websocket.serve_websocket, serve, "127.0.0.1", 0, ssl_context=None)
        server = await nursery.start(start)
        yield f"ws://127.0.0.1:{server.port}", fallen_silent
        nursery.cancel_scope.cancel()


WELCOME = {"op": 1, "data": {"id": "me", "group": "cli", "ping": 30000, "message_bytes": 9999}}
WHO = {"op": 5, "id": "who", "event": "WHOAMI", "data": {"id": "me"}}
ROUTED = {"op": 5, "id": "self", "data": None}


def refusal(id: str, code: str, message: str = "why") -> dict[str, Any]:
    return {"op": 5, "id": id, "error": {"code": code, "message": message}}


@pytest.mark.parametrize(
    ("answers", "level", "said"),
    [
        ([WELCOME, WHO, ROUTED], Level.OK, "round trip"),
        ([{"op": 2, "data": "SERVER_RESTART"}], Level.WARNING, "draining: SERVER_RESTART"),
        ([WELCOME, {"op": 2, "data": "SERVER_RESTART"}], Level.WARNING, "draining"),
        ([WELCOME, WHO, refusal("self", "DRAINING")], Level.WARNING, "draining: why"),
        ([WELCOME, refusal("who", "FORBIDDEN"), ROUTED], Level.OK, "round trip"),
        ([WELCOME, WHO, refusal("self", "FORBIDDEN")], Level.OK, "round trip"),
        ([WELCOME, WHO, refusal("self", "NO_ROUTE")], Level.CRITICAL, "itself: NO_ROUTE: why"),
        ([{"op": 2, "data": "TRY_AGAIN_LATER"}], Level.CRITICAL, "TRY_AGAIN_LATER"),
        ([WELCOME, {**WHO, "data": {"id": "x"}}], Level.CRITICAL, "takes this client for another"),
        (["nonsense"], Level.CRITICAL, "what came is no frame"),
        ([WELCOME, refusal("who", "X", "a\x1b[31m\nb")], Level.CRITICAL, "$broker: X: a"),
    ],
)
async def test_what_a_broker_may_answer(answers: list[Any], level: Level, said: str) -> None:
    async with scripted(*answers) as (url, _silent):
        finding = await probe(Target(url, TOKEN), PATIENT)
    assert finding.level is level, finding
    assert said in finding.reason


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([], "the broker does not answer IDENTIFY within 20 s"),
        ([WELCOME], "the broker does not answer within 20 s"),
        ([WELCOME, WHO], "the broker does not hand on a request within 20 s"),
    ],
)
async def test_where_a_broker_may_fall_silent(
    mock_clock: MockClock, answers: list[Any], said: str
) -> None:
    async with scripted(*answers) as (url, fallen_silent), trio.open_nursery() as nursery:
        nursery.start_soon(time_passes, mock_clock, fallen_silent)
        finding = await checked(url)
    assert (finding.level, finding.reason) == (Level.CRITICAL, f"{url}: {said}")


async def test_the_line_holds_no_control_characters(tmp_path: Path) -> None:
    async with scripted(WELCOME, refusal("who", "X", "a\x1b[31m\nb")) as (url, _silent):
        done = await run("check", env=environment(url, tmp_path))
    assert done.code == 2
    assert done.stdout == f"CRITICAL - {url}: $broker: X: a\\u001b[31m\\u000ab\n"


async def test_what_is_no_websocket_is_critical() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        finding = await checked(url)
        nursery.cancel_scope.cancel()
    assert finding.level is Level.CRITICAL
    assert "it opens no WebSocket: HTTP 200" in finding.reason


async def test_one_that_hangs_up_at_once_is_critical() -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, hang_up, 0, host="127.0.0.1"))
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        finding = await checked(url)
        nursery.cancel_scope.cancel()
    assert finding.level is Level.CRITICAL
    assert "hung up" in finding.reason or "no WebSocket" in finding.reason


async def test_a_broker_that_is_full_is_critical(start_broker: StartBroker) -> None:
    broker = await start_broker(limits=LimitSettings(connections=1))
    await broker.join("tcp")
    url = f"ws://127.0.0.1:{broker.port}"
    finding = await checked(url, SERVERS_TOKEN)
    assert finding.level is Level.CRITICAL
    assert finding.reason == (
        f"{url}: it opens no WebSocket: HTTP 503, it takes no more connections"
    )


async def test_tls_where_none_is_spoken_and_files_that_are_not_there(
    shared: BrokerProcess,
) -> None:
    url = shared.address.replace("tcp:", "wss:")
    finding = await checked(url)
    assert finding.level is Level.CRITICAL
    assert "TLS failed: " in finding.reason
    target = Target(url, TOKEN, tls=Tls(ca="/nowhere"))
    finding = await probe(target, PATIENT)
    assert (finding.level, finding.reason) == (
        Level.CRITICAL,
        "ca /nowhere: No such file or directory",
    )
