"""The scorecard, items 2 and 7: many who say little, and those who have something to say.

The broker is a process of its own, and time is real. Figures are printed (`pytest -s`);
docs/reliability.md has those of one run.
"""

from __future__ import annotations

import resource
import select
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.broker_process import TOKEN, BrokerProcess, broker_process
from tests.integration.mesh import compact

pytestmark = pytest.mark.alone

KIB = 1024
PATIENCE = 60.0

OPENING = (
    b"GET / HTTP/1.1\r\nHost: broker.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2l4dGVlbiBieXRlcy4uLg==\r\n"
)


@pytest.fixture(autouse=True)
def _enough_files() -> Iterator[None]:
    """As many open files as the system allows, for this process and the broker that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Service:
    """An authenticated raw stream, on a blocking socket."""

    def __init__(self, process: BrokerProcess, group: str) -> None:
        self._sock = socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._sock.makefile("rb")
        self.send(compact({"op": 1, "data": {"token": TOKEN, "group": group}}))
        self.welcome = self.receive()
        self.group = group

    @property
    def identified(self) -> bool:
        return self.welcome.startswith(b'{"op":1,')

    def send(self, message: bytes) -> None:
        self._sock.sendall(message)

    def receive(self) -> bytes:
        return self._lines.readline()

    def close(self) -> None:
        self._lines.close()
        self._sock.close()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def round_trips(first: Service, second: Service, until: float) -> list[float]:
    """Send messages from one to the other, one at a time; return how long each took, in seconds."""
    message = compact(
        {"op": 0, "event": "E", "intent": {"target": "GROUP", "identifier": second.group}}
    )
    taken = []
    while (start := time.monotonic()) < until:
        first.send(message)
        assert b'"event":"E"' in second.receive()
        taken.append(time.monotonic() - start)
    return taken


def p99(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100)[98]


# -- 2. Slow handshakes ----------------------------------------------------------------------------

SLOW = 200
# Between two bytes: one that came at the last moment and was not read would make it a reset.
DEADLINE = 2.5


def test_slow_handshakes_end_at_the_deadline_and_slow_nobody(tmp_path: Path) -> None:
    """200 connections that send a byte of a header a second, in two waves with quiet between."""
    quiet: list[float] = []
    slow: list[float] = []
    with ExitStack() as stack:
        process = stack.enter_context(
            broker_process(tmp_path, f"[timing]\nidentify_ms = {DEADLINE * 1000:.0f}")
        )
        first = stack.enter_context(Service(process, "first"))
        second = stack.enter_context(Service(process, "second"))
        for _ in range(2):
            quiet += round_trips(first, second, time.monotonic() + 1)
            closed: dict[int, float] = {}
            wave = threading.Thread(target=drip, args=(process.port, closed))
            wave.start()
            slow += round_trips(first, second, time.monotonic() + DEADLINE - 1)
            wave.join()
            assert len(closed) == SLOW
            # Neither before their time nor long after it.
            assert min(closed.values()) > DEADLINE - 0.1
            assert max(closed.values()) < DEADLINE + 5
    print(
        f"p99 of a pair: {p99(quiet) * 1e6:.0f} µs, with {SLOW} slow handshakes "
        f"{p99(slow) * 1e6:.0f} µs; median {statistics.median(quiet) * 1e6:.0f} and "
        f"{statistics.median(slow) * 1e6:.0f} µs"
    )
    # The card says twice. A machine that does other things at the same time needs some play.
    assert p99(slow) < 2 * p99(quiet) + 0.002


def drip(port: int, closed: dict[int, float]) -> None:
    """Open `SLOW` connections, send each a byte a second; note how long each one lasted."""
    dripping = [socket.create_connection(("127.0.0.1", port)) for _ in range(SLOW)]
    start = time.monotonic()
    poll = select.poll()
    by_number = {sock.fileno(): sock for sock in dripping}
    for number in by_number:
        poll.register(number, select.POLLIN)
    position, next_byte = 0, start
    while by_number and time.monotonic() < start + DEADLINE + 10:
        for number, _event in poll.poll(50):
            # The end, which is all that the broker has to say to half a request.
            assert by_number[number].recv(100) == b""
            closed[number] = time.monotonic() - start
            poll.unregister(number)
            del by_number[number]
        if time.monotonic() >= next_byte:
            next_byte += 1
            for sock in by_number.values():
                sock.send(OPENING[position : position + 1])
            position += 1
    for sock in dripping:
        sock.close()


# -- 7. Ten thousand who say nothing ---------------------------------------------------------------

CROWD = 10_000
# In turn: nothing; half a handshake, as large as it may be; an open WebSocket; half an object.
SAID = (b"", OPENING + b"X: " + b"x" * 7900, OPENING + b"\r\n", b'{"op":1,"data":"' + b"x" * 4000)


def resident(process: BrokerProcess) -> int:
    """The memory that a process has now, in bytes."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def open_files(process: BrokerProcess) -> int:
    return sum(1 for _ in Path(f"/proc/{process.pid}/fd").iterdir())


def wait_until_still(process: BrokerProcess) -> None:
    """Wait until the broker has nothing left to do."""
    ticks = -1
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        before, ticks = ticks, int(fields[11]) + int(fields[12])
        if ticks == before:
            return
        time.sleep(0.3)
    raise AssertionError("the broker does not come to rest")


