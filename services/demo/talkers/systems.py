"""The four chat systems by name, and how to come into each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import assert_never

from services.demo.talkers.keenchat import keenchat_talker
from services.demo.talkers.mirage import mirage_talker
from services.demo.talkers.redis_chat import redis_chat_talker
from services.demo.talkers.rooms import rooms_talker
from services.demo.talkers.talker import Talker

__all__ = ["System", "open_talker"]


class System(StrEnum):
    """The chat systems: by the names of their gateways."""

    MIRAGE = "mirage"
    KEENCHAT = "keenchat"
    ROOMS = "rooms"
    REDIS_CHAT = "redis_chat"

    @property
    def label(self) -> str:
        """As people call it."""
        return self.value.replace("_", " ").capitalize()


def open_talker(
    system: System, addresses: Sequence[str], name: str
) -> AbstractAsyncContextManager[Talker]:
    """Be in the room `public` of a system for the body of an `async with`.

    Args:
        system: which one.
        addresses: those that its gateway has said when it was ready.
        name: of who comes.

    Raises:
        TalkError: there is no way in.
    """
    match system:
        case System.MIRAGE:
            return mirage_talker(addresses[0], name)
        case System.KEENCHAT:
            return keenchat_talker(addresses[0], addresses[1], name)
        case System.ROOMS:
            return rooms_talker(addresses[0], name)
        case System.REDIS_CHAT:
            return redis_chat_talker(addresses[0], name)
        case _:
            assert_never(system)
