"""The `switchboard` command: the server's commands, and a client's beside them."""

from __future__ import annotations

import click

import broker
from broker.commands import SERVER_COMMANDS, examples

__all__ = ["main"]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "switchboard serve",
        "switchboard serve --config broker.toml",
        "switchboard check-config broker.toml",
        "switchboard token new --name billing --group billing",
    ),
)
@click.version_option(broker.__version__, prog_name="switchboard")
def main() -> None:
    """Switchboard: a message broker that speaks plain JSON, and a client for it."""


for _command in SERVER_COMMANDS:
    main.add_command(_command)