def test_ten_thousand_strangers_take_little_and_keep_nobody_out(tmp_path: Path) -> None:
    """As many as may be unidentified; each service that comes costs the oldest one its place."""
    # Their ends are in this process: it needs as many file numbers as the broker.
    count = min(CROWD, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500)
    settings = (
        "[timing]\nidentify_ms = 600000\n"
        f"[limits]\naccepts_per_second = 100000\nunidentified_connections = {count}\n"
    )
    with ExitStack() as stack:
        process = stack.enter_context(broker_process(tmp_path, settings))
        idle, before = open_files(process), resident(process)
        crowd = [
            stack.enter_context(socket.create_connection(("127.0.0.1", process.port)))
            for _ in range(count)
        ]
        for number, sock in enumerate(crowd):
            sock.sendall(SAID[number % len(SAID)])
        wait_until_still(process)
        assert open_files(process) == idle + count
        each = (resident(process) - before) / count
        print(f"{count} unauthenticated connections: {each / KIB:.1f} KiB each")
        assert each < 64 * KIB

        services = [stack.enter_context(Service(process, f"s{number}")) for number in range(20)]
        assert all(service.identified for service in services)
        assert len(round_trips(services[0], services[1], time.monotonic() + 0.2)) > 10
        # The oldest have made room, and no more of them than it took.
        poll = select.poll()
        for sock in crowd:
            poll.register(sock, select.POLLRDHUP)
        gone = {number for number, _event in poll.poll(0)}
        assert gone <= {sock.fileno() for sock in crowd[:100]}
        assert 1 <= len(gone) <= len(services)


# -- Beside the card: rates, addresses, and a system that has run out of file numbers --------------


def test_a_storm_comes_in_at_the_rate_that_is_set(tmp_path: Path) -> None:
    with ExitStack() as stack:
        process = stack.enter_context(
            broker_process(tmp_path, "[limits]\naccepts_per_second = 200\n")
        )
        start = time.monotonic()
        socks = [
            stack.enter_context(
                socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE)
            )
            for _ in range(500)
        ]
        for sock in socks:
            sock.sendall(compact({"op": 1, "data": {"token": TOKEN, "group": "storm"}}))
        for sock in socks:
            assert sock.recv(4096).startswith(b'{"op":1,')
        taken = time.monotonic() - start
    print(f"500 services at 200 a second: {taken:.2f} s")
    # All but those of the first tenth of a second had to wait for their turn.
    assert taken > (500 - 20) / 200 - 0.1


def test_an_address_has_so_many_connections(tmp_path: Path) -> None:
    """Of the addresses of this very machine, 127.0.0.0/8 is one each."""
    with ExitStack() as stack:
        process = stack.enter_context(
            broker_process(tmp_path, "[limits]\nconnections_per_address = 5\n")
        )

        def connect(host: str) -> socket.socket:
            return stack.enter_context(
                socket.create_connection(
                    ("127.0.0.1", process.port), timeout=PATIENCE, source_address=(host, 0)
                )
            )

        inside = [connect("127.0.0.2") for _ in range(5)]
        for sock in inside:
            sock.sendall(compact({"op": 1, "data": {"token": TOKEN, "group": "a"}}))
            assert sock.recv(4096).startswith(b'{"op":1,')
        sixth = connect("127.0.0.2")
        sixth.sendall(b"{")
        assert b'"data":"TRY_AGAIN_LATER"' in sixth.recv(4096)
        assert sixth.recv(4096) == b""
        by_http = connect("127.0.0.2")
        by_http.sendall(OPENING)
        answer = by_http.recv(4096)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in answer
        other = connect("127.0.0.3")
        other.sendall(compact({"op": 1, "data": {"token": TOKEN, "group": "a"}}))
        assert other.recv(4096).startswith(b'{"op":1,')


def test_a_broker_without_file_numbers_goes_on_and_recovers(tmp_path: Path) -> None:
    settings = "[timing]\nidentify_ms = 600000\n"
    with ExitStack() as stack:
        process = stack.enter_context(broker_process(tmp_path, settings))
        pair = [stack.enter_context(Service(process, group)) for group in ("a", "b")]
        files = open_files(process) + 20
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (files, files))

        # Those who say nothing can't keep others out, once they have had a second.
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", process.port)))
            for _ in range(60)
        ]
        for number in range(20):
            service = stack.enter_context(Service(process, f"s{number}"))
            assert service.identified
            pair.append(service)
        assert open_files(process) == files
        assert silent

        # Now all are services. The next one has to wait, and the others notice nothing.
        late: list[Service] = []
        waiting = threading.Thread(target=lambda: late.append(Service(process, "late")))
        waiting.start()
        assert round_trips(pair[0], pair[1], time.monotonic() + 0.5)
        assert not late
        pair.pop().close()
        waiting.join(PATIENCE)
        assert late
        stack.callback(late[0].close)
        assert late[0].identified
        assert round_trips(pair[0], late[0], time.monotonic() + 0.1)
        assert process.log.count("Too many open files") == 1, process.log
        assert "Traceback" not in process.log
