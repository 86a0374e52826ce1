"""The chat service as a process, that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

from tests.integration.broker_process import ROOT, TOKEN

__all__ = ["ChatProcess", "run_chat"]

# Against a process that hangs.
_GUARD_SECONDS = 30


def run_chat(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    environment = {name: value for name, value in os.environ.items() if "SWITCHBOARD" not in name}
    return subprocess.run(
        [sys.executable, "-m", "services.chat", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=_GUARD_SECONDS,
    )


class ChatProcess:
    """An instance of the chat service. Its methods block.

    Args:
        url: the broker's.
        store: its URL.
        directory: for the log.
        name: of the log.

    Attributes:
        said: its line when it was ready.
    """

    def __init__(self, url: str, store: str, directory: Path, name: str = "chat") -> None:
        self.said = ""
        self._command = [sys.executable, "-m", "services.chat", "--url", url, "--store", store]
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[str] | None = None

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    def begin(self) -> None:
        """Start it, and do not wait."""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "SWITCHBOARD_TOKEN": TOKEN},
            )

    def wait_ready(self) -> None:
        """Wait until it is on the mesh."""
        self.said = self._output().readline().strip()
        assert self.said.startswith("chat is on the mesh"), self.log

    def start(self) -> None:
        """Start it, and wait until it is on the mesh."""
        self.begin()
        self.wait_ready()

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self, number: signal.Signals) -> int:
        """Send it a signal; return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(_GUARD_SECONDS)
        self._output().close()
        self._process = None
        return code

    def kill(self) -> None:
        """End it with SIGKILL; return when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._output().close()
            self._process = None

    def _output(self) -> IO[str]:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout
