"""What all answers to requests are made with."""

from __future__ import annotations

from services.chat.announcing import Announcer
from services.chat.clock import Clock
from services.chat.messages import ChatRequest
from services.chat.passwords import Passwords
from services.chat.store import Store
from services.sdk.handlers import HandlerFunction

__all__ = ["Requests"]


class Requests:
    """Answers the requests about one subject. Its subclasses say which.

    Args:
        store: keeps everything.
        announcer: tells the gateways of changes.
        passwords: hashes and checks.
        clock: the time, in milliseconds since 1970.
    """

    def __init__(
        self, store: Store, announcer: Announcer, passwords: Passwords, clock: Clock
    ) -> None:
        self._store = store
        self._announcer = announcer
        self._passwords = passwords
        self._clock = clock

    def handlers(self) -> dict[ChatRequest, HandlerFunction]:
        """The handler of each request."""
        raise NotImplementedError
