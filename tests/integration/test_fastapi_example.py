"""examples/fastapi_app.py, as a person starts it, with a broker that comes and goes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from broker.protocol.errors import ErrorCode
from broker.protocol.frames import Error
from examples.fastapi_app import say_what_went_wrong
from examples.service import Invoice, Order
from services.sdk import (
    Call,
    CannotConnect,
    Disconnected,
    Down,
    InvalidReply,
    MeshClosed,
    MeshError,
    MessageTooBig,
    Service,
    ServiceError,
    Snapshot,
    Up,
    connect,
)
from services.sdk.request_errors import error_from_reply
from tests.integration.broker_process import TOKEN, broker_process
from tests.sdk.programs import start

TEA = {"item": "tea", "count": 3}


def start_app(url: str, token: str = TOKEN) -> AbstractContextManager[subprocess.Popen[str]]:
    environment = {"SWITCHBOARD_URL": url, "SWITCHBOARD_TOKEN": token, "PORT": "0"}
    return start("-m", "examples.fastapi_app", **environment)


def read_address(process: subprocess.Popen[str]) -> str:
    """Wait until the application listens, and return where."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
            return found[1]
    raise AssertionError("it has ended")


class Shop:
    """The service that the application asks, with a say in what becomes of it."""

    def __init__(self) -> None:
        self.service = Service("billing")
        self.asked = trio.Event()
        self.cancelled = trio.Event()
        self.service.on("INVOICE_CREATE")(self.create)

    async def create(self, order: Order) -> Invoice:
        match order.item:
            case "coffee":
                raise ServiceError("OUT_OF_STOCK", "none left", details={"again": "tomorrow"})
            case "bug":
                raise KeyError("a secret")
            case "cake":
                self.asked.set()
                try:
                    await trio.sleep_forever()
                finally:
                    self.cancelled.set()
        return Invoice(f"{order.count} x {order.item}", 28.5)


async def until_connected(url: str, client: httpx.AsyncClient) -> None:
    async with connect(url, group="tests", token=TOKEN) as mesh, mesh.watch() as changes:
        async for change in changes:
            match change:
                case Snapshot(services) if any(one.group == "web" for one in services):
                    break
                case Up(service) if service.group == "web":
                    break
    await until_healthy(client, 200)


async def until_healthy(client: httpx.AsyncClient, status: int) -> None:
    """It is about to find out itself."""
    while (await client.get("/health")).status_code != status:
        await trio.lowlevel.checkpoint()


def expect(answer: httpx.Response, status: int, body: dict[str, Any]) -> None:
    assert (answer.status_code, answer.json()) == (status, body)
    assert answer.headers.get("Retry-After") == ("1" if status == 503 else None)


async def test_the_application_without_a_broker_and_with_one(tmp_path: Path) -> None:
    with broker_process(tmp_path) as broker, trio.fail_after(60):
        await trio.to_thread.run_sync(broker.kill)
        with start_app(broker.address) as process:
            address = await trio.to_thread.run_sync(read_address, process)
            async with httpx.AsyncClient(base_url=address, timeout=30) as client:
                answer = await client.get("/health")
                assert (answer.status_code, answer.json()) == (503, {"mesh": "connecting"})
                expect(await client.post("/invoices", json=TEA), 503, {"error": "MeshClosed"})

                await trio.to_thread.run_sync(broker.start)
                await until_connected(broker.address, client)
                await ask_the_shop(broker.address, client)

                await trio.to_thread.run_sync(broker.kill)
                await until_healthy(client, 503)
                expect(await client.post("/invoices", json=TEA), 503, {"error": "ConnectionLost"})
                await trio.to_thread.run_sync(broker.start)
                await until_connected(broker.address, client)
                await leave(broker.address, process)


