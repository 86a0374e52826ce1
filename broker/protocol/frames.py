"""The frames as people read and construct them. The hot path has its own form, `codec.Envelope`."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Any

import attrs
from attrs import validators

from broker.protocol.limits import (
    MAX_ID_LENGTH,
    MAX_NAME_LENGTH,
    MAX_TIMEOUT_MS,
    MAX_TRACE_LENGTH,
)

__all__ = ["Error", "Frame", "Intent", "OpCode", "Pick", "Source", "Target"]


class OpCode(IntEnum):
    """What a frame is for."""

    EVENT = 0
    IDENTIFY = 1
    DISCONNECT = 2
    PING = 3
    PONG = 4
    REPLY = 5


class Target(StrEnum):
    """Whom a frame is meant for."""

    GLOBAL = "GLOBAL"
    GROUP = "GROUP"
    DIRECT = "DIRECT"


class Pick(StrEnum):
    """How many members of a group a frame is meant for."""

    ALL = "ALL"
    ONE = "ONE"


def _length(longest: int) -> Any:  # noqa: ANN401 - attrs types its validators by the attribute
    return [validators.instance_of(str), validators.min_len(1), validators.max_len(longest)]


@attrs.frozen
class Intent:
    """Where a frame goes.

    Attributes:
        target: GLOBAL, GROUP or DIRECT.
        identifier: group name or connection id; None for GLOBAL only.
        pick: for GROUP: every member (None means ALL) or one of them.
        key: for `Pick.ONE`: frames of one key go to one member while the membership holds.

    Raises:
        ValueError: GROUP or DIRECT without an identifier.
    """

    target: Target = attrs.field(converter=Target)
    identifier: str | None = attrs.field(
        default=None, validator=validators.optional(_length(MAX_NAME_LENGTH))
    )
    pick: Pick | None = attrs.field(
        default=None, converter=attrs.converters.optional(Pick), kw_only=True
    )
    key: str | None = attrs.field(
        default=None, validator=validators.optional(_length(MAX_NAME_LENGTH)), kw_only=True
    )

    def __attrs_post_init__(self) -> None:
        if self.target is not Target.GLOBAL and self.identifier is None:
            raise ValueError(f"{self.target} needs an identifier: a group or a connection id")


@attrs.frozen
class Source:
    """Who sent a frame: written by the broker, never by a client."""

    id: str
    group: str


@attrs.frozen
class Error:
    """What went wrong, in the `error` of a REPLY or a DISCONNECT.

    Attributes:
        code: an `ErrorCode`, a `Reason`, or a service's own word.
        message: for people.
        details: whatever else the sender put beside the two.
    """

    code: str
    message: str
    details: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Frame:
    """One frame, with `data` as Python values. Properties are those of `docs/protocol.md`.

    Attributes:
        timeout: milliseconds; on an EVENT it says that a reply is awaited for that long.
        trace: a W3C traceparent.
    """

    op: OpCode = attrs.field(converter=OpCode)
    id: str | None = attrs.field(
        default=None, validator=validators.optional(_length(MAX_ID_LENGTH))
    )
    event: str | None = attrs.field(
        default=None, validator=validators.optional(_length(MAX_NAME_LENGTH))
    )
    data: Any = None
    intent: Intent | None = None
    source: Source | None = None
    timeout: int | None = attrs.field(
        default=None,
        validator=validators.optional([validators.ge(1), validators.le(MAX_TIMEOUT_MS)]),
    )
    error: Error | None = None
    trace: str | None = attrs.field(
        default=None, validator=validators.optional(_length(MAX_TRACE_LENGTH))
    )
