"""The `switchboard` command: the server's commands, and a client's beside them.

Commands are imported when they are run, so that `switchboard --help` comes at once.
"""

from __future__ import annotations

import importlib
from typing import Final, NamedTuple

import click

import broker

__all__ = ["COMMANDS", "LazyCommand", "LazyGroup", "main"]


class LazyCommand(NamedTuple):
    """A command that is not imported yet.

    Attributes:
        module: where it stands.
        name: of the command in the module.
        summary: the first sentence of its help.
    """

    module: str
    name: str
    summary: str


_SERVER: Final = "broker.commands"

COMMANDS: Final = {
    "serve": LazyCommand(_SERVER, "serve", "Run the broker, on 127.0.0.1 unless told otherwise."),
    "check-config": LazyCommand(
        _SERVER,
        "check_config",
        "Say everything that is wrong with a configuration, or show what it amounts to.",
    ),
    "token": LazyCommand(
        _SERVER, "token", "Make the tokens by which services identify themselves."
    ),
    "emit": LazyCommand("services.cli.emit", "emit", "Send an event that awaits no reply."),
    "request": LazyCommand("services.cli.request", "request", "Ask a service, and show its reply."),
    "gather": LazyCommand(
        "services.cli.gather", "gather", "Ask all members of a group, or everyone."
    ),
    "listen": LazyCommand("services.cli.listen", "listen", "Show events as they come."),
    "services": LazyCommand("services.cli.services", "services", "List who is connected."),
    "top": LazyCommand("services.cli.top", "top", "Watch what the broker has to do."),
    "check": LazyCommand("services.cli.check", "check", "Probe a broker, for health checks."),
    "demo": LazyCommand("services.cli.demo", "demo", "Show four chat systems on one mesh."),
    "bench": LazyCommand("services.cli.bench", "bench", "Measure how much a broker can do."),
    "drain": LazyCommand(
        "services.cli.drain", "drain", "Let a service, or the broker, come to its end."
    ),
    "context": LazyCommand("services.cli.context", "context", "Keep brokers and tokens by name."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for, and lists all without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None where there is none of that name."""
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        command: click.Command = getattr(importlib.import_module(found.module), found.name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list for the help."""
        rows = [(name, command.summary) for name, command in COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  switchboard serve
  switchboard context add local --url ws://127.0.0.1:8420
  switchboard request INVOICE_CREATE '{"item": "tea"}' --group billing
  switchboard listen 'USER_*'
  switchboard top""",
)
@click.version_option(broker.__version__, prog_name="switchboard")
def main() -> None:
    """Switchboard: a message broker that speaks plain JSON, and a client for it."""
