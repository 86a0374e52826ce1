from __future__ import annotations

import pytest

from broker.protocol.errors import ErrorCode, SwitchboardError
from broker.protocol.frames import Error
from services.sdk import (
    BadRequest,
    Call,
    ConnectionLost,
    Disconnected,
    Expired,
    IdentifyFailed,
    MeshClosed,
    MeshError,
    NoRoute,
    RateLimited,
    RequestError,
    ServiceError,
)
from services.sdk.request_errors import error_from_reply

CALL = Call("INVOICE_CREATE", "group billing", "42")


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_has_a_type_of_its_own(code: ErrorCode) -> None:
    error = error_from_reply(Error(code, "why"), CALL)
    assert type(error) not in (RequestError, ServiceError)
    assert (error.code, error.message, error.call) == (code, "why", CALL)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            error_from_reply(Error("NO_ROUTE", "there is no member"), CALL),
            "INVOICE_CREATE to group billing (id 42): NO_ROUTE: there is no member",
        ),
        (
            error_from_reply(Error("OUT_OF_STOCK", ""), CALL),
            "INVOICE_CREATE to group billing (id 42): OUT_OF_STOCK",
        ),
        (Expired("too late"), "EXPIRED: too late"),
        (ServiceError("OUT_OF_STOCK", "none left"), "OUT_OF_STOCK: none left"),
        (Disconnected("SLOW_CONSUMER"), "the broker ended the connection: SLOW_CONSUMER"),
        (
            IdentifyFailed("IDENTIFY_FAILED", "data.token: is not known here"),
            "the broker did not let this client in: IDENTIFY_FAILED: data.token: is not known here",
        ),
    ],
)
def test_texts(error: MeshError, text: str) -> None:
    assert str(error) == text


def test_a_service_s_own_code() -> None:
    error = error_from_reply(Error("OUT_OF_STOCK", "none left", {"item": 7}), CALL)
    assert isinstance(error, ServiceError)
    assert error.code == "OUT_OF_STOCK"
    assert error.details == {"item": 7}


def test_a_reply_without_a_code() -> None:
    assert error_from_reply(Error("", "?"), CALL).code == "UNKNOWN"


@pytest.mark.parametrize("code", ["", "NO_ROUTE", "EXPIRED", "HANDLER_ERROR"])
def test_the_protocol_s_codes_are_not_free(code: str) -> None:
    with pytest.raises(ValueError, match="belongs to the protocol"):
        ServiceError(code, "mine")


@pytest.mark.parametrize(
    ("details", "seconds"),
    [({"retry_after": 1500}, 1.5), ({}, None), ({"retry_after": "soon"}, None)],
)
def test_retry_after_is_in_seconds(details: dict[str, object], seconds: float | None) -> None:
    error = error_from_reply(Error("RATE_LIMITED", "", details), CALL)
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds


def test_one_root() -> None:
    assert issubclass(MeshError, SwitchboardError)
    for error in (NoRoute, BadRequest, Disconnected, MeshClosed):
        assert issubclass(error, MeshError)


def test_closed_and_broken_are_different() -> None:
    assert not issubclass(MeshClosed, ConnectionLost)
    assert not issubclass(ConnectionLost, MeshClosed)
    assert issubclass(IdentifyFailed, Disconnected)
    assert issubclass(Disconnected, ConnectionLost)
