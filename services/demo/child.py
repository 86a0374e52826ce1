"""One program as a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

__all__ = ["Child", "start_child"]

# Where the packages of this installation are.
_ROOT: Final = Path(__file__).resolve().parents[2]

_LONGEST_LINE: Final = 64 * 1024

# Programs say their last words in one line, and stack traces in more than one wants to see.
_LAST_WORDS: Final = 1000


class Child:
    """A process that has been started. `end` has to be awaited some time.

    Attributes:
        pid: its number.
    """

    def __init__(self, process: Process, log: Path) -> None:
        if process.stdout is None:
            raise ValueError("its stdout has to be a pipe")
        self.pid = process.pid
        self._process = process
        self._log = log
        self._lines = BufferedByteReceiveStream(process.stdout)

    async def read_line(self) -> str | None:
        """Return the next line of its output; None where there is no more."""
        try:
            line = await self._lines.receive_until(b"\n", _LONGEST_LINE)
        except (anyio.IncompleteRead, anyio.EndOfStream):
            return None
        return line.decode(errors="replace")

    async def wait(self) -> str:
        """Wait until it has ended; return how it has."""
        # What it writes has to be read, or it would stand still some day.
        with contextlib.suppress(anyio.EndOfStream):
            while True:
                await self._lines.receive()
        return _how(await self._process.wait())

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def end(self, grace: float) -> None:
        """See it end. It has been asked to; after so many seconds it is made to."""
        with anyio.move_on_after(grace):
            await self._process.wait()
        self.send(signal.SIGKILL)
        await self._process.wait()
        await self._process.aclose()

    def last_words(self) -> str:
        """Return the last line of its log, or nothing."""
        lines = self._log.read_text(errors="replace").split("\n")
        return next((line.strip()[:_LAST_WORDS] for line in reversed(lines) if line.strip()), "")


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


async def start_child(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Child:
    """Start a module with its arguments, on a leash.

    Args:
        command: the module, and its arguments.
        environment: for it, besides what there is.
        log: is written to by its stderr.
    """
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    # What the caller has configured for another broker is none of this one's business.
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")
    }
    with log.open("ab") as complaints:
        process = await anyio.open_process(
            # -P: a file of the working directory is not taken for one of these modules.
            [sys.executable, "-P", "-m", "services.demo.leash", *command],
            env={
                **inherited,
                "PYTHONPATH": os.pathsep.join(path for path in paths if path),
                **environment,
            },
            stdin=subprocess.PIPE,
            stderr=complaints,
            # Ctrl-C on the terminal is for the demo, which ends the others in their order.
            start_new_session=True,
        )
    return Child(process, log)
