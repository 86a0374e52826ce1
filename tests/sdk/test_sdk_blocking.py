"""`connect_sync`: the mesh for programs without an event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from services.sdk import (
    CannotConnect,
    Down,
    Event,
    Expired,
    IdentifyFailed,
    MeshClosed,
    MeshError,
    NoRoute,
    Service,
    Snapshot,
    State,
    SyncMesh,
    Up,
    connect_sync,
)
from tests.sdk.programs import ROOT
from tests.sdk.real_broker import TOKEN, make_settings, running_in_thread


@attrs.frozen
class Sum:
    total: int


maths = Service("maths")


@maths.on("SUM")
async def add(numbers: list[int]) -> Sum:
    return Sum(sum(numbers))


@maths.on("FOREVER")
async def wait() -> None:
    await anyio.sleep_forever()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A broker in one thread, and the service in another."""
    with running_in_thread(make_settings(tmp_path)) as addresses:
        stop = threading.Event()
        ready = threading.Event()

        async def serve() -> None:
            async with maths.serve(addresses[0], token=TOKEN):
                ready.set()
                await anyio.to_thread.run_sync(stop.wait)

        thread = threading.Thread(target=anyio.run, args=(serve,))
        thread.start()
        ready.wait()
        yield addresses[0]
        stop.set()
        thread.join()


def join(url: str, **options: Any) -> SyncMesh:
    return connect_sync(url, group="web", token=TOKEN, **options)


def test_asking(url: str) -> None:
    with join(url) as mesh:
        assert mesh.request("SUM", [1, 2], group="maths") == {"total": 3}
        assert mesh.request("SUM", [1, 2], group="maths", returns=Sum, timeout=20) == Sum(3)
        with pytest.raises(NoRoute, match="SUM to group nobody"):
            mesh.request("SUM", [], group="nobody")
        with pytest.raises(ValueError, match="give group= or to="):
            mesh.request("SUM", [])
        with pytest.raises(Expired):
            mesh.request("FOREVER", group="maths", timeout=0.01)


def test_asking_many(url: str) -> None:
    with join(url) as mesh:
        with mesh.gather("SUM", [1, 2], group="maths", returns=Sum) as replies:
            (member,) = replies.members
            assert replies.waiting in ((member,), ())
            assert [(reply.source, reply.data) for reply in replies] == [(member, Sum(3))]
        assert replies.missing == ()
        with mesh.gather("SUM", "x", group="maths") as replies:
            assert list(replies) == []
            assert [missing.code for missing in replies.missing] == ["BAD_REQUEST"]
        with pytest.raises(NoRoute), mesh.gather("SUM", group="nobody"):
            raise AssertionError("entered")
        with mesh.gather("FOREVER", group="maths") as replies:
            assert len(replies.waiting) == 1
            # Leaving it takes it back.


def test_events(url: str) -> None:
    with join(url) as mesh, mesh.listen("USER_*", timeout=0.01) as events:
        for number in range(3):
            assert mesh.emit("USER_UPDATED", number)
        mesh.request("SUM", [], group="maths")  # Order is kept, so they have come.
        assert [event.data for event in events] == [0, 1, 2]
        with pytest.raises(TimeoutError):
            events.receive(timeout=0)
        mesh.emit("USER_UPDATED", "direct", to=mesh.id)
        assert events.receive(timeout=20).data == "direct"
        mesh.emit("USER_UPDATED", "to all")
        assert events.receive().data == "to all"


def test_answering_an_event(url: str) -> None:
    with join(url) as left, join(url) as right:

        def answer() -> None:
            with right.listen("HELLO") as events:
                listening.set()
                event: Event = events.receive()
                right.reply(event, "hello yourself")

        listening = threading.Event()
        thread = threading.Thread(target=answer)
        thread.start()
        listening.wait()
        assert left.request("HELLO", to=right.id) == "hello yourself"
        thread.join()


def test_who_is_there(url: str) -> None:
    with join(url) as mesh, mesh.watch(timeout=20) as changes:
        assert mesh.whoami().id == mesh.id
        assert (mesh.group, mesh.state) == ("web", State.CONNECTED)
        assert {service.group for service in mesh.services()} == {"web", "maths"}
        snapshot = next(changes)
        assert isinstance(snapshot, Snapshot)
        with join(url) as other:
            up = next(changes)
            assert isinstance(up, Up)
            assert up.service.id == other.id
        assert isinstance(next(changes), Down)
        assert mesh.statistics().sent > 0


def test_many_threads_at_a_time(url: str) -> None:
    with join(url) as mesh, ThreadPoolExecutor(8) as pool:

        def ask(number: int) -> Sum:
            return mesh.request("SUM", [number, 1], group="maths", returns=Sum)

        assert list(pool.map(ask, range(200))) == [Sum(number + 1) for number in range(200)]


def test_in_a_thread_in_which_an_event_loop_runs(url: str) -> None:
    """As in a notebook."""

    async def cell() -> None:
        with join(url) as mesh:
            assert mesh.request("SUM", [1], group="maths", returns=Sum) == Sum(1)

    asyncio.run(cell())
    anyio.run(cell, backend="trio")


def test_without_a_with(url: str) -> None:
    mesh = join(url).open()
    assert mesh.request("SUM", [1], group="maths", returns=Sum) == Sum(1)
    mesh.close()
    mesh.close()
    with pytest.raises(MeshClosed):
        mesh.services()


