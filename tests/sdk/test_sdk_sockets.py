"""The SDK's own socket streams, on real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from services.sdk import CannotConnect, connect, sockets
from services.sdk.sockets import PlainStream, connect_tcp, connect_unix
from tests.sdk.real_time import BACKENDS, on_both_real_loops, run_guarded

MUCH = b"0123456789abcdef" * 256 * 1024  # 4 MiB: more than the system's buffers hold.


@contextmanager
def pair() -> Iterator[tuple[PlainStream, socket.socket]]:
    """A stream, and the other end of it."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    try:
        yield PlainStream(here), there
    finally:
        here.close()
        there.close()


async def take(there: socket.socket, size: int) -> bytes:
    taken = bytearray()
    while len(taken) < size:
        await anyio.wait_readable(there)
        taken += there.recv(65536)
    return bytes(taken)


@on_both_real_loops
async def test_bytes_arrive() -> None:
    with pair() as (stream, there):
        there.send(b"first")
        assert await stream.receive() == b"first"
        there.send(b"second")
        assert await stream.receive(3) == b"sec"
        assert await stream.receive() == b"ond"
        await stream.send(b"")
        await stream.send(b"answer")
        assert there.recv(100) == b"answer"


@on_both_real_loops
async def test_it_waits_for_bytes() -> None:
    with pair() as (stream, there):
        got: list[bytes] = []

        async def receive() -> None:
            got.append(await stream.receive())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            assert not got
            there.send(b"late")
        assert got == [b"late"]


@on_both_real_loops
async def test_more_than_the_buffer_holds() -> None:
    with pair() as (stream, there):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, MUCH)
            assert await take(there, len(MUCH)) == MUCH


@on_both_real_loops
async def test_what_two_tasks_send_does_not_mix() -> None:
    with pair() as (stream, there):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, MUCH)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(stream.send, b"second")
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(stream.send, b"third")
            assert await take(there, len(MUCH) + 11) == MUCH + b"secondthird"


@on_both_real_loops
async def test_a_send_that_is_cancelled_half_way_breaks_the_stream() -> None:
    with pair() as (stream, there):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, MUCH)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        there.recv(65536)
        with pytest.raises(anyio.BrokenResourceError, match="cancelled half-way"):
            await stream.send(b"next")


@on_both_real_loops
async def test_a_send_that_waits_behind_one_that_is_cancelled_half_way_is_not_written() -> None:
    with pair() as (stream, there):
        scope = anyio.CancelScope()

        async def give_up() -> None:
            with scope:
                await stream.send(MUCH)

        async def follow() -> None:
            with pytest.raises(anyio.BrokenResourceError, match="cancelled half-way"):
                await stream.send(b"next")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(give_up)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(follow)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            # The follower looks for room in the buffer before it tries to write.
            there.recv(len(MUCH))


@on_both_real_loops
async def test_a_send_that_is_cancelled_before_its_first_byte_breaks_nothing() -> None:
    with pair() as (stream, there):
        filled = 0
        while sent := _fill(stream):
            filled += sent
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, b"given up")
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert len(await take(there, filled)) == filled
        await stream.send(b"next")
        assert there.recv(100) == b"next"


def _fill(stream: PlainStream) -> int:
    return stream._write(b"x" * 65536)


@on_both_real_loops
async def test_a_receive_that_is_cancelled_loses_nothing() -> None:
    with pair() as (stream, there):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.receive)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        there.send(b"later")
        assert await stream.receive() == b"later"


@on_both_real_loops
async def test_the_other_side_ends() -> None:
    with pair() as (stream, there):
        there.shutdown(socket.SHUT_WR)
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        await stream.send(b"still")
        assert there.recv(100) == b"still"


@on_both_real_loops
async def test_this_side_ends() -> None:
    with pair() as (stream, there):
        await stream.send_eof()
        assert there.recv(100) == b""
        there.send(b"still")
        assert await stream.receive() == b"still"
        with pytest.raises(anyio.BrokenResourceError, match="Broken pipe"):
            await stream.send(b"more")


@on_both_real_loops
async def test_a_reset_says_so() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        stream = await connect_tcp("127.0.0.1", listener.getsockname()[1])
        peer, _ = listener.accept()
        await stream.send(b"unread")
        # With bytes unread, the system ends the connection with a reset.
        await anyio.wait_readable(peer)
        peer.close()
        with pytest.raises(anyio.BrokenResourceError, match="reset by peer"):
            await stream.receive()
        with pytest.raises(anyio.BrokenResourceError, match="not connected"):
            await stream.send_eof()
        await stream.aclose()


@on_both_real_loops
async def test_closing_wakes_whoever_waits() -> None:
    ended: list[str] = []
    with pair() as (stream, _there):

        async def receive() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await stream.receive()
            ended.append("receive")

        async def send(item: bytes) -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await stream.send(item)
            ended.append("send")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            tasks.start_soon(send, MUCH)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(send, b"behind it")
            await anyio.wait_all_tasks_blocked()
            await stream.aclose()
    assert sorted(ended) == ["receive", "send", "send"]


@on_both_real_loops
async def test_a_closed_stream_is_of_no_use_and_closes_again() -> None:
    with pair() as (stream, _there):
        await stream.aclose()
        await stream.aclose()
        for call in (stream.receive, lambda: stream.send(b"x"), stream.send_eof):
            with pytest.raises(anyio.ClosedResourceError):
                await call()


@on_both_real_loops
async def test_one_task_receives_at_a_time() -> None:
    with pair() as (stream, there):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.receive)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await stream.receive()
            there.send(b"x")


