"""Sockets that the service manager has opened before the broker was started: `LISTEN_FDS`.

systemd listens in the broker's place, starts it, and hands it the sockets from file number 3 on.
While the broker is restarted the sockets stay open, and whoever connects meanwhile waits.

A socket goes to the listener of the settings that has the same address. So an address says the same
with systemd and without, TLS is a matter of the settings as ever, and nothing is listened on that
was not looked at by whoever checks the settings.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping, Sequence
from typing import Final

import attrs
import trio

from broker.core.settings import ListenerSettings
from broker.protocol.errors import SwitchboardError

__all__ = ["ActivationError", "InheritedSockets", "take_inherited_sockets"]

_FIRST: Final = 3
_VARIABLES: Final = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")

# More than anybody has, and few enough to look at each.
_MOST: Final = 1024

_ANYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound


class ActivationError(SwitchboardError):
    """What the service manager has handed over can't be used. The message says what to do."""


@attrs.define(eq=False)
class _Inherited:
    """One socket.

    Attributes:
        name: what the unit calls it, for people.
        where: a Unix socket's path, or host and port.
        both: one for IPv6 that takes IPv4 as well.
    """

    sock: socket.socket
    name: str
    where: str | tuple[str, int]
    both: bool = False

    def __str__(self) -> str:
        if isinstance(self.where, str):
            return f"unix://{self.where}"
        host, port = self.where
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def listens_on(self, host: str, port: int) -> bool:
        """Whether it is the socket for an address; one for all of IPv6 and IPv4 is for either."""
        if self.both and host in _ANYWHERE:
            host = "::"
        return self.where == (host, port)


class InheritedSockets:
    """The sockets that were handed over and have not found their listener yet.

    Args:
        sockets: all of them.
    """

    def __init__(self, sockets: Sequence[_Inherited] = ()) -> None:
        self._left = list(sockets)

    async def take(self, settings: ListenerSettings) -> list[socket.socket]:
        """Return the sockets that were handed over for a listener; it is up to the caller now.

        Raises:
            OSError: the host's name can't be looked up.
        """
        if not self._left:
            return []
        found = [one for one in self._left if one.where == settings.unix_path]
        if settings.tcp_address is not None:
            host, port = settings.tcp_address
            known = await trio.socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            places = {(str(address[0]), port) for *_, address in known}
            found = [one for one in self._left if any(one.listens_on(*each) for each in places)]
        self._left = [one for one in self._left if one not in found]
        return [one.sock for one in found]

    def check_empty(self) -> None:
        """See that none is left: whoever connects to it would wait for ever.

        Raises:
            ActivationError: there is one.
        """
        if self._left:
            named = ", ".join(f"{one} ({one.name})" if one.name else str(one) for one in self._left)
            raise ActivationError(
                f"the service manager listens on {named}, and no listener of the settings has that "
                "address: write the same in the configuration and in the .socket unit"
            )

    def close(self) -> None:
        """Give back what is left."""
        for one in self._left:
            one.sock.close()
        self._left = []


def take_inherited_sockets(environ: MutableMapping[str, str], pid: int) -> InheritedSockets:
    """Take over what the service manager has handed to this process.

    Args:
        environ: the variables are taken out of it, so that no child takes them for its own.
        pid: this process's number.

    Raises:
        ActivationError: it is not what a broker can listen on.
    """
    count, meant_for, names = (environ.pop(name, "") for name in _VARIABLES)
    if not count or meant_for != str(pid):
        # Nobody has handed anything over, or it was for a parent of this process.
        return InheritedSockets()
    if not count.isascii() or not count.isdigit() or int(count) > _MOST:
        raise ActivationError(f"LISTEN_FDS is {count!r}: it has to be the number of sockets")
    numbers = range(_FIRST, _FIRST + int(count))
    labels = names.split(":") if names else []
    labels += [""] * (len(numbers) - len(labels))
    taken: list[_Inherited] = []
    try:
        for number, label in zip(numbers, labels, strict=False):
            # First of all, for whatever becomes of it.
            _keep_from_children(number)
            taken.append(_inherit(number, label))
    except BaseException:
        InheritedSockets(taken).close()
        raise
    return InheritedSockets(taken)


def _keep_from_children(number: int) -> None:
    try:
        os.set_inheritable(number, False)
    except OSError as error:
        raise ActivationError(
            f"file number {number} of LISTEN_FDS is not open: {error.strerror}"
        ) from error


def _inherit(number: int, name: str) -> _Inherited:
    what = f"file number {number} of LISTEN_FDS" + (f" ({name})" if name else "")
    try:
        sock = socket.socket(fileno=number)
    except OSError as error:
        raise ActivationError(f"{what} is no socket: {error.strerror}") from error
    try:
        return _look_at(sock, name, what)
    except BaseException:
        sock.close()
        raise


def _look_at(sock: socket.socket, name: str, what: str) -> _Inherited:
    if sock.type != socket.SOCK_STREAM:
        raise ActivationError(f"{what} is no stream: write ListenStream= in the .socket unit")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ActivationError(f"{what} does not listen: write Accept=no in the .socket unit")
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        path = address if isinstance(address, str) else ""
        if not path.startswith("/"):
            raise ActivationError(f"{what} has no path: write ListenStream=/PATH in the unit")
        return _Inherited(sock, name, path)
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        raise ActivationError(f"{what} is neither TCP nor a Unix socket")
    both = sock.family == socket.AF_INET6 and not sock.getsockopt(
        socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
    )
    return _Inherited(sock, name, (address[0], address[1]), both)
