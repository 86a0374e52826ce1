"""The scorecard, item 11: a service that is dead is out of the registry within twice the ping.

Dead is not always the same: its packets go nowhere, its process stands still while the system goes
on to acknowledge what arrives, or something in front of it answers WebSocket pings in its stead.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.core.authentication import hash_token
from broker.core.settings import ListenerSettings, Settings, TimingSettings, TokenSettings
from broker.protocol.errors import Reason
from broker.server import Server
from tests.integration.mesh import TOKEN, Broker

PING = 0.5
# Deadlines are kept to within a hundredth of a second; a machine that does other things has it
# later that they have passed.
PLAY = 1.0
PATIENCE = 30
GRANULE = 0.02

# A service without any of our code: it answers every PING, as long as it is alive and reachable.
SERVICE = """
import socket, sys
service = socket.create_connection((sys.argv[1], int(sys.argv[2])))
service.sendall(b'{"op":1,"data":{"token":"%s","group":"far"}}' % sys.argv[3].encode())
for line in service.makefile("rb"):
    if line == b'{"op":3}\\n':
        service.sendall(b'{"op":4}')
"""

_numbers = itertools.count(os.getpid() * 16)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)


@attrs.frozen
class Network:
    """A network namespace, and the cable to it.

    Attributes:
        name: of the namespace.
        near: the address of this end.
        far: the address of the other end.
        link: this end of the cable.
        peer: the other end.
    """

    name: str
    near: str
    far: str
    link: str
    peer: str

    def drop_everything(self) -> None:
        """Have each end send to a station that does not exist: every packet is lost in silence."""
        nobody = "02:00:00:00:00:99"
        inside = ("ip", "netns", "exec", self.name)
        for where, to, link in (((), self.far, self.link), (inside, self.near, self.peer)):
            run(
                *where,
                "ip",
                "neigh",
                "replace",
                to,
                "lladdr",
                nobody,
                "dev",
                link,
                "nud",
                "permanent",
            )


@contextmanager
def network() -> Iterator[Network]:
    """Lay a cable to a new namespace.

    Raises:
        OSError, subprocess.CalledProcessError: that takes an administrator.
    """
    number = next(_numbers) % 16_384
    subnet = f"10.{200 + number // 4096}.{number // 16 % 256}.{number % 16 * 16}"
    base = subnet.rpartition(".")
    near, far = (f"{base[0]}.{int(base[2]) + host}" for host in (1, 2))
    made = Network(f"sb{number}", near, far, f"sba{number}", f"sbb{number}")
    inside = ("ip", "netns", "exec", made.name)
    with ExitStack() as stack:
        run("ip", "netns", "add", made.name)
        # The cable goes with it, as soon as no socket is left in it.
        stack.callback(run, "ip", "netns", "delete", made.name)
        run("ip", "link", "add", made.link, "type", "veth", "peer", "name", made.peer)
        stack.callback(run, "ip", "link", "delete", made.link)
        run("ip", "link", "set", made.peer, "netns", made.name)
        run("ip", "address", "add", f"{near}/28", "dev", made.link)
        run("ip", "link", "set", made.link, "up")
        run(*inside, "ip", "address", "add", f"{far}/28", "dev", made.peer)
        run(*inside, "ip", "link", "set", made.peer, "up")
        yield made


@contextmanager
def service(server: Server, host: str, *within: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service as a process of its own."""
    port = server.addresses[0].rpartition(":")[2]
    command = [*within, sys.executable, "-c", SERVICE, host, port, TOKEN]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@attrs.define
