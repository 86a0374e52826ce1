"""Writes the log in a thread of its own, so that nobody who is slow to read it holds up the broker.

A pipe to a log driver that hangs takes 64 KiB, and then whoever writes into it waits. Here that is
a thread, and what does not fit into its queue meanwhile is dropped, and counted.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from types import TracebackType
from typing import Final, Self

__all__ = ["LogWriter"]

# Lines that wait to be written. Some megabytes.
_MOST: Final = 10_000

# At the end, what is left has so long to be written, in seconds.
_PATIENCE: Final = 1.0


class LogWriter:
    """The part of a text stream that a log needs, in front of a file that may be slow.

    Args:
        fd: the file's number. It is not closed.
        most: how many lines may wait.
    """

    def __init__(self, fd: int, most: int = _MOST) -> None:
        self._fd = fd
        self._most = most
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Wait until all is written, or for a second."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_PATIENCE)

    def isatty(self) -> bool:
        """Whether people read it as it is written."""
        return os.isatty(self._fd)

    def write(self, text: str) -> int:
        """Have a line written. Does not wait for it."""
        with self._changed:
            if len(self._lines) < self._most:
                self._lines.append(text)
                self._changed.notify()
            else:
                self._dropped += 1
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines and not self._closing:
                    self._changed.wait()
                lines = "".join(self._lines)
                self._lines.clear()
                dropped, self._dropped = self._dropped, 0
            if dropped:
                lines += f'{{"event": "lines of the log were dropped", "lines": {dropped}}}\n'
            if not lines:
                return
            self._write(lines.encode(errors="backslashreplace"))

    def _write(self, data: bytes) -> None:
        # To the file itself: a lock of a Python stream that is held by a thread that hangs would
        # keep the whole process from ending. A disk may be full, and nobody may read a pipe.
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._fd, data) :]
