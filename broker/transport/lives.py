"""A line of the log for each connection that has ended: who it was, what it did, why it ended."""

from __future__ import annotations

import logging
from typing import Any, Final

from broker.core.peer import Peer
from broker.protocol.errors import Reason
from broker.protocol.websocket import WebSocketWire
from broker.transport.connection import Connection
from broker.transport.limited_log import LimitedLog, Rate
from broker.transport.tls import TlsConnection

__all__ = ["Lives"]

# When a broker stops, or a proxy before it, all connections end at once. This many lines take a few
# milliseconds of a second.
_KNOWN: Final = Rate(100)

_BROKER, _CLIENT, _NOBODY = "broker", "client", "nobody"


class Lives:
    """Tells how connections ended.

    Those that had identified themselves are told at the level INFO. Of the others, those that were
    sent away are too; those that went by themselves, as many a probe of a port does, at DEBUG.

    Args:
        log: where they are told.
    """

    def __init__(self, log: LimitedLog) -> None:
        self._log = log

    def ended(self, connection: Connection, now: float) -> None:
        """Tell of a connection that is gone; `now` is in seconds."""
        peer = connection.peer
        reason, ended_by, message = _end_of(connection)
        end: dict[str, Any] = {
            "connection": peer.id,
            "address": peer.address,
            "transport": _transport_of(connection),
            "seconds": round(now - connection.since, 3),
            "bytes_in": connection.bytes_in,
            "bytes_out": connection.bytes_out,
            "reason": reason.value,
            "ended_by": ended_by,
            "message": message,
        }
        if peer.member is not None:
            self._log.write(
                logging.INFO, "connection ended", rate=_KNOWN, **_identity_of(peer), **end
            )
        elif ended_by == _BROKER:
            self._log.write(logging.INFO, "connection was not let in", **end)
        elif self._log.enabled(logging.DEBUG):
            self._log.write(logging.DEBUG, "connection ended before it identified itself", **end)


def _identity_of(peer: Peer) -> dict[str, Any]:
    member = peer.member
    return {
        "principal": None if member is None else member.principal.name,
        "group": peer.source.group,
        "name": None if member is None else member.name,
        "messages_in": peer.messages_in,
        "messages_out": peer.messages_out,
        "requests": peer.requests,
        "answers": peer.answers,
    }


def _end_of(connection: Connection) -> tuple[Reason, str, str]:
    """The reason, who ended it, and what is to be said about it."""
    farewell = connection.peer.farewell
    if farewell is not None and farewell.disconnect is not None:
        return farewell.reason, _BROKER, farewell.message
    if farewell is not None or connection.closing:
        return Reason.NO_REASON, _CLIENT, ""
    return Reason.NO_REASON, _NOBODY, connection.broken or "it ended without a goodbye"


def _transport_of(connection: Connection) -> str:
    """As the scheme of an URL says it, as far as there are such schemes."""
    websocket = isinstance(connection.wire, WebSocketWire)
    if connection.peer.address == "unix":
        return "ws+unix" if websocket else "unix"
    if isinstance(connection, TlsConnection):
        return "wss" if websocket else "tls"
    return "ws" if websocket else "tcp"