async def ask_the_shop(url: str, client: httpx.AsyncClient) -> None:
    expect(await client.post("/invoices", json=TEA), 503, {"error": "NO_ROUTE"})

    shop = Shop()
    async with shop.service.serve(url, token=TOKEN) as member:
        expect(await client.post("/invoices", json=TEA), 200, {"text": "3 x tea", "total": 28.5})

        nothing = await client.post("/invoices", json={"item": "tea", "count": 0})
        assert nothing.status_code == 422

        details = {"again": "tomorrow"}
        body = {"error": "OUT_OF_STOCK", "message": "none left", "details": details}
        expect(await client.post("/invoices", json={"item": "coffee", "count": 1}), 400, body)

        bug = {"item": "bug", "count": 1}
        expect(await client.post("/invoices", json=bug), 502, {"error": "HANDLER_ERROR"})

        cake = {"item": "cake", "count": 1}
        expect(await client.post("/invoices", json=cake), 504, {"error": "EXPIRED"})
        await shop.cancelled.wait()

        shop.asked = trio.Event()
        async with trio.open_nursery() as nursery:

            async def lose_the_shop() -> None:
                expect(await client.post("/invoices", json=cake), 503, {"error": "PEER_GONE"})

            nursery.start_soon(lose_the_shop)
            await shop.asked.wait()
            # As if the network had cut it off: no goodbye.
            await member._connected._stream.aclose()


async def leave(url: str, process: subprocess.Popen[str]) -> None:
    """Told to stop, it says goodbye to the broker."""
    async with connect(url, group="tests", token=TOKEN) as mesh, mesh.watch() as changes:
        snapshot = await changes.receive()
        assert isinstance(snapshot, Snapshot)
        assert "web" in {service.group for service in snapshot.services}
        process.terminate()
        down = await changes.receive()
        assert isinstance(down, Down)
        assert (down.service.group, down.reason) == ("web", "NO_REASON")
        _, log = await trio.to_thread.run_sync(process.communicate)
    # uvicorn ends as if it had not caught the signal.
    assert process.returncode in {0, -signal.SIGTERM}
    assert "Application shutdown complete" in log
    assert "Traceback" not in log


async def test_the_application_ends_when_its_token_is_not_accepted(tmp_path: Path) -> None:
    with broker_process(tmp_path) as broker, trio.fail_after(60):
        with start_app(broker.address, "another") as process:
            _, log = await trio.to_thread.run_sync(process.communicate)
        assert process.returncode in {0, -signal.SIGTERM}
        assert "there will be no connection to the mesh: the broker did not let this" in log
        assert "Traceback" not in log


STATUSES = {
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.NO_ROUTE: 503,
    ErrorCode.PEER_GONE: 503,
    ErrorCode.OVERLOADED: 503,
    ErrorCode.RATE_LIMITED: 503,
    ErrorCode.DRAINING: 503,
    ErrorCode.BACKPLANE_DOWN: 503,
    ErrorCode.EXPIRED: 504,
    ErrorCode.FORBIDDEN: 502,
    ErrorCode.INVALID_INTENT: 502,
    ErrorCode.INVALID_FRAME: 502,
    ErrorCode.UNKNOWN_EVENT: 502,
    ErrorCode.HANDLER_ERROR: 502,
    "OUT_OF_STOCK": 400,
}


@pytest.mark.parametrize("code", [*ErrorCode, "OUT_OF_STOCK"])
async def test_every_code_has_its_status(code: str) -> None:
    call = Call("INVOICE_CREATE", "group billing", "7")
    error = error_from_reply(Error(code, "because", {"retry_after": 2001}), call)
    response = await say_what_went_wrong(None, error)  # type: ignore[arg-type]
    assert response.status_code == STATUSES[code]
    story = {"message": "because", "details": {"retry_after": 2001}}
    body = {"error": code} | (story if STATUSES[code] == 400 else {})
    assert json.loads(bytes(response.body)) == body
    wait = "3" if code == ErrorCode.RATE_LIMITED else "1"
    assert response.headers.get("Retry-After") == (wait if STATUSES[code] == 503 else None)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (CannotConnect("10.0.0.1"), 503),
        (Disconnected("SERVER_RESTART", "10.0.0.1"), 503),
        (MeshClosed("10.0.0.1"), 503),
        (MessageTooBig("10.0.0.1"), 413),
        (InvalidReply("10.0.0.1"), 502),
    ],
)
async def test_other_errors_are_for_the_log(error: MeshError, status: int) -> None:
    response = await say_what_went_wrong(None, error)  # type: ignore[arg-type]
    assert response.status_code == status
    assert b"10.0.0.1" not in bytes(response.body)
