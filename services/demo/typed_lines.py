"""Lines that somebody types, while an event loop runs."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.from_thread
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream

__all__ = ["typed_lines"]


@asynccontextmanager
async def typed_lines() -> AsyncIterator[MemoryObjectReceiveStream[str]]:
    """Give the lines of stdin, as they come, without their ends; for the body of an `async with`.

    A read cannot be taken back. So it has a thread of its own, on which nobody waits at the end.
    """
    send, receive = anyio.create_memory_object_stream[str](math.inf)
    token = anyio.lowlevel.current_token()

    def read() -> None:
        try:
            for line in sys.stdin:
                anyio.from_thread.run_sync(send.send_nowait, line.rstrip("\r\n"), token=token)
            anyio.from_thread.run_sync(send.close, token=token)
        except (RuntimeError, anyio.RunFinishedError, anyio.ClosedResourceError):
            return  # Nobody wants them any more.

    with send, receive:
        threading.Thread(target=read, name="stdin", daemon=True).start()
        yield receive