@on_both_real_loops
async def test_sending_is_no_task_switch() -> None:
    with pair() as (stream, _there):
        ran: list[int] = []

        async def other() -> None:
            ran.append(1)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            await stream.send(b"x")
            assert not ran


# Connecting.


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Let every name have these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: found)


@contextmanager
def listening(host: str = "127.0.0.1", backlog: int = 16) -> Iterator[tuple[str, int]]:
    with socket.create_server((host, 0), backlog=backlog) as listener:
        yield listener.getsockname()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_dead_address_is_passed_over(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        with listening() as address:
            resolve_to(monkeypatch, ("127.0.0.1", 1), address)
            stream = await connect_tcp("broker", 0)
            assert stream._socket.getpeername() == address
            assert stream._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await stream.aclose()

    run_guarded(test, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_address_that_is_silent_does_not_hold_up_the_next(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "_STAGGER_SECONDS", 0.01)

    async def test() -> None:
        # A queue that is full lets new connections wait.
        with listening(backlog=0) as silent, socket.create_connection(silent), listening() as there:
            resolve_to(monkeypatch, silent, there)
            stream = await connect_tcp("broker", 0)
            assert stream._socket.getpeername() == there
            await stream.aclose()

    run_guarded(test, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failure_names_every_cause(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ("127.0.0.1", 1), ("127.0.0.2", 1))

    async def test() -> None:
        both = "127.0.0.1: .*Connection refused; 127.0.0.2: .*Connection refused"
        with pytest.raises(CannotConnect, match=f"cannot connect to tcp://broker: {both}"):
            async with connect("tcp://broker", token="t"):
                raise AssertionError("entered")

    run_guarded(test, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_name_that_is_not_known(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)

    async def test() -> None:
        with pytest.raises(CannotConnect, match=r"tcp://broker: .*Name or service not known"):
            async with connect("tcp://broker", token="t"):
                raise AssertionError("entered")

    run_guarded(test, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_cancelled_while_connecting(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket is left open: that would be a warning, and so an error."""
    monkeypatch.setattr(sockets, "_STAGGER_SECONDS", 0.0)

    async def test() -> None:
        with listening(backlog=0) as silent, socket.create_connection(silent):
            resolve_to(monkeypatch, silent, silent)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(connect_tcp, "broker", 0)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()

    run_guarded(test, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_that_come_through_in_one_moment(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_STAGGER_SECONDS", 0.0)
    resolve_to(monkeypatch, ("127.0.0.1", 1), ("127.0.0.2", 1))

    async def test() -> None:
        opened: list[socket.socket] = []
        both = anyio.Event()

        async def open_one(_family: int, _address: object) -> socket.socket:
            opened.append(socket.socket())
            sock = opened[-1]
            if len(opened) == 2:
                both.set()
            with anyio.CancelScope(shield=True):
                await both.wait()
            return sock

        monkeypatch.setattr(sockets, "_open", open_one)
        stream = await connect_tcp("broker", 0)
        assert [sock.fileno() >= 0 for sock in opened].count(True) == 1
        await stream.aclose()

    run_guarded(test, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_unix_sockets(backend: str, tmp_path: Path) -> None:
    async def test() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            path = str(tmp_path / "socket")
            listener.bind(path)
            listener.listen()
            stream = await connect_unix(path)
            peer, _ = listener.accept()
            with peer:
                await stream.send(b"hello")
                assert peer.recv(100) == b"hello"
            await stream.aclose()

    run_guarded(test, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_unix_socket_whose_queue_is_full_is_waited_for(backend: str, tmp_path: Path) -> None:
    """There, a connection that cannot be made at once is not under way, but refused."""
    path = str(tmp_path / "socket")

    async def test() -> None:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
            listener.bind(path)
            listener.listen(0)
            first.connect(path)
            streams: list[PlainStream] = []

            async def call() -> None:
                streams.append(await connect_unix(path))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                await anyio.wait_all_tasks_blocked()
                assert not streams
                listener.accept()[0].close()
            peer, _ = listener.accept()
            with peer:
                await streams[0].send(b"hello")
                assert peer.recv(100) == b"hello"
            await streams[0].aclose()

    run_guarded(test, backend)


@on_both_real_loops
async def test_what_the_system_takes_at_once() -> None:
    with pair() as (stream, there):
        assert stream.send_nowait(b"first") == 5
        assert there.recv(100) == b"first"
        taken = stream.send_nowait(MUCH)
        assert 0 < taken < len(MUCH)
        assert stream.send_nowait(b"x") == 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, MUCH[taken:])
            await anyio.wait_all_tasks_blocked()
            # There is room, but not in the middle of what another task sends.
            first = there.recv(len(MUCH))
            assert stream.send_nowait(b"x") == 0
            assert first + await take(there, len(MUCH) - len(first)) == MUCH


def test_a_receive_that_is_cancelled_while_bytes_come_loses_nothing() -> None:
    """On asyncio the bytes are taken before the task that waits for them gets its turn."""

    async def run() -> None:
        with pair() as (stream, there), pair() as (_, signal):
            loop = asyncio.get_running_loop()
            task = asyncio.create_task(stream.receive())
            await anyio.wait_all_tasks_blocked()
            there.send(b"bytes")
            # In the same look at the sockets, behind the bytes.
            loop.add_writer(signal, task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
            loop.remove_writer(signal)
            assert await stream.receive() == b"bytes"

    run_guarded(run, "asyncio")


@on_both_real_loops
async def test_writing_at_once_raises_nothing() -> None:
    with pair() as (stream, there):
        there.close()
        stream.send_nowait(b"x")
        assert stream.send_nowait(b"x") == 0
        await stream.aclose()
        assert stream.send_nowait(b"x") == 0
