"""Listeners: events by a pattern of their names."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Self, TypeVar

from broker.protocol.codec import Envelope
from services.sdk.errors import MeshError
from services.sdk.feeds import Feed

__all__ = ["Listener", "Listeners", "compile_pattern"]

T = TypeVar("T")

# Event names come from others, so what is remembered of them is bounded.
_MAX_REMEMBERED_NAMES: Final = 1024


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Make a test for names: `*` stands for any run of characters, all else for itself.

    A pattern that begins with `*` does not match names that begin with `$`, the broker's own: who
    listens to everything means everything that others have to say.
    """
    if "*" not in pattern:
        return pattern.__eq__
    if not pattern.strip("*"):
        return lambda name: not name.startswith("$")
    expression = ".*".join(map(re.escape, re.split(r"\*+", pattern)))
    if pattern.startswith("*"):
        expression = rf"(?!\$){expression}"
    matches = re.compile(expression, re.DOTALL).fullmatch
    return lambda name: matches(name) is not None


class Listener(Feed[T]):
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
        super().__init__(f"the listener to {pattern}", buffer, convert)
        self.pattern = pattern
        self._listeners = listeners

    async def __aenter__(self) -> Self:
        self.begin(self._listeners.add(self))
        return self

    def leave(self) -> None:
        """Hear no more."""
        self._listeners.discard(self)


class Listeners:
    """All listeners of a mesh.

    Finding those of an event's name costs one look-up, once the name has been seen.

    Args:
        to_test: makes the test for names out of a listener's pattern.
    """

    def __init__(self, to_test: Callable[[str], Callable[[str], bool]] = compile_pattern) -> None:
        self._to_test = to_test
        self._members: dict[Listener[Any], Callable[[str], bool]] = {}
        self._by_name: dict[str, tuple[Listener[Any], ...]] = {}
        self._ended: Callable[[], MeshError] | None = None

    def add(self, listener: Listener[Any]) -> Callable[[], MeshError] | None:
        """Enter a listener; return the end that has come already, if one has."""
        self._members[listener] = self._to_test(listener.pattern)
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
