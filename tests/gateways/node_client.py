"""The official client of Socket.IO, from npm, in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

__all__ = ["NodeClient", "install", "node_client"]

_SOURCES = Path(__file__).parent / "node"
_MAX_LINE = 1024 * 1024


def install(directory: Path) -> Path:
    """Install the client as its lockfile says; return where its script is.

    Raises:
        RuntimeError: there is no Node.js, or no npm registry; the message says what to do.
    """
    for command in ("node", "npm"):
        if shutil.which(command) is None:
            raise RuntimeError(
                f"the tests with Socket.IO's own client need {command}: "
                "`apt-get install nodejs npm` on Debian"
            )
    for file in _SOURCES.glob("*.js*"):
        shutil.copy(file, directory)
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"`npm ci` in {_SOURCES} failed; is the registry there?\n{done.stderr}")
    return directory / "client.js"


class NodeClient:
    """A connection, and the events that have come on it."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin = process.stdin
        self._lines = BufferedByteReceiveStream(process.stdout)
        self._heard: list[list[Any]] = []

    async def say(self, event: str, *arguments: Any) -> None:
        """Send an event."""
        await self._stdin.send(json.dumps([event, *arguments]).encode() + b"\n")

    async def next(self, *events: str) -> Any:
        """Wait for the next event of one of these names; return what came with it."""
        return (await self.next_of(*events))[1]

    async def next_of(self, *events: str) -> tuple[str, Any]:
        """Wait for the next event of one of these names."""
        with anyio.fail_after(30):
            while True:
                for index, (event, *arguments) in enumerate(self._heard):
                    if event in events:
                        del self._heard[index]
                        return event, arguments[0] if arguments else None
                line = await self._lines.receive_until(b"\n", _MAX_LINE)
                self._heard.append(json.loads(line))


@asynccontextmanager
async def node_client(script: Path, port: int, *transports: str) -> AsyncIterator[NodeClient]:
    """Connect for the body of an `async with`."""
    command = ["node", str(script), f"http://127.0.0.1:{port}", *transports]
    async with await anyio.open_process(command, stderr=None) as process:
        client = NodeClient(process)
        event, transport = await client.next_of("(connected)", "(failed)")
        assert event == "(connected)", transport
        assert transport in transports
        yield client
        assert process.stdin is not None
        await process.stdin.aclose()
        assert await process.wait() == 0
