"""Logs, configured in one place: for eyes on a terminal, one JSON object a line otherwise.

They go to stderr. stdout belongs to what a program may wait for, such as `listening on …`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Final, TextIO, cast

import structlog

__all__ = ["FORMATS", "LEVELS", "configure_logs"]

LEVELS: Final = ("debug", "info", "warning", "error")

FORMATS: Final = ("auto", "console", "json")


def configure_logs(level: str, stream: TextIO, style: str = "auto") -> None:
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


class _Forgiving:
    """A stream that may fail: a full disk or a closed pipe must not end the broker."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()
