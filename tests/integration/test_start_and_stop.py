"""Listening, and taking leave: nothing is left behind, whatever the clients do."""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from broker.core.authentication import hash_token
from broker.core.settings import (
    LimitSettings,
    ListenerSettings,
    Settings,
    TimingSettings,
    TokenSettings,
)
from broker.protocol.errors import Reason
from broker.server import ListenError, Server
from tests.integration.conftest import StartBroker
from tests.integration.mesh import (
    DOORS,
    STREAM_DOORS,
    TOKEN,
    Broker,
    Client,
    compact,
    make_settings,
    until,
)

GRANULE = 0.02
RESTART = "the broker is going down"


# -- Listening -------------------------------------------------------------------------------------


def listening_on(*addresses: str) -> Settings:
    return Settings(
        listeners=tuple(map(ListenerSettings, addresses)),
        tokens=(TokenSettings(hash_token(TOKEN)),),
    )


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        server = Server(settings)
        await nursery.start(server.run)
        yield server
        server.stop()


async def fails_to_listen(settings: Settings) -> ListenError:
    with pytest.raises(ListenError) as caught:
        await Server(settings).run()
    return caught.value


async def test_a_unix_socket_is_its_owners_alone(socket_path: Path) -> None:
    async with serving(listening_on(f"unix://{socket_path}")) as server:
        assert server.addresses == [f"unix://{socket_path}"]
        mode = socket_path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize("ending", ["drain", "stop"])
async def test_a_unix_path_goes_away_with_the_broker(
    nursery: trio.Nursery, socket_path: Path, ending: str
) -> None:
    done = trio.Event()

    async def run(task_status: trio.TaskStatus[None]) -> None:
        await server.run(task_status=task_status)
        done.set()

    server = Server(make_settings(str(socket_path)))
    await nursery.start(run)
    assert socket_path.exists()
    getattr(server, ending)()
    await done.wait()
    assert not socket_path.exists()


async def test_a_unix_path_that_was_left_behind_is_taken_over(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path))
        dead.listen()
    assert socket_path.exists()

    async with serving(listening_on(f"unix://{socket_path}")):
        stream = await trio.open_unix_socket(str(socket_path))
        await stream.aclose()


async def test_a_unix_path_in_use_is_left_alone(socket_path: Path) -> None:
    settings = listening_on(f"unix://{socket_path}")
    async with serving(settings):
        error = await fails_to_listen(settings)
        assert str(error) == (
            f"can't listen on unix://{socket_path}: another process listens there"
        )
        stream = await trio.open_unix_socket(str(socket_path))
        await stream.aclose()
    # So is one whose owner has too much to do to answer.
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as knocking:
        busy.bind(str(socket_path))
        busy.listen(0)
        knocking.setblocking(False)
        knocking.connect(str(socket_path))
        error = await fails_to_listen(settings)
        assert "another process listens there" in str(error)
        assert socket_path.exists()


async def test_a_file_that_is_no_socket_is_left_alone(socket_path: Path) -> None:
    socket_path.write_text("precious")
    error = await fails_to_listen(listening_on(f"unix://{socket_path}"))
    assert str(error) == f"can't listen on unix://{socket_path}: Address already in use"
    assert socket_path.read_text() == "precious"


async def test_a_directory_that_is_not_there(socket_path: Path) -> None:
    error = await fails_to_listen(listening_on(f"unix://{socket_path}/there"))
    assert str(error) == f"can't listen on unix://{socket_path}/there: No such file or directory"


async def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    error = await fails_to_listen(listening_on(f"unix://{path}"))
    assert str(error).startswith(f"can't listen on unix://{path}: ")


async def test_a_port_in_use(socket_path: Path) -> None:
    """And what was opened before it is closed again."""
    async with serving(listening_on("tcp://127.0.0.1:0")) as server:
        (address,) = server.addresses
        error = await fails_to_listen(listening_on(f"unix://{socket_path}", address))
        assert str(error) == f"can't listen on {address}: Address already in use"
        assert error.address == address
    assert not socket_path.exists()


