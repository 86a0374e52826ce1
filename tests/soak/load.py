"""What goes on in a soak: services that work, and all kinds of clients that come and go."""

from __future__ import annotations

import random
import socket
import ssl
import struct
from collections import Counter
from contextlib import suppress
from typing import Any, Final

import trio

from services.sdk import Expired, Mesh, MeshError, Service, connect
from tests.fuzz.targets import TARGETS, Target, make_input
from tests.integration.crowd import frame
from tests.integration.mesh import masked_frame
from tests.soak.subject import TOKEN, Subject

__all__ = ["Load"]

# What the garbage is made of, and whether a handshake comes before it.
_GARBAGE: Final = (("json-stream", False), ("handshake-server", False), ("websocket-server", True))

_REQUEST: Final = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

# More than the sockets between have room for, in events of this size.
_LARGE: Final = 200_000
_EVENTS_TO_DROWN: Final = 40


def _service() -> Service:
    service = Service("work")

    async def echo(data: Any) -> Any:
        return data

    async def hold(_data: Any) -> None:
        await trio.sleep_forever()

    service.on("ECHO")(echo)
    service.on("HOLD")(hold)
    return service


class Load:
    """Everything that goes on at a time.

    Attributes:
        done: how often what was done.
    """

    def __init__(self, subject: Subject) -> None:
        self.done: Counter[str] = Counter()
        self._subject = subject
        self._dice = random.Random(7)
        self._over = False

    async def run(self, seconds: float) -> None:
        """Let everything go on for a while; return when all have left."""
        self._over = False
        async with trio.open_nursery() as workers:
            for url in self._subject.urls():
                await workers.start(self._work, url)
            async with trio.open_nursery() as clients:
                for url in self._subject.urls():
                    clients.start_soon(self._again, self._come_and_go, url)
                    clients.start_soon(self._again, self._reset, url)
                clients.start_soon(self._again, self._garbage)
                clients.start_soon(self._again, self._silence)
                clients.start_soon(self._again, self._drown)
                await trio.sleep(seconds)
                self._over = True
            workers.cancel_scope.cancel()

    async def _again(self, story: Any, *arguments: object) -> None:
        while not self._over:
            await story(*arguments)
            self.done[story.__name__.strip("_")] += 1

    def _connect(self, url: str, group: str) -> Mesh:
        tls = self._subject.tls_of(url)
        return connect(
            url, group=group, token=TOKEN, reconnect=None, tls=tls, on_error=self._unheard
        )

    def _unheard(self, _error: object) -> None:
        """An event found nobody: the one that drowned has been cut."""
        self.done["unheard"] += 1

    async def _work(self, url: str, *, task_status: trio.TaskStatus[None]) -> None:
        tls = self._subject.tls_of(url)
        async with _service().serve(url, token=TOKEN, reconnect=None, tls=tls):
            task_status.started()
            await trio.sleep_forever()

    async def _come_and_go(self, url: str) -> None:
        """A client as it should be: requests, gathers, broadcasts, the registry, goodbye."""
        async with self._connect(url, "web") as mesh:
            for number in range(20):
                assert await mesh.request("ECHO", number, group="work") == number
            async with mesh.gather("ECHO", "all", group="work") as replies:
                assert [reply.data async for reply in replies] == ["all"] * 4
            async with mesh.watch() as watch:
                await watch.__anext__()
            for _ in range(5):
                await mesh.emit("NEWS", "x" * 1000)
            await mesh.emit("NEWS", "y" * 20_000, group="web")
            # Whoever of the two is the first to see that the time is over.
            with suppress(Expired), trio.move_on_after(0.01):
                await mesh.request("HOLD", None, group="work")
            await mesh.services()
        self.done["requests"] += 21

    async def _reset(self, url: str) -> None:
        """A client that breaks, with requests in its hands and half a frame on its way."""
        raw = await self._dial(secure=url.startswith(("tls:", "wss:")))
        sock = raw.transport_stream.socket if isinstance(raw, trio.SSLStream) else raw.socket
        try:
            await raw.send_all(frame(op=1, data={"token": TOKEN, "group": "broken"}))
            await raw.receive_some()
            asked = {"event": "HOLD", "timeout": 60_000}
            one = {"target": "GROUP", "identifier": "work", "pick": "ONE"}
            for number in range(self._dice.randrange(10)):
                await raw.send_all(frame(op=0, id=str(number), intent=one, **asked))
            everyone = {"target": "GROUP", "identifier": "work"}
            await raw.send_all(frame(op=0, id="all", intent=everyone, **asked))
            await raw.send_all(frame(op=0, event="NEWS", intent={"target": "GLOBAL"})[:-10])
            if self._dice.random() < 0.7:
                linger = struct.pack("ii", 1, 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        finally:
            await trio.aclose_forcefully(raw)

    async def _garbage(self) -> None:
        """A client that sends what the fuzzers make up, before IDENTIFY and behind it."""
        name, websocket = self._dice.choice(_GARBAGE)
        target: Target = TARGETS[name]
        raw = await self._dial(secure=self._dice.random() < 0.5)
        with suppress(trio.BrokenResourceError, ssl.SSLError):
            said = frame(op=1, data={"token": TOKEN, "group": "garbage"})
            if websocket:
                await raw.send_all(_REQUEST)
                said = masked_frame(said)
            if self._dice.random() < 0.7:
                await raw.send_all(said)
            for _ in range(3):
                await raw.send_all(make_input(target, self._dice))
            with trio.move_on_after(0.05):
                while await raw.receive_some():
                    pass
        await trio.aclose_forcefully(raw)

    async def _silence(self) -> None:
        """Clients that stop half way: at TCP, in the handshake of TLS, in that of WebSocket."""
        streams = [
            await trio.open_tcp_stream("127.0.0.1", port)
            for port in (self._subject.plain, self._subject.secure)
        ]
        await streams[0].send_all(_REQUEST[: self._dice.randrange(len(_REQUEST))])
        await streams[1].send_all(b"\x16\x03\x01\x02\x00"[: self._dice.randrange(1, 6)])
        with trio.move_on_after(self._dice.choice([0.01, 0.3, 1.5])):
            # At last the broker ends it.
            for stream in streams:
                with suppress(trio.BrokenResourceError):
                    while await stream.receive_some():
                        pass
        for stream in streams:
            await trio.aclose_forcefully(stream)

    async def _drown(self) -> None:
        """A client that reads nothing of what is sent to it, until it is cut."""
        raw = await self._dial(secure=self._dice.random() < 0.5)
        try:
            await raw.send_all(frame(op=1, data={"token": TOKEN, "group": "drowning"}))
            await raw.receive_some()
            url = self._dice.choice(self._subject.urls())
            with suppress(MeshError), trio.move_on_after(5):
                async with self._connect(url, "web") as mesh:
                    for _ in range(_EVENTS_TO_DROWN):
                        await mesh.emit("NEWS", "z" * _LARGE, group="drowning")
                    # Back-pressure holds this one up until the other one is cut.
                    await mesh.whoami()
        finally:
            await trio.aclose_forcefully(raw)

    async def _dial(self, *, secure: bool) -> Any:
        port = self._subject.secure if secure else self._subject.plain
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        if not secure:
            return stream
        context = ssl.create_default_context(cafile=str(self._subject.tls.ca))
        encrypted = trio.SSLStream(stream, context, server_hostname="127.0.0.1")
        await encrypted.do_handshake()
        return encrypted
