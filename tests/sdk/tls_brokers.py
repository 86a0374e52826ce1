"""Brokers behind TLS, in memory; and certificates for them."""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import anyio
import attrs
import trustme
from anyio.abc import ByteStream

from broker.protocol.errors import SwitchboardError
from services.sdk import Mesh, connect
from services.sdk.urls import Address
from tests.sdk.scripted import MemoryStream, welcome

T = TypeVar("T")

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LATER = datetime(2021, 1, 1, tzinfo=UTC)


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def other_authority() -> trustme.CA:
    return trustme.CA()


@attrs.frozen
class Files:
    """What a client finds on its disk.

    Attributes:
        ca: the authority that the broker's certificates come from.
        other_ca: another one.
        certificate: the client's, from `ca`; its key stands in `key`.
        stranger: a certificate and its key in one file, from `other_ca`.
    """

    ca: Path
    other_ca: Path
    certificate: Path
    key: Path
    stranger: Path

    @classmethod
    def write(cls, directory: Path) -> Files:
        files = cls(*(directory / f"{field.name}.pem" for field in attrs.fields(cls)))
        client = authority().issue_cert("client.example")
        authority().cert_pem.write_to_path(files.ca)
        other_authority().cert_pem.write_to_path(files.other_ca)
        client.cert_chain_pems[0].write_to_path(files.certificate)
        client.private_key_pem.write_to_path(files.key)
        stranger = other_authority().issue_cert("stranger.example")
        stranger.private_key_and_cert_chain_pem.write_to_path(files.stranger)
        return files


def broker_context(
    *names: str, expired: bool = False, asks: bool = False, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """What a broker has whose certificate is made out to these names.

    Args:
        expired: its time is over.
        asks: clients have to show a certificate.
        version: the only version of TLS that it speaks.
    """
    since, until = (LONG_AGO, LATER) if expired else (None, None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = authority().issue_cert(*names, not_before=since, not_after=until)
    certificate.configure_cert(context)
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        authority().configure_trust(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class TlsEnd:
    """The broker's end of a connection, over Python's own `ssl`, alerts and all."""

    def __init__(self, stream: ByteStream, context: ssl.SSLContext) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def shake_hands(self) -> None:
        await self._do(self._tls.do_handshake)

    async def send(self, data: bytes) -> None:
        await self._do(self._tls.write, data)

    async def receive(self) -> bytes:
        return await self._do(self._tls.read, 65536)

    async def _do(self, step: Callable[..., T], *arguments: Any) -> T:
        while True:
            try:
                return step(*arguments)
            except ssl.SSLWantReadError:
                await self._flush()
                self._incoming.write(await self._stream.receive())
            finally:
                await self._flush()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._stream.send(self._outgoing.read())


class TlsBroker:
    """Lets everyone in who gets through the handshake.

    Attributes:
        names: whom the clients have asked for (SNI).
        heard: what they have said.
        dials: how many times somebody has tried.
    """

    def __init__(self, context: ssl.SSLContext, tasks: anyio.abc.TaskGroup) -> None:
        self.names: list[str | None] = []
        self.heard = b""
        self.dials = 0
        self.ended = anyio.Event()
        self._context = context
        self._tasks = tasks
        context.sni_callback = self._note_name

    def _note_name(self, _tls: object, name: str | None, _context: object) -> None:
        self.names.append(name)

    async def dial(self, address: Address) -> ByteStream:
        self.dials += 1
        here, there = _pipe()
        self._tasks.start_soon(self._serve, there)
        return here

    async def _serve(self, stream: MemoryStream) -> None:
        end = TlsEnd(stream, self._context)
        try:
            await end.shake_hands()
            await end.send(welcome())
            while True:
                self.heard += await end.receive()
        except (ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError):
            pass
        finally:
            await anyio.aclose_forcefully(stream)
            self.ended.set()

    def connect(self, url: str = "tls://broker.example", **options: Any) -> Mesh:
        options.setdefault("reconnect", None)
        return connect(url, group="web", token="t", dial=self.dial, **options)

    async def refuses(self, url: str = "tls://broker.example", **options: Any) -> SwitchboardError:
        """Connect in vain, and say why."""
        try:
            async with self.connect(url, **options):
                raise AssertionError("entered")
        except SwitchboardError as error:
            return error


@asynccontextmanager
async def tls_broker(context: ssl.SSLContext) -> AsyncIterator[TlsBroker]:
    async with anyio.create_task_group() as tasks:
        yield TlsBroker(context, tasks)
        tasks.cancel_scope.cancel()


def _pipe() -> tuple[MemoryStream, MemoryStream]:
    to_there, from_here = anyio.create_memory_object_stream[bytes](math.inf)
    to_here, from_there = anyio.create_memory_object_stream[bytes](math.inf)
    return (
        MemoryStream(from_there, to_there, hang_up=None),
        MemoryStream(from_here, to_here, hang_up=None),
    )
