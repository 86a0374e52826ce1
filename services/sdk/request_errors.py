"""Why a request did not get its result: a type for each code of the protocol."""

# ruff: noqa: N818 - they are named for what has happened, as trio's are
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import attrs

from broker.protocol.errors import ErrorCode
from broker.protocol.frames import Error
from services.sdk.errors import MeshError

__all__ = [
    "BackplaneDown",
    "BadRequest",
    "Call",
    "Draining",
    "Expired",
    "Forbidden",
    "HandlerError",
    "InvalidFrame",
    "InvalidIntent",
    "NoRoute",
    "Overloaded",
    "PeerGone",
    "RateLimited",
    "RequestError",
    "ServiceError",
    "UnknownEvent",
    "error_from_reply",
]


@attrs.frozen
class Call:
    """What an error is about.

    Attributes:
        event: the event's name.
        target: whom it was meant for, in words.
        id: the frame's id.
    """

    event: str
    target: str
    id: str

    def __str__(self) -> str:
        return f"{self.event} to {self.target} (id {self.id})"


class RequestError(MeshError):
    """A request ended without a result. `str()` names the event, its target and the request's id.

    Attributes:
        code: the code on the wire.
        message: for people; who wrote it depends on the code.
        details: what else stood in the reply's `error`.
        call: which request it was; None for an error that has not been sent yet.
    """

    default_code: ClassVar[str] = ""

    def __init__(
        self,
        message: str = "",
        *,
        details: Mapping[str, Any] | None = None,
        call: Call | None = None,
    ) -> None:
        super().__init__(message)
        self.code: str = self.default_code
        self.message = message
        self.details = dict(details or {})
        self.call = call

    def __str__(self) -> str:
        text = f"{self.code}{_after_colon(self.message)}"
        return text if self.call is None else f"{self.call}: {text}"


class NoRoute(RequestError):
    """Nobody is there: no member in the group, no connection of that id."""

    default_code = ErrorCode.NO_ROUTE


class PeerGone(RequestError):
    """The callee went away before it answered. Whether it did the work is not known."""

    default_code = ErrorCode.PEER_GONE


class Expired(RequestError):
    """The time that the request gave is over. Whether the callee did the work is not known."""

    default_code = ErrorCode.EXPIRED


class Overloaded(RequestError):
    """Every member that could take it has as much to do as it takes at a time."""

    default_code = ErrorCode.OVERLOADED


class Forbidden(RequestError):
    """The token does not permit it."""

    default_code = ErrorCode.FORBIDDEN


class RateLimited(RequestError):
    """Too fast.

    Attributes:
        retry_after: seconds until it is worth trying again; None where the broker did not say.
    """

    default_code = ErrorCode.RATE_LIMITED

    @property
    def retry_after(self) -> float | None:
        """Seconds until it is worth trying again."""
        milliseconds = self.details.get("retry_after")
        return milliseconds / 1000 if isinstance(milliseconds, int | float) else None


class InvalidIntent(RequestError):
    """The intent makes no sense to the broker."""

    default_code = ErrorCode.INVALID_INTENT


class InvalidFrame(RequestError):
    """Some property of the frame is wrong, by its type or its size."""

    default_code = ErrorCode.INVALID_FRAME


class Draining(RequestError):
    """The broker, or the service that was asked, is about to stop and takes nothing new."""

    default_code = ErrorCode.DRAINING


class BackplaneDown(RequestError):
    """The brokers of a cluster can not reach each other at present."""

    default_code = ErrorCode.BACKPLANE_DOWN


class UnknownEvent(RequestError):
    """The service that was reached has no handler for this event."""

    default_code = ErrorCode.UNKNOWN_EVENT


class BadRequest(RequestError):
    """The request's data is not what the handler takes. Handlers may raise it themselves."""

    default_code = ErrorCode.BAD_REQUEST


class HandlerError(RequestError):
    """The handler failed. What exactly happened is in the log of its service, not in the reply."""

    default_code = ErrorCode.HANDLER_ERROR


class ServiceError(RequestError):
    """An answer in the negative, in a service's own words: raised by a handler, met by a requester.

    Args:
        code: the service's own word; those of the protocol (`ErrorCode`) are not free.
        message: for people.
        details: whatever else helps the requester; must be JSON.

    Raises:
        ValueError: the code is one of the protocol's, or empty.

    Example:
        >>> raise ServiceError("OUT_OF_STOCK", "none left", details={"item": 7})
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        details: Mapping[str, Any] | None = None,
        call: Call | None = None,
    ) -> None:
        if not code or code in _BY_CODE:
            raise ValueError(f"{code!r} is not free to use: it belongs to the protocol")
        super().__init__(message, details=details, call=call)
        self.args = (code, message)
        self.code = code


_BY_CODE: Final[dict[str, type[RequestError]]] = {
    error.default_code: error for error in RequestError.__subclasses__() if error.default_code
}


def error_from_reply(error: Error, call: Call) -> RequestError:
    """Turn the `error` of a REPLY into an exception."""
    known = _BY_CODE.get(error.code)
    if known is not None:
        return known(error.message, details=error.details, call=call)
    return ServiceError(error.code or "UNKNOWN", error.message, details=error.details, call=call)


def _after_colon(text: str) -> str:
    return f": {text}" if text else ""
