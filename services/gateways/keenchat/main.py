"""The Keenchat gateway as a program."""

from __future__ import annotations

import signal

import anyio
import click

from services.gateways.keenchat.gateway import KeenchatGateway, Ports
from services.gateways.running import announce_address, gateway_mesh, gateway_options, port_option
from services.gateways.web import origin_option
from services.programs import examples, run_program

__all__ = ["main"]


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "SWITCHBOARD_TOKEN=… python -m services.gateways.keenchat",
        "PORT=8000 WEBSOCKETS_PORT=8001 python -m services.gateways.keenchat --token …",
        "python -m services.gateways.keenchat --url tcp://broker:8420 --token … --host 0.0.0.0",
        "python -m services.gateways.keenchat --token … --allow-origin https://chat.example.org",
    ),
)
@gateway_options(5000)
@port_option(
    "--websockets-port",
    5001,
    "WEBSOCKETS_PORT",
    "The port for Socket.IO; 0 lets the system choose.",
)
@origin_option
def main(
    *,
    url: str,
    token: str,
    host: str,
    port: int,
    websockets_port: int,
    allow_origin: tuple[str, ...],
) -> None:
    """Run the Keenchat gateway: a REST API, and what is new over Socket.IO.

    When it is ready, stdout has two lines "listening on http://HOST:PORT": first that of the REST
    API, whose /docs tells more, then that of Socket.IO. It waits for the broker before that, and
    for the chat service with each client's request.

    SIGHUP: tells web clients to refresh their page. SIGTERM or Ctrl-C: answers what it has been
    asked, then exits with 0.
    """
    ports = Ports(port, websockets_port)
    run_program(lambda: _serve(url, token, host, ports, allow_origin), "asyncio")


async def _serve(url: str, token: str, host: str, ports: Ports, origins: tuple[str, ...]) -> None:
    async with gateway_mesh(url, token, "keenchat") as mesh:
        gateway = KeenchatGateway(mesh, origins)
        async with (
            gateway.serving(host, ports) as bound,
            anyio.create_task_group() as tasks,
        ):
            with anyio.open_signal_receiver(signal.SIGHUP) as hangups:
                announce_address("http", host, bound.rest)
                announce_address("http", host, bound.events)
                tasks.start_soon(mesh.wait_closed)
                async for _hangup in hangups:
                    gateway.refresh_page()
