"""What is measured: for each row a broker and its clients, every one a process of its own."""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import attrs

from benchmarks.processes import Command, running, stop
from benchmarks.sdk_traffic import PAIR, READERS, SOLO
from benchmarks.subjects import REPOSITORY, TOKEN, nats

# Nothing here takes longer unless it hangs.
ANSWER_SECONDS = 60.0

# Linux: which of a process's clocks.
_CPUCLOCK_SCHED = 2


class WorkerError(Exception):
    """A worker did not do what it was told."""


@attrs.frozen
class Row:
    """A library on an event loop, over one of its broker's protocols."""

    label: str
    loop: str
    door: str
    checkout: Path | None

    def __str__(self) -> str:
        """Return the row's name in messages."""
        return f"{self.label}, {self.loop}, {self.door}"


NATS = Row("nats.py", "asyncio", "nats", None)


@attrs.frozen
class Traffic:
    """A kind of load: `count` requests in all by `tasks` tasks to `group`; events without tasks.

    Attributes:
        peers: the workers at its other end.
    """

    name: str
    title: str
    count: int
    tasks: int
    group: str
    peers: Sequence[str]


@attrs.frozen
class Figures:
    """One turn of one row: rate a second, latencies in µs, processor time in µs a message."""

    rate: float
    p50: float | None
    p99: float | None
    client_cost: float
    peer_cost: float
    broker_cost: float


class Worker:
    """A process that carries out commands; see `sdk_traffic`."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, log: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._name = name
        self._log = log
        self._pending = b""

    def tell(self, **order: Any) -> None:  # noqa: ANN401 - JSON
        """Give it something to do."""
        if self._process.stdin is None:
            raise WorkerError(f"{self._name} has no input")
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for its next word.

        Raises:
            WorkerError: it says that it failed, has ended, or says nothing.
        """
        if self._process.stdout is None:
            raise WorkerError(f"{self._name} has no output")
        output = self._process.stdout.fileno()
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\n" not in self._pending:
            ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(output, 65536) if ready else b""
            if not data:
                what = "has ended" if ready else f"said nothing for {ANSWER_SECONDS:g} s"
                said = self._log.read_text(errors="replace")[-2000:]
                raise WorkerError(f"{self._name} {what}\n{said}".rstrip())
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self._name}: {answer['error']}")
        return answer


@attrs.frozen
class Stack:
    """A row's broker and workers, running."""

    broker: int
    workers: Mapping[str, Worker]

    def measure(self, traffic: Traffic, count: int) -> Figures:
        """Let the client do its part once.

        Raises:
            WorkerError: something was lost, or somebody failed.
        """
        client = self.workers["client"]
        peers = [self.workers[name] for name in traffic.peers]
        before = _Times.of(client, peers, self.broker)
        p50, p99 = None, None
        try:
            if traffic.tasks:
                client.tell(do="ask", count=count, tasks=traffic.tasks, group=traffic.group)
                answer = client.hear()
                rate, p50, p99 = answer["rate"], answer["p50"], answer["p99"]
            else:
                client.tell(do="publish", count=count)
                begun, received = client.hear()["begun"], peers[0].hear()
                if received["count"] != count:
                    raise WorkerError(f"{received['count']} of {count} events came")
                rate = count / ((received["ended"] - begun) / 1e9)
        except OSError as error:
            raise WorkerError(f"the client is gone: {error}") from error
        spent = _Times.of(client, peers, self.broker)
        return Figures(
            rate=rate,
            p50=p50,
            p99=p99,
            client_cost=(spent.client - before.client) / count * 1e6,
            peer_cost=(spent.peers - before.peers) / count * 1e6,
            broker_cost=(spent.broker - before.broker) / count * 1e6,
        )


@attrs.frozen
class _Times:
    """Processor seconds so far."""

    client: float
    peers: float
    broker: float

    @classmethod
    def of(cls, client: Worker, peers: Sequence[Worker], broker: int) -> Self:
        return cls(
            _seconds(client.pid), sum(_seconds(peer.pid) for peer in peers), _seconds(broker)
        )


def _seconds(pid: int) -> float:
    """Return the processor time of a process, all of its threads, user and system.

    To the nanosecond: `/proc/<pid>/stat` counts in steps of 10 ms. It is the clock that
    clock_getcpuclockid(3) has for a process.
    """
    try:
        return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
    except OSError:
        raise WorkerError(f"process {pid} has ended") from None


def rows(checkouts: Mapping[str, Path]) -> list[Row]:
    """Return nats.py, and each checkout's SDK on every loop through every door."""
    ours = [
        Row(label, loop, door, checkout)
        for loop in ("trio", "asyncio")
        for door in ("tcp", "ws")
        for label, checkout in checkouts.items()
    ]
    return [NATS, *ours]


def snapshot(checkout: Path, target: Path) -> Path:
    """Copy what runs, so that all rounds measure the same even while somebody edits it."""
    for package in ("broker", "services"):
        source = checkout / package
        if not source.is_dir():
            raise WorkerError(f"{checkout} has no {package}")
        shutil.copytree(source, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    # The workers of both sides are these, whichever SDK they run on.
    shutil.copytree(
        REPOSITORY / "benchmarks",
        target / "benchmarks",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return target


@contextmanager
def running_stack(row: Row, logs: Path) -> Iterator[Stack]:
    """Start a row's broker and workers, and stop them at the end of the block."""
    name = str(row).replace(", ", "-").replace(" ", "-").replace("/", "-")
    directory = row.checkout or REPOSITORY
    environment = {"PYTHONPATH": str(directory)}
    if row.checkout is None:
        command = nats().command
    else:
        words = [sys.executable, "-m", "broker", "serve", "--listen", "tcp://127.0.0.1:0"]
        command = Command(words, directory, {**environment, "SWITCHBOARD_TOKEN": TOKEN})
    with ExitStack() as stack:
        broker = stack.enter_context(running(str(row), command, logs / f"{name}.log"))
        url = f"{row.door}://127.0.0.1:{broker.port}"
        module = "sdk_nats" if row.checkout is None else "sdk_switchboard"
        arguments = [url] if row.checkout is None else [url, row.loop]
        started = {}
        for member, role in enumerate(("client", SOLO, PAIR, PAIR, READERS)):
            key = f"{role} 2" if role in started else role
            words = [sys.executable, "-m", f"benchmarks.{module}", role, *arguments]
            log = logs / f"{name}-{member}.log"
            started[key] = stack.enter_context(
                _working(f"{row}: {key}", words, directory, environment, log)
            )
        for worker in started.values():
            worker.hear()
        yield Stack(broker.pid, started)


@contextmanager
def _working(
    name: str, words: Sequence[str], directory: Path, environment: Mapping[str, str], log: Path
) -> Iterator[Worker]:
    with log.open("wb") as errors:
        process = subprocess.Popen(
            words,
            cwd=directory,
            env={**os.environ, **environment, "SDK_BENCH_TOKEN": TOKEN},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # As for the servers: on Ctrl-C this process stops them, in order.
            start_new_session=True,
        )
    try:
        yield Worker(process, name, log)
    finally:
        stop(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


SCENARIOS = (
    Traffic("one", "10,000 requests, 1 in flight, to 1 service", 10_000, 1, SOLO, [SOLO]),
    Traffic(
        "fifty",
        "20,000 requests by 50 tasks, to 1 of 2 services",
        20_000,
        50,
        PAIR,
        [PAIR, f"{PAIR} 2"],
    ),
    Traffic("events", "100,000 events, 1 publisher, 1 subscriber", 100_000, 0, READERS, [READERS]),
)
