"""Asking: send a request, wait for its reply, read it."""

from __future__ import annotations

from typing import Any, Final

import anyio

from broker.protocol.codec import Envelope
from services.sdk.connection import Connection
from services.sdk.errors import (
    Call,
    ConnectionLost,
    Expired,
    InvalidReply,
    MeshClosed,
    error_from_reply,
)
from services.sdk.inbox import Inbox
from services.sdk.payloads import PayloadError, load, load_error

__all__ = ["ask", "read_reply"]

# The broker knows more about why a request expired than this side does, so its word is given the
# time of a slow round trip to arrive before this side gives up by itself.
_GRACE_SECONDS: Final = 0.5


async def ask(
    connection: Connection, inbox: Inbox, message: bytes, call: Call, timeout: float
) -> Envelope:
    """Send a request and wait for its reply, which may be an error.

    Args:
        connection: the way to the broker.
        inbox: where the reply will come in.
        message: the request.
        call: what it is, for errors.
        timeout: seconds for which the reply is of use, the time in the outbox included.

    Raises:
        Expired: there was no reply, and not even the broker said why.
        ConnectionLost, MeshClosed: the connection ended meanwhile.
        MessageTooBig: the broker does not take messages of that size.
    """
    waiter = inbox.pending.open(call.id)
    try:
        with anyio.CancelScope(deadline=anyio.current_time() + timeout + _GRACE_SECONDS):
            await connection.send(message)
            await waiter.done.wait()
            if waiter.reply is None:
                connection.check()
    except (ConnectionLost, MeshClosed) as error:
        error.add_note(f"{call} had no reply yet; whether it was carried out is not known")
        raise
    finally:
        inbox.pending.close(call.id)
    if waiter.reply is None:
        raise Expired(f"no reply in {timeout:g} s, and no word from the broker", call=call)
    return waiter.reply


def read_reply(reply: Envelope, call: Call, kind: Any = None) -> Any:  # noqa: ANN401 - JSON
    """Return a reply's data, read into `kind` where one is given.

    Raises:
        RequestError: it is an error.
        InvalidReply: it does not fit.
    """
    if (error := load_error(reply.error)) is not None:
        raise error_from_reply(error, call)
    try:
        return load(reply.data, kind)
    except PayloadError as problem:
        raise InvalidReply(f"{call}: the reply is not as asked for: {problem}") from problem
