"""TLS at the door, over socket pairs and on a mock clock."""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
import trio
import trustme
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.core.dispatcher import Dispatcher
from broker.core.peer import PeerState
from broker.transport.admission import Admission
from broker.transport.door import Door
from broker.transport.reactor import Reactor
from broker.transport.tls_context import TlsEntrance
from tests.transport.rig import IDENTIFY
from tests.transport.test_door import REQUEST, SETTINGS, House
from tests.transport.tls_rig import Files, authority, client_context


@attrs.define
class TlsHouse(House):
    """A door that speaks TLS."""

    entrance: TlsEntrance = attrs.field(kw_only=True)
    knocking: list[trio.SocketStream] = attrs.field(factory=list)

    def knock(self) -> trio.SocketStream:
        far = super().knock()
        self.knocking.append(far)
        return far

    async def _admit(self, stream: trio.SocketStream) -> None:
        await self.door.admit(stream, self.entrance)
        self.admitted += 1
        assert stream.socket.fileno() == -1

    async def knock_with(self, context: ssl.SSLContext) -> trio.SSLStream[trio.SocketStream]:
        """Have somebody at the door, and do the handshake."""
        stream = trio.SSLStream(self.knock(), context, server_hostname="broker.test")
        await stream.do_handshake()
        return stream


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    with capture_logs() as entries:
        yield entries
    structlog.reset_defaults()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
async def house(mock_clock: MockClock, files: Files) -> AsyncIterator[TlsHouse]:
    async with trio.open_nursery() as nursery:
        dispatcher = Dispatcher(SETTINGS)
        reactor = Reactor(dispatcher, SETTINGS)
        nursery.start_soon(reactor.run)
        admission = Admission(SETTINGS.limits, dispatcher.counters)
        door = Door(dispatcher, reactor, SETTINGS, admission)
        entrance = TlsEntrance(files.context())
        house = TlsHouse(nursery, dispatcher, reactor, door, admission, entrance=entrance)
        yield house
        for far in house.knocking:
            far.socket.close()
        nursery.cancel_scope.cancel()


async def read_all(stream: trio.SocketStream) -> bytes:
    received = b""
    with trio.fail_after(30):
        while data := await stream.receive_some():
            received += data
    return received


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_stream(house: TlsHouse, version: ssl.TLSVersion) -> None:
    client = await house.knock_with(client_context(version))
    await client.send_all(IDENTIFY)
    assert (await client.receive_some()).startswith(b'{"op":1,')
    await wait_all_tasks_blocked()
    assert house.admitted == 1
    (peer,) = house.dispatcher.registry
    assert peer.certificate_names == ()


async def test_a_websocket(house: TlsHouse) -> None:
    client = await house.knock_with(client_context())
    frame = b"\x81" + bytes([0x80 | len(IDENTIFY)]) + b"\0\0\0\0" + IDENTIFY
    await client.send_all(REQUEST + frame)
    received = b""
    while b'"op":1' not in received:
        received += await client.receive_some()
    assert received.startswith(b"HTTP/1.1 101 ")


async def test_a_request_that_opens_no_websocket(house: TlsHouse) -> None:
    client = await house.knock_with(client_context())
    await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    received = b""
    while data := await client.receive_some():  # Without a goodbye of TLS's this would raise.
        received += data
    assert received.startswith(b"HTTP/1.1 426 ")
    await client.aclose()
    await wait_all_tasks_blocked()
    assert house.admitted == 1


async def test_a_handshake_and_an_identify_in_single_bytes(house: TlsHouse) -> None:
    far = house.knock()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing, server_hostname="broker.test")

    async def exchange() -> None:
        for byte in outgoing.read():
            await far.send_all(bytes([byte]))
            await trio.lowlevel.checkpoint()

    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            await exchange()
            incoming.write(bytes(await far.receive_some()))
    tls.write(IDENTIFY)
    await exchange()
    incoming.write(bytes(await far.receive_some()))
    assert tls.read().startswith(b'{"op":1,')


