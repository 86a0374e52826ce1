"""A server that sends every WebSocket message back: for test suites of the WebSocket protocol.

It is the broker's own door, reactor, connection and framing; only what happens to a message is
another thing. `python -m tests.echo_server --port 9001` runs it, for Autobahn's suite for example:
docs/reliability.md says how. No broker has this mode; whoever can connect can have any amount of
memory filled with echoes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import attrs
import trio
from msgspec import Raw

from broker.core.dispatcher import Dispatcher
from broker.core.peer import Peer
from broker.core.settings import LimitSettings, ListenerSettings, Settings, TimingSettings
from broker.protocol.codec import Envelope, Message
from broker.protocol.errors import Reason, RemoteProtocolError
from broker.protocol.frames import OpCode
from broker.protocol.websocket import Role, WebSocketWire
from broker.protocol.wire import Wire
from broker.transport.accepting import Acceptor
from broker.transport.admission import Admission
from broker.transport.door import Door, Guest
from broker.transport.listener import open_listeners
from broker.transport.reactor import Reactor

__all__ = ["serve"]

# Autobahn's largest message has 16 MiB.
_LARGEST = 16 * 1024 * 1024
_HOUR = 3_600_000


class EchoWire(WebSocketWire):
    """The broker's framing; a message need not be a frame of the broker's."""

    def __init__(self) -> None:
        super().__init__(Role.SERVER, _LARGEST)
        self._decode = self._decode_small = _keep


def _keep(payload: bytes) -> Message:
    """Check only what RFC 6455 wants of a text: section 8.1."""
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(
            Reason.INVALID_PAYLOAD, f"not valid UTF-8: {error}", close_code=1007
        ) from None
    return Envelope(op=OpCode.EVENT, data=Raw(payload))


class EchoDispatcher(Dispatcher):
    """Sends back what comes, in place of looking for a receiver."""

    def receive(self, peer: Peer, messages: Sequence[Message], now: float) -> None:
        for message in messages:
            assert isinstance(message, Envelope)
            assert isinstance(message.data, Raw)
            self.effects.send(peer, peer.frame(bytes(message.data)))
        if peer.outbox_bytes > self.flow.high:
            self.flow.congest(peer, peer, now)

    def close(
        self,
        peer: Peer,
        reason: Reason,
        message: str = "",
        *,
        close_code: int | None = None,
        discard: bool = False,
    ) -> None:
        """As the broker does it, but for the DISCONNECT, which is a message of the broker's own."""
        super().close(peer, reason, message, close_code=close_code, discard=discard)
        if peer.farewell is not None:
            peer.farewell = attrs.evolve(peer.farewell, disconnect=None)


class EchoDoor(Door):
    """The broker's door, for WebSockets."""

    def _hand_over(self, guest: Guest, wire: Wire, received: bytes) -> None:
        super()._hand_over(guest, EchoWire(), received)


async def serve(port: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until cancelled.

    Args:
        port: on 127.0.0.1; 0 lets the system choose one.
        task_status: is told the port.
    """
    settings = Settings(
        listeners=(ListenerSettings(f"tcp://127.0.0.1:{port}"),),
        # Nobody identifies himself here.
        timing=TimingSettings(identify_ms=_HOUR),
        limits=LimitSettings(
            message_bytes=_LARGEST, outbox_high_bytes=2 * _LARGEST, outbox_bytes=8 * _LARGEST
        ),
    )
    dispatcher = EchoDispatcher(settings)
    reactor = Reactor(dispatcher, settings)
    admission = Admission(settings.limits, dispatcher.counters)
    door = EchoDoor(dispatcher, reactor, settings, admission)
    (listener,) = await open_listeners(settings.listeners[0])
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reactor.run)
            acceptor = Acceptor(admission, dispatcher.counters)
            nursery.start_soon(acceptor.serve, listener.sock, door.admit)
            task_status.started(listener.sock.getsockname()[1])
    finally:
        listener.close()


async def _main(port: int) -> None:
    async with trio.open_nursery() as nursery:
        print(f"echoing on ws://127.0.0.1:{await nursery.start(serve, port)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Send every WebSocket message back.")
    parser.add_argument("--port", type=int, default=9001, help="on 127.0.0.1 (default: 9001)")
    trio.run(_main, parser.parse_args().port)
