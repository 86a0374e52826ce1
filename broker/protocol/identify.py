"""The payloads of IDENTIFY: what a client says of itself, and the broker's answer."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct, UnsetType

from broker.protocol.codec import decode_last, encode, locate_error
from broker.protocol.errors import Reason, RemoteProtocolError
from broker.protocol.limits import MAX_META_SIZE, MAX_NAME_LENGTH

__all__ = ["Identification", "Welcome", "parse_identification"]

_Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]

# Nobody works on a million requests at once; the bound keeps sums of these in plain integers.
_MAX_CONCURRENCY = 1_000_000


class Identification(Struct, omit_defaults=True, kw_only=True):
    """The `data` of a client's IDENTIFY.

    Attributes:
        token: the credential.
        group: the group to join; may be left out where the token is good for one group only.
        name: a name for people; need not be unique.
        meta: a small object, shown to whoever may list the services.
        echo: False: no copies of one's own broadcasts.
        concurrency: how many requests this member takes at a time; no bound where absent.
    """

    token: str | None = None
    group: _Name | None = None
    name: _Name | None = None
    meta: dict[str, Any] | None = None
    echo: bool | None = None
    concurrency: Annotated[int, Meta(ge=1, le=_MAX_CONCURRENCY)] | None = None


class Welcome(Struct, kw_only=True):
    """The `data` of the broker's answer.

    Attributes:
        id: the connection id, by which others reach this connection with DIRECT.
        group: the group that was joined.
        ping: milliseconds of silence after which the broker sends a PING, and again the same until
            it gives the connection up.
        message_bytes: the largest message that the broker accepts.
    """

    id: str
    group: str
    ping: int
    message_bytes: int


_decoder = msgspec.json.Decoder(Identification)


def parse_identification(data: Raw | UnsetType) -> Identification:
    """Read the `data` of an IDENTIFY.

    Raises:
        RemoteProtocolError: it does not fit; the message names the place.
    """
    try:
        identification = decode_last(_decoder, data) if isinstance(data, Raw) else Identification()
    except (msgspec.ValidationError, RecursionError) as error:
        raise RemoteProtocolError(Reason.IDENTIFY_FAILED, locate_error("data", error)) from error
    group = identification.group
    if group is not None and group.startswith("$"):
        raise RemoteProtocolError(
            Reason.IDENTIFY_FAILED, "data.group: names that begin with $ are the broker's own"
        )
    if identification.meta is not None and len(encode(identification.meta)) > MAX_META_SIZE:
        raise RemoteProtocolError(
            Reason.IDENTIFY_FAILED, f"data.meta: may have at most {MAX_META_SIZE} bytes as JSON"
        )
    return identification