async def start_handshake(far: trio.SocketStream) -> tuple[ssl.SSLObject, ssl.MemoryBIO]:
    """Go so far that all that is left is in the buffer: the end of the client's part."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing, server_hostname="broker.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    await far.send_all(outgoing.read())
    incoming.write(bytes(await far.receive_some()))
    tls.do_handshake()
    return tls, outgoing


async def test_an_identify_in_the_same_breath_as_the_handshake(house: TlsHouse) -> None:
    far = house.knock()
    tls, outgoing = await start_handshake(far)
    tls.write(IDENTIFY)
    await far.send_all(outgoing.read())
    await wait_all_tasks_blocked()
    assert len(house.dispatcher.registry) == 1


async def test_a_goodbye_in_the_same_breath_as_the_handshake(house: TlsHouse) -> None:
    """The client keeps its connection open, as it may: the poller alone would see no end of it."""
    far = house.knock()
    tls, outgoing = await start_handshake(far)
    tls.write(IDENTIFY)
    with pytest.raises(ssl.SSLWantReadError):
        tls.unwrap()
    await far.send_all(outgoing.read())
    await wait_all_tasks_blocked()
    assert house.dispatcher.counters.frames_in == 1
    assert len(house.reactor) == 0


@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_a_handshake_that_stalls(
    house: TlsHouse, mock_clock: MockClock, said: bytes, logs: list[Any]
) -> None:
    async with house.knock() as far:
        if said:
            await far.send_all(said)
        await wait_all_tasks_blocked()
        mock_clock.jump(4.9)
        await wait_all_tasks_blocked()
        assert house.admitted == 0
        mock_clock.jump(0.2)
        assert await read_all(far) == b""
        await wait_all_tasks_blocked()
        assert house.admitted == 1
    assert logs == []


async def test_silence_behind_the_handshake(house: TlsHouse, mock_clock: MockClock) -> None:
    """The time for IDENTIFY has begun with the connection, and not with the handshake's end."""
    mock_clock.jump(1)
    far = house.knock()
    await wait_all_tasks_blocked()
    mock_clock.jump(4)
    client = trio.SSLStream(far, client_context(), server_hostname="broker.test")
    await client.do_handshake()
    mock_clock.jump(1.1)
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some()
    await wait_all_tasks_blocked()
    assert house.admitted == 1


async def test_a_client_that_speaks_http_without_tls(house: TlsHouse) -> None:
    async with house.knock() as far:
        await far.send_all(REQUEST)
        status, _, rest = (await read_all(far)).decode().partition("\r\n")
    assert status == "HTTP/1.1 400 Bad Request"
    assert rest.endswith("\r\n\r\nTLS is spoken here: connect with tls:// or wss://\n")


@pytest.mark.parametrize("said", [IDENTIFY, b" \n" + IDENTIFY, b"\n"])
async def test_a_client_that_speaks_json_without_tls(house: TlsHouse, said: bytes) -> None:
    async with house.knock() as far:
        await far.send_all(said)
        received = await read_all(far)
    assert received == (
        b'{"op":2,"data":"INVALID_PAYLOAD","error":{"code":"INVALID_PAYLOAD",'
        b'"message":"TLS is spoken here: connect with tls:// or wss://"}}\n'
    )
    assert not house.dispatcher.registry


async def test_a_hundred_garbage_handshakes(house: TlsHouse, logs: list[Any]) -> None:
    chance = random.Random(5)
    for number in range(100):
        async with house.knock() as far:
            rubbish = chance.randbytes(chance.choice([1, 6, 300, 4000]))
            # Half of it gets past the first look.
            await far.send_all((b"\x16\x03\x01\x00\x05" if number % 2 else b"\x05") + rubbish)
            await far.send_eof()
            await read_all(far)
    await wait_all_tasks_blocked()
    assert house.admitted == 100
    assert house.reactor.guests == 0
    assert house.dispatcher.counters.faults == 0
    assert 50 <= house.dispatcher.counters.tls_failures <= 100
    assert [entry["log_level"] for entry in logs] == ["info"], "one, however many there are"
    assert "exc_info" not in logs[0]


async def test_who_finds_no_room_costs_no_handshake(house: TlsHouse) -> None:
    clients = [await house.knock_with(client_context()) for _ in range(2)]
    for client in clients:
        await client.send_all(IDENTIFY)
        await client.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await house.knock_with(client_context())


