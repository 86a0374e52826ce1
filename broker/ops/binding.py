"""Where the ops port listens."""

from __future__ import annotations

import socket
from typing import Final

import trio

from broker.core.settings import DEFAULT_OPS_PORT, OpsSettings
from broker.protocol.errors import SwitchboardError

__all__ = ["DEFAULT_ADDRESS", "OpsPortError", "open_port"]

DEFAULT_ADDRESS: Final = f"127.0.0.1:{DEFAULT_OPS_PORT}"

_BACKLOG: Final = 128


class OpsPortError(SwitchboardError):
    """The ops port's address can't be listened on.

    Attributes:
        address: as it stands in the settings.
        cause: the system's error.
    """

    def __init__(self, address: str, cause: OSError) -> None:
        super().__init__(f"can't listen on {address}, the ops port: {cause.strerror or cause}")
        self.address = address
        self.cause = cause


async def open_port(settings: OpsSettings, *, by_default: bool) -> list[socket.socket]:
    """Bind the ops port.

    Args:
        settings: where.
        by_default: whether there is one on `DEFAULT_ADDRESS` where the settings have no address.

    Returns:
        The sockets; none where there is to be no ops port.

    Raises:
        OpsPortError: the address can't be listened on.
    """
    address = settings.address
    if address is None:
        address = DEFAULT_ADDRESS if by_default else ""
    where = OpsSettings(address).host_and_port
    if where is None:
        return []
    host, port = where
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
    except OSError as error:
        raise OpsPortError(address, error) from error
    return [socket.socket(fileno=listener.socket.detach()) for listener in listeners]
