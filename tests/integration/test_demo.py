"""`switchboard demo` as a person runs it: what it shows, and that nothing of it is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from services.demo.programs import PROGRAMS, port_names
from services.demo.talkers.systems import System, open_talker
from services.demo.talkers.talker import TalkError
from tests.gateways.world import on_asyncio
from tests.integration.broker_process import ROOT
from tests.integration.cli_process import COMMAND, environment

# It starts six interpreters and more, and the machine may be busy.
GUARD = 120.0
SOME_READY = r"^(chat|mirage|rooms|keenchat|redis_chat) "
NAMES = [program.name for program in PROGRAMS]


class Demo:
    """The command, while it runs. Its methods block.

    Attributes:
        said: what it has said on stderr so far.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.stdout = process.stdout
        self._errors = process.stderr
        self.said: list[str] = []
        self._gone: dict[int, int] = {}

    def wait_said(self, pattern: str) -> str:
        """Wait for a line on stderr that has something in it."""
        for line in self._errors:
            self.said.append(line.rstrip())
            if re.search(pattern, line):
                return line.strip()
        raise AssertionError(f"{pattern} does not come: {self.said}")

    def watch_children(self) -> list[int]:
        """Take note of all that it has started; return their numbers."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in map(int, children):
            self._gone.setdefault(child, os.pidfd_open(child))
        return list(self._gone)

    def pid_of(self, module: str) -> int:
        """Return the number of the child that runs a module."""
        pids = [pid for pid in self._gone if module.encode() in command_line(pid)]
        return pids[-1]

    def end(self) -> int:
        """Wait for its end; return its exit code."""
        self.said += [line.rstrip() for line in self._errors]
        return self.process.wait(GUARD)

    def wait_children_gone(self) -> None:
        """Wait until all are gone that it had started."""
        for pid, number in self._gone.items():
            # The number of a process can be read from when the process has ended.
            assert wait_readable(number), f"{pid} is left behind"

    def close(self) -> None:
        """End what is left behind all the same."""
        for number in self._gone.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(number, signal.SIGKILL)
            os.close(number)
        self._gone.clear()


def command_line(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        return []  # It has ended.


def wait_readable(number: int) -> bool:
    return bool(select.select([number], [], [], GUARD)[0])


@contextmanager
def demo(directory: Path, *options: str) -> Iterator[Demo]:
    """Run the command for the body of a `with`."""
    env = environment("ws://127.0.0.1:1", directory, TMPDIR=str(directory))
    with subprocess.Popen(
        [*COMMAND, "demo", *options],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
        # So that a Ctrl-C of the test is not one for the tests.
        start_new_session=True,
    ) as process:
        running = Demo(process)
        # Whoever waits for what does not come learns it by the end of the output.
        guard = threading.Timer(GUARD, process.kill)
        guard.start()
        try:
            yield running
        finally:
            guard.cancel()
            process.kill()
            try:
                running.wait_children_gone()
            finally:
                running.close()


def test_it_shows_that_all_see_all_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo(tmp_path, "--any-port") as running:
        running.wait_said("Rex comes in")
        assert len(running.watch_children()) == len(PROGRAMS)
        shown = running.stdout.read()
        assert running.end() == 0, running.said
        running.wait_children_gone()
    header, _line, *rows = [line for line in shown.splitlines()[2:] if line.strip()]
    assert re.split(r" {2,}", header.strip())[-4:] == [system.label for system in System]
    cells = [re.split(r" {2,}", row.strip()) for row in rows[:-1]]
    assert len(cells) == 8
    assert {row[0] for row in cells} == {system.label for system in System}
    for row in cells:
        assert len(row) == 7
        assert all(cell.isdecimal() for cell in row[3:]), row
    assert rows[-1].startswith("Each of the 8 messages was seen on all 4 systems")
    assert list(tmp_path.glob("switchboard-demo-*")) == []


@on_asyncio
async def test_what_dies_is_started_again_and_can_be_used(tmp_path: Path) -> None:
    with demo(tmp_path, "--any-port", "--stay", "--json") as running:
        await anyio.to_thread.run_sync(running.wait_said, "all go on until Ctrl-C")
        report = json.loads(running.stdout.readline())
        check_report(report)
        running.watch_children()
        programs = {program["name"]: program for program in report["programs"]}
        assert list(programs) == NAMES
        for name, program in programs.items():
            os.kill(program["pid"], signal.SIGKILL)
            await anyio.to_thread.run_sync(
                running.wait_said, rf"^{name} +has ended \(killed by SIGKILL\)"
            )
            await anyio.to_thread.run_sync(running.wait_said, rf"^{name} +is back")
            running.watch_children()
        await anyio.to_thread.run_sync(keep_the_port_of_rooms, running)
        # All are where they were before.
        for number, system in enumerate(System):
            addresses = programs[system.value]["addresses"]
            await talk_until_it_works(system, addresses, f"Somebody {number}")
        running.process.send_signal(signal.SIGINT)
        code = await anyio.to_thread.run_sync(running.end)
        assert code == 130, running.said
        running.wait_children_gone()


def pause_in(line: str) -> float:
    found = re.search(r"started again in ([\d.]+) s$", line)
    assert found
    return float(found[1])


def keep_the_port_of_rooms(running: Demo) -> None:
    """Have its port while it is started again: it is tried again, after longer and longer."""
    line = next(line for line in reversed(running.said) if re.match("rooms +is back", line))
    os.kill(running.pid_of("services.gateways.rooms"), signal.SIGKILL)
    pauses = [pause_in(running.wait_said(r"^rooms +has ended \(killed by SIGKILL\)"))]
    # An interpreter takes longer to start than this.
    with socket.create_server(("127.0.0.1", int(line.rpartition(":")[2]))):
        while len(pauses) < 3:
            pauses.append(pause_in(running.wait_said(r"^rooms +has ended \(exit code 1: .*in use")))
    assert pauses == sorted(set(pauses))
    running.wait_said(r"^rooms +is back")
    running.watch_children()


async def talk_until_it_works(system: System, addresses: Sequence[str], name: str) -> None:
    # The broker has just been started again, and the others come back to it.
    attempt = 0
    while True:
        attempt += 1
        try:
            async with open_talker(system, addresses, f"{name} {attempt}") as talker:
                await talker.say("hello")
                return
        except TalkError:
            await anyio.sleep(0.05)


def check_report(report: dict[str, Any]) -> None:
    assert report["problems"] == []
    assert len(report["messages"]) == 8
    for message in report["messages"]:
        assert list(message["seen"]) == [system.value for system in System]
        assert {seen["author"] for seen in message["seen"].values()} == {message["author"]}


@pytest.mark.parametrize(
    ("moment", "number", "code"),
    [
        (SOME_READY, signal.SIGTERM, 143),
        (SOME_READY, signal.SIGINT, 130),
        (SOME_READY, signal.SIGKILL, -9),
        ("Ken comes in", signal.SIGINT, 130),
    ],
)
def test_it_leaves_nothing_behind_whenever_and_however_it_is_ended(
    tmp_path: Path, moment: str, number: signal.Signals, code: int
) -> None:
    with demo(tmp_path, "--any-port") as running:
        running.wait_said(moment)
        running.watch_children()
        running.process.send_signal(number)
        assert running.end() == code
        running.wait_children_gone()
    left = list(tmp_path.glob("switchboard-demo-*"))
    assert left == [] or number == signal.SIGKILL


def test_a_second_ctrl_c_ends_what_does_not_end(tmp_path: Path) -> None:
    with demo(tmp_path, "--any-port") as running:
        running.wait_said("^broker ")
        children = running.watch_children()
        # It is there, but does nothing any more, not even end.
        os.kill(children[0], signal.SIGSTOP)
        running.process.send_signal(signal.SIGINT)
        running.wait_said("Ctrl-C again does it by force")
        running.watch_children()
        running.process.send_signal(signal.SIGINT)
        running.wait_said("ended by force")
        assert running.end() == 130
        running.wait_children_gone()


def test_ports_in_use_are_all_told_before_anything_is_started(tmp_path: Path) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        first, second = [one.getsockname()[1] for one in sockets]
        options = ["--any-port", "--port", f"mirage={first}", "--port", f"redis-chat={second}"]
        with demo(tmp_path, *options) as running:
            assert running.end() == 1
    [said] = running.said
    assert said == (
        f"Error: port {first}, for mirage, is in use; port {second}, for redis-chat, is in use. "
        "--port mirage=NUMBER names another, --any-port lets the system choose"
    )


def test_a_program_that_does_not_start_ends_it_with_the_reason(tmp_path: Path) -> None:
    with demo(tmp_path, "--any-port", "--store", "mongodb://somewhere") as running:
        running.wait_said("^broker ")
        running.watch_children()
        assert running.end() == 1
        assert re.match(r"Error: chat does not start: exit code 1: .*mongodb", running.said[-1])
        running.wait_children_gone()


def test_wrong_ports_are_refused_with_the_names(tmp_path: Path) -> None:
    with demo(tmp_path, "--port", "chat=1") as running:
        assert running.end() == 2
    assert ", ".join(port_names()) in running.said[-1]


def test_make_demo_shows_it() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "--always-make", "--no-print-directory", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.search(r"switchboard demo --any-port$", shown, re.MULTILINE)
    assert "'.[chat]'" in shown
