"""Accepting at a rate and through shortages, on a mock clock."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator

import attrs
import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.core.settings import LimitSettings
from broker.core.statistics import Counters
from broker.transport.accepting import Acceptor
from broker.transport.admission import Admission

RATE = 100
# What the rate allows at once, after a quiet time.
BURST = RATE // 10 + 1


class Failing(socket.socket):
    """A listening socket that can be told to fail.

    Attributes:
        errors: what the next calls of `accept` raise; an error number each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[int] = []

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, errno.errorcode[number])
        return super().accept()


@attrs.define
class House:
    """An acceptor at work.

    Attributes:
        listening: what it accepts from.
        admitted: the connections that it has taken in.
    """

    listening: Failing
    admission: Admission
    counters: Counters
    admitted: list[trio.SocketStream] = attrs.field(factory=list)
    knocking: list[socket.socket] = attrs.field(factory=list)

    def knock(self, count: int = 1) -> None:
        for _ in range(count):
            sock = socket.create_connection(self.listening.getsockname())
            self.knocking.append(sock)

    async def admit(self, stream: trio.SocketStream) -> None:
        self.admitted.append(stream)


@pytest.fixture
async def house(mock_clock: MockClock) -> AsyncIterator[House]:
    counters = Counters()
    admission = Admission(LimitSettings(accepts_per_second=RATE), counters)
    with Failing() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1000)
        listening.setblocking(False)
        house = House(listening, admission, counters)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Acceptor(admission, counters).serve, listening, house.admit)
            yield house
            nursery.cancel_scope.cancel()
        for sock in house.knocking:
            sock.close()
        for stream in house.admitted:
            await trio.aclose_forcefully(stream)


async def test_a_few_come_in_at_once(house: House) -> None:
    house.knock(BURST)
    await wait_all_tasks_blocked()
    assert len(house.admitted) == BURST
    assert house.counters.accept_pauses == 0


async def test_a_storm_comes_in_at_the_rate(house: House, mock_clock: MockClock) -> None:
    house.knock(3 * RATE)
    await wait_all_tasks_blocked()
    assert len(house.admitted) == BURST
    for count in range(1, 20):
        mock_clock.jump(0.1)
        await wait_all_tasks_blocked()
        assert len(house.admitted) == pytest.approx(BURST + count * RATE / 10, abs=1)
    assert house.counters.accept_pauses


async def test_another_rate_holds_at_once(house: House, mock_clock: MockClock) -> None:
    house.knock(BURST)
    await wait_all_tasks_blocked()
    house.admission.limits = LimitSettings(accepts_per_second=10 * RATE)
    house.knock(5 * RATE)
    mock_clock.jump(0.1)
    await wait_all_tasks_blocked()
    assert len(house.admitted) == pytest.approx(BURST + RATE, abs=BURST)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_a_shortage_is_waited_for(house: House, mock_clock: MockClock, number: int) -> None:
    with structlog.testing.capture_logs() as logs:
        house.listening.errors = [number] * 3
        house.knock()
        await wait_all_tasks_blocked()
        for _ in range(3):
            assert not house.admitted
            mock_clock.jump(0.1)
            await wait_all_tasks_blocked()
        assert len(house.admitted) == 1
        assert house.counters.accept_failures == 3
        assert [entry["log_level"] for entry in logs] == ["warning"], "three times, and told once"
        assert "ulimit -n" in logs[0]["hint"]

        mock_clock.jump(10)
        house.knock()
        await wait_all_tasks_blocked()
        assert [entry["log_level"] for entry in logs] == ["warning", "info"]

        house.listening.errors = [number]
        house.knock()
        await wait_all_tasks_blocked()
        assert len(logs) == 3, "another shortage, another warning"


async def test_a_shortage_costs_silent_connections_their_place(
    house: House, mock_clock: MockClock
) -> None:
    """Whoever can identify himself need not wait until those who do not have had their time."""
    silent = house.admission.enter("192.0.2.1", trio.current_time())
    mock_clock.jump(2)
    house.listening.errors = [errno.EMFILE]
    house.knock()
    await wait_all_tasks_blocked()
    assert len(house.admitted) == 1
    assert silent.evicted


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENETDOWN])
async def test_a_connection_that_is_gone_again_stops_nobody(house: House, number: int) -> None:
    house.listening.errors = [number] * 3
    house.knock()
    await wait_all_tasks_blocked()
    assert len(house.admitted) == 1
    assert house.counters.accept_failures == 0


async def test_a_listener_that_is_broken_is_an_error(house: House) -> None:
    acceptor = Acceptor(house.admission, house.counters)
    with Failing() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        listening.errors = [errno.EINVAL]
        house.knocking.append(socket.create_connection(listening.getsockname()))
        with pytest.RaisesGroup(OSError):
            await acceptor.serve(listening, house.admit)
