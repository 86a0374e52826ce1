"""Bind, and let go."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
from contextlib import suppress
from pathlib import Path

import trio

from broker.core.settings import ListenerSettings
from broker.protocol.errors import SwitchboardError
from broker.transport.activation import InheritedSockets
from broker.transport.tls_context import TlsEntrance

__all__ = ["ListenError", "Listener", "open_listeners"]

# As many as the system allows (it cuts this down to net.core.somaxconn): after a restart of the
# broker every service of the mesh knocks at once.
_BACKLOG = 65535


class ListenError(SwitchboardError):
    """An address cannot be listened on.

    Attributes:
        address: as it stands in the settings.
        cause: the system's error.
    """

    def __init__(self, address: str, cause: OSError) -> None:
        super().__init__(f"can't listen on {address}: {cause.strerror or cause}")
        self.address = address
        self.cause = cause


class Listener:
    """A bound socket.

    Attributes:
        address: where it really listens: the port is the one that the system chose.
        sock: what is accepted from; it does not block.
        tls: what new connections are greeted with; None where they are not.
        inherited: somebody else listens on it too, and goes on when this broker has stopped.
    """

    def __init__(
        self,
        address: str,
        sock: socket.socket,
        path: Path | None,
        tls: TlsEntrance | None = None,
    ) -> None:
        self.address = address
        self.sock = sock
        self.tls = tls
        self.inherited = False
        self._path = path
        sock.setblocking(False)

    def close(self) -> None:
        """Stop listening. A Unix socket's path goes away with it. Can be called more than once."""
        if self._path is not None:
            with suppress(FileNotFoundError):
                self._path.unlink()
            # From now on the path may be that of a successor.
            self._path = None
        self.sock.close()


async def open_listeners(
    settings: ListenerSettings,
    context: ssl.SSLContext | None = None,
    inherited: InheritedSockets | None = None,
) -> list[Listener]:
    """Bind one address of the settings; a host name may stand for several.

    Args:
        settings: which.
        context: for TLS, with the certificate; see `broker.transport.tls_context`.
        inherited: sockets that listen already. Where there are any for the address, they are
            taken, and nothing is bound.

    Raises:
        ListenError: it is in use, not ours, or not allowed.
    """
    try:
        socks = [] if inherited is None else await inherited.take(settings)
        handed_over = bool(socks)
        if settings.unix_path is not None:
            # The path of one that was inherited belongs to whoever made it.
            listeners = [Listener(settings.address, sock, None) for sock in socks]
            for listener in listeners:
                listener.inherited = True
            return listeners or [_open_unix(Path(settings.unix_path))]
        if not socks:
            socks = await _open_tcp(*(settings.tcp_address or ("", 0)))
        tls = None if context is None else TlsEntrance(context)
        scheme = "tcp" if tls is None else "tls"
        listeners = [Listener(_address(scheme, sock), sock, None, tls) for sock in socks]
    except OSError as error:
        raise ListenError(settings.address, error) from error
    for listener in listeners:
        listener.inherited = handed_over
    return listeners


async def _open_tcp(host: str, port: int) -> list[socket.socket]:
    bound = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
    return [socket.socket(fileno=listener.socket.detach()) for listener in bound]


def _address(scheme: str, sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _open_unix(path: Path) -> Listener:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Whoever can connect can try tokens; the owner decides who else may.
    umask = os.umask(0o177)
    try:
        sock.bind(str(path))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(umask)
    return Listener(f"unix://{path}", sock, path)


def _remove_stale(path: Path) -> None:
    """Remove a socket that a killed broker left behind; never one that is in use, or a file."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return  # Binding to it will say that the address is in use.
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A listener with a full backlog would make a blocking connect wait.
        probe.setblocking(False)
        with suppress(ConnectionRefusedError):
            with suppress(BlockingIOError):
                probe.connect(str(path))
            raise OSError(errno.EADDRINUSE, "another process listens there")
    path.unlink(missing_ok=True)
