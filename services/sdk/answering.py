"""From an event and its handler to the reply."""

from __future__ import annotations

import logging
from typing import Final

import anyio

from services.sdk.errors import ConnectionLost, MeshClosed
from services.sdk.events import Event
from services.sdk.handlers import Handler
from services.sdk.jobs import Job
from services.sdk.mesh import Mesh
from services.sdk.request_errors import (
    BadRequest,
    Expired,
    HandlerError,
    RequestError,
    ServiceError,
)

__all__ = ["handle"]

_log: Final = logging.getLogger(__name__)


async def handle(handler: Handler, job: Job, mesh: Mesh) -> None:
    """Run a handler, and reply if the event is a request. Whatever the handler raises ends here.

    A handler does not begin after the deadline: its requester has been told that the request has
    expired, and may have asked somebody else. When the deadline passes while it runs, or when its
    requester takes the request back, it is cancelled, and there is no reply.
    """
    envelope = job.envelope
    event = Event(envelope)
    answer: RequestError | None = None
    result = None
    finished = False
    with job.scope():
        try:
            if anyio.current_time() > job.deadline:
                raise Expired("all handlers were busy until the time was over")  # noqa: TRY301
            result = await handler.function(**handler.bind(event, mesh))
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            answer = _explain(error, event)
        finished = True
    if envelope.timeout is None:
        return
    if job.called_off or not finished:
        why = "nobody awaits a reply any more" if job.called_off else "the time is over"
        _log.info("%s (id %s) was not answered: %s", event.name, event.id, why)
        return
    await _reply(event, result, answer, mesh)


async def _reply(event: Event, result: object, answer: RequestError | None, mesh: Mesh) -> None:
    try:
        try:
            await mesh.reply(event, result, error=answer)
        except (MeshClosed, ConnectionLost):
            raise
        except Exception as error:  # noqa: BLE001 - what a handler returns may be anything
            # It is too big, or has no form in JSON. The requester must not wait in vain.
            _log.exception("what the handler of %s returned cannot be sent", event.name)
            await mesh.reply(event, error=HandlerError(type(error).__name__))
    except (MeshClosed, ConnectionLost) as error:
        _log.warning("the reply to %s (id %s) could not be sent: %s", event.name, event.id, error)


def _explain(error: Exception, event: Event) -> RequestError:
    """Say what a requester may know of an error; the rest is for this service's log.

    An error with a `call` is the end of a request that the handler made itself. It is not this
    service's own answer: "no route" to somebody else would be read as no route to this one.
    """
    if isinstance(error, ServiceError | BadRequest | Expired) and error.call is None:
        if event.timeout is None:
            _log.warning("%s from %s was not handled: %s", event.name, event.source, error)
        return error
    _log.error("the handler of %s failed on %s", event.name, event, exc_info=error)
    # The text of an exception may hold what is nobody's business; its type tells enough.
    return HandlerError(type(error).__name__)
