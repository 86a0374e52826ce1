"""What the gateways have in common as programs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import click

from services.chat.messages import GATEWAYS_GROUP
from services.programs import announce, mesh_options
from services.sdk import Backoff, Mesh, MeshError, NoRoute, connect

__all__ = ["announce_address", "gateway_mesh", "gateway_options", "port_option"]

_LOG: Final = logging.getLogger(__name__)

# While the broker is away, clients are to get their protocol's error at once. What is left bridges
# the moment of a change of connection.
_PATIENCE_SECONDS: Final = 0.25

# Clients wait for the mesh, and there are four gateways, not thousands: so it is looked for often.
_BACKOFF: Final = Backoff(first=0.2, longest=1.0)

_HIGHEST_PORT: Final = 65_535


def port_option(name: str, default: int, envvar: str, text: str) -> Callable[..., Any]:
    """Make a click option for a port, with this text as its help; 0 lets the system choose."""
    return click.option(
        name,
        type=click.IntRange(0, _HIGHEST_PORT),
        default=default,
        show_default=True,
        envvar=envvar,
        show_envvar=True,
        help=text,
    )


def gateway_options(port: int, envvar: str = "PORT") -> Callable[..., Any]:
    """Give a click command `--host`, `--port`, and what `mesh_options` gives.

    Args:
        port: the default.
        envvar: the environment's variable for it.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        host = click.option(
            "--host",
            default="127.0.0.1",
            show_default=True,
            metavar="HOST",
            help="The address to listen on; 0.0.0.0 for all of the machine's.",
        )
        port_of = port_option("--port", port, envvar, "The port; 0 lets the system choose.")
        return mesh_options(host(port_of(command)))

    return decorate


@asynccontextmanager
async def gateway_mesh(url: str, token: str, name: str) -> AsyncIterator[Mesh]:
    """Be on the mesh as a gateway. Entering waits for as long as there is no broker.

    Args:
        url: the broker's.
        token: the credential.
        name: the gateway's: "mirage", say.

    Raises:
        MeshError: the broker does not let it in.
    """
    async with connect(
        url,
        group=GATEWAYS_GROUP,
        name=name,
        token=token,
        insist=True,
        patience=_PATIENCE_SECONDS,
        reconnect=_BACKOFF,
        on_error=_log_error,
    ) as mesh:
        yield mesh


def announce_address(scheme: str, host: str, port: int) -> None:
    """Say on stdout that clients can come.

    Args:
        scheme: "http", say.
        host: as it was asked for.
        port: the real one, where the system has chosen.
    """
    shown = f"[{host}]" if ":" in host else host
    announce(f"listening on {scheme}://{shown}:{port}")


def _log_error(error: MeshError) -> None:
    # Nobody there to hear an event: that is nobody's fault.
    if not isinstance(error, NoRoute):
        _LOG.warning("%s", error)