async def test_a_mistake_of_ours_at_the_door(
    house: TlsHouse, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(house.door, "_receive_first", None)  # Can't be called.
        client = await house.knock_with(client_context())
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()
    assert house.dispatcher.counters.faults == 1
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert len(house.admission) == 0
    client = await house.knock_with(client_context())
    await client.send_all(IDENTIFY)
    assert (await client.receive_some()).startswith(b'{"op":1,')


# -- Client certificates ---------------------------------------------------------------------------


def with_certificate(issued: trustme.LeafCert, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = version
    authority().configure_trust(context)
    issued.configure_cert(context)
    return context


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    found: ssl.TLSVersion = request.param
    return found


async def refused(house: TlsHouse, context: ssl.SSLContext) -> str:
    """Connect and identify; return what TLS says of it."""
    stream = trio.SSLStream(house.knock(), context, server_hostname="broker.test")

    async def identify() -> None:
        # With TLS 1.3 the client believes to be connected until it reads.
        await stream.send_all(IDENTIFY)
        while await stream.receive_some():
            pass

    with pytest.raises(trio.BrokenResourceError) as caught:
        await identify()
    assert not house.dispatcher.registry
    assert house.dispatcher.counters.opened == 0
    return str(caught.value.__cause__)


@pytest.mark.parametrize("asked", ["required", "optional"])
async def test_a_client_certificate(
    house: TlsHouse, files: Files, version: ssl.TLSVersion, asked: str
) -> None:
    house.entrance.context = files.context(asked)
    issued = authority().issue_cert("billing.test", "b.test", common_name="billing")
    client = await house.knock_with(with_certificate(issued, version))
    await client.send_all(IDENTIFY)
    assert (await client.receive_some()).startswith(b'{"op":1,')
    (peer,) = house.dispatcher.registry
    assert peer.state is PeerState.IDENTIFIED
    assert set(peer.certificate_names) == {"billing", "billing.test", "b.test"}
    assert peer.certificate_names[0] == "billing"


async def test_no_client_certificate_where_it_is_optional(
    house: TlsHouse, files: Files, version: ssl.TLSVersion
) -> None:
    house.entrance.context = files.context("optional")
    client = await house.knock_with(client_context(version))
    await client.send_all(IDENTIFY)
    assert (await client.receive_some()).startswith(b'{"op":1,')
    (peer,) = house.dispatcher.registry
    assert peer.certificate_names == ()


async def test_no_client_certificate_where_it_is_required(
    house: TlsHouse, files: Files, version: ssl.TLSVersion, logs: list[Any]
) -> None:
    house.entrance.context = files.context("required")
    said = await refused(house, client_context(version))
    assert "alert" in said.lower(), "told, and not cut off"
    assert logs[0]["reason"] == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    assert house.dispatcher.counters.tls_failures == 1


@pytest.mark.parametrize("asked", ["required", "optional"])
@pytest.mark.parametrize("what", ["of another authority", "expired", "not valid yet"])
async def test_a_client_certificate_that_is_no_good(
    house: TlsHouse,
    files: Files,
    version: ssl.TLSVersion,
    asked: str,
    what: str,
    logs: list[Any],
) -> None:
    """Also where none is needed: whoever shows one means it."""
    house.entrance.context = files.context(asked)
    now = datetime.now(UTC)
    issued = {
        "of another authority": lambda: trustme.CA().issue_cert("billing.test"),
        "expired": lambda: authority().issue_cert(
            "billing.test",
            not_before=now - timedelta(days=2),
            not_after=now - timedelta(days=1),
        ),
        "not valid yet": lambda: authority().issue_cert(
            "billing.test",
            not_before=now + timedelta(days=1),
            not_after=now + timedelta(days=2),
        ),
    }[what]()
    said = await refused(house, with_certificate(issued, version))
    assert "alert" in said.lower()
    reason = logs[0]["reason"]
    expected = {
        "of another authority": "unable to get local issuer certificate",
        "expired": "certificate has expired",
        "not valid yet": "certificate is not yet valid",
    }[what]
    assert expected in reason


async def test_another_context_for_those_who_come(
    house: TlsHouse, files: Files, version: ssl.TLSVersion
) -> None:
    """Those who are there keep theirs."""
    before = await house.knock_with(client_context(version))
    await before.send_all(IDENTIFY)
    await before.receive_some()
    serial = _serial(before)
    files.write(authority().issue_cert("broker.test"))
    house.entrance.context = files.context()
    after = await house.knock_with(client_context(version))
    assert _serial(after) != serial
    await before.send_all(b'{"op":3}')
    assert await before.receive_some() == b'{"op":4}\n'


def _serial(client: trio.SSLStream[trio.SocketStream]) -> str:
    certificate: dict[str, Any] = client.getpeercert()
    found: str = certificate["serialNumber"]
    return found
