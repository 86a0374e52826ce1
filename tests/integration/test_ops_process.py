"""The ops port of a broker that runs as a process: under full load, and through its drain."""

from __future__ import annotations

import json
import signal
import socket
import statistics
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from broker.core.authentication import hash_token
from tests.integration.broker_process import TOKEN, BrokerProcess, broker_process
from tests.integration.crowd import Member, frame
from tests.integration.operators import Client, Operator, operator

PATIENCE = 30.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def get(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as found:
            return found.status, found.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class Load:
    """A pair that keeps the broker busy, from a thread of its own.

    Attributes:
        arrived: messages that have come through.
    """

    WINDOW = 256

    def __init__(self, port: int) -> None:
        self.arrived = 0
        self._sender, self._receiver = (Member(port, group) for group in ("senders", "receivers"))
        for member in (self._sender, self._receiver):
            member.welcome()
            member.sock.settimeout(PATIENCE)
        intent = {"target": "DIRECT", "identifier": self._receiver.id}
        self._batch = self.WINDOW * frame(op=0, id="1", event="E", data="x" * 128, intent=intent)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sender.sock.close()
        self._receiver.sock.close()

    def _run(self) -> None:
        # One batch ahead, so that the broker never waits for this side.
        self._sender.sock.sendall(self._batch)
        while not self._stop.is_set():
            self._sender.sock.sendall(self._batch)
            left = self.WINDOW
            while left > 0:
                data = self._receiver.sock.recv(1 << 20)
                assert data, "the broker has hung up"
                lines = data.count(b"\n")
                left -= lines
                self.arrived += lines


@contextmanager
def with_ops(directory: Path, settings: str = "") -> Iterator[tuple[BrokerProcess, int]]:
    port = free_port()
    ops = f'[ops]\naddress = "127.0.0.1:{port}"\n{settings}'
    with broker_process(directory, ops) as process:
        yield process, port


def test_probes_answer_under_full_load(tmp_path: Path) -> None:
    """How fast is a matter of measuring (benchmarks); here, that they never stop to answer."""
    with with_ops(tmp_path) as (process, port), Load(process.port) as load:
        for _ in range(20):
            assert get(port, "/healthz") == (200, b"ok\n")
            assert get(port, "/readyz")[0] == 200
        status, metrics = get(port, "/metrics")
        assert status == 200
        assert b"switchboard_reactor_busy_seconds_total" in metrics
        before = load.arrived
        guard = time.monotonic() + PATIENCE
        while load.arrived == before:
            assert time.monotonic() < guard


def test_slow_scrapers_change_nothing_for_the_messages(tmp_path: Path) -> None:
    """Side by side: what the broker takes for a message with fifty of them, and with none."""
    with with_ops(tmp_path) as (process, port), Load(process.port) as load:
        ratios = []
        for _ in range(3):
            alone = cost(process.pid, load)
            scrapers = [slow_scraper(port) for _ in range(50)]
            beside = cost(process.pid, load)
            assert all(scraper.recv(1) for scraper in scrapers)
            for scraper in scrapers:
                scraper.close()
            ratios.append(beside / alone)
        assert get(port, "/healthz")[0] == 200
    # Some percent, were it not for the noise of a busy machine.
    assert statistics.median(ratios) < 2


def slow_scraper(port: int) -> socket.socket:
    """One that reads a byte at a time, and has read none yet."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    sock.settimeout(PATIENCE)
    sock.connect(("127.0.0.1", port))
    sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert sock.recv(1) == b"H"
    return sock


def cost(pid: int, load: Load) -> float:
    """Return the processor time of a message, in ticks."""
    spent, arrived = ticks(pid), load.arrived
    guard = time.monotonic() + PATIENCE
    while load.arrived < arrived + 20_000:
        assert time.monotonic() < guard, "nothing comes through any more"
        time.sleep(0.01)
    return (ticks(pid) - spent) / (load.arrived - arrived)


def ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_viewer_sees_the_load_live(tmp_path: Path) -> None:
    with with_ops(tmp_path) as (process, port), Load(process.port):
        url = f"http://127.0.0.1:{port}/events"
        with urllib.request.urlopen(url, timeout=PATIENCE) as events:
            snapshots: list[dict[str, Any]] = []
            while len(snapshots) < 3:
                line = events.readline()
                if line.startswith(b"data: "):
                    snapshots.append(json.loads(line.removeprefix(b"data: ")))
    last = snapshots[-1]
    assert [group["group"] for group in last["groups"]] == ["receivers", "senders"]
    assert last["rates"]["messages_in"] > 0
    assert last["rates"]["bytes_in"] > 0
    assert last["rates"]["bytes_out"] > 0
    assert 0 < last["rates"]["busy"] <= 1
    assert last["latency"]["transit"]["count"] > 0


# -- Drain -----------------------------------------------------------------------------------------


def config(port: int, **timing: int) -> str:
    lines = "".join(f"{name} = {value}\n" for name, value in timing.items())
    return (
        f'[[listeners]]\naddress = "tcp://127.0.0.1:0"\n'
        f'[[tokens]]\nsha256 = "{hash_token(TOKEN)}"\npermissions = {{ drain = true }}\n'
        f'[ops]\naddress = "127.0.0.1:{port}"\n[timing]\n{lines}'
    )


async def ask(port: int, path: str) -> tuple[int, bytes]:
    return await trio.to_thread.run_sync(get, port, path)


async def begin_request(broker: Operator) -> tuple[Client, Client]:
    """Leave a request in the hands of a callee."""
    asker, callee = await broker.join(TOKEN, "askers"), await broker.join(TOKEN, "callees")
    intent = {"target": "DIRECT", "identifier": callee.id}
    await asker.send(op=0, id="1", event="E", intent=intent, timeout=60_000)
    assert (await callee.receive())["id"] == "1"
    return asker, callee


async def until_draining(port: int) -> None:
    while (await ask(port, "/readyz")) != (503, b'{"ready":false,"reasons":["draining"]}'):
        pass


async def test_sigterm_drains_in_good_order(tmp_path: Path) -> None:
    port = free_port()
    async with operator(tmp_path, config(port, drain_ms=20_000)) as broker:
        asker, callee = await begin_request(broker)
        assert (await ask(port, "/readyz"))[0] == 200
        broker.process.send_signal(signal.SIGTERM)
        await until_draining(port)
        assert await ask(port, "/healthz") == (200, b"ok\n")
        late = await broker.connect(TOKEN, "late")
        assert (await late.receive())["data"] == "TRY_AGAIN_LATER"
        answer = {"target": "DIRECT", "identifier": asker.id}
        await callee.send(op=5, id="1", data="done", intent=answer)
        assert (await asker.receive())["data"] == "done"
        for client in (asker, callee):
            assert (await client.receive())["data"] == "SERVER_RESTART"
            await client.stream.aclose()
        assert await broker.process.wait() == 0


async def test_grace_comes_first_and_nothing_changes_in_it(tmp_path: Path) -> None:
    port = free_port()
    async with operator(tmp_path, config(port, grace_ms=1_500)) as broker:
        client = await broker.join(TOKEN, "a")
        broker.process.send_signal(signal.SIGTERM)
        await until_draining(port)
        late = await broker.join(TOKEN, "late")
        for one in (client, late):
            assert (await one.receive())["data"] == "SERVER_RESTART"
            await one.stream.aclose()
        assert await broker.process.wait() == 0


@pytest.mark.parametrize("timing", [{"grace_ms": 3_600_000}, {"drain_ms": 3_600_000}])
async def test_a_second_sigterm_ends_it_at_once(tmp_path: Path, timing: dict[str, int]) -> None:
    port = free_port()
    async with operator(tmp_path, config(port, **timing)) as broker:
        await begin_request(broker)
        broker.process.send_signal(signal.SIGTERM)
        await until_draining(port)
        broker.process.send_signal(signal.SIGTERM)
        assert await broker.process.wait() == 128 + signal.SIGTERM


async def test_the_end_is_in_time_whatever_scrapers_and_clients_do(tmp_path: Path) -> None:
    port = free_port()
    async with operator(tmp_path, config(port, drain_ms=1_000)) as broker:
        await begin_request(broker)
        viewers = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(3)]
        for viewer in viewers:
            await viewer.send_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        broker.process.send_signal(signal.SIGTERM)
        assert await broker.process.wait() == 0
        for viewer in viewers:
            await trio.aclose_forcefully(viewer)


async def test_a_drain_by_frame_ends_the_process_with_0(tmp_path: Path) -> None:
    port = free_port()
    async with operator(tmp_path, config(port)) as broker:
        client = await broker.join(TOKEN, "operators")
        intent = {"target": "DIRECT", "identifier": "$broker"}
        await client.send(op=0, id="d", event="DRAIN", data={"broker": True}, intent=intent)
        assert (await client.receive())["data"] == {"draining": 1}
        assert (await client.receive())["data"] == "SERVER_RESTART"
        await client.stream.aclose()
        assert await broker.process.wait() == 0


async def test_an_ops_port_in_use_keeps_it_from_starting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "broker.toml").write_text(config(port))
        words = ["-m", "broker", "serve", "--config", str(tmp_path / "broker.toml")]
        outcome = await trio.run_process(
            [sys.executable, *words],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert outcome.returncode == 1
    assert outcome.stdout == b""
    said = outcome.stderr.decode()
    assert f"can't listen on 127.0.0.1:{port}, the ops port: Address already in use" in said
    assert "set ops.address" in said
