"""Child processes of the demo: started, listened to line by line, and ended with it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

_ROOT = Path(__file__).resolve().parents[2]
_LONGEST_LINE = 64 * 1024

# For a child that was asked to end; then it is made to.
_GRACE_SECONDS = 5.0


class ChildEndedError(Exception):
    """A child ended while there was something to come from it."""


class Child:
    """A running child."""

    def __init__(self, name: str, process: Process, complaints: IO[bytes]) -> None:
        assert process.stdout is not None
        self.name = name
        self._process = process
        self._complaints = complaints
        self._lines = BufferedByteReceiveStream(process.stdout)

    async def read_line(self) -> str:
        """Wait for the next line of its output.

        Raises:
            ChildEndedError: it has ended instead; the message has its last words.
        """
        try:
            line = await self._lines.receive_until(b"\n", _LONGEST_LINE)
        except (anyio.IncompleteRead, anyio.EndOfStream):
            code = await self._process.wait()
            text = f"{self.name} ended too early, with exit code {code}"
            raise ChildEndedError(f"{text}\n{self.last_words()}".rstrip()) from None
        return line.decode()

    def kill(self) -> None:
        """End it by force (SIGKILL): it can neither say goodbye nor clean up."""
        self._process.kill()

    def last_words(self) -> str:
        """Return what it has written to its standard error."""
        self._complaints.seek(0)
        return self._complaints.read().decode(errors="replace").strip()


@asynccontextmanager
async def start(name: str, module: str, *arguments: str, token: str) -> AsyncIterator[Child]:
    """Run `python -m module` for the body of an `async with`."""
    # What the caller has configured for another broker is none of this one's business.
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("SWITCHBOARD_")
    }
    with tempfile.TemporaryFile() as complaints:
        process = await anyio.open_process(
            [sys.executable, "-m", module, *arguments],
            cwd=_ROOT,
            env={**environment, "SWITCHBOARD_TOKEN": token},
            stdin=subprocess.DEVNULL,
            stderr=complaints,
        )
        try:
            yield Child(name, process, complaints)
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        with anyio.move_on_after(_GRACE_SECONDS):
            await process.wait()
    if process.returncode is None:
        process.kill()
    await process.wait()
    await process.aclose()
