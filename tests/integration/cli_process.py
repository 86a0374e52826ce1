"""The `switchboard` command as a process, as a person or a script runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import trio

from services.cli.benching.lines import LineReader
from tests.integration.broker_process import TOKEN

__all__ = ["COMMAND", "Done", "Running", "environment", "run", "running"]

COMMAND: Final = [
    sys.executable,
    "-c",
    "from services.cli.main import main; main(prog_name='switchboard')",
]

_ROOT: Final = Path(__file__).resolve().parents[2]

# For what should take a moment; a busy machine may need some.
_PATIENCE: Final = 30.0


@attrs.frozen
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def environment(url: str, directory: Path, **more: str) -> dict[str, str]:
    """What a command finds around it: a broker, its token, and nobody's own contexts."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if "SWITCHBOARD" not in name and name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}
    }
    return inherited | {
        "PYTHONPATH": str(_ROOT),
        "PYTHONUNBUFFERED": "",
        "SWITCHBOARD_URL": url,
        "SWITCHBOARD_TOKEN": TOKEN,
        "TERM": "xterm-256color",
        "XDG_CONFIG_HOME": str(directory),
        **more,
    }


async def run(*arguments: str, env: Mapping[str, str], stdin: str = "") -> Done:
    """Run a command to its end."""
    with trio.fail_after(_PATIENCE):
        done = await trio.run_process(
            [*COMMAND, *arguments],
            env=env,
            stdin=stdin.encode(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


class Running:
    """A command that goes on."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self._out = LineReader(process.stdout)
        self._errors = LineReader(process.stderr)

    async def line(self) -> str:
        """Wait for its next line."""
        with trio.fail_after(_PATIENCE):
            return (await self._out.read_line()).decode()

    async def error(self) -> str:
        """Wait for its next line on stderr."""
        with trio.fail_after(_PATIENCE):
            return (await self._errors.read_line()).decode()

    async def close_stdout(self) -> None:
        """Read no more."""
        assert self.process.stdout is not None
        await self.process.stdout.aclose()

    async def end(self, number: signal.Signals | None = signal.SIGINT) -> tuple[int, list[str]]:
        """Send it a signal, and wait for its end; return its exit code, and what it said then."""
        if number is not None:
            self.process.send_signal(number)
        said = []
        with trio.fail_after(_PATIENCE):
            code = await self.process.wait()
            while True:
                try:
                    said.append((await self._errors.read_line()).decode())
                except EOFError:
                    return code, said


@asynccontextmanager
async def running(*arguments: str, env: Mapping[str, str]) -> AsyncIterator[Running]:
    """Run a command until the end of the block, if it does not end before."""
    process = await trio.lowlevel.open_process(
        [*COMMAND, *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield Running(process)
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    await stream.aclose()
