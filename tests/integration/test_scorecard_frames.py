"""What breaks RFC 6455 ends with the code for it, takes no memory, and harms nobody else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest
import trio

from broker.core.settings import LimitSettings, TimingSettings
from tests.integration.broker_process import TOKEN, BrokerProcess, broker_process
from tests.integration.bystanders import Bystanders
from tests.integration.conftest import StartBroker
from tests.integration.crowd import peak_memory, resident_memory
from tests.integration.mesh import Broker, HandmadeWebSocket, compact, masked_frame

# A guard against hanging, in seconds.
PATIENCE: Final = 60.0

SCALE: Final = float(os.environ.get("SWITCHBOARD_TEST_SCALE", "1"))

MIB: Final = 1 << 20

TEXT, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x0, 0x8, 0x9, 0xA
FINAL: Final = 0x80

EVENT: Final = b'{"op":3}'


def split_utf8(message: bytes, place: int) -> bytes:
    """A message in two fragments, with a ping between them."""
    return (
        masked_frame(message[:place], first=TEXT)
        + masked_frame(b"", first=FINAL | PING)
        + masked_frame(message[place:], first=FINAL | CONTINUATION)
    )


BROKEN: Final[dict[str, tuple[bytes, int]]] = {
    "not masked": (masked_frame(EVENT, mask=b""), 1002),
    "not masked, a ping": (masked_frame(b"", first=FINAL | PING, mask=b""), 1002),
    **{
        f"reserved bits {bits:03b}": (masked_frame(EVENT, first=FINAL | bits << 4 | TEXT), 1002)
        for bits in range(1, 8)
    },
    **{
        f"reserved opcode {opcode:#x}": (masked_frame(b"", first=FINAL | opcode), 1002)
        for opcode in (*range(3, 8), *range(11, 16))
    },
    **{
        f"opcode {opcode:#x} in fragments": (masked_frame(b"\x03\xe8", first=opcode), 1002)
        for opcode in (CLOSE, PING, PONG)
    },
    **{
        f"opcode {opcode:#x} of 126 bytes": (
            masked_frame(b"\x03\xe8" + b"x" * 124, first=FINAL | opcode),
            1002,
        )
        for opcode in (CLOSE, PING, PONG)
    },
    "UTF-8 that is none": (masked_frame(b'{"op":3,"data":"\xff"}'), 1007),
    "UTF-8 that is none, across fragments": (split_utf8(b'{"op":3,"data":"\xc3("}', 16), 1007),
    "UTF-8 of a surrogate, across fragments": (
        split_utf8(b'{"op":3,"data":"\xed\xa0\x80"}', 17),
        1007,
    ),
    "UTF-8 that is overlong, across fragments": (
        split_utf8(b'{"op":3,"data":"\xf0\x80\x80\xaf"}', 18),
        1007,
    ),
    "UTF-8 that is cut short by the end": (split_utf8(b'{"op":3,"data":"\xf0\x9f', 17), 1007),
    "a length of 2**63": (bytes([FINAL | TEXT, 0xFF]) + (1 << 63).to_bytes(8, "big"), 1002),
    "a length of 2**63 - 1": (
        bytes([FINAL | TEXT, 0xFF]) + ((1 << 63) - 1).to_bytes(8, "big"),
        1009,
    ),
    "fragments without end": (
        masked_frame(b"{", first=TEXT) + masked_frame(b"", first=CONTINUATION) * 20_000,
        1009,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_each_has_its_close_code(broker: Broker, bystanders: Bystanders, name: str) -> None:
    data, code = BROKEN[name]
    client = await broker.handmade()
    await client.identify()
    await client.send_bytes(data)
    end = await client.receive_end()
    reason = "MESSAGE_TOO_BIG" if code == 1009 else "INVALID_PAYLOAD"
    assert (end.code, end.reason, end.before) == (code, reason, [])
    await bystanders.check_alone()


@pytest.mark.parametrize("place", range(16, 20))
async def test_utf8_that_is_valid_may_be_cut_anywhere(broker: Broker, place: int) -> None:
    client = await broker.handmade()
    await client.identify()
    await client.send_bytes(split_utf8('{"op":3,"data":"😀"}'.encode(), place))
    assert await client.receive_json() == {"op": 4}
    assert client.pongs == [b""]


async def join(process: BrokerProcess, group: str = "demo") -> HandmadeWebSocket:
    client = HandmadeWebSocket(await trio.open_tcp_stream("127.0.0.1", process.port))
    await client.shake_hands()
    data = {"token": TOKEN, "group": group}
    await client.send(compact({"op": 1, "data": data}))
    client.id = (await client.receive_json())["data"]["id"]
    return client


@pytest.mark.parametrize("length", [1 << 63, (1 << 63) - 1, (1 << 62) + 5])
async def test_what_a_header_declares_is_not_set_aside(tmp_path: Path, length: int) -> None:
    """Twenty of them one after another, each with some bytes of the payload behind the header."""
    declared = bytes([FINAL | TEXT, 0xFF]) + length.to_bytes(8, "big") + b"mask"
    with broker_process(tmp_path) as process:
        other = await join(process)
        await attempt(process, declared)
        before = resident_memory(process.pid)
        for _ in range(20):
            await attempt(process, declared)
        assert peak_memory(process.pid) - before < MIB
        await other.send(EVENT)
        assert await other.receive_json() == {"op": 4}
        await other.hang_up()


async def attempt(process: BrokerProcess, declared: bytes) -> None:
    client = await join(process)
    await client.send_bytes(declared + b"x" * 60_000)
    assert (await client.receive_end()).code in (1002, 1009)


FLOODS: Final = {
    "pings": masked_frame(b"x" * 125, first=FINAL | PING),
    "empty pings": masked_frame(b"", first=FINAL | PING),
    "pongs": masked_frame(b"x" * 125, first=FINAL | PONG),
    "pings within a message": masked_frame(b"{", first=TEXT)
    + masked_frame(b"x" * 125, first=FINAL | PING) * 200,
}

# Round trips of a healthy connection while the flood goes on.
ROUNDS: Final = round(300 * SCALE)


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_of_control_frames_harms_nobody_else(tmp_path: Path, name: str) -> None:
    """Whoever floods and does not read is throttled, and cut in the end; others are served."""
    first, _, rest = FLOODS[name].partition(FLOODS["pings"])
    block = rest * 20 if first else FLOODS[name] * 500
    with broker_process(tmp_path, "[timing]\nstall_ms = 500\n") as process:
        healthy, flooding = await join(process, "healthy"), await join(process, "flooding")
        before = resident_memory(process.pid)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood, flooding, first, block)
            for number in range(ROUNDS):
                await healthy.send(b'{"op":3,"id":"%d"}' % number)
                assert await healthy.receive_json() == {"op": 4, "id": str(number)}
            nursery.cancel_scope.cancel()
        # The most that an outbox may hold, and what the allocator makes of it.
        assert peak_memory(process.pid) - before < 24 * MIB
        assert "Traceback" not in process.log
        await healthy.hang_up()
        await flooding.hang_up()


async def flood(client: HandmadeWebSocket, first: bytes, block: bytes) -> None:
    await client.send_bytes(first)
    while not client.was_reset:
        await client.send_bytes(block)
        await trio.lowlevel.checkpoint()


async def test_who_pings_and_reads_no_pongs_is_cut(start_broker: StartBroker) -> None:
    """Few pongs come of a flood of pings; but what nobody reads has an end."""
    timing = TimingSettings(goodbye_ms=0)
    limits = LimitSettings(message_bytes=8192, outbox_high_bytes=8192, outbox_bytes=16_384)
    broker = await start_broker(timing, limits)
    healthy, flooding = await broker.join("tcp"), await broker.handmade()
    await flooding.identify()
    with trio.fail_after(PATIENCE):
        await flood(flooding, b"", FLOODS["pings"] * 500)
    assert broker.server.dispatcher.statistics().closed == {"SLOW_CONSUMER": 1}
    await healthy.send(EVENT)
    assert await healthy.receive_json() == {"op": 4}
