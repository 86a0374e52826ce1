"""Asking: send a request, wait for its reply, read it, or take it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import anyio

from broker.protocol.codec import Envelope
from services.sdk.errors import ConnectionLost, InvalidReply, MeshClosed, MeshError
from services.sdk.inbox import Inbox
from services.sdk.link import Link
from services.sdk.outgoing import cancel_message
from services.sdk.payloads import PayloadError, load, load_error
from services.sdk.pending import Waiter
from services.sdk.request_errors import Call, Expired, error_from_reply
from services.sdk.sent import Sent

__all__ = ["GRACE_SECONDS", "ask", "lost", "read_reply", "send"]

# The broker knows more about why a request expired than this side does, so its word is given the
# time of a slow round trip to arrive before this side gives up by itself.
GRACE_SECONDS: Final = 0.5


async def ask(
    link: Link,
    inbox: Inbox,
    message: bytes,
    call: Call,
    timeout: float,
    *,
    patience: float,
    hook: Callable[[Envelope], object] | None = None,
) -> Envelope:
    """Send a request and wait for its reply, which may be an error.

    A request that is given up meanwhile, because the caller is cancelled or even the broker is
    silent, is taken back with `$cancel`, so that its callee can stop working.

    Args:
        link: the way to the broker.
        inbox: where the reply will come in.
        message: the request.
        call: what it is, for errors.
        timeout: seconds for which the reply is of use, the time in the outbox included.
        patience: how many of these to wait for a connection where there is none.
        hook: is handed the reply in the connection's reader, before anything behind it is read.

    Raises:
        Expired: there was no reply, and not even the broker said why.
        ConnectionLost, MeshClosed: there was no connection, or it ended meanwhile.
        MessageTooBig: the broker does not take messages of that size.
    """
    waiter = Waiter(hook)
    sent: Sent | None = None
    try:
        with anyio.CancelScope(deadline=anyio.current_time() + timeout + GRACE_SECONDS):
            sent = await send(link, message, call, patience=min(patience, timeout))
            # No reply can have come yet: it is in the outbox, and no other task has run since.
            inbox.pending.open(call.id, waiter)
            await waiter.done.wait()
    finally:
        if sent is not None:
            inbox.pending.close(call.id)
            if not waiter.done.is_set():
                sent.connection.send_nowait(cancel_message(call.id))
    if waiter.reply is not None:
        return waiter.reply
    if sent is not None and waiter.done.is_set():
        raise lost(sent, call)
    raise Expired(f"no reply in {timeout:g} s, and no word from the broker", call=call)


async def send(link: Link, message: bytes, call: Call, *, patience: float) -> Sent:
    """Send a request; say of which one it is told that it could not be sent.

    Raises:
        ConnectionLost, MeshClosed, MessageTooBig: as for `Link.send`.
    """
    try:
        return await link.send(message, patience=patience)
    except (ConnectionLost, MeshClosed) as error:
        error.add_note(f"{call} was not sent")
        raise


def lost(sent: Sent, call: Call) -> MeshError:
    """Say what the end of a connection means for a request."""
    error = sent.lost()
    fate = "whether it was carried out is not known" if sent.written else "it was not sent"
    error.add_note(f"{call} had no reply yet; {fate}")
    return error


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
