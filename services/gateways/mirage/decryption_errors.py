"""Reports of messages that somebody's key does not open, for their authors to hear of.

Kept in memory, and only for a while: a report is of use to who is there to read it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any, Final

from services.gateways.mirage.data import DecryptionErrorData

__all__ = ["DecryptionErrors"]

_MAX_A_ROOM: Final = 100
_MAX_ROOMS: Final = 1000


class DecryptionErrors:
    """The latest reports of the rooms that have had some lately."""

    def __init__(self) -> None:
        self._reports: OrderedDict[int, deque[dict[str, Any]]] = OrderedDict()

    def add(self, room_id: int, data: DecryptionErrorData) -> None:
        """Take in a report."""
        reports = self._reports.setdefault(room_id, deque(maxlen=_MAX_A_ROOM))
        self._reports.move_to_end(room_id)
        if len(self._reports) > _MAX_ROOMS:
            self._reports.popitem(last=False)
        reports.append({"id": data.id, "username": data.username, "receiver": data.receiver})

    def after(self, room_id: int, last_message_id: int) -> list[dict[str, Any]]:
        """Return the reports of a room that are about what came after a message."""
        return [
            report for report in self._reports.get(room_id, ()) if report["id"] > last_message_id
        ]

    def forget(self, room_id: int) -> None:
        """Drop those of a room that has gone away."""
        self._reports.pop(room_id, None)
