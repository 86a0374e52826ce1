"""The case families 1 to 7 and 10 of Autobahn's suite, over a real socket.

At the other end is `tests/echo_server.py`: the broker's door, reactor and framing. What comes back
is read by the library `websockets`, which shares no code with it; the last tests have that and
trio-websocket talk to it in earnest. Autobahn's suite itself can be run against the same server:
docs/reliability.md says how.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import trio
import trio_websocket
from websockets.frames import Frame, Opcode

from tests.echo_server import serve
from tests.integration.mesh import LibraryWebSocket
from tests.protocol.autobahn_cases import AUTOBAHN, DONE
from tests.protocol.websocket_bytes import KEY, TEXT, frame, xor

LAST = b"the last one"


@pytest.fixture
async def port(nursery: trio.Nursery) -> int:
    return int(await nursery.start(serve, 0))


@pytest.fixture
async def stream(port: int) -> AsyncIterator[trio.SocketStream]:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    yield stream
    await trio.aclose_forcefully(stream)


@pytest.mark.parametrize(
    ("data", "said", "outcome", "pongs"), AUTOBAHN.values(), ids=AUTOBAHN.keys()
)
async def test_autobahn_over_a_socket(
    stream: trio.SocketStream,
    data: bytes,
    said: list[bytes],
    outcome: int | None,
    pongs: list[bytes],
) -> None:
    with trio.fail_after(30):
        client = LibraryWebSocket(stream)
        await client.shake_hands()
        await client.send_bytes(data + frame(TEXT, LAST))
        received: list[Frame] = []
        while True:
            more = await client.receive_frames()
            received += more
            texts = [bytes(got.data) for got in received if got.opcode is Opcode.TEXT]
            answers = [bytes(got.data) for got in received if got.opcode is Opcode.PONG]
            # Pongs come behind the messages that were read with them.
            if not more or (LAST in texts and len(answers) >= len(pongs)):
                break

    assert texts == ([*said, LAST] if outcome is None else said)
    assert answers == pongs
    closes = [got.data for got in received if got.opcode is Opcode.CLOSE]
    assert all(got.fin for got in received)
    if outcome is None:
        assert not closes
    elif outcome == DONE:
        # What was sent comes back, without the text, and an empty one for an empty one.
        assert closes == [sent_close(data)]
    else:
        (close,) = closes
        assert int.from_bytes(close[:2], "big") == outcome
    assert not client.was_reset


def sent_close(data: bytes) -> bytes:
    """The code in the first close frame that a case sends; nothing where there is none in it."""
    found = re.search(b"\x88([\x80-\xfd])" + re.escape(KEY), data)
    assert found is not None
    start, size = found.end(), min(found[1][0] & 0x7F, 2)
    return xor(data[start : start + size], KEY)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
async def test_a_close_code_comes_back(stream: trio.SocketStream, code: int) -> None:
    client = LibraryWebSocket(stream)
    with trio.fail_after(30):
        await client.shake_hands()
        client.protocol.send_close(code, "bye")
        assert await client.receive() is None
    assert client.close_code == code
    assert client.protocol.close_exc.rcvd_then_sent is False


SIZES = (0, 1, 125, 126, 127, 128, 65_535, 65_536, 1_000_000)


async def test_texts_of_the_library_websockets(stream: trio.SocketStream) -> None:
    """Whole, in fragments with pings between them, and with characters of every length."""
    client = LibraryWebSocket(stream)
    with trio.fail_after(30):
        await client.shake_hands()
        for size in SIZES:
            text = ("aß水🙂" * (size // 4 + 1))[:size].encode()
            await client.send(text)
            assert await client.receive() == text
            client.protocol.send_text(text[:7], fin=False)
            client.protocol.send_ping(b"p%d" % size)
            client.protocol.send_continuation(b"", fin=False)
            client.protocol.send_continuation(text[7:], fin=True)
            assert await client.receive() == text


async def test_texts_of_the_library_trio_websocket(port: int) -> None:
    with trio.fail_after(30):
        async with trio_websocket.open_websocket(
            "127.0.0.1", port, "/", use_ssl=False, max_message_size=1 << 21
        ) as client:
            for size in SIZES:
                text = ("aß水🙂" * (size // 4 + 1))[:size]
                await client.send_message(text)
                assert await client.get_message() == text
            await client.ping(b"still there?")
        assert client.closed is not None
        assert client.closed.code == 1000


async def test_a_binary_message_is_refused(stream: trio.SocketStream) -> None:
    """The protocol has text alone; so the families of binary messages end with 1003."""
    client = LibraryWebSocket(stream)
    with trio.fail_after(30):
        await client.shake_hands()
        client.protocol.send_binary(b"\xfe" * 10)
        assert await client.receive() is None
    assert client.close_code == 1003
