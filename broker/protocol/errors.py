"""What can go wrong in the language, and the words for it that stand on the wire.

Two kinds of wrong are kept apart, since they end differently:

* bytes that are no frame end the connection, with a `Reason` (`RemoteProtocolError`);
* a frame that can be told apart but is wrong in meaning gets a REPLY with an `ErrorCode`, and the
  connection stays (`Refusal` in `broker.protocol.codec`).
"""

from __future__ import annotations

from enum import StrEnum, unique

__all__ = [
    "ErrorCode",
    "LocalProtocolError",
    "NestingError",
    "ProtocolError",
    "Reason",
    "RemoteProtocolError",
    "SwitchboardError",
]


@unique
class Reason(StrEnum):
    """Why a connection ends: the `data` of a DISCONNECT, with the WebSocket close code beside it.

    Codes below 4000 are from RFC 6455 section 7.4.1 and the IANA registry; 4000 to 4999 are private
    use.
    """

    close_code: int

    def __new__(cls, value: str, close_code: int) -> Reason:
        """Make a member out of its word and its close code."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.close_code = close_code
        return member

    NO_REASON = "NO_REASON", 1000
    MESSAGE_TOO_BIG = "MESSAGE_TOO_BIG", 1009
    SERVER_RESTART = "SERVER_RESTART", 1012
    TRY_AGAIN_LATER = "TRY_AGAIN_LATER", 1013
    UNKNOWN_ERROR = "UNKNOWN_ERROR", 4000
    UNKNOWN_OP = "UNKNOWN_OP", 4001
    INVALID_PAYLOAD = "INVALID_PAYLOAD", 4002
    UNAUTHORIZED = "UNAUTHORIZED", 4003
    IDENTIFY_FAILED = "IDENTIFY_FAILED", 4004
    ALREADY_IDENTIFIED = "ALREADY_IDENTIFIED", 4005
    PING_TIMEOUT = "PING_TIMEOUT", 4006
    SLOW_CONSUMER = "SLOW_CONSUMER", 4007
    IDENTIFY_TIMEOUT = "IDENTIFY_TIMEOUT", 4008
    REPLACED = "REPLACED", 4009


@unique
class ErrorCode(StrEnum):
    """What a REPLY with `error` says in `error.code`."""

    NO_ROUTE = "NO_ROUTE"
    PEER_GONE = "PEER_GONE"
    EXPIRED = "EXPIRED"
    OVERLOADED = "OVERLOADED"
    FORBIDDEN = "FORBIDDEN"
    RATE_LIMITED = "RATE_LIMITED"
    INVALID_INTENT = "INVALID_INTENT"
    INVALID_FRAME = "INVALID_FRAME"
    DRAINING = "DRAINING"
    BACKPLANE_DOWN = "BACKPLANE_DOWN"
    # From services, by the SDK.
    UNKNOWN_EVENT = "UNKNOWN_EVENT"
    BAD_REQUEST = "BAD_REQUEST"
    HANDLER_ERROR = "HANDLER_ERROR"


class SwitchboardError(Exception):
    """Root of every error that Switchboard raises on purpose."""


class ProtocolError(SwitchboardError):
    """The rules of the protocol were broken, by one side or the other."""


class LocalProtocolError(ProtocolError):
    """This side tried to do what the protocol forbids: a fault in the program that called."""


class RemoteProtocolError(ProtocolError):
    """The other side sent bytes that are no frame: the connection ends.

    Attributes:
        reason: what the DISCONNECT says.
        close_code: the WebSocket close code: the reason's own, unless the fault is one that
            RFC 6455 gives a code (1002 protocol error, 1003 unsupported data, 1007 invalid data).
    """

    def __init__(self, reason: Reason, message: str, close_code: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.close_code = reason.close_code if close_code is None else close_code


class NestingError(RemoteProtocolError):
    """The other side sent a message that is nested too deeply: the connection ends."""

    def __init__(self) -> None:
        super().__init__(Reason.INVALID_PAYLOAD, "nested too deeply")
