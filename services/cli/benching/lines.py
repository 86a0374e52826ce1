"""Lines out of a stream of bytes: how the processes of a benchmark talk to each other."""

from __future__ import annotations

from typing import Final

import trio

__all__ = ["LineReader"]

_PIECE: Final = 65_536


class LineReader:
    """Reads a stream line by line."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def read_line(self) -> bytes:
        """Return the next line.

        Raises:
            EOFError: there is none any more.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            data = await self._stream.receive_some(_PIECE)
            if not data:
                raise EOFError
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line
