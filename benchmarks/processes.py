"""Servers as child processes: started, waited for, looked at, and stopped whatever happens.

A server's output goes to a file, not a pipe: nobody has to keep reading it, and its end is there
when something has to be explained.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

READY_DEADLINE = 20.0
STOP_DEADLINE = 5.0
POLL_INTERVAL = 0.02

# What our broker, the relay and nats-server print when they accept connections.
_LISTENING = re.compile(r"listening (?:for client connections )?on (?:\w+://)?\S+:(\d+)", re.I)

# Sets its own affinity, then becomes the server: all threads inherit it and the pid stays.
_PINNED = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.execvp(sys.argv[2], sys.argv[2:])
"""


class ServerError(Exception):
    """A server did not come up."""


@attrs.frozen
class Command:
    """How to start a process."""

    words: Sequence[str]
    directory: Path | None = None
    environment: Mapping[str, str] = attrs.field(factory=dict)

    def pinned(self, core: int | None) -> "Command":
        """Return the same command, held on one core."""
        if core is None:
            return self
        prefix = [sys.executable, "-c", _PINNED, str(core)]
        return attrs.evolve(self, words=[*prefix, *self.words])


@attrs.frozen
class Server:
    """A running server."""

    pid: int
    port: int

    def memory(self) -> int:
        """Return the resident memory in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.M)
        if match is None:
            raise ServerError(f"process {self.pid} has no resident memory any more")
        return int(match[1]) * 1024

    def settled_memory(self) -> int:
        """Wait until the resident memory has stopped changing, for at most some seconds."""
        deadline = time.monotonic() + 5
        before = self.memory()
        while time.monotonic() < deadline:
            time.sleep(0.25)
            now = self.memory()
            if abs(now - before) <= before // 500:
                return now
            before = now
        return before


@contextmanager
def running(name: str, command: Command, log: Path, core: int | None = None) -> Iterator[Server]:
    """Start a server, wait until it listens, and stop it at the end of the block."""
    words = command.pinned(core).words
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            cwd=command.directory,
            env=_environment(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Out of the terminal's process group: on Ctrl-C this process stops it, in order.
            start_new_session=True,
        )
    try:
        yield Server(process.pid, _wait_until_listening(name, process, log))
    finally:
        stop(process)


def _environment(command: Command) -> dict[str, str]:
    """Return this process's environment without settings of a broker, which would differ."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")
    }
    return {**inherited, **command.environment, "PYTHONUNBUFFERED": "1"}


def _wait_until_listening(name: str, process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + READY_DEADLINE
    while True:
        # The exit is looked at first, so that what a dying process wrote last is still read.
        status = process.poll()
        output = log.read_text(errors="replace")
        match = _LISTENING.search(output)
        if match and status is None:
            return int(match[1])
        if status is not None:
            raise ServerError(
                f"{name} exited with status {status} before it listened:\n{output[-2000:]}"
            )
        if time.monotonic() > deadline:
            raise ServerError(
                f"{name} did not listen within {READY_DEADLINE:g} s:\n{output[-2000:]}"
            )
        time.sleep(POLL_INTERVAL)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process: by SIGTERM, and if that is not heeded in time, by SIGKILL."""
    process.terminate()
    try:
        process.wait(STOP_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
