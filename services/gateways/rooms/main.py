"""The gateway of the rooms as a program."""

from __future__ import annotations

import click

from services.gateways.rooms.gateway import RoomsGateway
from services.gateways.running import announce_address, gateway_mesh, gateway_options
from services.gateways.websocket_gateway import serving
from services.programs import examples, run_program

__all__ = ["PATH", "main"]

PATH = "/chat"


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "SWITCHBOARD_TOKEN=… python -m services.gateways.rooms",
        "python -m services.gateways.rooms --host 0.0.0.0 --port 9000 --token …",
        "python -m services.gateways.rooms --url tcp://broker:8420 --token …",
    ),
)
@gateway_options(8888)
def main(host: str, port: int, url: str, token: str) -> None:
    """Run the gateway of the rooms: JSON over a plain WebSocket, at the path /chat.

    When it is ready, stdout has the line "listening on http://HOST:PORT". It waits for the broker
    before that, and for the chat service with each client's request.

    SIGTERM or Ctrl-C: closes the clients' connections with code 1001, then exits with 0.
    """
    run_program(lambda: _serve(host, port, url, token))


async def _serve(host: str, port: int, url: str, token: str) -> None:
    async with (
        gateway_mesh(url, token, "rooms") as mesh,
        serving(RoomsGateway(mesh), PATH, host, port) as listening,
    ):
        announce_address("http", host, listening.port)
        await mesh.wait_closed()
