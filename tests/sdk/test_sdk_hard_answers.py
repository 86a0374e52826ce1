"""Handlers that do what they should not, as their requesters see it, with the real broker.

After each of them the same service answers the next request.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from broker.core.settings import LimitSettings, Settings
from services.sdk import (
    Expired,
    HandlerError,
    InvalidReply,
    Mesh,
    MessageTooBig,
    PayloadError,
    Service,
)
from services.testing import TestMesh, virtual_time
from services.testing.mesh import Framing

MESSAGE_BYTES = 4096

SETTINGS = Settings(limits=LimitSettings(message_bytes=MESSAGE_BYTES))


class Oracle:
    """A service that says what it is given to say, whatever that is."""

    def __init__(self) -> None:
        self.service = Service("oracle")
        self.handler: Callable[[], Awaitable[object]] = self._nothing
        self.stopped = anyio.Event()
        self.service.on("ASK")(self._ask)
        self.service.on("HELLO")(self._hello)

    async def _ask(self) -> object:
        try:
            return await self.handler()
        finally:
            self.stopped.set()

    async def _hello(self, name: str) -> str:
        return f"hello {name}"

    async def _nothing(self) -> object: ...

    def returns(self, value: object) -> None:
        async def handler() -> object:
            return value

        self.handler = handler

    def raises(self, error: BaseException) -> None:
        async def handler() -> object:
            raise error

        self.handler = handler


AskOracle = Callable[[Oracle, Mesh], Awaitable[object]]


def with_oracle(ask: AskOracle, backend: str, framing: Framing = "stream") -> None:
    """Ask, and then see that the service goes on as if nothing had been."""

    async def run() -> None:
        oracle = Oracle()
        async with TestMesh(SETTINGS, framing=framing) as mesh:
            member = await mesh.run(oracle.service, concurrency=1)
            client = await mesh.client(group="web")
            with anyio.fail_after(600):
                await ask(oracle, client)
                for name in ("a", "b"):
                    answer = await client.request("HELLO", name, group="oracle", timeout=1)
                    assert answer == f"hello {name}"
            assert member.statistics().connections == client.statistics().connections == 1
            assert client.statistics().pending == 0
            assert mesh.services("oracle")[0].in_flight == 0

    anyio.run(run, backend=backend, backend_options=virtual_time(backend))  # type: ignore[arg-type]


on_both = pytest.mark.parametrize("backend", ["trio", "asyncio"])


def recursive() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


NO_JSON = {
    "an object": object(),
    "a set of objects": {object()},
    "a list that has itself in it": recursive(),
    "half a character": "\ud800",
    "half a character as a key": {"\ud800": 1},
    "a function": len,
    "a generator": (number for number in range(3)),
    "keys that are no text": {(1, 2): 3},
    "an object deep inside": {"a": [{"b": object()}]},
}


@on_both
@pytest.mark.parametrize("what", NO_JSON)
def test_a_handler_returns_what_has_no_form_in_json(
    what: str, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask(oracle: Oracle, client: Mesh) -> None:
        oracle.returns(NO_JSON[what])
        with pytest.raises(HandlerError, match="PayloadError"):
            await client.request("ASK", group="oracle", timeout=60)

    with_oracle(ask, backend)
    # Its own log says which of its handlers it was, and why.
    assert "what the handler of ASK returned cannot be sent" in caplog.text
    assert "not to be written as JSON" in caplog.text


@on_both
@pytest.mark.parametrize("what", NO_JSON)
def test_a_request_with_what_has_no_form_in_json_is_not_sent(what: str, backend: str) -> None:
    async def ask(_oracle: Oracle, client: Mesh) -> None:
        before = client.statistics().sent
        with pytest.raises(PayloadError, match="not to be written as JSON"):
            await client.request("HELLO", NO_JSON[what], group="oracle", timeout=60)
        assert client.statistics().sent == before

    with_oracle(ask, backend)


@on_both
@pytest.mark.parametrize(
    ("value", "read"),
    [
        # As JavaScript writes it. Who asks for a number learns that it is none.
        (math.nan, None),
        (-math.inf, None),
        # Read again as bytes where `returns` says so.
        (b"\x00\xff", "AP8="),
        ({7}, [7]),
        (frozenset(), []),
        ((1, "a"), [1, "a"]),
        ({7: "seven"}, {"7": "seven"}),
        (2**64, 2**64),
    ],
    ids=repr,
)
def test_what_becomes_of_what_json_says_otherwise(
    value: object, read: object, backend: str
) -> None:
    async def ask(oracle: Oracle, client: Mesh) -> None:
        oracle.returns(value)
        assert await client.request("ASK", group="oracle", timeout=60) == read
        kind = type(value)
        if read is None:
            with pytest.raises(InvalidReply, match="Expected `float`, got `null`"):
                await client.request("ASK", group="oracle", timeout=60, returns=kind)
        elif not isinstance(value, dict):
            assert await client.request("ASK", group="oracle", timeout=60, returns=kind) == value

    with_oracle(ask, backend)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise ValueError("not to be told")

    __repr__ = __str__


def group_of_errors() -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", [KeyError("a"), ValueError("b")])


@on_both
@pytest.mark.parametrize(
    "error",
    [
        KeyError("a secret"),
        group_of_errors(),
        UnprintableError(),
        TimeoutError("of its own"),
        StopAsyncIteration(),
        RecursionError("a secret"),
        HandlerError("a secret"),
        PayloadError("a secret"),
        anyio.EndOfStream("a secret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_handler_raises(
    error: BaseException, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask(oracle: Oracle, client: Mesh) -> None:
        oracle.raises(error)
        with pytest.raises(HandlerError) as caught:
            await client.request("ASK", group="oracle", timeout=60)
        # The type tells enough; the text stays in the log of the service.
        assert caught.value.message == type(error).__name__
        assert "secret" not in str(caught.value)

    with_oracle(ask, backend)
    assert "the handler of ASK failed" in caplog.text


def test_a_handler_awaits_a_task_that_was_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """On asyncio, the task's cancellation comes out as if it were the handler's own."""

    async def ask(oracle: Oracle, client: Mesh) -> None:
        # A cancellation that is the handler's own, before and after.
        oracle.handler = anyio.sleep_forever
        with pytest.raises(Expired):
            await client.request("ASK", group="oracle", timeout=1)

        async def handler() -> None:
            task = asyncio.create_task(asyncio.sleep(3600))
            task.cancel()
            await task

        oracle.handler = handler
        for _ in range(3):
            with pytest.raises(HandlerError, match="CancelledError"):
                await client.request("ASK", group="oracle", timeout=60)

        oracle.handler = anyio.sleep_forever
        with pytest.raises(Expired):
            await client.request("ASK", group="oracle", timeout=1)

    with_oracle(ask, "asyncio")
    assert "the handler of ASK failed" in caplog.text


@on_both
def test_a_handler_never_returns(backend: str) -> None:
    async def ask(oracle: Oracle, client: Mesh) -> None:
        oracle.handler = anyio.sleep_forever
        before = anyio.current_time()
        with pytest.raises(Expired):
            await client.request("ASK", group="oracle", timeout=7)
        assert 7 <= anyio.current_time() - before < 7.5
        await oracle.stopped.wait()
        assert anyio.current_time() - before < 7.5

    with_oracle(ask, backend)


@on_both
def test_a_handler_will_not_be_cancelled(backend: str) -> None:
    """Its requester does not wait for it; its place is taken until it returns."""

    async def ask(oracle: Oracle, client: Mesh) -> None:
        async def handler() -> None:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(100)

        oracle.handler = handler
        before = anyio.current_time()
        with pytest.raises(Expired):
            await client.request("ASK", group="oracle", timeout=7)
        assert 7 <= anyio.current_time() - before < 7.5
        assert not oracle.stopped.is_set()
        await oracle.stopped.wait()
        assert 100 <= anyio.current_time() - before < 100.5

    with_oracle(ask, backend)


@on_both
@pytest.mark.parametrize("framing", ["stream", "websocket"])
def test_a_reply_larger_than_the_broker_takes(
    backend: str, framing: Framing, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask(oracle: Oracle, client: Mesh) -> None:
        oracle.returns("x" * MESSAGE_BYTES)
        with pytest.raises(HandlerError, match="MessageTooBig"):
            await client.request("ASK", group="oracle", timeout=60)

    with_oracle(ask, backend, framing)
    assert f"the broker takes at most {MESSAGE_BYTES}" in caplog.text


@on_both
@pytest.mark.parametrize("framing", ["stream", "websocket"])
def test_a_request_larger_than_the_broker_takes(backend: str, framing: Framing) -> None:
    async def ask(_oracle: Oracle, client: Mesh) -> None:
        before = client.statistics().sent
        with pytest.raises(MessageTooBig, match=f"the broker takes at most {MESSAGE_BYTES}"):
            await client.request("HELLO", "x" * MESSAGE_BYTES, group="oracle", timeout=60)
        with pytest.raises(MessageTooBig, match=f"the broker takes at most {MESSAGE_BYTES}"):
            await client.emit("HELLO", "x" * MESSAGE_BYTES, group="oracle")
        with pytest.raises(MessageTooBig, match=f"the broker takes at most {MESSAGE_BYTES}"):
            async with client.gather("HELLO", "x" * MESSAGE_BYTES, group="oracle"):
                raise AssertionError("entered")
        assert client.statistics().sent == before

    with_oracle(ask, backend, framing)
