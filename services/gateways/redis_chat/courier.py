"""Brings messages to those who follow their channels, with the names of who has written them.

A name may have to be asked for, so messages wait here: one after the other, to keep their order.
"""

from __future__ import annotations

import logging
import math
from typing import Final

import trio

from services.chat.messages import Posted
from services.chat.model import Message, Room
from services.gateways.following import Following, Place
from services.gateways.redis_chat.directory import NOBODY, Directory
from services.gateways.redis_chat.sessions import Session
from services.gateways.redis_chat.shapes import Written, envelope, written_object
from services.gateways.refusals import AWAY, refusal
from services.sdk import MeshError

__all__ = ["Courier", "Places"]

_LOG: Final = logging.getLogger(__name__)

Places = list[Place[Session, str]]

# Between attempts to ask the chat while that is away.
_PAUSE_SECONDS: Final = 0.2


class Courier:
    """Takes messages in at once, and brings them in order.

    Args:
        directory: knows the names.
        following: who follows what.
    """

    def __init__(self, directory: Directory, following: Following[Session, str]) -> None:
        self._directory = directory
        self._following = following
        # Without a bound: messages come from the chat, and while that cannot be asked for a name,
        # none come.
        self._put, self._take = trio.open_memory_channel[tuple[Posted, Places]](math.inf)

    def bring(self, posted: Posted, places: Places) -> None:
        """Bring a message to some clients."""
        if places:
            self._put.send_nowait((posted, places))

    async def run(self) -> None:
        """Go to and fro, until it is cancelled."""
        async for posted, places in self._take:
            text = await self._render(posted)
            number = posted.message.number
            for place in places:
                # Not who has left meanwhile, nor who has joined again and been given it with that.
                now = self._following.place_of(place.client, posted.room.id)
                if now is not None and number >= now.first:
                    place.client.show(posted.room.id, number, text)

    async def write(self, message: Message, room: Room) -> Written:
        """Return a message with the names that belong to it.

        Raises:
            MeshError: the chat cannot be asked.
        """
        sender = await self._directory.find(message.user_id)
        if room.participants is None:
            return Written(message, sender, None)
        one, other = room.participants
        recipient = await self._directory.find(other if message.user_id == one else one)
        return Written(message, sender, recipient)

    async def _render(self, posted: Posted) -> str:
        while True:
            try:
                written = await self.write(posted.message, posted.room)
            except MeshError as error:
                if refusal(error).code != AWAY:
                    _LOG.warning("the author of a message cannot be looked up: %s", error)
                    nobody = Written(posted.message, NOBODY, None)
                    return envelope("channelMessage", written_object(nobody))
                _LOG.info("a message waits, since its author cannot be asked for: %s", error)
                await trio.sleep(_PAUSE_SECONDS)
            else:
                return envelope("channelMessage", written_object(written))
