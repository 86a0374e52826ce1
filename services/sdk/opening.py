"""From a URL to an identified connection."""

from __future__ import annotations

import ssl

import anyio
import msgspec
from anyio.abc import ByteStream
from msgspec import Raw

from broker.protocol.codec import Envelope, Message, encode
from broker.protocol.frames import OpCode
from broker.protocol.identify import Identification, Welcome
from broker.protocol.wire import Wire
from services.sdk.connection import NETWORK_ERRORS, RECEIVE_BYTES, Connection
from services.sdk.dialing import Dial, check_plain, doubt, open_wire
from services.sdk.errors import CannotConnect
from services.sdk.parting import error_from_disconnect
from services.sdk.receiver import Receiver
from services.sdk.tls import explain
from services.sdk.urls import Address

__all__ = ["open_connection"]


async def open_connection(
    address: Address,
    identification: Identification,
    receiver: Receiver,
    *,
    dial: Dial,
    timeout: float,
) -> Connection:
    """Connect and identify.

    Args:
        address: where the broker is.
        identification: who this client is.
        receiver: whom the connection will tell what comes in.
        dial: opens the bytes.
        timeout: seconds for all of it.

    Raises:
        CannotConnect: there is no broker, or it did not answer in time.
        TlsFailed: there is, but TLS does not come about.
        IdentifyFailed: the broker did not accept the identification.
        Disconnected: the broker takes no one at present.
    """
    try:
        with anyio.fail_after(timeout):
            stream = await dial(address)
            try:
                wire, first = await open_wire(stream, address)
                await stream.send(_introduction(wire, identification))
                welcome, early = await _await_welcome(stream, wire, first, address)
                return Connection(
                    stream, wire, receiver, url=address.url, welcome=welcome, early=early
                )
            except BaseException:
                await anyio.aclose_forcefully(stream)
                raise
    except TimeoutError:
        text = f"{address.url} did not answer within {timeout:g} s"
        raise CannotConnect(f"{text}; a broker that is only slow needs a longer timeout=") from None
    except ssl.SSLError as error:
        raise explain(error, address) from error
    except NETWORK_ERRORS as error:
        text = f"{address.url}: the connection broke: {error}{doubt(address)}"
        raise CannotConnect(text) from error
    except anyio.EndOfStream:
        raise CannotConnect(f"{address.url} hung up without a word{doubt(address)}") from None


def _introduction(wire: Wire, identification: Identification) -> bytes:
    return wire.frame(encode(Envelope(op=OpCode.IDENTIFY, data=Raw(encode(identification)))))


async def _await_welcome(
    stream: ByteStream, wire: Wire, data: bytes, address: Address
) -> tuple[Welcome, list[Message]]:
    """Return the broker's answer, and what came close behind it."""
    while True:
        messages = wire.receive(data)
        if replies := wire.take_replies():
            await stream.send(replies)
        for number, message in enumerate(messages, start=1):
            if isinstance(message, Envelope) and message.op == OpCode.IDENTIFY:
                return _read_welcome(message, address), messages[number:]
            if isinstance(message, Envelope) and message.op == OpCode.DISCONNECT:
                raise error_from_disconnect(message, identified=False)
        if wire.failure is not None:
            check_plain(data, address)
            raise CannotConnect(f"{address.url} does not speak the protocol: {wire.failure}")
        if wire.finished:
            raise CannotConnect(f"{address.url} closed the WebSocket without a word")
        data = await stream.receive(RECEIVE_BYTES)


def _read_welcome(message: Envelope, address: Address) -> Welcome:
    try:
        return msgspec.json.decode(
            message.data if isinstance(message.data, Raw) else b"null", type=Welcome
        )
    except msgspec.ValidationError as error:
        raise CannotConnect(f"{address.url} does not speak the protocol: {error}") from error
