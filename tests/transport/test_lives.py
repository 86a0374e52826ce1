"""What the log says of a connection when it is gone."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from structlog.testing import capture_logs

from broker.protocol.errors import Reason
from tests.transport.rig import IDENTIFY, Far, Rig, event

ENDED = "connection ended"
NOT_LET_IN = "connection was not let in"
UNKNOWN = "connection ended before it identified itself"


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    structlog.reset_defaults()
    with capture_logs() as entries:
        yield entries


def request(receiver: str, id: str) -> bytes:
    return event(receiver, id=id)[:-1] + b',"timeout":60000}'


def reply(requester: str, id: str) -> bytes:
    return b'{"op":5,"id":"%b","data":1,"intent":{"target":"DIRECT","identifier":"%b"}}' % (
        id.encode(),
        requester.encode(),
    )


def hang_up(rig: Rig, client: Far) -> None:
    client.sock.close()
    rig.settle()


def test_a_line_says_who_it_was_and_what_it_did(rig: Rig, lines: list[Any]) -> None:
    caller, callee = rig.join(), rig.join()
    sent = len(caller.wire.frame(IDENTIFY))
    for number in range(3):
        question = request(callee.id, str(number))
        sent += len(caller.wire.frame(question))
        caller.send(question)
    rig.settle()
    callee.send(reply(caller.id, "0"))
    callee.send(reply(caller.id, "1"))
    rig.settle()
    received = caller.connection.bytes_out
    assert received > len(caller.receive())
    rig.now += 2.5
    hang_up(rig, caller)
    hang_up(rig, callee)

    first, second = lines
    assert first == {
        "log_level": "info",
        "event": ENDED,
        "connection": caller.id,
        "principal": "",
        "group": "demo",
        "name": None,
        "address": "pair",
        "transport": "tcp",
        "seconds": 2.5,
        "messages_in": 4,
        "messages_out": 2,
        "bytes_in": sent,
        "bytes_out": received,
        "requests": 3,
        "answers": 0,
        "reason": "NO_REASON",
        "ended_by": "nobody",
        "message": "it ended without a goodbye",
    }
    assert (second["messages_in"], second["messages_out"]) == (3, 3)
    assert (second["requests"], second["answers"]) == (0, 2)


def test_bytes_are_counted_where_the_system_takes_some_at_a_time(
    rig: Rig, lines: list[Any]
) -> None:
    sender, receiver = rig.join(), rig.join(buffer=4096)
    for number in range(40):
        sender.send(event(receiver.id, id=str(number))[:-1] + b',"data":"%b"}' % (b"x" * 3000))
        rig.settle()
    assert receiver.waits_to_write
    total = len(b'{"op":1}')
    while receiver.waits_to_write:
        total += len(receiver.receive())
        rig.settle()
    hang_up(rig, receiver)
    assert lines[-1]["bytes_out"] > 40 * 3000
    assert lines[-1]["bytes_out"] == receiver.connection.bytes_out
    assert lines[-1]["messages_out"] == 40


@pytest.mark.parametrize("websocket", [False, True])
def test_the_broker_ended_it(rig: Rig, lines: list[Any], websocket: bool) -> None:
    client = rig.join(websocket=websocket)
    client.send(b'{"op":9}')
    rig.settle()
    assert lines == []
    hang_up(rig, client)
    [line] = lines
    assert (line["reason"], line["ended_by"]) == ("UNKNOWN_OP", "broker")
    assert line["message"]
    assert line["transport"] == ("ws" if websocket else "tcp")


def test_the_client_said_goodbye(rig: Rig, lines: list[Any]) -> None:
    client = rig.join()
    client.send(b'{"op":2}')
    rig.settle()
    hang_up(rig, client)
    [line] = lines
    assert (line["reason"], line["ended_by"], line["message"]) == ("NO_REASON", "client", "")


def test_the_client_closed_its_websocket(rig: Rig, lines: list[Any]) -> None:
    client = rig.join(websocket=True)
    goodbye = client.wire.goodbye(1000, Reason.NO_REASON)
    assert goodbye is not None
    client.sock.sendall(goodbye)
    rig.settle()
    hang_up(rig, client)
    [line] = lines
    assert (line["reason"], line["ended_by"]) == ("NO_REASON", "client")


def test_the_connection_broke(rig: Rig, lines: list[Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
    client = rig.join()
    # A pair of sockets can't be reset; one over TCP can.
    near.setblocking(False)
    rig.reactor._poller.unregister(client.connection.fd)
    client.connection.sock.close()
    rig.reactor._connections[near.fileno()] = rig.reactor._connections.pop(client.connection.fd)
    client.connection.sock, client.connection.fd = near, near.fileno()
    rig.reactor._poller.register(near.fileno(), 1)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    while not rig.poll():
        pass
    [line] = lines
    assert (line["reason"], line["ended_by"]) == ("NO_REASON", "nobody")
    assert line["message"] == "Connection reset by peer"


def test_the_broker_was_ended_at_once(rig: Rig, lines: list[Any]) -> None:
    rig.join()
    rig.reactor._abandon_all()
    assert lines[0]["message"] == "the broker was ended at once"
    rig.reactor._abandon_all = lambda: None  # type: ignore[method-assign] # done


def test_who_was_not_let_in_is_told_some_times_a_second(rig: Rig, lines: list[Any]) -> None:
    wrong = IDENTIFY.replace(b"secret", b"a-secret-that-is-not-ours")
    assert wrong != IDENTIFY
    for _ in range(25):
        client = rig.connect(wrong + b"\n")
        hang_up(rig, client)
    assert len(lines) == 10
    assert {line["event"] for line in lines} == {NOT_LET_IN}
    assert {line["reason"] for line in lines} == {"IDENTIFY_FAILED"}
    assert "principal" not in lines[0]
    assert "ours" not in str(lines)


def test_who_said_nothing_is_told_at_debug(rig: Rig, lines: list[Any]) -> None:
    hang_up(rig, rig.connect())
    assert [(line["event"], line["log_level"]) for line in lines] == [(UNKNOWN, "debug")]


async def test_a_broker_that_stops_tells_how_many_lines_it_has_withheld(
    rig: Rig, lines: list[Any]
) -> None:
    rig.now = trio.current_time()
    rig.reactor._clock = trio.current_time
    for _ in range(103):
        rig.join()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.reactor.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (lines[-1]["of"], lines[-1]["withheld"]) == (ENDED, 3)
    rig.reactor._abandon_all = lambda: None  # type: ignore[method-assign] # done


def test_many_that_end_at_once_are_counted(rig: Rig, lines: list[Any]) -> None:
    clients = [rig.join() for _ in range(120)]
    for client in clients:
        client.sock.close()
    rig.settle()
    rig.reactor.log.tell_withheld()
    assert len(lines) == 101
    assert (lines[-1]["of"], lines[-1]["withheld"]) == (ENDED, 20)