def threads() -> int:
    return sum(thread.name == "switchboard" for thread in threading.enumerate())


USES: list[Callable[[SyncMesh], object]] = [
    lambda mesh: mesh.request("SUM", [], group="maths"),
    lambda mesh: mesh.emit("NEWS"),
    lambda mesh: mesh.services(),
    lambda mesh: mesh.gather("SUM", group="maths"),
    lambda mesh: mesh.listen("*").__enter__(),
    lambda mesh: mesh.watch().__enter__(),
]


@pytest.mark.parametrize("use", USES)
def test_after_the_end_and_before_the_beginning(
    url: str, use: Callable[[SyncMesh], object]
) -> None:
    mesh = join(url)
    with pytest.raises(MeshClosed, match="not connected yet: use `with connect_sync"):
        use(mesh)
    with mesh:
        pass
    with pytest.raises(MeshClosed, match=r"the mesh is closed: connect_sync\(\) again"):
        use(mesh)
    with pytest.raises(RuntimeError, match="entered once"), mesh:
        raise AssertionError("entered")
    assert not threads()


def test_closing_while_others_wait(url: str) -> None:
    ended: list[MeshError] = []
    mesh = join(url).open()
    with mesh.listen("*") as events:

        def wait_for(call: Callable[[], object]) -> None:
            try:
                call()
            except MeshError as error:
                ended.append(error)

        def ask() -> object:
            return mesh.request("FOREVER", group="maths", timeout=60)

        waiting = [
            threading.Thread(target=wait_for, args=(call,)) for call in (ask, events.receive)
        ]
        for thread in waiting:
            thread.start()
        while not mesh.statistics().pending:
            mesh.request("SUM", [], group="maths")
        mesh.close()
        for thread in waiting:
            thread.join()
    assert [type(error) for error in ended] == [MeshClosed, MeshClosed]
    assert not threads()


def test_no_broker_there() -> None:
    with pytest.raises(CannotConnect), join("tcp://127.0.0.1:1"):
        raise AssertionError("entered")
    assert not threads()


def test_not_let_in(url: str) -> None:
    with pytest.raises(IdentifyFailed), connect_sync(url, group="web", token="wrong"):
        raise AssertionError("entered")


def test_what_is_wrong_at_once() -> None:
    with pytest.raises(ValueError, match="is no address of a broker"):
        connect_sync("http://broker", token="t")


def test_an_exception_of_the_body_comes_out_as_it_is(url: str) -> None:
    with pytest.raises(ZeroDivisionError), join(url):
        raise ZeroDivisionError
    assert not threads()


def test_a_callback_cannot_wait_for_its_own_thread(url: str) -> None:
    said: list[str] = []
    told = threading.Event()

    def on_error(_error: MeshError) -> None:
        try:
            mesh.services()
        except RuntimeError as error:
            said.append(str(error))
        told.set()

    with join(url, on_error=on_error) as mesh:
        mesh.emit("LOST", group="nobody")
        assert told.wait(30)
    assert "hand the work to another thread" in said[0]


# Ctrl-C.

INTERRUPTED = """
import sys
from services.sdk import connect_sync

with connect_sync(sys.argv[1], group="web", token=sys.argv[2]) as mesh:
    try:
        WAITING
    except KeyboardInterrupt:
        answer = mesh.request("SUM", [1], group="maths")
        print("interrupted", answer, mesh.statistics().pending, flush=True)
        raise
"""

WAITS = {
    "request": """with mesh.listen("*") as events:
            mesh.emit("READY", to=mesh.id)
            events.receive()
            print("ready", flush=True)
            mesh.request("FOREVER", group="maths", timeout=600)""",
    "listen": """with mesh.listen("*") as events:
            print("ready", flush=True)
            for event in events:
                pass""",
    "gather": """with mesh.gather("FOREVER", group="maths", timeout=600) as replies:
            print("ready", flush=True)
            for reply in replies:
                pass""",
}


@pytest.mark.parametrize("what", WAITS)
def test_ctrl_c(url: str, what: str) -> None:
    program = INTERRUPTED.replace("WAITING", WAITS[what])
    with start_program(program, url, TOKEN) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert output == "interrupted {'total': 1} 0\n"
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT


def test_ctrl_c_while_connecting() -> None:
    program = """
import socket
from services.sdk import connect_sync

with socket.create_server(("127.0.0.1", 0)) as silent:
    url = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
    mesh = connect_sync(url, token="t", timeout=600)
    print("ready", flush=True)
    mesh.open()
"""
    with start_program(program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT


def test_a_program_that_forgets_to_close_says_goodbye_all_the_same(url: str) -> None:
    program = """
import sys
from services.sdk import connect_sync

mesh = connect_sync(sys.argv[1], group="forgets", token=sys.argv[2]).open()
mesh.emit("LAST_WORDS")
"""
    with join(url) as mesh, mesh.listen("LAST_WORDS") as events, mesh.watch() as changes:
        with start_program(program, url, TOKEN) as process:
            _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
        assert events.receive(timeout=30).source.group == "forgets"
        kinds = [type(next(changes)) for _ in range(3)]
        assert kinds == [Snapshot, Up, Down]


def start_program(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
