"""The client's commands as processes, against a broker that is one too."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from services.sdk import Mesh, Service, connect
from tests.integration.broker_process import TOKEN, BrokerProcess, broker_process
from tests.integration.cli_process import COMMAND, Done, environment, run, running
from tests.sdk.test_sdk_docs import wait_for

TRACEBACK = "Traceback"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker for all tests that do it no harm; its token may ask for STATS."""
    directory = tmp_path_factory.mktemp("broker")
    with broker_process(directory, "permissions = { stats = true }\n") as process:
        yield process


@pytest.fixture
def env(shared: BrokerProcess, tmp_path: Path) -> dict[str, str]:
    return environment(shared.websocket_address, tmp_path)


@asynccontextmanager
async def billing(url: str) -> AsyncIterator[Mesh]:
    service = Service("billing")

    @service.on("ECHO")
    async def echo(data: Any) -> Any:
        return data

    @service.on("SLOW")
    async def slow() -> None:
        await trio.sleep_forever()

    async with service.serve(url, token=TOKEN) as mesh:
        yield mesh


# -- one after another -----------------------------------------------------------------------------


async def test_a_request_from_an_argument_a_file_and_stdin(
    shared: BrokerProcess, env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "order.json").write_text('{"id": 7}')
    request = partial(run, "request", "ECHO", "--group", "billing", env=env)
    async with billing(shared.address):
        for done in (
            await run("request", "ECHO", '{"id": 7}', "--group", "billing", env=env),
            await run("request", "ECHO", f"@{tmp_path}/order.json", "--group=billing", env=env),
            await run("request", "ECHO", "-", "--group=billing", env=env, stdin='{"id":\n7}'),
        ):
            assert done == Done(0, '{\n  "id": 7\n}\n', "")
        assert (await request()).stdout == "null\n"


async def test_through_each_door(shared: BrokerProcess, env: dict[str, str]) -> None:
    for url in (shared.address, shared.websocket_address):
        done = await run("request", "WHOAMI", "--to", "$broker", "--url", url, env=env)
        assert json.loads(done.stdout)["group"] == "cli"


