"""Everything that can go wrong with a request, in one shape: `{"error": ..., "code": ...}`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from services.chat.messages import ChatError
from services.gateways.keenchat.resources import Problem
from services.gateways.refusals import AWAY, BAD_REQUEST, refusal
from services.sdk import MeshError

__all__ = ["STATUSES", "RefusedError", "handle_problems", "responses"]

_LOG: Final = logging.getLogger(__name__)

# Of what is refused, by its code.
STATUSES: Final[Mapping[str, int]] = {
    ChatError.NAME_TAKEN: 409,
    ChatError.BAD_NAME: 422,
    ChatError.BAD_PASSWORD: 422,
    ChatError.WRONG_PASSWORD: 401,
    ChatError.BAD_TOKEN: 401,
    ChatError.NO_USER: 404,
    ChatError.NO_ROOM: 404,
    ChatError.NO_MESSAGE: 404,
    ChatError.ROOM_EXISTS: 409,
    ChatError.NOT_IN_ROOM: 403,
    ChatError.NOT_ALLOWED: 403,
    ChatError.TEXT_TOO_LONG: 413,
    BAD_REQUEST: 422,
    AWAY: 503,
}

# Then it is worth asking again.
_RETRY_SECONDS: Final = "1"


class RefusedError(Exception):
    """The gateway itself refuses something.

    Attributes:
        code: one of `ChatError`.
        text: for people.
    """

    def __init__(self, code: ChatError, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI is to say of the problems of an endpoint: these, and those of all."""
    return {
        status: {"model": Problem, "description": HTTPStatus(status).phrase}
        for status in sorted({*statuses, 400, 413, 422, 503})
    }


def handle_problems(api: FastAPI) -> None:
    """Let an application answer problems in Keenchat's shape."""
    api.exception_handler(MeshError)(_say_no)
    api.exception_handler(RefusedError)(_refuse)
    api.exception_handler(RequestValidationError)(_say_what_is_wrong)
    api.exception_handler(HTTPException)(_say_status)
    api.exception_handler(Exception)(_confess)


def _answer(
    status: int, code: str, text: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    more = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        more["Retry-After"] = _RETRY_SECONDS
    return JSONResponse({"error": text, "code": code}, status, more)


async def _say_no(_request: Request, error: MeshError) -> JSONResponse:
    refused = refusal(error)
    return _answer(STATUSES.get(refused.code, 503), refused.code, refused.text)


async def _refuse(_request: Request, error: RefusedError) -> JSONResponse:
    return _answer(STATUSES[error.code], error.code.value, error.text)


async def _say_what_is_wrong(_request: Request, error: RequestValidationError) -> JSONResponse:
    faults = [
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in error.errors()
    ]
    # It may name what the client has sent, and half a character cannot be sent back.
    text = "; ".join(faults).encode(errors="replace").decode()
    return _answer(422, BAD_REQUEST, text)


async def _say_status(_request: Request, error: HTTPException) -> JSONResponse:
    code = HTTPStatus(error.status_code).name
    return _answer(error.status_code, code, str(error.detail), error.headers)


async def _confess(_request: Request, error: Exception) -> JSONResponse:
    _LOG.error("a request could not be handled", exc_info=error)
    return _answer(500, "INTERNAL", "this has failed, and the gateway's log says how")
