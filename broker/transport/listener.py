"""Bind and accept."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

import trio

from broker.core.settings import ListenerSettings
from broker.protocol.errors import SwitchboardError

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
        accepting: what trio accepts from.
    """

    def __init__(self, address: str, accepting: trio.SocketListener, path: Path | None) -> None:
        self.address = address
        self.accepting = accepting
        self._path = path

    async def aclose(self) -> None:
        """Stop listening. A Unix socket's path goes away with it. Can be called more than once."""
        if self._path is not None:
            with suppress(FileNotFoundError):
                self._path.unlink()
            # From now on the path may be that of a successor.
            self._path = None
        await self.accepting.aclose()


async def open_listeners(settings: ListenerSettings) -> list[Listener]:
    """Bind one address of the settings; a host name may stand for several.

    Raises:
        ListenError: it is in use, not ours, or not allowed.
    """
    try:
        if settings.unix_path is not None:
            return [_open_unix(Path(settings.unix_path))]
        host, port = settings.tcp_address or ("", 0)
        return [
            Listener(_tcp_address(accepting), accepting, None)
            for accepting in await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
        ]
    except OSError as error:
        raise ListenError(settings.address, error) from error


def _tcp_address(accepting: trio.SocketListener) -> str:
    host, port = accepting.socket.getsockname()[:2]
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


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
    accepting = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    return Listener(f"unix://{path}", accepting, path)


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
