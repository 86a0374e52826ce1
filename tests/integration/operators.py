"""A broker as a process, and the operator who changes its configuration while it runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from tests.integration.broker_process import ROOT

__all__ = ["PATIENCE", "Client", "Lines", "Operator", "operator"]

# A bound for what should take no time at all; a busy machine may need some.
PATIENCE: Final = 30.0


class Lines:
    """What comes out of a stream, line by line."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._buffer = b""

    async def next(self) -> str:
        """Return the next line; nothing at the end."""
        while b"\n" not in self._buffer:
            data = await self._stream.receive_some()
            if not data:
                return ""
            self._buffer += bytes(data)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()


@attrs.define
class Client:
    """One connection over a raw stream."""

    stream: trio.abc.Stream
    lines: Lines
    id: str = ""

    async def send(self, **frame: Any) -> None:
        await self.stream.send_all(json.dumps(frame).encode() + b"\n")

    async def receive(self) -> Any:
        """Return the next frame; None at the end."""
        line = await self.lines.next()
        return json.loads(line) if line else None

    async def request(self, number: int, group: str) -> Any:
        intent = {"target": "GROUP", "identifier": group, "pick": "ONE"}
        await self.send(op=0, id=str(number), event="E", intent=intent, timeout=60_000)
        return await self.receive()


@attrs.define
class Operator:
    """A running broker, and its configuration."""

    process: trio.Process
    config: Path
    log: Lines
    port: int
    stack: AsyncExitStack
    logs: list[dict[str, Any]] = attrs.field(factory=list)

    async def hang_up(self) -> dict[str, Any]:
        """Send SIGHUP; return the first line that says what came of it."""
        self.process.send_signal(signal.SIGHUP)
        while not (line := await self.logged())["event"].startswith("settings"):
            pass  # Logged at the start.
        return line

    async def logged(self) -> dict[str, Any]:
        """Return the next line of the log."""
        line: dict[str, Any] = json.loads(await self.log.next())
        self.logs.append(line)
        return line

    async def reload(self, content: str) -> dict[str, Any]:
        self.config.write_text(content)
        return await self.hang_up()

    async def connect_silently(self, **tls: Any) -> Client:
        """Connect, and say nothing yet."""
        stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        if tls:
            stream = trio.SSLStream(stream, **tls)
        self.stack.push_async_callback(trio.aclose_forcefully, stream)
        return Client(stream, Lines(stream))

    async def connect(self, token: str, group: str, **tls: Any) -> Client:
        """Connect and identify; the answer may be a DISCONNECT."""
        client = await self.connect_silently(**tls)
        await client.send(op=1, data={"token": token, "group": group})
        return client

    async def join(self, token: str, group: str, **tls: Any) -> Client:
        client = await self.connect(token, group, **tls)
        welcome = await client.receive()
        assert welcome["op"] == 1, welcome
        client.id = welcome["data"]["id"]
        return client


@asynccontextmanager
async def operator(tmp_path: Path, content: str, *options: str) -> AsyncIterator[Operator]:
    config = tmp_path / "broker.toml"
    config.write_text(content)
    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(_run, config, options)
            assert process.stdout is not None
            assert process.stderr is not None
            said = await Lines(process.stdout).next()
            assert said.startswith("listening on "), said
            port = int(said.rpartition(":")[2])
            try:
                yield Operator(process, config, Lines(process.stderr), port, stack)
            finally:
                process.kill()
                nursery.cancel_scope.cancel()


async def _run(
    config: Path,
    options: tuple[str, ...],
    *,
    task_status: trio.TaskStatus[trio.Process] = trio.TASK_STATUS_IGNORED,
) -> None:
    await trio.run_process(
        [sys.executable, "-m", "broker", "serve", "--config", str(config), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
        task_status=task_status,
    )
