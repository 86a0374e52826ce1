"""The scorecard, items 1, 5 and 6: what is no request, no object, no IDENTIFY, is turned away.

docs/reliability.md has the whole card. More cases of each stand in `test_bad_connections.py` and
`test_disconnects.py`.
"""

from __future__ import annotations

import itertools
import socket
from pathlib import Path

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.core.authentication import hash_token
from broker.core.settings import TokenSettings
from broker.protocol.errors import Reason
from tests.integration.broker_process import BrokerProcess, broker_process
from tests.integration.bystanders import Bystanders
from tests.integration.conftest import StartBroker
from tests.integration.mesh import TOKEN, Broker, compact, until

GRANULE = 0.02
MIB = 1 << 20

KEY = b"Sec-WebSocket-Key: c2l4dGVlbiBieXRlcy4uLg==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
UPGRADE = b"Host: broker.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
START = b"GET / HTTP/1.1\r\n"
GOOD = START + UPGRADE + VERSION + KEY

both_doors = pytest.mark.parametrize("door", ["tcp", "websockets"])


async def answer_to(broker: Broker, request: bytes) -> bytes:
    """Send a request; return all that comes until the broker has shut its side."""
    client = await broker.raw()
    await client.send_bytes(request)
    answer = b""
    while data := await client.receive_bytes():
        answer += data
        # A WebSocket would stay open for as long as this clock stands still.
        assert not answer.startswith(b"HTTP/1.1 101 ")
    await client.hang_up()
    assert not client.was_reset
    return answer


