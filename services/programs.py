"""What the bundled services have in common as programs: options, logs, and how they end.

Logs go to stderr, for eyes on a terminal, one JSON object a line otherwise. stdout belongs to the
line that says the program is ready.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Literal, TextIO

import click
import structlog

from services.sdk import IdentifyFailed, MeshError
from services.sdk.running import run_until_signal
from services.sdk.urls import parse_url

__all__ = [
    "DEFAULT_URL",
    "ProgramError",
    "announce",
    "configure_logs",
    "examples",
    "mesh_options",
    "run_program",
]

DEFAULT_URL: Final = "ws://127.0.0.1:8420"

_LEVELS: Final = ("debug", "info", "warning", "error")

# What these say below a warning is about their own works.
_TALKATIVE: Final = ("sqlalchemy", "coredis", "asyncio")


class ProgramError(Exception):
    """The program cannot go on, and says in a line why, and what to do."""


def examples(*lines: str) -> str:
    """Return the end of a command's help."""
    # The mark (a backspace) tells click to leave the lines as they are.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def mesh_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command `--url`, `--token` and `--log-level`; configure the logs."""

    @click.option(
        "-u",
        "--url",
        default=DEFAULT_URL,
        show_default=True,
        envvar="SWITCHBOARD_URL",
        show_envvar=True,
        metavar="URL",
        callback=_check_url,
        help="Where the broker is: ws://, tcp:// or unix://, with TLS wss:// or tls://.",
    )
    @click.option(
        "--token",
        required=True,
        envvar="SWITCHBOARD_TOKEN",
        show_envvar=True,
        metavar="TOKEN",
        help="The credential. As an option, it can be seen among the processes of the machine.",
    )
    @click.option(
        "--log-level",
        type=click.Choice(_LEVELS, case_sensitive=False),
        default="info",
        show_default=True,
        help="What is logged to stderr.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, log_level: str, **kwargs: Any) -> Any:  # noqa: ANN401 - click's
        configure_logs(log_level, sys.stderr)
        return command(*args, **kwargs)

    return wrapped


def _check_url(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        parse_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


def configure_logs(level: str, stream: TextIO) -> None:
    """Send the logs of the whole process, the libraries' too, to `stream`.

    Args:
        level: the least that is shown: debug, info, warning or error.
        stream: as a rule stderr. On a terminal, lines are made for people.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
    ]
    render: list[structlog.typing.Processor]
    if stream.isatty():
        shared.append(structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False))
        render = [structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ)]
    else:
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
        render = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    # A full disk or a closed pipe must not end the program, nor write about itself.
    logging.raiseExceptions = False
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


def announce(line: str) -> None:
    """Write a line to stdout at once, since somebody may wait for it at the end of a pipe."""
    try:
        click.echo(line)
        sys.stdout.flush()
    except OSError:
        # Nobody reads it any more. That is no reason to stop, nor to complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_program(
    main: Callable[[], Awaitable[None]], backend: Literal["trio", "asyncio"] = "trio"
) -> None:
    """Run until Ctrl-C or SIGTERM; a second one ends the program at once.

    Raises:
        click.ClickException: a `ProgramError` or a `MeshError`, in a line, with exit code 1.
    """
    try:
        run_until_signal(main, backend)
    except (ProgramError, MeshError, BaseExceptionGroup) as error:
        causes = list(_leaves(error))
        unknown = [cause for cause in causes if not isinstance(cause, (ProgramError, MeshError))]
        if unknown:
            raise
        raise click.ClickException("; ".join(dict.fromkeys(map(_explain, causes)))) from error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _explain(error: BaseException) -> str:
    if isinstance(error, IdentifyFailed):
        return f"{error}; look at --token and SWITCHBOARD_TOKEN"
    return str(error)
