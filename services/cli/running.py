"""A client command's main loop, and its end: exit codes, signals, a reader that has gone."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from io import TextIOWrapper
from typing import Final, NoReturn

import click
import trio

from services.cli.exits import Exit
from services.cli.failures import explain, leaves
from services.cli.text import plain

__all__ = ["fail", "run_client", "run_to_end"]

_ENDINGS: Final = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}


def run_client(main: Callable[[], Awaitable[int]]) -> None:
    """Run a command's main function to its end, and exit with what it returns.

    Ctrl-C and SIGTERM cancel it, so that it says goodbye to the broker; a second one ends it at
    once. Errors that a user can do something about become a line on stderr.
    """
    run_to_end(lambda: trio.run(_until_signal, main))


def run_to_end(run: Callable[[], int]) -> NoReturn:
    """Run a function, and exit with what it returns, or as its error says."""
    _write_whatever_comes()
    try:
        code = run()
    except BaseException as error:  # noqa: BLE001 - what is no known failure is raised again
        code = _end(error)
    # What is still in the buffer meets a closed pipe here, not when the interpreter shuts down.
    with contextlib.suppress(ValueError):
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            code = _output_closed()
    sys.exit(code)


def fail(text: str, code: Exit) -> NoReturn:
    """Say what is wrong on stderr, and exit."""
    click.echo(f"Error: {plain(text)}", err=True)
    sys.exit(code)


async def _until_signal(main: Callable[[], Awaitable[int]]) -> int:
    code: int = Exit.DONE

    async def watch(task_status: trio.TaskStatus[None]) -> None:
        nonlocal code
        with trio.open_signal_receiver(*_ENDINGS) as signals:
            task_status.started()
            async for number in signals:
                code = _ENDINGS[signal.Signals(number)]
                break
        # With the receiver closed, a second signal meets the system's own handler.
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        # Elsewhere than in the main thread, there are no signals to receive.
        if threading.current_thread() is threading.main_thread():
            await nursery.start(watch)
        code = await main()
        nursery.cancel_scope.cancel()
    return code


def _end(error: BaseException) -> int:
    """Return the exit code for an error; raise again what is a fault of the program."""
    errors = list(leaves(error))
    if any(isinstance(one, KeyboardInterrupt) for one in errors):
        return Exit.INTERRUPTED
    if any(isinstance(one, BrokenPipeError) for one in errors):
        return _output_closed()
    for one in errors:
        if isinstance(one, SystemExit | click.ClickException):
            raise one
    failures = [explain(one) for one in errors]
    known = [failure for failure in failures if failure is not None]
    if len(known) < len(failures):
        raise error
    for text in dict.fromkeys(failure.text for failure in known):
        click.echo(f"Error: {plain(text)}", err=True)
    return known[0].exit


def _output_closed() -> int:
    """Let nothing more be written to a pipe that nobody reads, not even at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.OUTPUT_CLOSED


def _write_whatever_comes() -> None:
    """Show as an escape what the terminal's encoding has no character for."""
    streams: Sequence[object] = (sys.stdout, sys.stderr)
    for stream in streams:
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