class Watch:
    """What becomes of the only service of a broker."""

    server: Server

    async def joins(self) -> None:
        await self._until(lambda: len(self.server.dispatcher.registry) == 1)

    async def lives(self) -> None:
        """Wait until it has answered some PINGs."""
        (peer,) = self.server.dispatcher.registry
        await self._until(lambda: peer.messages_in >= 4)
        assert len(self.server.dispatcher.registry) == 1

    async def is_found_dead(self) -> float:
        """Return how long it took, in seconds."""
        start = trio.current_time()
        await self._until(lambda: not len(self.server.dispatcher.registry))
        assert self.server.dispatcher.counters.closed == {Reason.PING_TIMEOUT: 1}
        return trio.current_time() - start

    async def _until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE):
            # Other tasks run meanwhile, and processes: not in a loop without any pause.
            while not condition():  # noqa: ASYNC110
                await trio.sleep(0.01)


@pytest.fixture
async def start() -> Callable[[str], Server]:
    """Returns what makes a broker that listens on a host."""
    return lambda host: Server(
        Settings(
            listeners=(ListenerSettings(f"tcp://{host}:0"),),
            tokens=(TokenSettings(hash_token(TOKEN)),),
            timing=TimingSettings(ping_ms=round(PING * 1000)),
        )
    )


async def test_a_service_whose_packets_go_nowhere(
    nursery: trio.Nursery, start: Callable[[str], Server], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody tells the broker: no end, no reset, no word from any router."""
    with ExitStack() as stack:
        try:
            cable = stack.enter_context(network())
        except (OSError, subprocess.CalledProcessError) as error:
            # Without an administrator's rights, the next best: to stand still, in the middle of it.
            with capsys.disabled():
                print(f"no network namespace can be made here ({error}); the process is stopped")
            server = start("127.0.0.1")
            await nursery.start(server.run)
            process = stack.enter_context(service(server, "127.0.0.1"))
            cut: Callable[[], None] = lambda: process.send_signal(signal.SIGSTOP)  # noqa: E731
        else:
            server = start(cable.near)
            await nursery.start(server.run)
            within = ("ip", "netns", "exec", cable.name)
            stack.enter_context(service(server, cable.near, *within))
            cut = cable.drop_everything
        watch = Watch(server)
        await watch.joins()
        await watch.lives()
        cut()
        taken = await watch.is_found_dead()
        server.stop()
    print(f"packets dropped: out of the registry after {taken:.2f} s; the ping is {PING} s")
    assert taken < 2 * PING + PLAY


async def test_a_service_that_stands_still(
    nursery: trio.Nursery, start: Callable[[str], Server]
) -> None:
    """Its system goes on to take what is sent, and says so."""
    server = start("127.0.0.1")
    await nursery.start(server.run)
    watch = Watch(server)
    with service(server, "127.0.0.1") as process:
        await watch.joins()
        await watch.lives()
        process.send_signal(signal.SIGSTOP)
        taken = await watch.is_found_dead()
    print(f"process stopped: out of the registry after {taken:.2f} s; the ping is {PING} s")
    assert taken < 2 * PING + PLAY
    server.stop()


async def test_a_dead_service_behind_something_that_answers_websocket_pings(
    mock_clock: MockClock, broker: Broker
) -> None:
    """It pings and pongs on its own account, as often as it likes; only frames are life."""
    client = await broker.handmade()
    await client.identify("far")
    peer = broker.peer(client)
    ping = TimingSettings().ping_ms / 1000
    mock_clock.jump(GRANULE)
    for number in range(20):
        assert broker.server.dispatcher.registry.by_id.get(client.id) is peer, number
        await client.send_bytes(b"\x8a\x80\0\0\0\0")
        await client.send_bytes(b"\x89\x82\0\0\0\0%02d" % number)
        while len(client.pongs) <= number:
            data = await client.receive_bytes()
            assert data, number
            client._read(data)
        mock_clock.jump(ping / 10)
    mock_clock.jump(2 * GRANULE)
    await wait_all_tasks_blocked()
    assert broker.server.dispatcher.counters.closed == {Reason.PING_TIMEOUT: 1}

    end = await client.receive_end()

    assert end.reason == Reason.PING_TIMEOUT
    assert len(client.pongs) == 20, "the broker read all of them"
    assert len(broker.server.dispatcher.registry) == 0
