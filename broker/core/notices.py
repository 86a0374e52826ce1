"""The frames that the broker writes itself, as messages that are not framed yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import UNSET, Raw

from broker.core.peer import Peer
from broker.protocol.codec import Envelope, EnvelopeIntent, EnvelopeSource, encode
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import OpCode

__all__ = [
    "BROKER_ID",
    "CANCEL",
    "EXPECT",
    "PING",
    "answer",
    "cancel",
    "error",
    "event",
    "expect",
    "pong",
    "welcome",
]

BROKER_ID: Final = "$broker"
"""The broker's own id and group: an address for DIRECT, and the `source` of what it writes."""

CANCEL: Final = "$cancel"
EXPECT: Final = "$expect"

_SOURCE: Final = EnvelopeSource(id=BROKER_ID, group=BROKER_ID)

PING: Final = encode(Envelope(op=OpCode.PING))


def pong(id: str | None) -> bytes:
    """Answer a PING; the id is the PING's."""
    return encode(Envelope(op=OpCode.PONG, id=id))


def welcome(id: str | None, data: object) -> bytes:
    """Answer an IDENTIFY; the id is the IDENTIFY's."""
    return encode(Envelope(op=OpCode.IDENTIFY, id=id, data=Raw(encode(data))))


def answer(envelope: Envelope, data: object) -> bytes:
    """Answer an EVENT that was sent to the broker itself."""
    return encode(
        Envelope(
            op=OpCode.REPLY,
            id=envelope.id,
            event=envelope.event,
            data=Raw(encode(data)),
            source=_SOURCE,
        )
    )


def error(
    id: str | None,
    event: str | None,
    code: ErrorCode,
    message: str,
    details: Mapping[str, Any] | None = None,
) -> bytes:
    """Answer an EVENT with an error.

    Args:
        id: the EVENT's.
        event: the EVENT's.
        code: for programs.
        message: for people.
        details: what else stands in `error`.
    """
    body = {"code": code, "message": message, **(details or {})}
    return encode(
        Envelope(op=OpCode.REPLY, id=id, event=event, source=_SOURCE, error=Raw(encode(body)))
    )


def expect(id: str, members: Sequence[Peer]) -> bytes:
    """Tell a requester whose answers it can expect."""
    data = {"members": [{"id": member.id, "group": member.source.group} for member in members]}
    return encode(
        Envelope(op=OpCode.REPLY, id=id, event=EXPECT, data=Raw(encode(data)), source=_SOURCE)
    )


def cancel(id: str, requester: EnvelopeSource) -> bytes:
    """Tell a callee that nobody waits for its answer any more."""
    return encode(Envelope(op=OpCode.EVENT, id=id, event=CANCEL, source=requester))


def event(name: str, data: object, receiver: Peer) -> bytes:
    """Tell a peer of something that happened in the mesh."""
    return encode(
        Envelope(
            op=OpCode.EVENT,
            event=name,
            data=UNSET if data is None else Raw(encode(data)),
            intent=EnvelopeIntent(target="DIRECT", identifier=receiver.id),
            source=_SOURCE,
        )
    )
