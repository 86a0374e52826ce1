"""From an accepted socket to the reactor's hands, over socket pairs and on a mock clock.

What clients see of it, over real listeners, is in `tests/integration`.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.core.authentication import hash_token
from broker.core.dispatcher import Dispatcher
from broker.core.peer import PeerState
from broker.core.settings import LimitSettings, Settings, TimingSettings, TokenSettings
from broker.transport.admission import Admission
from broker.transport.door import Door, _address_of
from broker.transport.reactor import Reactor
from tests.transport.rig import IDENTIFY

SETTINGS = Settings(
    tokens=(TokenSettings(hash_token("secret")),),
    timing=TimingSettings(identify_ms=5000, goodbye_ms=2000),
    limits=LimitSettings(connections=2),
)
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    + base64.b64encode(b"sixteen bytes...")
    + b"\r\n\r\n"
)


@attrs.define
class House:
    """A door with a reactor behind it.

    Attributes:
        admitted: how often the door has finished with somebody.
    """

    nursery: trio.Nursery
    dispatcher: Dispatcher
    reactor: Reactor
    door: Door
    admission: Admission
    admitted: int = 0

    def knock(self) -> trio.SocketStream:
        """Have somebody at the door; return the other end."""
        near, far = socket.socketpair()
        self.nursery.start_soon(self._admit, _stream(near))
        return _stream(far)

    async def knock_next(self, stack: AsyncExitStack) -> trio.SocketStream:
        """Have somebody at the door, behind all who are there: trio starts tasks in any order."""
        far = await stack.enter_async_context(self.knock())
        await wait_all_tasks_blocked()
        return far

    async def _admit(self, stream: trio.SocketStream) -> None:
        await self.door.admit(stream)
        self.admitted += 1
        # Whatever has happened, the door does not keep the socket.
        assert stream.socket.fileno() == -1


def _stream(sock: socket.socket) -> trio.SocketStream:
    sock.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


@pytest.fixture
async def house(mock_clock: MockClock) -> AsyncIterator[House]:
    async with trio.open_nursery() as nursery:
        dispatcher = Dispatcher(SETTINGS)
        reactor = Reactor(dispatcher, SETTINGS)
        nursery.start_soon(reactor.run)
        admission = Admission(SETTINGS.limits, dispatcher.counters)
        door = Door(dispatcher, reactor, SETTINGS, admission)
        yield House(nursery, dispatcher, reactor, door, admission)
        nursery.cancel_scope.cancel()


async def read_all(far: trio.SocketStream) -> bytes:
    received = b""
    while data := await far.receive_some():
        received += data
    return received


@pytest.mark.parametrize("pieces", [[IDENTIFY], [IDENTIFY[:1], IDENTIFY[1:]], [b"\n", IDENTIFY]])
async def test_a_stream_is_known_by_its_first_byte(house: House, pieces: list[bytes]) -> None:
    async with house.knock() as far:
        for piece in pieces:
            await far.send_all(piece)
            await wait_all_tasks_blocked()
        assert house.admitted == 1
        assert len(house.reactor) == 1
        assert (await far.receive_some()).startswith(b'{"op":1,')


async def test_a_websocket_is_handed_over_when_its_handshake_is_done(house: House) -> None:
    async with house.knock() as far:
        for byte in REQUEST[:-1]:
            await far.send_all(bytes([byte]))
        await wait_all_tasks_blocked()
        assert house.admitted == 0
        await far.send_all(REQUEST[-1:])
        assert (await far.receive_some()).startswith(b"HTTP/1.1 101 ")
        await wait_all_tasks_blocked()
        assert house.admitted == 1
        assert len(house.reactor) == 1


async def test_what_came_behind_the_handshake_is_not_lost(house: House) -> None:
    frame = b"\x81" + bytes([0x80 | len(IDENTIFY)]) + b"\0\0\0\0" + IDENTIFY
    async with house.knock() as far:
        await far.send_all(REQUEST + frame)
        received = b""
        while b'"op":1' not in received:
            received += await far.receive_some()
        (peer,) = house.dispatcher.registry
        assert peer.state is PeerState.IDENTIFIED


@pytest.mark.parametrize("said", [b"", b"GET", REQUEST[:-1]])
@pytest.mark.parametrize("end", ["shut down", "close"])
async def test_who_leaves_at_the_door(house: House, said: bytes, end: str) -> None:
    async with house.knock() as far:
        if said:
            await far.send_all(said)
        await wait_all_tasks_blocked()
        await (far.send_eof() if end == "shut down" else far.aclose())
        await wait_all_tasks_blocked()
        assert house.admitted == 1
        assert len(house.reactor) == 0
        assert house.reactor.guests == 0


@pytest.mark.parametrize("said", [b"", b"GET", REQUEST[:-1]])
async def test_there_is_so_much_time(house: House, mock_clock: MockClock, said: bytes) -> None:
    async with house.knock() as far:
        if said:
            await far.send_all(said)
        await wait_all_tasks_blocked()
        mock_clock.jump(4.99)
        await wait_all_tasks_blocked()
        assert house.admitted == 0
        mock_clock.jump(0.02)
        await wait_all_tasks_blocked()
        assert house.admitted == 1
        assert await far.receive_some() == b""


async def test_the_time_at_the_door_counts_for_identify(
    house: House, mock_clock: MockClock
) -> None:
    """It is one deadline, from the accepted connection on."""
    async with house.knock() as far:
        await wait_all_tasks_blocked()
        mock_clock.jump(3)
        await far.send_all(REQUEST)
        await far.receive_some()
        await wait_all_tasks_blocked()
        mock_clock.jump(1.9)
        await wait_all_tasks_blocked()
        assert house.dispatcher.statistics().connections == 1
        mock_clock.jump(0.2)
        assert b"IDENTIFY_TIMEOUT" in await far.receive_some()


async def test_a_rejection_arrives_although_more_was_sent(
    house: House, mock_clock: MockClock
) -> None:
    async with house.knock() as far:
        await far.send_all(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n" + b"x" * 100_000)
        assert (await read_all(far)).startswith(b"HTTP/1.1 405 ")
        assert house.admitted == 0, "it waits for the other side to close"
        await far.aclose()
        await wait_all_tasks_blocked()
        assert house.admitted == 1
    # Nobody can make it wait for ever.
    async with house.knock() as far:
        await far.send_all(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await read_all(far)).startswith(b"HTTP/1.1 405 ")
        mock_clock.jump(2.01)
        await wait_all_tasks_blocked()
        assert house.admitted == 2


# -- Room ------------------------------------------------------------------------------------------


async def test_who_is_at_the_door_counts_as_a_connection(
    house: House, mock_clock: MockClock
) -> None:
    async with AsyncExitStack() as stack:
        first, second, third = [await house.knock_next(stack) for _ in range(3)]
        assert house.reactor.guests == 3
        await third.send_all(IDENTIFY)
        assert b"TRY_AGAIN_LATER" in await read_all(third)
        await third.aclose()
        await wait_all_tasks_blocked()
        await second.send_all(IDENTIFY)
        await first.send_all(IDENTIFY)
        assert (await second.receive_some()).startswith(b'{"op":1,')
        assert (await first.receive_some()).startswith(b'{"op":1,')
        # However long they have been there: they are known, and make room for nobody.
        mock_clock.jump(2)
        async with house.knock() as fourth:
            await fourth.send_all(REQUEST)
            answer = await read_all(fourth)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 5\r\n" in answer
            assert answer.endswith(
                b"\r\n\r\nthe broker has as many connections as it may; try again later\n"
            )


async def test_who_was_refused_and_says_nothing_is_not_waited_for(
    house: House, mock_clock: MockClock
) -> None:
    async with house.knock(), house.knock():
        await wait_all_tasks_blocked()
        async with house.knock() as third:
            await wait_all_tasks_blocked()
            mock_clock.jump(2.01)
            assert await read_all(third) == b""
            await wait_all_tasks_blocked()
            assert house.admitted == 1


@pytest.mark.parametrize(
    ("said", "answered", "told"),
    [
        (b"", b"", b""),
        (REQUEST[:-1], b"", b"HTTP/1.1 503 "),
        (REQUEST, b"HTTP/1.1 101 ", b'{"op":2,"data":"TRY_AGAIN_LATER"'),
        (b"{", b"", b'{"op":2,"data":"TRY_AGAIN_LATER"'),
    ],
    ids=["silent", "in the handshake", "websocket", "stream"],
)
async def test_who_does_not_identify_himself_makes_room(
    house: House, mock_clock: MockClock, said: bytes, answered: bytes, told: bytes
) -> None:
    async with AsyncExitStack() as stack:
        oldest, other = [await house.knock_next(stack) for _ in range(2)]
        await oldest.send_all(said)
        await wait_all_tasks_blocked()
        if answered:
            assert (await oldest.receive_some()).startswith(answered)
        await other.send_all(IDENTIFY)
        assert (await other.receive_some()).startswith(b'{"op":1,')
        mock_clock.jump(1.01)
        async with house.knock() as newcomer:
            await newcomer.send_all(IDENTIFY)
            assert (await newcomer.receive_some()).startswith(b'{"op":1,')
            last_words = await read_all(oldest)
            assert told in last_words
            assert bool(told) == bool(last_words)
            assert len(house.reactor) == 2
            assert house.reactor.guests == 0
            assert house.dispatcher.counters.turned_away["evicted"] == 1


async def test_who_has_been_told_what_is_wrong_is_not_told_more(
    house: House, mock_clock: MockClock
) -> None:
    async with AsyncExitStack() as stack:
        first, second = [await house.knock_next(stack) for _ in range(2)]
        await first.send_all(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n")
        await second.send_all(IDENTIFY)
        assert (await second.receive_some()).startswith(b'{"op":1,')
        mock_clock.jump(1.01)
        await wait_all_tasks_blocked()
        third = await house.knock_next(stack)
        await third.send_all(IDENTIFY)
        assert (await third.receive_some()).startswith(b'{"op":1,')
        answer = await read_all(first)
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert b"503" not in answer
        assert house.dispatcher.counters.turned_away["evicted"] == 1
        assert house.dispatcher.counters.faults == 0


async def test_after_a_reload_other_limits_hold(house: House) -> None:
    async with AsyncExitStack() as stack:
        members = [await house.knock_next(stack) for _ in range(2)]
        for member in members:
            await member.send_all(IDENTIFY)
            assert (await member.receive_some()).startswith(b'{"op":1,')
        house.door.reload(attrs.evolve(SETTINGS, limits=LimitSettings(connections=3)))
        third = await house.knock_next(stack)
        await third.send_all(IDENTIFY)
        assert (await third.receive_some()).startswith(b'{"op":1,')
        house.door.reload(SETTINGS)
        fourth = await house.knock_next(stack)
        await fourth.send_all(IDENTIFY)
        assert b"TRY_AGAIN_LATER" in await read_all(fourth)
        assert len(house.reactor) == 3, "nobody is sent away for it"


async def test_a_place_is_given_back_whatever_became_of_its_holder(house: House) -> None:
    for said in (b"", b"GET", REQUEST[:-1], REQUEST, b"POST / HTTP/1.1\r\n\r\n", b"{", IDENTIFY):
        for _ in range(3):
            async with house.knock() as far:
                if said:
                    await far.send_all(said)
                await wait_all_tasks_blocked()
                assert len(house.admission) == 1
            await wait_all_tasks_blocked()
            assert len(house.admission) == 0, said
            assert house.admission.unidentified == 0


async def test_cancelled_at_the_door(house: House) -> None:
    near, far = socket.socketpair()
    async with _stream(far) as other, trio.open_nursery() as nursery:
        nursery.start_soon(house.door.admit, _stream(near))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert house.reactor.guests == 0
    assert other.socket.fileno() == -1


# -- Addresses -------------------------------------------------------------------------------------


@pytest.fixture(params=["127.0.0.1", "::1"])
def tcp(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, str]]:
    """A connected TCP socket, and the address of the other end as people write it."""
    host: str = request.param
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening, socket.socket(family) as connecting:
        listening.bind((host, 0))
        listening.listen()
        connecting.connect(listening.getsockname())
        accepted, _ = listening.accept()
        port = connecting.getsockname()[1]
        with accepted:
            yield accepted, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def test_the_address_of_a_tcp_client(tcp: tuple[socket.socket, str]) -> None:
    accepted, address = tcp
    stream = _stream(accepted)
    assert _address_of(stream) == address
    await stream.aclose()


async def test_the_address_of_a_unix_client() -> None:
    near, far = socket.socketpair()
    async with _stream(near) as stream, _stream(far):
        assert _address_of(stream) == "unix"


async def test_the_address_of_one_that_has_gone(tcp: tuple[socket.socket, str]) -> None:
    accepted, _ = tcp
    accepted.shutdown(socket.SHUT_RDWR)
    accepted.close()
    stream = trio.SocketStream(trio.socket.socket())
    assert _address_of(stream) == "unknown"
    await stream.aclose()
