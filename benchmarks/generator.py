"""Runs the load generator against a server."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from benchmarks.processes import Command, Server, stop
from benchmarks.scenarios import Figures, Latency, Scenario
from benchmarks.subjects import TOKEN, Row

# How long all connections may take to identify; a slow server with 10,000 of them needs it.
SETUP_DEADLINE = 120.0


class GeneratorError(Exception):
    """A measurement did not come to an end."""


@attrs.frozen
class Idle:
    """What idle connections cost a server."""

    bytes_each: float
    # How many a second were opened and identified, 64 at a time.
    rate: float


@attrs.frozen
class Generator:
    """The compiled program, and what all its runs have in common."""

    program: Path
    core: int | None = None

    def _command(self, row: Row, server: Server, *arguments: str) -> list[str]:
        words = [
            str(self.program),
            f"--protocol={row.protocol}",
            f"--port={server.port}",
            f"--token={TOKEN}",
            f"--setup-timeout={SETUP_DEADLINE}",
            *arguments,
        ]
        return list(Command(words).pinned(self.core).words)

    def measure(
        self, row: Row, server: Server, scenario: Scenario, *, warm_up: float, seconds: float
    ) -> Figures:
        """Run one scenario."""
        command = self._command(
            row,
            server,
            f"--warm-up={warm_up}",
            f"--seconds={seconds}",
            f"--server-pid={server.pid}",
            *scenario.arguments,
        )
        try:
            result = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=SETUP_DEADLINE + warm_up + seconds + 30,
                check=False,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise GeneratorError("the load generator did not come to an end") from error
        if result.returncode != 0:
            raise GeneratorError(result.stderr.strip())
        return _figures(json.loads(result.stdout))

    def hold_idle(self, row: Row, server: Server, connections: int) -> Idle:
        """Open idle connections and see how much the server has grown."""
        before = server.settled_memory()
        process = subprocess.Popen(
            self._command(row, server, "--mode=idle", f"--connections={connections}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            # The generator has a deadline of its own for this line.
            opened = process.stdout.readline()
            if not opened:
                _, errors = process.communicate()
                raise GeneratorError(errors.decode(errors="replace").strip())
            after = server.settled_memory()
            # Closes its stdin, which ends it.
            output, errors = process.communicate(timeout=30)
            if process.returncode != 0:
                raise GeneratorError(errors.decode(errors="replace").strip())
            if closed := json.loads(output)["closed"]:
                raise GeneratorError(f"{closed} idle connections were closed")
            seconds = json.loads(opened)["seconds"]
            return Idle((after - before) / connections, connections / seconds)
        finally:
            if process.poll() is None:
                stop(process)


def _figures(output: Mapping[str, Any]) -> Figures:
    values = {field.name: output[field.name] for field in attrs.fields(Figures)}
    return Figures(**{**values, "latency": Latency(**output["latency"])})
