"""Reads an input of the fuzzers as a row of choices, so that every input means something."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["Choices", "cut"]

T = TypeVar("T")


class Choices:
    """Bytes that are taken from the front. When they are used up, every choice is the first one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def number(self, below: int = 256) -> int:
        """Choose a number, of at most 256."""
        taken = self.take(1)
        return taken[0] % below if taken else 0

    def one_of(self, options: Sequence[T]) -> T:
        """Choose one of some, of which there is at least one."""
        return options[self.number(len(options))]

    def take(self, size: int) -> bytes:
        """Take so many bytes, or as many as there are."""
        start = self._position
        self._position = min(start + size, len(self._data))
        return self._data[start : self._position]

    def rest(self) -> bytes:
        """Take everything."""
        return self.take(len(self._data))


def cut(data: bytes, sizes: bytes) -> Iterator[bytes]:
    """Cut bytes into pieces, of one byte to 256, of these sizes in turns."""
    position = turn = 0
    while position < len(data):
        size = 1 + (sizes[turn % len(sizes)] if sizes else 0)
        yield data[position : position + size]
        position += size
        turn += 1
