"""A broker that is started as systemd would: with sockets from file number 3 on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from tests.integration.broker_process import ROOT

__all__ = ["PATIENCE", "Started", "start", "started"]

# A bound for what should take no time at all; a busy machine may need some.
PATIENCE: Final = 30.0

# Puts the files in their places, says for which process they are, and becomes the broker.
_LAUNCH: Final = """
import fcntl, json, os, sys
files, environ, command = json.loads(sys.argv[1])
# Out of the way first, since one may stand where another has to go.
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in files]
for place, fd in enumerate(high, start=3):
    os.dup2(fd, place)
os.closerange(3 + len(high), 200)
environ = {name: value.replace("PID", str(os.getpid())) for name, value in environ.items()}
os.execve(sys.executable, [sys.executable, *command], os.environ | environ)
"""


class Started(subprocess.Popen[str]):
    """The broker's process, with its output as text."""

    def line(self) -> str:
        """The next line on stdout; nothing at the end."""
        assert self.stdout is not None
        return self.stdout.readline().removesuffix("\n")


def start(files: Sequence[socket.socket | int], environ: dict[str, str], *command: str) -> Started:
    """Start `python` with a command; "PID" in the environment's values becomes its number."""
    numbers = [one if isinstance(one, int) else one.fileno() for one in files]
    return Started(
        [sys.executable, "-c", _LAUNCH, json.dumps([numbers, environ, command])],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if "SWITCHBOARD" not in k},
        pass_fds=numbers,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def started(
    files: Sequence[socket.socket | int], environ: dict[str, str], *command: str
) -> Iterator[Started]:
    """The same, ended at the end."""
    with start(files, environ, *command) as process:
        try:
            yield process
        finally:
            process.kill()
