"""What a service answers."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import anyio
import attrs
import pytest

from broker.protocol.codec import encode_frame
from broker.protocol.frames import Error, Frame, Intent, OpCode, Target
from services.sdk import (
    BadRequest,
    Event,
    Mesh,
    MeshError,
    Overloaded,
    Service,
    ServiceError,
)
from services.sdk.outbox import HIGH_BYTES
from tests.sdk.loops import on_both_loops, on_trio, run_on_trio
from tests.sdk.scripted import PEER, ScriptedBroker, event, request


@attrs.frozen
class Order:
    item: str
    count: int


@attrs.frozen
class Invoice:
    text: str


billing = Service("billing")


@billing.on("INVOICE_CREATE")
async def create_invoice(order: Order) -> Invoice:
    return Invoice(f"{order.count} x {order.item}")


@billing.on("NOTHING")
async def do_nothing() -> None: ...


@billing.on("WHO")
async def tell_who(event: Event, mesh: Mesh) -> list[str]:
    return [event.source.id, mesh.id]


@billing.on("REFUSE")
async def refuse() -> None:
    raise ServiceError("OUT_OF_STOCK", "none left", details={"item": 7})


@billing.on("REFUSE_DATA")
async def refuse_data() -> None:
    raise BadRequest("count: is odd")


@billing.on("FAIL")
async def fail() -> None:
    raise KeyError("a secret")


@billing.on("RETURN_OBJECT")
async def return_object() -> object:
    return object()


@billing.on("RETURN_MUCH")
async def return_much() -> str:
    return "x" * 5000


@billing.on("REFUSE_WITH_OBJECT")
async def refuse_with_object() -> None:
    raise ServiceError("OUT_OF_STOCK", "", details={"item": object()})


@billing.on("ASK_NOBODY")
async def ask_nobody(mesh: Mesh) -> None:
    await mesh.request("SUM", group="nobody", timeout=1)


async def first_reply(asked: Frame) -> Frame:
    with ScriptedBroker() as broker:
        async with billing.serve("tcp://broker", token="t", dial=broker.dial):
            broker.send(asked)
            return await broker.receive_until(OpCode.REPLY)


@pytest.mark.parametrize(
    ("name", "data", "result"),
    [
        ("INVOICE_CREATE", {"item": "tea", "count": 2}, {"text": "2 x tea"}),
        ("NOTHING", "whatever", None),
        ("WHO", None, [PEER.id, "c0ffee"]),
    ],
)
def test_results(name: str, data: object, result: object) -> None:
    async def run() -> None:
        answer = await first_reply(request(name, data))
        assert (answer.id, answer.data, answer.error) == (f"id-of-{name}", result, None)
        assert answer.intent == Intent(Target.DIRECT, PEER.id)

    run_on_trio(run)


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        (
            "INVOICE_CREATE",
            {"item": "tea", "count": "2"},
            Error("BAD_REQUEST", "data: Expected `int`, got `str` - at `$.count`"),
        ),
        ("UNHEARD_OF", None, Error("UNKNOWN_EVENT", "nothing here handles UNHEARD_OF")),
        ("REFUSE", None, Error("OUT_OF_STOCK", "none left", {"item": 7})),
        ("REFUSE_DATA", None, Error("BAD_REQUEST", "count: is odd")),
        # What it was about stays in the log of the service.
        ("FAIL", None, Error("HANDLER_ERROR", "KeyError")),
        ("RETURN_OBJECT", None, Error("HANDLER_ERROR", "PayloadError")),
        ("RETURN_MUCH", None, Error("HANDLER_ERROR", "MessageTooBig")),
        ("REFUSE_WITH_OBJECT", None, Error("HANDLER_ERROR", "PayloadError")),
    ],
)
def test_errors(name: str, data: object, error: Error) -> None:
    async def run() -> None:
        assert (await first_reply(request(name, data))).error == error

    run_on_trio(run)


@pytest.mark.parametrize("name", ["FAIL", "RETURN_OBJECT", "RETURN_MUCH", "REFUSE_WITH_OBJECT"])
def test_failures_are_logged(name: str, caplog: pytest.LogCaptureFixture) -> None:
    run_on_trio(partial(first_reply, request(name)))
    (record,) = caplog.records
    assert name in record.getMessage()
    assert record.exc_info is not None


def test_an_event_without_timeout_gets_no_reply(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        with ScriptedBroker() as broker:
            async with billing.serve("tcp://broker", token="t", dial=broker.dial):
                for name in ("NOTHING", "WHO", "FAIL", "REFUSE", "UNHEARD_OF", "INVOICE_CREATE"):
                    broker.send(event(name))
                await anyio.wait_all_tasks_blocked()
            frames = [await broker.receive() for _ in range(2)]
            assert [frame.op for frame in frames] == [OpCode.IDENTIFY, OpCode.DISCONNECT]

    with caplog.at_level(logging.WARNING):
        run_on_trio(run)
    assert len(caplog.records) == 3  # FAIL, REFUSE, and the data of INVOICE_CREATE.


@on_trio
async def test_the_end_of_a_handler_s_own_request_is_not_passed_on() -> None:
    with ScriptedBroker() as broker:
        async with billing.serve("tcp://broker", token="t", dial=broker.dial):
            broker.send(request("ASK_NOBODY"))
            asked = await broker.receive_until(OpCode.EVENT)
            broker.send(Frame(op=OpCode.REPLY, id=asked.id, error=Error("OUT_OF_STOCK", "theirs")))
            answer = await broker.receive_until(OpCode.REPLY)
            assert answer.error == Error("HANDLER_ERROR", "ServiceError")


@on_both_loops
async def test_it_tells_the_broker_how_many_it_takes() -> None:
    with ScriptedBroker() as broker:
        async with billing.serve("tcp://broker", token="t", dial=broker.dial, concurrency=7):
            said = await broker.receive()
            assert said.data == {"token": "t", "group": "billing", "concurrency": 7}


@on_both_loops
async def test_an_event_close_behind_the_welcome_is_handled() -> None:
    with ScriptedBroker() as broker:
        broker.first += encode_frame(request("NOTHING")) + b"\n"
        async with billing.serve("tcp://broker", token="t", dial=broker.dial):
            assert (await broker.receive_until(OpCode.REPLY)).error is None


class Shop:
    """A service whose handlers wait until they are let through."""

    def __init__(self) -> None:
        self.service = Service("shop")
        self.open = anyio.Event()
        self.busy = 0
        self.cancelled = 0
        self.handled: list[int] = []
        self.service.on("BUY")(self.buy)

    async def buy(self, number: int) -> int:
        self.busy += 1
        try:
            await self.open.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.busy -= 1
        self.handled.append(number)
        return number


@on_both_loops
async def test_handlers_run_side_by_side_up_to_a_bound() -> None:
    shop = Shop()
    with ScriptedBroker() as broker:
        async with shop.service.serve("tcp://broker", token="t", dial=broker.dial, concurrency=3):
            broker.send(*(request("BUY", number, id=str(number)) for number in range(5)))
            await anyio.wait_all_tasks_blocked()
            assert shop.busy == 3
            shop.open.set()
            results = [(await broker.receive_until(OpCode.REPLY)).data for _ in range(5)]
            assert sorted(results) == [0, 1, 2, 3, 4]


@on_both_loops
async def test_past_the_backlog() -> None:
    shop = Shop()
    errors: list[MeshError] = []
    with ScriptedBroker() as broker:
        async with shop.service.serve(
            "tcp://broker",
            token="t",
            dial=broker.dial,
            concurrency=1,
            backlog=1,
            on_error=errors.append,
        ):
            broker.send(request("BUY", 0))
            await anyio.wait_all_tasks_blocked()
            broker.send(request("BUY", 1), request("BUY", 2, id="too-many"), event("BUY", 3))
            refusal = await broker.receive_until(OpCode.REPLY)
            assert refusal.id == "too-many"
            assert refusal.error is not None
            assert refusal.error.code == "OVERLOADED"
            # An event has nobody waiting for an answer; that it was lost is told here.
            (error,) = errors
            assert isinstance(error, Overloaded)
            assert "the event was not handled" in str(error)
            shop.open.set()


@on_trio
async def test_a_request_that_has_expired_before_its_turn_is_not_handled() -> None:
    shop = Shop()
    with ScriptedBroker() as broker:
        async with shop.service.serve("tcp://broker", token="t", dial=broker.dial, concurrency=1):
            broker.send(event("BUY", 0), request("BUY", 1, id="late"), event("BUY", 2))
            await anyio.sleep(2.1)
            shop.open.set()
            refusal = await broker.receive_until(OpCode.REPLY)
            assert refusal.id == "late"
            assert refusal.error == Error(
                "EXPIRED", "all handlers were busy until the time was over"
            )
            await anyio.wait_all_tasks_blocked()
            assert shop.handled == [0, 2]


@pytest.mark.parametrize("bounds", [{"concurrency": 0}, {"backlog": 0}])
def test_bounds_that_let_nothing_through(bounds: dict[str, Any]) -> None:
    async def run() -> None:
        with ScriptedBroker() as broker:
            async with billing.serve("tcp://broker", token="t", dial=broker.dial, **bounds):
                raise AssertionError("entered")

    with pytest.raises(ValueError, match="at least one each"):
        run_on_trio(run)


@on_both_loops
async def test_heartbeats_are_answered_while_all_handlers_are_busy() -> None:
    shop = Shop()
    with ScriptedBroker() as broker:
        async with shop.service.serve("tcp://broker", token="t", dial=broker.dial, concurrency=1):
            broker.send(*(request("BUY", number) for number in range(5)))
            await anyio.wait_all_tasks_blocked()
            broker.send(Frame(op=OpCode.PING))
            assert (await broker.receive_until(OpCode.PONG)).op is OpCode.PONG
            shop.open.set()


@on_both_loops
async def test_leaving_lets_handlers_finish_and_takes_nothing_new() -> None:
    shop = Shop()
    with ScriptedBroker() as broker, anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def end() -> None:
                await anyio.wait_all_tasks_blocked()
                broker.send(request("BUY", 2, id="late"))
                refusal = await broker.receive_until(OpCode.REPLY)
                assert refusal.id == "late"
                assert refusal.error == Error("DRAINING", "the service is about to stop")
                shop.open.set()
                assert (await broker.receive_until(OpCode.REPLY)).data == 1
                assert (await broker.receive_until(OpCode.DISCONNECT)).data == "NO_REASON"

            async with shop.service.serve("tcp://broker", token="t", dial=broker.dial):
                broker.send(request("BUY", 1))
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(end)
    assert not scope.cancelled_caught
    assert shop.cancelled == 0


@on_trio
async def test_leaving_cancels_handlers_that_do_not_finish() -> None:
    shop = Shop()
    with ScriptedBroker() as broker:
        async with shop.service.serve("tcp://broker", token="t", dial=broker.dial, grace=3):
            broker.send(event("BUY", 1, timeout=20_000))
            await anyio.wait_all_tasks_blocked()
            before = anyio.current_time()
        assert anyio.current_time() - before == 3
    assert shop.cancelled == 1


@on_both_loops
async def test_cancellation_lets_handlers_finish_too() -> None:
    shop = Shop()
    with ScriptedBroker() as broker:
        async with anyio.create_task_group() as tasks:

            async def let_through() -> None:
                await anyio.wait_all_tasks_blocked()
                shop.open.set()

            with anyio.CancelScope() as scope:
                async with shop.service.serve("tcp://broker", token="t", dial=broker.dial):
                    broker.send(request("BUY", 1))
                    await anyio.wait_all_tasks_blocked()
                    scope.cancel()
                    tasks.start_soon(let_through)
                    await anyio.sleep_forever()
        assert (await broker.receive_until(OpCode.REPLY)).data == 1
        assert (await broker.receive_until(OpCode.DISCONNECT)).data == "NO_REASON"


def test_a_lost_connection_stops_the_handlers_of_its_requests(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop = Shop()

    async def run() -> None:
        with ScriptedBroker() as broker:
            async with shop.service.serve(
                "tcp://broker", token="t", dial=broker.dial, concurrency=2, reconnect=None
            ):
                broker.send(request("BUY", 1), event("BUY", 2), request("BUY", 3, id="waiting"))
                await anyio.wait_all_tasks_blocked()
                broker.hang_up()
                await anyio.wait_all_tasks_blocked()
                assert (shop.busy, shop.cancelled) == (1, 1)
                shop.open.set()

    with caplog.at_level(logging.INFO):
        run_on_trio(run)
    assert shop.handled == [2]
    (record,) = caplog.records
    assert "BUY (id id-of-BUY) was not answered: nobody awaits" in record.getMessage()


def test_a_reply_that_finds_no_connection_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    service = Service("much")

    @service.on("MUCH")
    async def much() -> str:
        return "x" * HIGH_BYTES

    async def run() -> None:
        with ScriptedBroker(message_bytes=2 * HIGH_BYTES, room=1) as broker:
            async with service.serve("tcp://broker", token="t", dial=broker.dial, reconnect=None):
                # The first is being written, the second waits in the outbox, the third for room.
                for number in range(4):
                    broker.send(request("MUCH", id=str(number)))
                    await anyio.wait_all_tasks_blocked()
                broker.hang_up()
                await anyio.wait_all_tasks_blocked()

    run_on_trio(run)
    assert "the reply to MUCH (id 3) could not be sent" in caplog.text


def test_one_handler_an_event() -> None:
    service = Service("a")
    service.on("E")(do_nothing)
    with pytest.raises(ValueError, match="E has a handler already"):
        service.on("E")(refuse)


def test_a_handler_is_async() -> None:
    with pytest.raises(TypeError, match="not an async function"):
        Service("a").on("E")(lambda: None)  # type: ignore[type-var]


@on_both_loops
async def test_a_wrong_signature_is_told_before_connecting() -> None:
    service = Service("a")

    @service.on("E")
    async def handler(*everything: object) -> None: ...

    with pytest.raises(TypeError, match="everything"):
        async with service.serve("tcp://127.0.0.1:1", token="t"):
            raise AssertionError("entered")
