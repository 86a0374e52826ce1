"""An event loop in a thread of its own, for programs that have none, or are inside another one.

anyio's portal carries calls into the loop. What is added here is what a program needs that may be
interrupted at any point: a call that is given up is cancelled, the mesh is entered and left by one
and the same task, and every way out ends the thread.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Final, Generic, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from services.sdk.errors import MeshClosed

__all__ = ["LoopThread"]

R = TypeVar("R")
T = TypeVar("T")

_NOT_OPEN: Final = "not connected yet: use `with connect_sync(...) as mesh`"
# For a call that was given up to come to its end, so that the next one does not meet it.
_CANCEL_SECONDS: Final = 2.0

_CLOSED: Final = "the mesh is closed: connect_sync() again for another one"


class _Call(Generic[T]):
    """An async function that is run in the loop, and can be given up at any moment.

    Attributes:
        ended: set when it has come to its end.
    """

    def __init__(self, function: Callable[[], Awaitable[T]]) -> None:
        self.ended = threading.Event()
        self._function = function
        self._scope: anyio.CancelScope | None = None
        self._given_up = False

    async def run(self) -> T:
        try:
            with anyio.CancelScope() as self._scope:
                if self._given_up:
                    self._scope.cancel()
                return await self._function()
        finally:
            self.ended.set()
        raise MeshClosed(_CLOSED)

    def give_up(self) -> bool:
        """Cancel it, or let it not begin; tell whether it had begun."""
        self._given_up = True
        if self._scope is None:
            return False
        self._scope.cancel()
        return True


class LoopThread(Generic[R]):
    """Keeps a context manager entered, and calls functions beside it.

    Operations: `open`, `call` and `close`, each from any thread but the loop's own.

    The loop is asyncio's: it can be called from a thread in which another loop runs, of either
    kind, and trio's can not.

    Args:
        make: makes, in the thread, what is entered by `open` and left by `close`.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[R]]) -> None:
        self._make = make
        self._resource: R | None = None
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()
        self._opened = False
        self._thread: int | None = None
        self._stop: anyio.Event | None = None

    @property
    def resource(self) -> R:
        """What is open, or was.

        Raises:
            MeshClosed: it has not been opened.
        """
        if self._resource is None:
            raise MeshClosed(_NOT_OPEN)
        return self._resource

    def open(self) -> None:
        """Start the thread, and enter the resource in it.

        Raises:
            RuntimeError: it was opened before.
            Exception: whatever entering raises. The thread has ended then.
        """
        if self._opened:
            raise RuntimeError("a mesh is entered once: connect_sync() again for another one")
        self._opened = True
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal(name="switchboard"))
            entered: Future[None] = Future()
            life = portal.start_task_soon(self._live, entered)
            entered.result()
            # In the end the resource is left first. Then whatever still waits is of no use.
            stack.callback(portal.call, portal.stop, True)
            stack.callback(life.result)
            stack.callback(portal.call, self._say_stop)
            self._stack = stack.pop_all()
        self._portal = portal
        # At the end of a program that forgets it; the thread itself does not hold the end up.
        atexit.register(self.close)

    def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run an async function in the loop and wait for it. Being interrupted cancels it.

        Raises:
            MeshClosed: it is closed, has not been opened, or was closed meanwhile.
            RuntimeError: this is the loop's own thread.
            Exception: whatever the function raises.
        """
        self._check_thread()
        call = _Call(function)
        try:
            return self._begin(call).result()
        except CancelledError:
            raise MeshClosed(_CLOSED) from None
        except Exception:
            raise
        except BaseException:
            # Ctrl-C. It may have struck between the beginning of the call and our hearing of it.
            self._give_up(call)
            raise

    def close(self) -> None:
        """Leave the resource and end the thread. The second time, do nothing."""
        self._check_thread()
        with self._lock:
            if self._portal is None:
                return
            self._portal = None
        atexit.unregister(self.close)
        self._stack.close()

    def _begin(self, call: _Call[T]) -> Future[T]:
        # What is handed to a loop that is just about to end is never done: hence the lock, without
        # which `close` does not begin to end it.
        with self._lock:
            if self._portal is None:
                raise MeshClosed(_CLOSED if self._opened else _NOT_OPEN)
            return self._portal.start_task_soon(call.run)

    def _give_up(self, call: _Call[T]) -> None:
        with self._lock:
            begun = self._portal is not None and self._portal.call(call.give_up)
        if begun:
            call.ended.wait(_CANCEL_SECONDS)

    def _check_thread(self) -> None:
        if threading.get_ident() == self._thread:
            raise RuntimeError(
                "a callback of the mesh runs in its own thread, which cannot wait for itself: "
                "hand the work to another thread"
            )

    async def _live(self, entered: Future[None]) -> None:
        self._thread = threading.get_ident()
        try:
            async with self._make() as self._resource:
                self._stop = anyio.Event()
                entered.set_result(None)
                await self._stop.wait()
        except Exception as error:
            if entered.done():
                raise
            entered.set_exception(error)
        finally:
            self._thread = None

    def _say_stop(self) -> None:
        if self._stop is not None:
            self._stop.set()
