"""A broker as an operator runs it: a process with a configuration, that can be killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from broker.core.authentication import hash_token

__all__ = ["ROOT", "TOKEN", "BrokerProcess", "broker_process"]

TOKEN: Final = "a-token-for-tests"

ROOT: Final = Path(__file__).resolve().parents[2]


class BrokerProcess:
    """A broker that is started, killed, and started again at the same address.

    Its methods block: on an event loop they belong in a thread.

    Args:
        directory: for its configuration and its log.
        settings: more of the configuration, in TOML.

    Attributes:
        address: `tcp://HOST:PORT`; the port is the system's choice at first, and then stays.
    """

    def __init__(self, directory: Path, settings: str = "") -> None:
        self.address = "tcp://127.0.0.1:0"
        self._directory = directory
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None

    @property
    def websocket_address(self) -> str:
        """The same, for WebSocket."""
        return self.address.replace("tcp:", "ws:")

    @property
    def pid(self) -> int:
        """The number of the process, while it runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def port(self) -> int:
        """Of its address."""
        return int(self.address.rpartition(":")[2])

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return (self._directory / "broker.log").read_text()

    def start(self) -> None:
        """Return when it listens."""
        config = self._directory / "broker.toml"
        config.write_text(
            f'[[listeners]]\naddress = "{self.address}"\n'
            f'[[tokens]]\nname = "test"\nsha256 = "{hash_token(TOKEN)}"\n'
            f"{self._settings}"
        )
        with (self._directory / "broker.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "broker", "serve", "--config", str(config)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        assert said.startswith("listening on "), (self._directory / "broker.log").read_text()
        self.address = said.removeprefix("listening on ").strip()

    def freeze(self) -> None:
        """Let it stand still, with its sockets open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it with SIGKILL; return when it is gone, and its sockets with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def broker_process(directory: Path, settings: str = "") -> Iterator[BrokerProcess]:
    """A broker that runs, and is killed at the end if the test has not done so."""
    process = BrokerProcess(directory, settings)
    process.start()
    try:
        yield process
    finally:
        process.kill()
