"""Certificates, and a reactor whose connections speak TLS with the `ssl` module's own sockets."""

from __future__ import annotations

import socket
import ssl
from functools import cache
from pathlib import Path

import trustme

from broker.core.peer import Peer
from broker.core.settings import LimitSettings, ListenerSettings, TimingSettings
from broker.protocol.wire import Wire
from broker.transport.connection import Connection
from broker.transport.tls import TlsChannel, TlsConnection, TlsSocket
from broker.transport.tls_context import load_contexts
from tests.transport.rig import FarSocket, Rig

__all__ = ["Files", "TlsClient", "TlsRig", "authority", "client_context", "shake_hands"]


@cache
def authority() -> trustme.CA:
    """Who signs everything."""
    return trustme.CA()


@cache
def client_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """A client that trusts the authority, and speaks one version of TLS alone."""
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = version
    authority().configure_trust(context)
    return context


class Files:
    """PEM files in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.certificate = directory / "certificate.pem"
        self.key = directory / "key.pem"
        self.client_ca = directory / "client_ca.pem"
        self.write(authority().issue_cert("broker.test"))
        authority().cert_pem.write_to_path(self.client_ca)

    def write(self, issued: trustme.LeafCert) -> None:
        """Put another certificate, and its key, in place of the present one."""
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        self.certificate.write_bytes(chain)
        issued.private_key_pem.write_to_path(self.key)
        self.key.chmod(0o600)

    def listener(
        self, client_certificate: str | None = None, address: str = "tls://127.0.0.1:0"
    ) -> ListenerSettings:
        """The settings of a listener; with a client CA if anything is said of certificates."""
        return ListenerSettings(
            address,
            certificate=str(self.certificate),
            key=str(self.key),
            client_ca=None if client_certificate is None else str(self.client_ca),
            client_certificate=client_certificate,
        )

    def context(self, client_certificate: str | None = None) -> ssl.SSLContext:
        """The broker's context."""
        (context,) = load_contexts([self.listener(client_certificate)])
        assert context is not None
        return context


class TlsClient:
    """A non-blocking `ssl.SSLSocket` that raises what a plain socket would."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.tls = sock

    def recv(self, size: int) -> bytes:
        try:
            return self.tls.recv(size)
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        except ssl.SSLZeroReturnError:
            return b""  # Both have said goodbye.

    def recv_strictly(self) -> bytes:
        """Receive; an end without a goodbye of TLS's is an error."""
        self.tls.suppress_ragged_eofs = False  # type: ignore[attr-defined] # typeshed has it not
        return self.tls.recv(4096)

    def sendall(self, data: bytes) -> None:
        while data:
            try:
                data = data[self.tls.send(data) :]
            except ssl.SSLWantWriteError:
                raise BlockingIOError from None
            except ssl.SSLZeroReturnError:
                # Nobody is there any more, and nobody was before: TLS has said so already.
                raise BrokenPipeError from None

    def say_goodbye(self) -> None:
        """Send close_notify, and leave the connection open."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            return

    def shutdown(self, how: int) -> None:
        self.tls.shutdown(how)

    def fileno(self) -> int:
        return self.tls.fileno()

    def close(self) -> None:
        self.tls.close()


def shake_hands(
    near: socket.socket, far: socket.socket, broker: ssl.SSLContext, client: ssl.SSLContext
) -> tuple[TlsChannel, TlsClient]:
    """Do the handshake between both ends of a socket pair, which do not block."""
    channel = TlsChannel(broker)
    end = client.wrap_socket(far, server_hostname="broker.test", do_handshake_on_connect=False)
    channel_done = client_done = False
    while not (channel_done and client_done):
        if not client_done:
            try:
                end.do_handshake()
                client_done = True
            except ssl.SSLWantReadError:
                pass
        if not channel_done:
            channel_done = channel.shake_hands(near.recv(65536))
            near.sendall(channel.take_outgoing())
    return channel, TlsClient(end)


class TlsRig(Rig):
    """A rig whose connections speak TLS.

    Attributes:
        clients: the far ends, in the order in which they were connected.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        timing: TimingSettings | None = None,
        limits: LimitSettings | None = None,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> None:
        super().__init__(timing, limits)
        self._context = context
        self._client_context = client_context(version)
        self.clients: list[TlsClient] = []

    def make_ends(
        self, near: socket.socket, far: socket.socket, wire: Wire, peer: Peer
    ) -> tuple[Connection, FarSocket]:
        channel, client = shake_hands(near, far, self._context, self._client_context)
        self.clients.append(client)
        return TlsConnection(TlsSocket(near, channel), wire, peer), client

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        for client in self.clients:
            client.close()