async def test_several_listeners_and_ipv6(socket_path: Path) -> None:
    addresses = ["tcp://127.0.0.1:0", "tcp://[::1]:0", f"unix://{socket_path}"]
    async with serving(listening_on(*addresses)) as server:
        first, second, third = server.addresses
        assert re.fullmatch(r"tcp://127\.0\.0\.1:[1-9]\d*", first)
        assert re.fullmatch(r"tcp://\[::1\]:[1-9]\d*", second)
        assert third == addresses[2]
        stream = await trio.open_tcp_stream("::1", int(second.rpartition(":")[2]))
        await stream.send_all(compact({"op": 1, "data": {"token": TOKEN, "group": "v6"}}))
        answer = await stream.receive_some()
        assert answer.startswith(b'{"op":1,')
        (peer,) = server.dispatcher.registry
        assert re.fullmatch(r"\[::1\]:\d+", peer.address)
        await stream.aclose()


async def test_the_umask_is_as_it_was(socket_path: Path) -> None:
    before = os.umask(0o022)
    try:
        async with serving(listening_on(f"unix://{socket_path}")):
            assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


# -- Taking leave ----------------------------------------------------------------------------------


def ended(broker: Broker) -> bool:
    """Whether all listeners are closed, and everybody has gone."""
    return broker.connections() == 0 and not Path(broker.path).exists()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("identified", [True, False], ids=["identified", "before IDENTIFY"])
async def test_everybody_is_told(
    start_broker: StartBroker, mock_clock: MockClock, door: str, identified: bool
) -> None:
    broker = await start_broker()
    client = await broker.connect(door)
    if identified:
        await client.identify()
    elif door in STREAM_DOORS:
        await client.send(b'{"op":')
        await until(lambda: broker.connections() == 1)
    broker.server.drain()
    broker.server.drain()  # Once more does no harm.

    end = await client.receive_end()

    assert (end.before, end.reason, end.message, end.clean) == (
        [],
        Reason.SERVER_RESTART,
        RESTART,
        True,
    )
    if door not in STREAM_DOORS:
        assert (end.code, end.text) == (1012, "SERVER_RESTART")
    await until(lambda: ended(broker))


async def test_nobody_new_is_let_in(start_broker: StartBroker, mock_clock: MockClock) -> None:
    """Who comes is told to come again; when the broker has ended, nobody answers."""
    broker = await start_broker()
    staying = await broker.join("tcp")
    port = broker.port
    silent, half = await broker.raw(), await broker.raw()
    await half.send_bytes(b"GET / HTTP/1.1\r\n")
    await until(lambda: broker.guests() == 2)
    broker.server.drain()
    # Those at the door, with whom no framing is agreed on, are let go without a word.
    assert (await silent.receive_end()).reason is None
    assert (await half.receive_end()).reason is None
    assert (await staying.receive_json())["data"] == Reason.SERVER_RESTART
    for unix in (False, True):
        late = await broker.raw(unix=unix)
        await late.send(b'{"op":1,"data":{}}')
        assert (await late.receive_end()).reason == Reason.TRY_AGAIN_LATER
    assert broker.server.dispatcher.counters.turned_away == {"draining": 2}
    assert (await staying.receive_end()).clean
    await until(lambda: ended(broker))
    with pytest.raises(OSError, match=r"refused|all attempts"):
        await trio.open_tcp_stream("127.0.0.1", port)
    with pytest.raises(FileNotFoundError):
        await trio.open_unix_socket(broker.path)


async def test_what_was_sent_before_arrives_before_the_goodbye(
    start_broker: StartBroker, mock_clock: MockClock
) -> None:
    broker = await start_broker()
    sender = await broker.join("tcp")
    receivers = [await broker.join(door, "receivers") for door in DOORS]
    for number in range(100):
        intent = {"target": "GROUP", "identifier": "receivers"}
        await sender.send(compact({"op": 0, "id": str(number), "event": "E", "intent": intent}))
    await until(lambda: broker.peer(sender).messages_in == 101)
    broker.server.drain()

    for receiver in receivers:
        end = await receiver.receive_end()
        assert len(end.before) == 100
        assert end.reason == Reason.SERVER_RESTART


async def stuff(broker: Broker, sender: Client, receiver: Client) -> None:
    """Send to someone who does not read until even its socket's buffers are full."""
    peer = broker.peer(receiver)
    intent = {"target": "DIRECT", "identifier": receiver.id}
    message = compact({"op": 0, "id": "1", "event": "E", "data": "x" * 8192, "intent": intent})
    while not peer.congested:
        await sender.send(message)


