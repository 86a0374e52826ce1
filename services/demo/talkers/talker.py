"""What a client of any of the four systems can do: say something, and remember what it hears."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
import attrs

__all__ = ["PUBLIC", "Answers", "Heard", "TalkError", "Talker", "coming_in", "open_answers"]

PUBLIC: Final = "public"
"""The room in which all talk."""

# It takes milliseconds, unless it is broken.
_ENTER_SECONDS: Final = 20.0


class TalkError(Exception):
    """The system says no, in its own words, or has hung up."""


@attrs.frozen
class Heard:
    """A message that has come.

    Attributes:
        at: when, by the clock of `anyio.current_time`, in seconds.
    """

    author: str
    text: str
    at: float


class Answers:
    """What has come for the request that is under way. `open_answers` makes one."""

    def __init__(self) -> None:
        self._send, self._receive = anyio.create_memory_object_stream[Any](math.inf)

    def put(self, answer: object) -> None:
        """Take in an answer."""
        self._send.send_nowait(answer)

    def hang_up(self) -> None:
        """No more will come."""
        self._send.close()

    async def next(self) -> Any:  # noqa: ANN401 - JSON
        """Wait for the next one.

        Raises:
            TalkError: none will come.
        """
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            raise TalkError("the connection is lost") from None

    def close(self) -> None:
        """Let go of all of it."""
        self._send.close()
        self._receive.close()


@contextmanager
def open_answers() -> Iterator[Answers]:
    """Answers for the body of a `with`."""
    answers = Answers()
    try:
        yield answers
    finally:
        answers.close()


@contextmanager
def coming_in() -> Iterator[None]:
    """Give whoever comes into a system some time for it: the body of a `with`.

    Raises:
        TalkError: it is over.
    """
    try:
        with anyio.fail_after(_ENTER_SECONDS):
            yield
    except TimeoutError:
        raise TalkError(f"no answer within {_ENTER_SECONDS:g} s") from None


class Talker(ABC):
    """Somebody in the room `public`.

    Args:
        name: by which the others know them.

    Attributes:
        heard: all messages since they came in, in the order in which they came.
        lost: whether their connection has been lost.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[Heard] = []
        self.lost = False
        self._news = anyio.Event()
        # What answers a message does not say which one: so they are said one after another.
        self._turn = anyio.Lock()

    async def say(self, text: str) -> None:
        """Say something; return when the system has acknowledged it.

        Raises:
            TalkError: it has not. Whether the message will come is not known.
        """
        async with self._turn:
            await self._post(text)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds, looking again whenever something is heard.

        Raises:
            TalkError: it does not, and nothing more will be heard.
        """
        while not condition():
            if self.lost:
                raise TalkError("the connection is lost")
            await self._news.wait()

    @abstractmethod
    async def _post(self, text: str) -> None:
        """Say something, with nothing else under way."""

    def _hear(self, author: str, text: str) -> None:
        self.heard.append(Heard(author, text, anyio.current_time()))
        self._wake()

    def _lose(self) -> None:
        self.lost = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = anyio.Event()