# -- 1. What opens no WebSocket --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    {
        "no key": (START + UPGRADE + VERSION, 400),
        "two keys": (GOOD + KEY, 400),
        "a key too short": (GOOD.replace(b"c2l4dGVlbiBieXRlcy4uLg==", b"c2hvcnQ="), 400),
        "a key that is no base64": (GOOD.replace(b"c2l4", b"@@@@"), 400),
        "no version": (START + UPGRADE + KEY, 400),
        "version 8": (GOOD.replace(b"13", b"8"), 426),
        "version 14": (GOOD.replace(b": 13", b": 14"), 426),
        "two versions": (GOOD + VERSION, 400),
        "HTTP/1.0": (GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        "HTTP/2.0": (GOOD.replace(b"HTTP/1.1", b"HTTP/2.0"), 400),
        "POST": (GOOD.replace(b"GET", b"POST"), 405),
        "no upgrade": (GOOD.replace(b"Upgrade: websocket\r\n", b""), 426),
        "129 headers": (GOOD + b"X: y\r\n" * (129 - 5), 431),
        "a request line of 8 KiB": (GOOD.replace(b"GET /", b"GET /" + b"x" * 8192), 431),
        "a header of 8 KiB": (GOOD + b"X: " + b"x" * 8192 + b"\r\n", 431),
        "a foreign origin": (GOOD + b"Origin: https://example.org\r\n", 403),
        "no origin that a page has": (GOOD + b"Origin: null\r\n", 403),
    }.values(),
)
async def test_a_request_that_opens_no_websocket_gets_its_answer_at_once(
    broker: Broker, mock_clock: MockClock, request_bytes: bytes, status: int
) -> None:
    """The clock stands still: no deadline can have had a part in it."""
    answer = await answer_to(broker, request_bytes + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert b" 101 " not in answer
    assert broker.connections() == 0


@pytest.mark.parametrize(
    "request_bytes",
    {
        "nothing else": GOOD,
        "128 headers": GOOD + b"X: y\r\n" * (128 - 5),
        "as large as may be": GOOD + b"X: " + b"x" * (8192 - len(GOOD) - 7) + b"\r\n",
    }.values(),
)
async def test_the_next_best_request_opens_one(broker: Broker, request_bytes: bytes) -> None:
    client = await broker.raw()
    await client.send_bytes(request_bytes + b"\r\n")
    assert (await client.receive_bytes()).startswith(b"HTTP/1.1 101 ")


# -- 5. Bytes without an end -----------------------------------------------------------------------

IDENTIFY = compact({"op": 1, "data": {"token": "a-token-for-tests", "group": "demo"}})


def resident_peak(process: BrokerProcess) -> int:
    """The most memory that a process has had so far, in bytes."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the system does not tell")


@pytest.mark.parametrize(
    ("first", "block"),
    {
        "a string": (b'{"op":0,"data":"', b"x"),
        "braces": (b"", b"{"),
        "brackets": (b'{"op":0,"data":', b"["),
        "keys": (b'{"op":0', b',"a":{}'),
        "backslashes": (b'{"op":0,"data":"', b"\\\\"),
    }.values(),
)
@pytest.mark.parametrize("identified", [True, False], ids=["identified", "unknown"])
def test_bytes_without_the_end_of_an_object(
    tmp_path: Path, identified: bool, first: bytes, block: bytes
) -> None:
    """Of 64 MiB that belong to one object, the broker has no more in memory than it may."""
    pushed = 64 * MIB
    with broker_process(tmp_path) as process:
        with socket.create_connection(("127.0.0.1", process.port), timeout=30) as client:
            if identified:
                client.sendall(IDENTIFY)
                assert b'"op":1' in client.recv(65536)
            before = resident_peak(process)
            client.sendall(first)
            data = block * (MIB // len(block))
            try:
                for _ in range(pushed // MIB):
                    client.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # It has waited long enough for us to close.
            said = client.recv(65536)
        grown = resident_peak(process) - before
    # What is nested is refused for that, and sooner.
    assert b'"data":"MESSAGE_TOO_BIG"' in said or (block in b"{[" and b"nested too deep" in said)
    print(f"64 MiB without an end: {grown / MIB:.1f} MiB more memory")
    # Of one who is not known, not even as much as a message may have.
    assert grown < (8 if identified else 2) * MIB


# -- 6. Who is no service --------------------------------------------------------------------------


async def test_silence_is_over_at_the_deadline(
    broker: Broker, bystanders: Bystanders, mock_clock: MockClock
) -> None:
    """Whatever was said so far: nothing, half a handshake, an open WebSocket, half an object."""
    silent = [await broker.raw() for _ in range(3)]
    await silent[1].send_bytes(START)
    await silent[2].send_bytes(b'{"op":')
    websocket = await broker.handmade()
    await until(lambda: broker.guests() == 2 and broker.connections() == 4)
    mock_clock.jump(5 - GRANULE)
    await bystanders.check()
    assert broker.guests() + broker.connections() == 2 + 4
    mock_clock.jump(2 * GRANULE)
    await wait_all_tasks_blocked()
    assert broker.guests() == 0
    assert broker.server.dispatcher.counters.closed == {Reason.IDENTIFY_TIMEOUT: 2}

    for client in silent[:2]:
        assert await client.receive_bytes() == b""
    for talker in (silent[2], websocket):
        assert (await talker.receive_end()).reason == Reason.IDENTIFY_TIMEOUT
    await bystanders.check_alone()


@both_doors
async def test_an_event_first_is_delivered_to_nobody(
    broker: Broker, bystanders: Bystanders, door: str
) -> None:
    client = await broker.connect(door)
    event = {"op": 0, "event": "E", "intent": {"target": "GLOBAL"}}
    await client.send(compact(event))
    assert (await client.receive_end()).reason == Reason.UNAUTHORIZED
    await bystanders.check_alone()  # Fails where anything else came to them.
    assert broker.server.dispatcher.counters.frames_out == 2


@both_doors
async def test_a_token_opens_no_group_but_its_own(start_broker: StartBroker, door: str) -> None:
    broker = await start_broker(tokens=(TokenSettings(hash_token(TOKEN), groups=("billing",)),))
    client = await broker.connect(door)
    await client.send(compact({"op": 1, "data": {"token": TOKEN, "group": "payroll"}}))
    goodbye = await client.receive_json()
    assert (goodbye["op"], goodbye["data"]) == (2, Reason.IDENTIFY_FAILED)
    assert (await client.receive_end()).clean
    assert len(broker.server.dispatcher.registry) == 0
    assert (await broker.join(door, "billing")).id


@both_doors
async def test_nobody_poses_as_another(broker: Broker, bystanders: Bystanders, door: str) -> None:
    client, victim = await broker.join(door), await broker.join("tcp")
    everybody = {"target": "GLOBAL"}
    group = {"target": "GROUP", "identifier": "demo"}
    one = {"target": "DIRECT", "identifier": victim.id}
    for op, intent in itertools.product((0, 5), (everybody, group, one)):
        source = {"id": victim.id, "group": "demo"}
        forged = {"op": op, "id": "1", "event": "E", "intent": intent, "source": source}
        await client.send(compact(forged))
        await client.send(b'{"op":3}')
        answer = await client.receive_json()
        assert answer["error"]["code"] in {"FORBIDDEN", "INVALID_FRAME"}, answer
        assert answer["source"]["group"] == "$broker"
        assert await client.receive_json() == {"op": 4}
    await victim.send(b'{"op":3}')
    assert await victim.receive_json() == {"op": 4}
    await bystanders.check()


@both_doors
async def test_an_answer_of_one_who_was_not_asked_reaches_nobody(broker: Broker, door: str) -> None:
    requester = await broker.join(door, "requesters")
    worker = await broker.join(door, "workers")
    stranger = await broker.join(door, "strangers")
    await requester.send(
        compact(
            {
                "op": 0,
                "id": "q",
                "event": "ASK",
                "timeout": 60_000,
                "intent": {"target": "DIRECT", "identifier": worker.id},
            }
        )
    )
    assert (await worker.receive_json())["event"] == "ASK"
    reply = {
        "op": 5,
        "id": "q",
        "event": "ASK",
        "intent": {"target": "DIRECT", "identifier": requester.id},
    }
    await stranger.send(compact({**reply, "data": "forged"}))
    await stranger.send(b'{"op":3}')
    assert (await stranger.receive_json())["error"]["code"] == "FORBIDDEN"
    await worker.send(compact({**reply, "data": "true"}))
    answer = await requester.receive_json()
    assert (answer["data"], answer["source"]["id"]) == ("true", worker.id)