@pytest.mark.parametrize("door", ["tcp", "unix", "websockets"])
@pytest.mark.parametrize("manner", ["does not read", "does not close", "reads in the end"])
async def test_clients_that_take_their_time(
    start_broker: StartBroker, mock_clock: MockClock, door: str, manner: str
) -> None:
    """Drained within the time for it, and without waiting for that where nobody is slow."""
    broker = await start_broker(
        timing=TimingSettings(drain_ms=4000, goodbye_ms=2000, stall_ms=3000),
        limits=LimitSettings(outbox_high_bytes=65_536),
    )
    sender, slow, fast = [await broker.join(kind) for kind in ("tcp", door, "unix")]
    if manner != "does not close":
        await stuff(broker, sender, slow)
    broker.server.drain()
    for client in (sender, fast):
        end = await client.receive_end()
        assert (end.reason, end.clean) == (Reason.SERVER_RESTART, True)
    if manner == "reads in the end":
        end = await slow.receive_end()
        assert len(end.before) > 1
        assert (end.reason, end.clean) == (Reason.SERVER_RESTART, True)
    else:
        await until(lambda: broker.connections() == 1)
        mock_clock.jump(2 - GRANULE)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert broker.connections() == 1
        mock_clock.jump(2 * GRANULE)
    await until(lambda: ended(broker))


async def test_the_end_comes_whatever_the_clients_do(
    start_broker: StartBroker, mock_clock: MockClock
) -> None:
    """With all the time in the world for goodbyes, the drain has its own bound."""
    broker = await start_broker(
        timing=TimingSettings(drain_ms=4000, goodbye_ms=1_000_000),
        limits=LimitSettings(outbox_high_bytes=65_536),
    )
    for door in ("tcp", "unix", "websockets"):
        sender = await broker.join("tcp")
        await stuff(broker, sender, await broker.join(door))
        await sender.hang_up()
    broker.server.drain()
    await until(lambda: broker.connections() == 3)
    mock_clock.jump(4 + GRANULE)
    await until(lambda: ended(broker))


async def test_requests_in_flight_may_end(start_broker: StartBroker, mock_clock: MockClock) -> None:
    broker = await start_broker(timing=TimingSettings(drain_ms=10_000))
    asker, callee = await broker.join("tcp"), await broker.join("websockets")

    def request(number: int) -> bytes:
        intent = {"target": "DIRECT", "identifier": callee.id}
        return compact(
            {"op": 0, "id": str(number), "event": "E", "intent": intent, "timeout": 60_000}
        )

    await asker.send(request(1))
    await asker.send(request(2))
    assert [(await callee.receive_json())["id"] for _ in range(2)] == ["1", "2"]
    broker.server.drain()
    await until(lambda: broker.server.dispatcher.requests.ledger.draining)
    await asker.send(request(3))
    frame = await asker.receive_json()
    assert (frame["id"], frame["error"]["code"]) == ("3", "DRAINING")
    answer = {"op": 5, "id": "1", "data": "done"}
    answer["intent"] = {"target": "DIRECT", "identifier": asker.id}
    await callee.send(compact(answer))
    frame = await asker.receive_json()
    assert (frame["id"], frame["data"]) == ("1", "done")
    # The other one has until half of the time is over.
    mock_clock.jump(5 + GRANULE)

    end = await asker.receive_end()
    (message,) = end.before
    assert message.startswith(b'{"op":5,"id":"2",')
    assert b'"code":"DRAINING"' in message
    assert end.reason == Reason.SERVER_RESTART
    assert (await callee.receive_end()).reason == Reason.SERVER_RESTART
    await until(lambda: ended(broker))


async def test_stopping_ends_at_once(start_broker: StartBroker) -> None:
    broker = await start_broker()
    clients = [await broker.join(door) for door in ("tcp", "unix", "websockets")]
    broker.server.stop()
    for client in clients:
        assert (await client.receive_end()).reason is None
    assert ended(broker)


async def test_a_broker_starts_again_where_another_has_stopped(
    start_broker: StartBroker, mock_clock: MockClock
) -> None:
    first = await start_broker()
    client = await first.join("unix")
    first.server.drain()
    assert (await client.receive_end()).reason == Reason.SERVER_RESTART
    await until(lambda: ended(first))
    second = await start_broker()
    client = await second.join("unix")
    await client.send(b'{"op":3}')
    assert await client.receive_json() == {"op": 4}
