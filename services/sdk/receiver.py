"""Whom a connection tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from broker.protocol.codec import Envelope, Refusal
from services.sdk.errors import MeshError

__all__ = ["Receiver"]


class Receiver(Protocol):
    """Whom a connection tells. None of these may block or raise."""

    def on_event(self, event: Envelope, now: float) -> None:
        """An EVENT came, at this time on the event loop's clock."""

    def on_reply(self, reply: Envelope) -> None:
        """A REPLY came."""

    def on_refusal(self, refusal: Refusal) -> None:
        """The broker sent something that is wrong in meaning."""

    def on_end(self, why: Callable[[], MeshError]) -> None:
        """The connection has ended; `why` makes the error to raise."""

    def on_unsent(self, ids: list[str]) -> None:
        """These events were still waiting to be written when it ended."""
