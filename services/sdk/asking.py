"""Asking: send a request, wait for its reply, read it, or take it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import anyio

from broker.protocol.codec import Envelope, encode
from services.sdk.errors import ConnectionLost, InvalidReply, MeshClosed, MeshError
from services.sdk.inbox import Inbox
from services.sdk.link import Link
from services.sdk.outgoing import call_of, cancel_message, to_milliseconds
from services.sdk.payloads import PayloadError, load, load_error
from services.sdk.pending import Waiter
from services.sdk.request_errors import Expired, error_from_reply
from services.sdk.sent import Sent
from services.sdk.time_left import time_left

__all__ = ["GRACE_SECONDS", "ask", "lost", "read_reply", "send"]

# The broker knows more about why a request expired than this side does, so its word is given the
# time of a slow round trip to arrive before this side gives up by itself.
GRACE_SECONDS: Final = 0.5


async def ask(
    link: Link,
    inbox: Inbox,
    question: Envelope,
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
        question: the request. Where its caller has less time than its `timeout` says, that changes.
        timeout: seconds for which the reply is of use, the time in the outbox included.
        patience: how many of these to wait for a connection where there is none.
        hook: is handed the reply in the connection's reader, before anything behind it is read.

    Raises:
        Expired: there was no reply, and not even the broker said why.
        ConnectionLost, MeshClosed: there was no connection, or it ended meanwhile.
        MessageTooBig: the broker does not take messages of that size.
    """
    loop = link.loop
    seconds = time_left(timeout, loop)
    if seconds < timeout:
        # Whoever is cancelled has no time at all.
        await loop.checkpoint_if_cancelled()
        if question.timeout is not None:
            question.timeout = to_milliseconds(seconds)
    deadline = loop.now() + seconds + GRACE_SECONDS
    message = encode(question)
    sent = link.put(message)
    if sent is None:
        with anyio.CancelScope(deadline=deadline):
            sent = await send(link, message, question, patience=min(patience, seconds))
        if sent is None:
            raise _silence(question, seconds)
    # No reply can have come yet: it is in the outbox, and no other task has run since.
    id = question.id or ""
    waiter = Waiter(loop.new_signal(), deadline, hook)
    inbox.pending.open(id, waiter)
    try:
        await waiter.done.wait()
    finally:
        if waiter.reply is None and not waiter.lost:
            inbox.pending.close(id)
            sent.connection.send_nowait(cancel_message(id))
    if waiter.reply is not None:
        return waiter.reply
    raise lost(sent, question) if waiter.lost else _silence(question, seconds)


async def send(link: Link, message: bytes, question: Envelope, *, patience: float) -> Sent:
    """Send a request; say of which one it is told that it could not be sent.

    Raises:
        ConnectionLost, MeshClosed, MessageTooBig: as for `Link.send`.
    """
    try:
        return await link.send(message, patience=patience)
    except (ConnectionLost, MeshClosed) as error:
        error.add_note(f"{call_of(question)} was not sent")
        raise


def lost(sent: Sent, question: Envelope) -> MeshError:
    """Say what the end of a connection means for a request."""
    error = sent.lost()
    fate = "whether it was carried out is not known" if sent.written else "it was not sent"
    error.add_note(f"{call_of(question)} had no reply yet; {fate}")
    return error


def _silence(question: Envelope, seconds: float) -> Expired:
    text = f"no reply in {seconds:g} s, and no word from the broker"
    return Expired(text, call=call_of(question))


def read_reply(reply: Envelope, question: Envelope, kind: Any = None) -> Any:  # noqa: ANN401 - JSON
    """Return a reply's data, read into `kind` where one is given.

    Raises:
        RequestError: it is an error.
        InvalidReply: it does not fit.
    """
    if (error := load_error(reply.error)) is not None:
        raise error_from_reply(error, call_of(question))
    try:
        return load(reply.data, kind)
    except PayloadError as problem:
        text = f"{call_of(question)}: the reply is not as asked for: {problem}"
        raise InvalidReply(text) from problem
