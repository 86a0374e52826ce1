"""A web application whose work is done on the mesh: `python -m examples.fastapi_app`.

It needs FastAPI and uvicorn. It starts although there is no broker yet, and answers 503 until there
is one. Then, with `examples.service` running:

    curl --json '{"item": "tea", "count": 3}' http://127.0.0.1:8000/invoices
"""

import logging
import math
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from examples.service import TOKEN, URL, Invoice, Order
from services.sdk import (
    BackplaneDown,
    BadRequest,
    ConnectionLost,
    Draining,
    Expired,
    Mesh,
    MeshClosed,
    MeshError,
    MessageTooBig,
    NoRoute,
    Overloaded,
    PeerGone,
    RateLimited,
    RequestError,
    ServiceError,
    State,
    connect,
)

log = logging.getLogger(__name__)

# What whoever asked can mend is their own: 4xx. What passes by itself is 503, with the time after
# which it is worth asking again. Whatever else there is, a service has done wrong: 502.
STATUSES: dict[type[MeshError], int] = {
    BadRequest: 400,
    ServiceError: 400,
    MessageTooBig: 413,
    RateLimited: 503,
    NoRoute: 503,
    PeerGone: 503,
    Overloaded: 503,
    Draining: 503,
    BackplaneDown: 503,
    ConnectionLost: 503,
    MeshClosed: 503,
    Expired: 504,
}
RETRY_SECONDS = 1


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # A short patience: while the broker is away, whoever asks over HTTP hears of it soon.
    mesh = connect(URL, group="web", token=TOKEN, insist=True, patience=0.5)
    app.state.mesh = mesh
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stay_connected, mesh)
        yield
        tasks.cancel_scope.cancel()


async def stay_connected(mesh: Mesh) -> None:
    """Connect in the background, so that the application need not wait for the broker."""
    try:
        async with mesh:
            await mesh.wait_closed()
    except MeshError as error:
        # The token is not accepted, say. It would answer 503 for ever: better to stop.
        log.critical("there will be no connection to the mesh: %s", error)
        signal.raise_signal(signal.SIGTERM)


def get_mesh(request: Request) -> Mesh:
    mesh: Mesh = request.app.state.mesh
    return mesh


app = FastAPI(title="Invoices", lifespan=lifespan)

OnMesh = Annotated[Mesh, Depends(get_mesh)]


class OrderBody(BaseModel):
    """What somebody wants, as HTTP has it."""

    item: str
    count: int = Field(ge=1)


class InvoiceBody(BaseModel):
    """What it costs."""

    text: str
    total: float


@app.post("/invoices")
async def create_invoice(body: OrderBody, mesh: OnMesh) -> InvoiceBody:
    invoice = await mesh.request(
        "INVOICE_CREATE",
        Order(item=body.item, count=body.count),
        group="billing",
        returns=Invoice,
        timeout=2,
    )
    return InvoiceBody(text=invoice.text, total=invoice.total)


@app.get("/health")
async def health(mesh: OnMesh, response: Response) -> dict[str, str]:
    if mesh.state is not State.CONNECTED:
        response.status_code = 503
    return {"mesh": mesh.state.value}


@app.exception_handler(MeshError)
async def say_what_went_wrong(_request: Request, error: MeshError) -> JSONResponse:
    status = next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 502)
    log.warning("%d: %s", status, error)
    headers = {}
    if status == 503:
        # Asking again is for what may be done twice: whether a service that went away, or whose
        # connection broke, has still done the work is not known.
        seconds = error.retry_after if isinstance(error, RateLimited) else None
        headers["Retry-After"] = str(math.ceil(seconds or RETRY_SECONDS))
    code = error.code if isinstance(error, RequestError) else type(error).__name__
    body: dict[str, object] = {"error": code}
    if isinstance(error, ServiceError | BadRequest):
        # These words are meant for whoever asked; those of the others are for the log.
        body |= {"message": error.message, "details": error.details}
    return JSONResponse(body, status, headers)


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
