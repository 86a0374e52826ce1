"""Tells the channels from the other rooms of the chat.

Keenchat's channels are the public rooms, and its clients hear of nothing else. Some of the chat's
events name a room without saying of which kind it is; what happens in a room whose kind is not
known yet waits until it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import anyio

from services.chat.client import ChatClient
from services.chat.messages import ChatError
from services.chat.model import Room, RoomKind
from services.sdk import MeshError, ServiceError

__all__ = ["Channels"]

_LOG: Final = logging.getLogger(__name__)

# What happens in one room while the chat is asked; more than that, and it is hard to follow.
_MAX_WAITING: Final = 100

_PAUSE_SECONDS: Final = 0.5

Step = Callable[[], None]


class Channels:
    """Which rooms are channels, as far as that is known.

    Args:
        chat: is asked about the others, once for each.
    """

    def __init__(self, chat: ChatClient) -> None:
        self._chat = chat
        self._known: dict[int, bool] = {}
        self._waiting: dict[int, list[Step]] = {}
        self._wake = anyio.Event()

    def learn(self, room: Room) -> bool:
        """Take note of a room, whose kind never changes; return whether it is a channel."""
        is_channel = room.kind is RoomKind.PUBLIC
        self._settle(room.id, is_channel=is_channel)
        return is_channel

    def forget(self, room_id: int) -> None:
        """Drop a room that has gone away."""
        self._known.pop(room_id, None)
        self._waiting.pop(room_id, None)

    def when_channel(self, room_id: int, step: Step) -> None:
        """Do something if a room is a channel: now, or in its turn when that is known."""
        is_channel = self._known.get(room_id)
        if is_channel is None:
            steps = self._waiting.setdefault(room_id, [])
            # What is old is left out: it is who is in a room now, and who types now, that counts.
            del steps[: max(0, len(steps) - _MAX_WAITING + 1)]
            steps.append(step)
            self._wake.set()
        elif is_channel:
            step()

    def _settle(self, room_id: int, *, is_channel: bool) -> None:
        self._known[room_id] = is_channel
        for step in self._waiting.pop(room_id, ()):
            if is_channel:
                step()

    async def run(self) -> None:
        """Ask about rooms, for ever."""
        while True:
            if not self._waiting:
                self._wake = anyio.Event()
                await self._wake.wait()
            for room_id in list(self._waiting):
                try:
                    self.learn(await self._chat.room(id=room_id))
                except ServiceError as error:
                    if error.code == ChatError.NO_ROOM:
                        # Between two others, or gone: no channel, or none any more.
                        self._settle(room_id, is_channel=False)
                except MeshError as error:
                    _LOG.debug("the chat cannot be asked about a room now: %s", error)
            if self._waiting:
                await anyio.sleep(_PAUSE_SECONDS)
