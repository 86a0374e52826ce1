"""From the words of the API to a frame on the wire."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from msgspec import UNSET, Raw

from broker.protocol.codec import Envelope, EnvelopeIntent, encode
from broker.protocol.frames import OpCode, Pick
from broker.protocol.limits import MAX_ID_LENGTH, MAX_NAME_LENGTH, MAX_TIMEOUT_MS
from services.sdk.payloads import dump
from services.sdk.request_errors import Call, RequestError

__all__ = [
    "BROKER_ID",
    "CANCEL",
    "Picking",
    "call_of",
    "cancel_message",
    "check_id",
    "check_name",
    "describe",
    "encode_reply",
    "make_intent",
    "to_milliseconds",
]

BROKER_ID: Final = "$broker"
"""The broker itself as a connection: an address for DIRECT, and the source of what it writes."""

CANCEL: Final = "$cancel"
"""The event that takes a request back: from its requester to the broker, and on to its callees."""

Picking: TypeAlias = Pick | Literal["ALL", "ONE"]

_GLOBAL: Final = EnvelopeIntent("GLOBAL")
_PICKS: Final[dict[Pick, Literal["ALL", "ONE"]]] = {Pick.ALL: "ALL", Pick.ONE: "ONE"}


# Programs speak to the same few groups again and again.
@lru_cache(maxsize=1024)
def make_intent(
    group: str | None, to: str | None, pick: Picking | None, key: str | None
) -> EnvelopeIntent:
    """Say whom a frame is for. A key is of use for one member only, so it implies `pick="ONE"`.

    The intent is not to be changed: the same words get the same one.

    Raises:
        ValueError: the words contradict each other, or a name is too long.
    """
    if to is not None:
        if group is not None or pick is not None or key is not None:
            raise ValueError("to= names one connection: it goes with none of group=, pick=, key=")
        return EnvelopeIntent("DIRECT", check_name("to", to))
    if group is None:
        if pick is not None or key is not None:
            raise ValueError("pick= and key= choose among the members of a group: give group=")
        return _GLOBAL
    picked = None if pick is None else Pick(pick)
    if key is not None:
        if picked is Pick.ALL:
            raise ValueError("key= keeps to one member: it does not go with pick='ALL'")
        picked = Pick.ONE
        check_name("key", key)
    check_name("group", group)
    return EnvelopeIntent("GROUP", group, None if picked is None else _PICKS[picked], key)


def describe(intent: EnvelopeIntent) -> str:
    """Say it for people."""
    if intent.target == "GLOBAL":
        return "everyone"
    if intent.identifier == BROKER_ID:
        return "the broker"
    kind = "group" if intent.target == "GROUP" else "connection"
    return f"{kind} {intent.identifier}"


def call_of(envelope: Envelope) -> Call:
    """Name a frame in errors. Most frames have none, so it is made when it is needed."""
    return Call(envelope.event or "?", describe(envelope.intent or _GLOBAL), envelope.id or "?")


def check_name(what: str, name: str) -> str:
    """Return a name as it is.

    Raises:
        ValueError: it is empty or too long.
    """
    if 0 < len(name) <= MAX_NAME_LENGTH:
        return name
    raise ValueError(f"{what}: a name has 1 to {MAX_NAME_LENGTH} characters, not {len(name)}")


def check_id(id: str) -> str:
    """Return an id as it is.

    Raises:
        ValueError: it is empty or too long.
    """
    if 0 < len(id) <= MAX_ID_LENGTH:
        return id
    raise ValueError(f"id: an id has 1 to {MAX_ID_LENGTH} characters, not {len(id)}")


def to_milliseconds(timeout: float) -> int:
    """Turn seconds into what stands on the wire, rounded up.

    Raises:
        ValueError: it is not more than nothing, or more than a day.
    """
    if not 0 < timeout <= MAX_TIMEOUT_MS / 1000:
        raise ValueError(
            f"timeout: {timeout!r} s is not between 0 and {MAX_TIMEOUT_MS // 1000} s (a day)"
        )
    return math.ceil(timeout * 1000)


def encode_reply(event: Envelope, data: object = None, error: RequestError | None = None) -> bytes:
    """Write the REPLY to an event: its id, DIRECT to its source.

    Raises:
        ValueError: the event has no source to reply to; it did not come from a broker.
        PayloadError: the data, or the error's details, have no form in JSON.
    """
    if event.source is None:
        raise ValueError("an event without a source cannot be replied to")
    said: Raw | None = None
    if error is not None:
        raw = dump({**error.details, "code": error.code, "message": error.message})
        said = raw if isinstance(raw, Raw) else None
    return encode(
        Envelope(
            op=OpCode.REPLY,
            id=event.id,
            event=event.event,
            data=UNSET if error is not None else dump(data),
            intent=EnvelopeIntent("DIRECT", event.source.id),
            error=UNSET if said is None else said,
        )
    )


def cancel_message(id: str) -> bytes:
    """Write the `$cancel` of a request."""
    return encode(Envelope(OpCode.EVENT, id, CANCEL))
