"""Listeners: events by a pattern of their names, each listener with a bounded buffer of its own.

The one reader of a connection answers heartbeats and hands replies to their requests, so it must
not wait for anyone: while it waits, every request on the connection waits, and in the end the
broker takes the client for dead. So a full buffer can neither hold the reader up nor grow. The
listener *ends* instead, with `ListenerOverflow`, after delivering what it holds: its program learns
that it has missed something, and where.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from broker.protocol.codec import Envelope
from services.sdk.errors import ListenerOverflow, MeshClosed, MeshError

__all__ = ["Listener", "Listeners", "compile_pattern"]

T = TypeVar("T")

# Event names come from others, so what is remembered of them is bounded.
_MAX_REMEMBERED_NAMES: Final = 1024


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Make a test for names: `*` stands for any run of characters, all else for itself."""
    if "*" not in pattern:
        return pattern.__eq__
    if not pattern.strip("*"):
        return lambda _name: True
    expression = re.compile(".*".join(map(re.escape, re.split(r"\*+", pattern))), re.DOTALL)
    return lambda name: expression.fullmatch(name) is not None


class Listener(Generic[T]):
    """Events (or frames) as they come, to be iterated over.

    Made by `Mesh.listen` and `Mesh.frames`. It hears from the moment that it is entered. Iterating
    never ends by itself but with an error that says why: `ListenerOverflow`, `ConnectionLost` or
    `MeshClosed`; what came before is delivered first. One task at a time may iterate.

    Attributes:
        pattern: what it listens to.
        buffer: how many events it holds for a slow consumer.
        received: how many have come, in all.
    """

    def __init__(
        self, listeners: Listeners, pattern: str, buffer: int, convert: Callable[[Envelope], T]
    ) -> None:
        if buffer < 1:
            raise ValueError("a buffer needs room for one event at least")
        self.pattern = pattern
        self.buffer = buffer
        self.received = 0
        self._listeners = listeners
        self._convert = convert
        self._waiting: deque[Envelope] = deque()
        self._ended: Callable[[], MeshError] | None = _not_entered
        self._wake: anyio.Event | None = None

    async def __aenter__(self) -> Listener[T]:
        self._ended = self._listeners.add(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listeners.discard(self)
        self._waiting.clear()
        self.end(_left)

    def __aiter__(self) -> Listener[T]:
        return self

    async def __anext__(self) -> T:
        return await self.receive()

    async def receive(self) -> T:
        """Wait for the next one.

        Taking what has come already is no task switch: the buffer is bounded, so a consumer that
        never waits otherwise still comes to wait here.

        Raises:
            ListenerOverflow: this listener was too slow, and has delivered all that it held.
            ConnectionLost: the connection broke.
            MeshClosed: the mesh, or this listener, was closed.
        """
        await checkpoint_if_cancelled()
        while not self._waiting:
            if self._ended is not None:
                raise self._ended()
            if self._wake is not None:
                raise anyio.BusyResourceError(f"listening to {self.pattern}")
            self._wake = anyio.Event()
            try:
                await self._wake.wait()
            finally:
                self._wake = None
        return self._convert(self._waiting.popleft())

    def deliver(self, envelope: Envelope) -> None:
        """Take a frame in; never waits."""
        self.received += 1
        if len(self._waiting) < self.buffer:
            self._waiting.append(envelope)
            if self._wake is not None:
                self._wake.set()
        else:
            self._listeners.discard(self)
            self.end(self._overflow)

    def end(self, why: Callable[[], MeshError]) -> None:
        """Let iterating end, once all is delivered; the first reason stays."""
        if self._ended is None:
            self._ended = why
        if self._wake is not None:
            self._wake.set()

    def _overflow(self) -> MeshError:
        return ListenerOverflow(
            f"the listener to {self.pattern} was {self.buffer} events behind when one more came; "
            "take them faster, or give listen() a larger buffer="
        )


class Listeners:
    """All listeners of a mesh.

    Finding those of an event's name costs one look-up, once the name has been seen.
    """

    def __init__(self) -> None:
        self._members: dict[Listener[Any], Callable[[str], bool]] = {}
        self._by_name: dict[str, tuple[Listener[Any], ...]] = {}
        self._ended: Callable[[], MeshError] | None = None

    def add(self, listener: Listener[Any]) -> Callable[[], MeshError] | None:
        """Enter a listener; return the end that has come already, if one has."""
        self._members[listener] = compile_pattern(listener.pattern)
        self._by_name.clear()
        return self._ended

    def discard(self, listener: Listener[Any]) -> None:
        """Let a listener hear no more."""
        self._members.pop(listener, None)
        self._by_name.clear()

    def deliver(self, envelope: Envelope) -> bool:
        """Hand an event to whom it concerns; False where that is nobody."""
        name = envelope.event or ""
        found = self._by_name.get(name)
        if found is None:
            found = self._find(name)
        for listener in found:
            listener.deliver(envelope)
        return bool(found)

    def end(self, why: Callable[[], MeshError]) -> None:
        """Let all of them end."""
        self._ended = why
        for listener in list(self._members):
            listener.end(why)

    def _find(self, name: str) -> tuple[Listener[Any], ...]:
        if len(self._by_name) >= _MAX_REMEMBERED_NAMES:
            self._by_name.clear()
        found = tuple(member for member, matches in self._members.items() if matches(name))
        self._by_name[name] = found
        return found


def _left() -> MeshError:
    return MeshClosed("this listener was left")


def _not_entered() -> MeshError:
    return MeshClosed("a listener hears from `async with` on")
