"""From an event and its handler to the reply."""

from __future__ import annotations

import logging
import math
from typing import Final

import anyio

from services.sdk.errors import ConnectionLost, MeshClosed
from services.sdk.events import Event
from services.sdk.handlers import Handler
from services.sdk.jobs import Job
from services.sdk.mesh import Mesh
from services.sdk.outgoing import encode_reply
from services.sdk.request_errors import (
    BadRequest,
    Expired,
    HandlerError,
    RequestError,
    ServiceError,
)
from services.sdk.tracing import Span

__all__ = ["handle"]

_log: Final = logging.getLogger(__name__)


async def handle(
    handler: Handler, job: Job, mesh: Mesh, scope: anyio.CancelScope, span: Span | None
) -> None:
    """Run a handler, and reply if the event is a request. Whatever the handler raises ends here.

    A handler does not begin after the deadline: its requester has been told that the request has
    expired, and may have asked somebody else. When the deadline passes while it runs, or when its
    requester takes the request back, it is cancelled, and there is no reply.

    Args:
        handler: what to run.
        job: on what.
        mesh: where the reply goes.
        scope: the cancel scope that this runs in.
        span: is told what went wrong, where somebody traces it.
    """
    event = Event(job.envelope)
    answer: RequestError | None = None
    result = None
    answered = False
    try:
        try:
            if mesh.link.loop.now() > job.deadline:
                raise Expired("all handlers were busy until the time was over")  # noqa: TRY301
            job.begin(scope)
            result = await handler.function(**handler.bind(event, mesh))
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            answer = _explain(error, event)
        except anyio.get_cancelled_exc_class() as error:
            # On asyncio, a handler that awaits a task which was cancelled seems cancelled itself.
            if anyio.current_effective_deadline() == -math.inf:
                raise
            answer = _explain(error, event)
        except BaseExceptionGroup as errors:
            # On trio, a handler that was cancelled and failed on its way out raises both.
            cancelled, failures = errors.split(anyio.get_cancelled_exc_class())
            if cancelled is None or not isinstance(failures, ExceptionGroup):
                raise
            _explain(failures, event)
            raise cancelled from None
        if span is not None and answer is not None:
            span.fail(answer)
        if job.envelope.timeout is not None and not job.called_off:
            await _reply(event, result, answer, mesh, span)
            answered = True
    finally:
        job.end()
        if job.envelope.timeout is not None and not answered:
            why = "nobody awaits a reply any more" if job.called_off else "the time is over"
            _log.info("%s (id %s) was not answered: %s", event.name, event.id, why)


async def _reply(
    event: Event, result: object, answer: RequestError | None, mesh: Mesh, span: Span | None
) -> None:
    try:
        try:
            await _send(mesh, encode_reply(event.envelope, result, answer))
        except (MeshClosed, ConnectionLost):
            raise
        except Exception as error:  # noqa: BLE001 - what a handler returns may be anything
            # It is too big, or has no form in JSON. The requester must not wait in vain.
            _log.exception("what the handler of %s returned cannot be sent", event.name)
            failure = _hide(error)
            if span is not None:
                span.fail(failure)
            await _send(mesh, encode_reply(event.envelope, error=failure))
    except (MeshClosed, ConnectionLost) as error:
        _log.warning("the reply to %s (id %s) could not be sent: %s", event.name, event.id, error)


async def _send(mesh: Mesh, reply: bytes) -> None:
    """Send a reply, at once where that is possible: there is nothing to be cancelled then."""
    if mesh.link.put(reply) is None:
        await mesh.link.send(reply, patience=0)


def _explain(error: BaseException, event: Event) -> RequestError:
    """Say what a requester may know of an error; the rest is for this service's log.

    An error with a `call` is the end of a request that the handler made itself. It is not this
    service's own answer: "no route" to somebody else would be read as no route to this one.
    """
    if isinstance(error, ServiceError | BadRequest | Expired) and error.call is None:
        if event.timeout is None:
            _log.warning("%s from %s was not handled: %s", event.name, event.source, error)
        return error
    _log.error("the handler of %s failed on %s", event.name, event, exc_info=error)
    return _hide(error)


def _hide(error: BaseException) -> HandlerError:
    """Say that a handler failed. The text of an exception may hold what is nobody's business."""
    failure = HandlerError(type(error).__name__)
    failure.__cause__ = error
    return failure
