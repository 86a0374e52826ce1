"""Logs, configured in one place: for eyes on a terminal, one JSON object a line otherwise.

They go to stderr. stdout belongs to what a program may wait for, such as `listening on …`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Final, Protocol, TextIO, cast

import structlog

from broker.log_writer import LogWriter

__all__ = ["FORMATS", "LEVELS", "configure_logs", "logs_written_to"]

LEVELS: Final = ("debug", "info", "warning", "error")

FORMATS: Final = ("auto", "console", "json")


class LogStream(Protocol):
    """What is asked of a stream that a log is written to."""

    def isatty(self) -> bool:
        """Whether people read it as it is written."""
        ...

    def write(self, text: str, /) -> int:
        """Write a line, with its end."""
        ...

    def flush(self) -> None:
        """Hold back nothing."""
        ...


@contextlib.contextmanager
def logs_written_to(stream: TextIO, level: str, style: str = "auto") -> Iterator[None]:
    """Send the log of the whole process to a stream, from a thread where it is a real file.

    Args:
        stream: as a rule stderr.
        level: see `configure_logs`.
        style: likewise.
    """
    try:
        number = stream.fileno()
    except OSError:
        # It is one in memory.
        configure_logs(level, stream, style)
        yield
        return
    with LogWriter(number) as writer:
        configure_logs(level, writer, style)
        yield


def configure_logs(level: str, stream: LogStream, style: str = "auto") -> None:
    """Send the log of the whole process to `stream`.

    Args:
        level: one of `LEVELS`; what is below it costs a no-op call.
        stream: as a rule stderr.
        style: one of `FORMATS`: lines for people (`console`), or for programs (`json`); `auto`
            goes by whether the stream is a terminal.
    """
    for_people = stream.isatty() if style == "auto" else style == "console"
    colours = stream.isatty() and "NO_COLOR" not in os.environ
    render: list[structlog.typing.Processor] = (
        [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            _show_as_text,
            # The default shows the values of variables too, and those may be secrets.
            structlog.dev.ConsoleRenderer(
                colors=colours, exception_formatter=structlog.dev.plain_traceback
            ),
        ]
        if for_people
        else [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _put_first,
            structlog.processors.JSONRenderer(default=str),
        ]
    )
    structlog.configure(
        processors=[structlog.processors.add_log_level, *render],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Forgiving(stream))),
        cache_logger_on_first_use=True,
    )


def _show_as_text(
    _logger: object, _method: str, entry: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Write out what is not printable: clients choose their names, and terminals obey sequences."""
    for key, value in entry.items():
        if isinstance(value, str) and not value.isprintable():
            entry[key] = "".join(
                character if character.isprintable() else ascii(character)[1:-1]
                for character in value
            )
    return entry


def _put_first(
    _logger: object, _method: str, entry: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Let lines begin with what they all have."""
    first = {key: entry.pop(key) for key in ("timestamp", "level", "event") if key in entry}
    return {**first, **entry}


class _Forgiving:
    """A stream that may fail: a full disk or a closed pipe must not end the broker."""

    def __init__(self, stream: LogStream) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()
