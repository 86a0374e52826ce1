"""Logs, configured in one place: for eyes on a terminal, one JSON object a line otherwise.

They go to stderr. stdout belongs to what a program may wait for, such as `listening on …`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Final, TextIO, cast

import structlog

__all__ = ["LEVELS", "configure_logs"]

LEVELS: Final = ("debug", "info", "warning", "error")


def configure_logs(level: str, stream: TextIO) -> None:
    """Send the log of the whole process to `stream`.

    Args:
        level: one of `LEVELS`; what is below it costs a no-op call.
        stream: as a rule stderr. On a terminal, lines are made for people.
    """
    for_people = stream.isatty()
    render: list[structlog.typing.Processor] = (
        [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ),
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
