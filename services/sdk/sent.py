"""What became of a message."""

from __future__ import annotations

from typing import NamedTuple

from services.sdk.connection import Connection
from services.sdk.errors import ConnectionLost, MeshClosed, MeshError

__all__ = ["Sent"]


class Sent(NamedTuple):
    """A message that was put on its way.

    Attributes:
        connection: the one that it went to.
        ticket: its number there.
    """

    connection: Connection
    ticket: int

    @property
    def written(self) -> bool:
        """Whether it has been written, so that it may have arrived."""
        return self.connection.written(self.ticket)

    def lost(self) -> MeshError:
        """Return what ended the connection, saying whether the message may have arrived."""
        error = self.connection.error()
        if isinstance(error, ConnectionLost | MeshClosed):
            error.may_have_arrived = self.written
        return error
