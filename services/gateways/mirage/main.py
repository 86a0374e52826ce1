"""The Mirage gateway as a program."""

from __future__ import annotations

import click

from services.gateways.mirage.gateway import MirageGateway
from services.gateways.running import announce_address, gateway_mesh, gateway_options
from services.gateways.web import origin_option
from services.programs import examples, run_program

__all__ = ["main"]


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "SWITCHBOARD_TOKEN=… python -m services.gateways.mirage",
        "python -m services.gateways.mirage --url tcp://broker:8420 --token … --host 0.0.0.0",
        "python -m services.gateways.mirage --token … --allow-origin https://chat.example.org",
    ),
)
@gateway_options(5000)
@origin_option
def main(url: str, token: str, host: str, port: int, allow_origin: tuple[str, ...]) -> None:
    """Run the Mirage gateway: rooms and messages over Socket.IO.

    When it is ready, stdout has the line "listening on http://HOST:PORT". It waits for the broker
    before that, and for the chat service with each client's request.

    SIGTERM or Ctrl-C: answers what it has been asked, then exits with 0.
    """
    run_program(lambda: _serve(url, token, host, port, allow_origin), "asyncio")


async def _serve(url: str, token: str, host: str, port: int, origins: tuple[str, ...]) -> None:
    async with (
        gateway_mesh(url, token, "mirage") as mesh,
        MirageGateway(mesh, origins).serving(host, port) as bound,
    ):
        announce_address("http", host, bound)
        await mesh.wait_closed()
