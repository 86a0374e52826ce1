"""Who the ids of the chat's users stand for."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from services.chat.client import ChatClient
from services.chat.messages import ChatError
from services.chat.model import User
from services.gateways.redis_chat.shapes import Person, person_of
from services.sdk import ServiceError

__all__ = ["NOBODY", "Directory"]

_MAX_KNOWN: Final = 10_000

NOBODY: Final = Person("", "")
"""Stands for a user that there is not."""


class Directory:
    """Looks users up, and keeps the last ones: a user's UUID and name never change.

    Args:
        chat: is asked.
        max_known: how many are kept.
    """

    def __init__(self, chat: ChatClient, max_known: int = _MAX_KNOWN) -> None:
        self._chat = chat
        self._max_known = max_known
        self._known: OrderedDict[int, Person] = OrderedDict()

    def note(self, user: User) -> None:
        """Take in a user that has been heard of."""
        self._known[user.id] = person_of(user)
        self._known.move_to_end(user.id)
        while len(self._known) > self._max_known:
            self._known.popitem(last=False)

    async def find(self, user_id: int) -> Person:
        """Return a user; an empty one where there is none of that id.

        Raises:
            MeshError: the chat cannot be asked.
        """
        known = self._known.get(user_id)
        if known is not None:
            self._known.move_to_end(user_id)
            return known
        try:
            user = await self._chat.user(id=user_id)
        except ServiceError as error:
            if error.code == ChatError.NO_USER:
                return NOBODY
            raise
        self.note(user)
        return person_of(user)
