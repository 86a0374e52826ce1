"""`switchboard bench` against a real broker, with real processes: short runs, all of it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from services.cli.benching.report import CSV_COLUMNS
from services.sdk import connect
from tests.integration.broker_process import TOKEN, BrokerProcess, broker_process
from tests.integration.cli_process import environment, run, running

QUICK = ("--seconds", "0.2", "--warm-up", "0.05")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_process(tmp_path_factory.mktemp("broker")) as process:
        yield process


@pytest.fixture
def env(shared: BrokerProcess, tmp_path: Path) -> dict[str, str]:
    return environment(shared.websocket_address, tmp_path)


async def figures(*arguments: str, env: dict[str, str]) -> dict[str, Any]:
    done = await run("bench", *arguments, *QUICK, "--json", env=env)
    assert done.code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found.pop("complaint") is None
    assert tuple(found) == CSV_COLUMNS
    return found


@pytest.mark.parametrize("processes", ["1", "3"])
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("publish", ("--pairs", "3", "--window", "8")),
        ("request", ("--pairs", "2", "--window", "8")),
        ("fanout", ("--receivers", "7", "--window", "2")),
    ],
)
async def test_every_message_arrives_and_is_counted(
    shared: BrokerProcess,
    env: dict[str, str],
    mode: str,
    options: tuple[str, ...],
    processes: str,
) -> None:
    found = await figures(mode, *options, "--processes", processes, env=env)
    assert found["mode"] == mode
    assert found["processes"] == int(processes)
    assert found["routed"] > 0
    assert found["rate"] == pytest.approx(found["routed"] / found["seconds"], rel=0.5)
    assert 0 < found["p50_us"] <= found["p90_us"] <= found["p99_us"] <= found["max_us"]
    assert 0 < found["client_cpu"] <= int(processes) * 1.1


async def test_a_raw_stream_and_large_messages(shared: BrokerProcess, env: dict[str, str]) -> None:
    options = ("--url", shared.address, "--size", "100000", "--window", "4")
    assert (await figures("publish", *options, env=env))["routed"] > 0


async def test_the_report_for_people_says_what_the_limit_was(env: dict[str, str]) -> None:
    done = await run("bench", "publish", *QUICK, env=env)
    lines = done.stdout.splitlines()
    assert lines[0] == "publish: 1 pair, 512 in flight, 128 bytes of data, 0.2 s, 1 process"
    assert "messages/s routed, both ways" in lines[1]
    assert any("█" in line for line in lines)
    assert lines[-1].startswith("The client's busiest process took ")
    assert done.stderr == ""


async def test_rows_of_csv_are_added_below_their_names(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "figures.csv"
    for _ in range(2):
        done = await run("bench", "request", *QUICK, "--csv", str(file), env=env)
        assert done.code == 0
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [row["mode"] for row in rows] == ["request", "request"]
    assert tuple(rows[0]) == CSV_COLUMNS
    done = await run("bench", "request", *QUICK, "--csv", "-", env=env)
    assert [len(row) for row in csv.reader(io.StringIO(done.stdout))] == [len(CSV_COLUMNS)] * 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--url", "ws://127.0.0.1:1"), 3, "is the broker running"),
        (("--token", "wrong"), 3, "IDENTIFY_FAILED"),
        (("--size", "1000000", "--window", "1", "--seconds", "0.1"), 0, ""),
        (("--csv", "/nowhere/x.csv", "--seconds", "0.1"), 1, "can't write /nowhere/x.csv"),
    ],
)
async def test_what_stands_in_the_way(
    env: dict[str, str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = await run("bench", "publish", *QUICK, *arguments, env=env)
    assert done.code == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_messages_that_the_broker_does_not_take(env: dict[str, str], tmp_path: Path) -> None:
    with broker_process(tmp_path, "[limits]\nmessage_bytes = 5000\n") as small:
        arguments = ("--url", small.address, "--size", "6000", "--window", "1")
        done = await run("bench", "publish", *QUICK, *arguments, env=env)
    assert done.code == 2
    assert done.stderr == "Error: --size 6000: this broker takes messages of at most 5000 bytes\n"


async def test_a_group_with_members_is_left_alone(
    shared: BrokerProcess, env: dict[str, str]
) -> None:
    async with connect(shared.address, token=TOKEN, group="web") as web, web.frames() as frames:
        done = await run("bench", "fanout", *QUICK, "--as", "web", env=env)
        assert done.code == 2
        assert "the group web has other members" in done.stderr
        await web.emit("END", to=web.id)
        assert (await frames.receive()).event == "END"
    assert (await run("bench", "fanout", *QUICK, "--as", "web", env=env)).code == 0


async def workers_of(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in path.read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_its_processes_end_with_it(
    shared: BrokerProcess, env: dict[str, str], number: signal.Signals
) -> None:
    group = f"g{os.urandom(4).hex()}"
    arguments = ("bench", "publish", "--processes", "2", "--seconds", "600", "--as", group)
    async with (
        connect(shared.address, token=TOKEN, group="watcher") as mesh,
        running(*arguments, env=env) as command,
        mesh.watch() as changes,
    ):
        there: set[str] = set()
        ids: set[str] = set()
        with trio.fail_after(60):
            async for change in changes:
                service = getattr(change, "service", None)
                if service is None or service.group != group:
                    continue
                # First the command itself, which asks whether the group has members.
                there ^= {service.id}
                ids.add(service.id)
                if len(ids) == 3 and len(there) == 2:
                    break
            code, said = await command.end(number)
            while there:
                change = await changes.receive()
                service = getattr(change, "service", None)
                if service is not None:
                    there.discard(service.id)
    assert code == (130 if number is signal.SIGINT else -number)
    assert said == [], "\n".join(said)


async def test_a_broker_that_is_killed_meanwhile(env: dict[str, str], tmp_path: Path) -> None:
    with broker_process(tmp_path, "permissions = { stats = true }\n") as broker:
        arguments = ("bench", "publish", "--seconds", "1", "--warm-up", "0", "--as", "own")
        async with connect(broker.address, token=TOKEN, group="w", reconnect=None) as mesh:
            env = {**env, "SWITCHBOARD_URL": broker.address}
            async with running(*arguments, env=env) as command:
                with trio.fail_after(60):
                    while (await mesh.request("STATS", to="$broker"))["frames_out"] < 2000:
                        pass
                broker.kill()
                code, said = await command.end(None)
    assert code == 1, said
    assert any("these figures can't be trusted" in line for line in said), said
    assert not any("Traceback" in line for line in said)