async def test_a_context_is_all_that_is_needed(shared: BrokerProcess, env: dict[str, str]) -> None:
    bare = {name: value for name, value in env.items() if "SWITCHBOARD" not in name}
    added = await run(
        "context", "add", "local", "--url", shared.address, env=bare, stdin=f"{TOKEN}\n"
    )
    assert added.code == 0
    assert (await run("services", env=bare)).code == 0
    assert (await run("services", "--context", "local", env=bare)).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("emit", "A", "--url", "ws://127.0.0.1:1"), 3, "is the broker running"),
        (("services", "--token", "wrong"), 3, "did not let this client in: IDENTIFY_FAILED"),
        (("emit", "A", "--group", "nobody"), 1, "NO_ROUTE"),
        (("emit", "A", "{a: 1}"), 2, "is no JSON"),
        (("request", "A"), 2, "whom to ask?"),
        (("request", "A", "--group", "nobody"), 1, "NO_ROUTE"),
        (("gather", "A", "--group", "nobody"), 1, "NO_ROUTE"),
        (("request", "SLOW", "--group", "billing", "-t", "0.05"), 4, "EXPIRED"),
        (("drain", "billing"), 1, "Error: "),
    ],
)
async def test_failures(
    shared: BrokerProcess,
    env: dict[str, str],
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    async with billing(shared.address):
        done = await run(*arguments, env=env)
    assert (done.code, done.stdout) == (code, "")
    assert said in done.stderr
    assert TRACEBACK not in done.stderr


async def test_top_with_and_without_rates(
    shared: BrokerProcess, env: dict[str, str], tmp_path: Path
) -> None:
    done = await run("top", "--once", "--interval", "0.1", env=env)
    assert "frames in/s" in done.stdout
    with broker_process(tmp_path) as plain:
        done = await run("top", "--once", "--interval", "0.1", "--url", plain.address, env=env)
    assert done.code == 0
    assert "no rates: the token may not ask for STATS" in done.stdout


# -- ends ------------------------------------------------------------------------------------------

GOING_ON = [
    ("listen",),
    ("listen", "--json"),
    ("services", "--watch"),
    ("top", "--interval", "0.1"),
    ("request", "SLOW", "--group", "billing"),
    ("gather", "SLOW", "--group", "billing"),
]


@pytest.mark.parametrize(
    ("arguments", "number", "code"),
    [
        *((arguments, signal.SIGINT, 130) for arguments in GOING_ON),
        (("listen",), signal.SIGTERM, 143),
    ],
)
async def test_a_signal_ends_it_cleanly(
    shared: BrokerProcess,
    env: dict[str, str],
    arguments: tuple[str, ...],
    number: signal.Signals,
    code: int,
) -> None:
    async with billing(shared.address) as mesh:
        group = f"g{os.urandom(4).hex()}"
        async with running(*arguments, env={**env, "SWITCHBOARD_GROUP": group}) as command:
            await wait_for(mesh, group)
            ended, said = await command.end(number)
    assert ended == code
    assert not [line for line in said if TRACEBACK in line or "Error" in line]


async def test_a_reader_that_goes_ends_it_at_the_next_line(
    shared: BrokerProcess, env: dict[str, str]
) -> None:
    async with billing(shared.address):
        done = await run("services", "--json", env=env)
        line = done.stdout.splitlines()[0]
        shell = ["sh", "-c", '"$@" | head -n 1', "sh", *COMMAND, "services", "--json"]
        piped = await trio.run_process(shell, env=env, capture_stdout=True, capture_stderr=True)
    assert piped.stdout.decode() == line + "\n"
    assert piped.stderr == b""


@pytest.mark.parametrize("arguments", [("listen",), ("services", "--watch"), ("top",)])
async def test_a_reader_that_goes_ends_it_even_where_nothing_comes(
    shared: BrokerProcess, env: dict[str, str], arguments: tuple[str, ...]
) -> None:
    async with billing(shared.address) as mesh:
        group = f"g{os.urandom(4).hex()}"
        async with running(*arguments, env={**env, "SWITCHBOARD_GROUP": group}) as command:
            await wait_for(mesh, group)
            await command.close_stdout()
            code, said = await command.end(None)
    assert code == 141
    assert not [line for line in said if TRACEBACK in line or "Error" in line]


# -- following -------------------------------------------------------------------------------------


async def test_listen_outlives_a_broker_that_is_killed(tmp_path: Path) -> None:
    with broker_process(tmp_path) as broker:
        env = environment(broker.address, tmp_path)
        async with running("listen", "--json", env=env) as command:
            assert (await command.error()).startswith("listening on tcp://")
            broker.kill()
            assert "trying again in " in await command.error()
            await trio.to_thread.run_sync(broker.start)
            said = await command.error()
            while "trying again in " in said:
                said = await command.error()
            assert said == (
                f"connected again to {broker.address}; what was sent meanwhile was not heard"
            )
            assert (await run("emit", "A", env=env)).code == 0
            assert json.loads(await command.line())["event"] == "A"


async def test_listen_can_wait_for_a_broker(tmp_path: Path) -> None:
    with broker_process(tmp_path) as broker:
        broker.kill()
        env = environment(broker.address, tmp_path)
        assert (await run("listen", env=env)).code == 3
        async with running("listen", "--insist", env=env) as command:
            assert await command.error() == f"waiting for {broker.address}"
            await trio.to_thread.run_sync(broker.start)
            assert (await command.error()).startswith("listening on ")


async def test_services_that_come_and_go_are_followed(
    shared: BrokerProcess, env: dict[str, str]
) -> None:
    async with running("services", "--watch", "--group", "billing", env=env) as command:
        async with billing(shared.address) as mesh:
            assert await command.line() == f"+ billing {mesh.id}"
        assert await command.line() == f"- billing {mesh.id}  NO_REASON"


# -- terminals -------------------------------------------------------------------------------------


async def on_terminal(*arguments: str, env: dict[str, str], until: str, ended: bool) -> str:
    """Run a command on a terminal until it has shown something; return all that it has shown."""
    ours, theirs = pty.openpty()
    try:
        process = await trio.lowlevel.open_process(
            [*COMMAND, *arguments],
            env={**env, "COLUMNS": "120", "LINES": "40"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
    finally:
        os.close(theirs)
    shown = b""
    screen = trio.lowlevel.FdStream(ours)
    with trio.fail_after(30):
        async with screen:
            try:
                while until.encode() not in shown:
                    shown += await screen.receive_some()
                if not ended:
                    process.send_signal(signal.SIGINT)
                while data := await screen.receive_some():
                    shown += data
            except (OSError, trio.BrokenResourceError):
                pass  # How Linux says that the other side has closed.
            code = await process.wait()
    assert code == (0 if ended else 130), shown.decode()
    return shown.decode()


COLOUR = re.compile(r"\x1b\[[\d;]*(3[0-7]|9[0-7]|38)[\d;]*m")


async def test_colours_on_a_terminal_but_not_with_no_color(
    shared: BrokerProcess, env: dict[str, str]
) -> None:
    async with billing(shared.address):
        show = partial(on_terminal, "services", until="billing", ended=True)
        assert COLOUR.search(await show(env=env))
        assert not COLOUR.search(await show(env={**env, "NO_COLOR": "1"}))
        piped = await run("services", env=env)
        assert "\x1b" not in piped.stdout


@pytest.mark.parametrize("arguments", [("services", "--watch"), ("top", "--interval", "0.1")])
async def test_a_live_screen_gives_the_cursor_back(
    shared: BrokerProcess, env: dict[str, str], arguments: tuple[str, ...]
) -> None:
    hidden, shown_again = "\x1b[?25l", "\x1b[?25h"
    async with billing(shared.address):
        shown = await on_terminal(*arguments, env=env, until="billing", ended=False)
    assert hidden in shown
    assert shown.rindex(shown_again) > shown.rindex(hidden)
    assert TRACEBACK not in shown


async def test_a_hostile_name_does_nothing_to_a_live_screen(
    shared: BrokerProcess, env: dict[str, str]
) -> None:
    async with connect(shared.address, token=TOKEN, group="\x1b]0;owned\x07[bold]zz"):
        for arguments in (("services", "--watch"), ("top", "--interval", "0.1")):
            shown = await on_terminal(*arguments, env=env, until="zz", ended=False)
            assert "\\u001b]0;owned\\u0007[bold]zz" in shown
            assert "\x1b]0;" not in shown
