"""What a DISCONNECT says, as an exception."""

from __future__ import annotations

from typing import Final

from broker.protocol.codec import Envelope
from broker.protocol.errors import Reason
from services.sdk.errors import ConnectionLost, Disconnected, IdentifyFailed, MeshError, TlsFailed
from services.sdk.payloads import PayloadError, load, load_error

__all__ = ["error_from_disconnect", "heals"]

# A client that was sent away for one of these may come back with the very same IDENTIFY.
_TEMPORARY: Final = frozenset(
    {
        Reason.TRY_AGAIN_LATER,
        Reason.SERVER_RESTART,
        Reason.UNKNOWN_ERROR,
        Reason.PING_TIMEOUT,
        Reason.IDENTIFY_TIMEOUT,
        Reason.SLOW_CONSUMER,
    }
)


def heals(error: MeshError) -> bool:
    """Tell whether a new connection may fare better than the one that ended with this."""
    if isinstance(error, Disconnected):
        return not isinstance(error, IdentifyFailed) and error.reason in _TEMPORARY
    return isinstance(error, ConnectionLost) and not isinstance(error, TlsFailed)


def error_from_disconnect(message: Envelope, *, identified: bool) -> Disconnected:
    """Turn a DISCONNECT into an exception.

    Args:
        message: the DISCONNECT.
        identified: whether the broker had let this client in before.
    """
    try:
        said = load(message.data)
    except PayloadError:
        said = Reason.UNKNOWN_ERROR
    reason = str(Reason.NO_REASON if said is None else said)
    error = load_error(message.error)
    text = "" if error is None else error.message
    if identified or reason in _TEMPORARY:
        return Disconnected(reason, text)
    return IdentifyFailed(reason, text)
