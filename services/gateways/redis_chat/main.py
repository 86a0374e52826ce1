"""The gateway of the Redis chat as a program."""

from __future__ import annotations

from pathlib import Path

import click

from services.gateways.redis_chat.gateway import RedisChatGateway
from services.gateways.running import announce_address, gateway_mesh, gateway_options
from services.gateways.static_files import StaticFiles
from services.gateways.websocket_gateway import serving
from services.programs import examples, run_program

__all__ = ["PATH", "main"]

PATH = "/ws"


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "SWITCHBOARD_TOKEN=… python -m services.gateways.redis_chat",
        "python -m services.gateways.redis_chat --static client/build --token …",
        "python -m services.gateways.redis_chat --url tcp://broker:8420 --port 9000 --token …",
    ),
)
@gateway_options(8080)
@click.option(
    "--static",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Serve the files of this directory on /: a web client, say.",
)
def main(host: str, port: int, url: str, token: str, static: Path | None) -> None:
    """Run the gateway of the Redis chat: JSON over a plain WebSocket, at the path /ws.

    When it is ready, stdout has the line "listening on http://HOST:PORT". It waits for the broker
    before that, and for the chat service with each client's request.

    SIGTERM or Ctrl-C: closes the clients' connections with code 1001, then exits with 0.
    """
    run_program(lambda: _serve(host, port, url, token, static))


async def _serve(host: str, port: int, url: str, token: str, static: Path | None) -> None:
    files = None if static is None else StaticFiles(static)
    async with (
        gateway_mesh(url, token, "redis_chat") as mesh,
        serving(RedisChatGateway(mesh), PATH, host, port, serve_http=files) as listening,
    ):
        announce_address("http", host, listening.port)
        await mesh.wait_closed()
