"""Tracing with OpenTelemetry: spans, their attributes, and the trace that frames carry."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import opentelemetry.trace
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from broker.protocol.frames import Frame, Intent, OpCode, Pick, Target
from services.sdk import (
    BadRequest,
    Event,
    HandlerError,
    Mesh,
    NoRoute,
    Service,
    ServiceError,
    UnknownEvent,
    connect_sync,
)
from services.sdk.tracing import find_tracing
from services.testing import TestMesh
from tests.sdk.loops import on_both_loops, run_on_trio
from tests.sdk.programs import ROOT
from tests.sdk.real_broker import TOKEN, make_settings, running_in_thread
from tests.sdk.scripted import ScriptedBroker, request

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
CARRIED = f"00-{TRACE}-{PARENT}-01"


class Spans:
    """What has been recorded.

    Attributes:
        provider: makes the tracers.
    """

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._memory = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._memory))

    def all(self) -> list[ReadableSpan]:
        return list(self._memory.get_finished_spans())

    def forget(self) -> None:
        self._memory.clear()

    def one(self, name: str, kind: SpanKind) -> ReadableSpan:
        (found,) = (span for span in self.all() if (span.name, span.kind) == (name, kind))
        return found


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """A program that has set a provider up. (In earnest it can do so but once.)"""
    yield from use(Spans(), monkeypatch)


def use(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER", spans.provider)
    find_tracing.cache_clear()
    yield spans
    find_tracing.cache_clear()


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def traceparent(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    trace, span_id = format_trace_id(context.trace_id), format_span_id(context.span_id)
    return f"00-{trace}-{span_id}-{context.trace_flags:02x}"


def parent_of(span: ReadableSpan) -> str | None:
    return None if span.parent is None else format_span_id(span.parent.span_id)


def id_of(span: ReadableSpan) -> str:
    return traceparent(span).split("-")[2]


front, back = Service("front"), Service("back")


@front.on("BUY")
async def buy(item: str, mesh: Mesh) -> str:
    await mesh.emit("BOUGHT", item)
    price = await mesh.request("PRICE", item, group="back", timeout=20)
    return f"{item} for {price}"


@back.on("PRICE")
async def price(item: str) -> int:
    match item:
        case "gold":
            raise ServiceError("TOO_DEAR", "nobody can pay that")
        case "air":
            raise ZeroDivisionError("no price")
    return 7


@back.on("UNSAYABLE")
async def unsayable() -> object:
    return object()


@back.on("NEWS")
async def news(event: Event) -> None:
    if event.data == "bad":
        raise ZeroDivisionError("bad news")
    back_heard.append(event)


back_heard: list[Event] = []


def test_a_trace_goes_through_a_service_to_the_next(spans: Spans) -> None:
    async def test() -> None:
        async with TestMesh() as mesh:
            member = await mesh.run(front)
            await mesh.run(back)
            client = await mesh.client("web")
            async with client.listen("BOUGHT") as bought:
                assert await client.request("BUY", "tea", group="front") == "tea for 7"
                carried = (await bought.receive()).trace
        asked = spans.one("front/BUY", SpanKind.CLIENT)
        handled = spans.one("front/BUY", SpanKind.SERVER)
        sent = spans.one("send BOUGHT", SpanKind.PRODUCER)
        asked_on = spans.one("back/PRICE", SpanKind.CLIENT)
        answered = spans.one("back/PRICE", SpanKind.SERVER)
        assert parent_of(asked) is None
        assert parent_of(handled) == id_of(asked)
        assert parent_of(sent) == parent_of(asked_on) == id_of(handled)
        assert parent_of(answered) == id_of(asked_on)
        assert carried == traceparent(sent)
        assert len({traceparent(span).split("-")[1] for span in spans.all()}) == 1
        assert {span.status.status_code for span in spans.all()} == {StatusCode.UNSET}
        request_id = attributes(asked)["switchboard.request.id"]
        assert attributes(asked) == {
            "rpc.system.name": "switchboard",
            "rpc.method": "front/BUY",
            "server.address": "front",
            "switchboard.request.id": request_id,
        }
        assert attributes(handled) == {
            "rpc.system.name": "switchboard",
            "rpc.method": "front/BUY",
            "switchboard.source.id": client.id,
            "switchboard.request.id": request_id,
        }
        assert attributes(sent) == {
            "messaging.system": "switchboard",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": "BOUGHT",
            "messaging.message.id": attributes(sent)["messaging.message.id"],
        }
        assert member.group == "front"

    run_on_trio(test)


def test_an_event_that_awaits_no_reply(spans: Spans) -> None:
    async def test() -> None:
        async with TestMesh() as mesh:
            await mesh.run(back)
            client = await mesh.client("web")
            await client.emit("NEWS", "good", group="back")
            await client.emit("NEWS", "bad", group="back")
            # Order is kept, and the handler of this one begins after those.
            await client.request("PRICE", "tea", group="back")
        first, second = (span for span in spans.all() if span.kind is SpanKind.CONSUMER)
        sent = [span for span in spans.all() if span.kind is SpanKind.PRODUCER]
        assert [parent_of(first), parent_of(second)] == [id_of(span) for span in sent]
        assert first.name == second.name == "process NEWS"
        assert attributes(first) == {
            "messaging.system": "switchboard",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": "NEWS",
            "messaging.consumer.group.name": "back",
            "messaging.message.id": attributes(sent[0])["messaging.message.id"],
            "switchboard.source.id": client.id,
        }
        assert first.status.status_code is StatusCode.UNSET
        assert second.status.status_code is StatusCode.ERROR
        assert back_heard.pop().trace == traceparent(sent[0])

    run_on_trio(test)


@pytest.mark.parametrize(
    ("event", "item", "error", "code", "service_failed"),
    [
        ("PRICE", "gold", ServiceError, "TOO_DEAR", False),
        ("PRICE", 7, BadRequest, "BAD_REQUEST", False),
        ("PRICE", "air", HandlerError, "HANDLER_ERROR", True),
        ("UNSAYABLE", None, HandlerError, "HANDLER_ERROR", True),
    ],
)
def test_errors(
    event: str,
    item: object,
    error: type[Exception],
    code: str,
    service_failed: bool,
    spans: Spans,
) -> None:
    async def test() -> None:
        async with TestMesh() as mesh:
            await mesh.run(back)
            client = await mesh.client("web")
            with pytest.raises(error):
                await client.request(event, item, group="back")
        asked = spans.one(f"back/{event}", SpanKind.CLIENT)
        handled = spans.one(f"back/{event}", SpanKind.SERVER)
        for span in (asked, handled):
            assert attributes(span)["error.type"] == code
            assert attributes(span)["rpc.response.status_code"] == code
        assert asked.status.status_code is StatusCode.ERROR
        assert handled.status.is_ok is not service_failed
        recorded = [attributes_of["exception.type"] for attributes_of in exceptions(handled)]
        if item == "air":
            assert recorded == ["ZeroDivisionError"]
            assert handled.status.description == "no price"
        else:
            assert bool(recorded) is service_failed

    run_on_trio(test)


def exceptions(span: ReadableSpan) -> list[dict[str, object]]:
    return [dict(event.attributes or {}) for event in span.events if event.name == "exception"]


def test_errors_of_the_broker(spans: Spans) -> None:
    async def test() -> None:
        async with TestMesh() as mesh:
            client = await mesh.client("web")
            with pytest.raises(NoRoute):
                await client.request("PRICE", group="back")
            with pytest.raises(UnknownEvent):
                await client.request("PRICE", to=client.id)
        nobody, unknown = spans.all()
        assert attributes(nobody)["error.type"] == "NO_ROUTE"
        assert nobody.status.description == "there is no member of group 'back'"
        assert unknown.name == "PRICE"
        assert attributes(unknown)["server.address"] == client.id
        assert attributes(unknown)["error.type"] == "UNKNOWN_EVENT"

    run_on_trio(test)


def test_a_request_that_is_given_up(spans: Spans) -> None:
    waits = Service("waits")

    @waits.on("FOREVER")
    async def wait() -> None:
        await anyio.sleep_forever()

    async def test() -> None:
        async with TestMesh() as mesh:
            await mesh.run(waits)
            client = await mesh.client("web")
            with anyio.move_on_after(1):
                await client.request("FOREVER", group="waits")
        for kind in (SpanKind.CLIENT, SpanKind.SERVER):
            span = spans.one("waits/FOREVER", kind)
            assert attributes(span)["error.type"] == "CANCELLED"
            assert span.status.status_code is StatusCode.UNSET

    run_on_trio(test)


@on_both_loops
async def test_a_connection_that_is_lost() -> None:
    spans = Spans()
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        for _ in use(spans, patch):
            with ScriptedBroker() as broker:
                async with broker.connect() as mesh, anyio.create_task_group() as tasks:

                    async def ask() -> None:
                        with pytest.raises(Exception, match="broke"):
                            await mesh.request("PRICE", group="back")

                    tasks.start_soon(ask)
                    await broker.receive_until(OpCode.EVENT)
                    broker.hang_up()
    (span,) = spans.all()
    assert attributes(span)["error.type"] == "ConnectionLost"
    assert span.status.status_code is StatusCode.ERROR


def test_a_gather_is_one_span(spans: Spans) -> None:
    async def test() -> None:
        async with TestMesh() as mesh:
            for _ in range(2):
                await mesh.run(back)
            client = await mesh.client("web")
            async with client.gather("PRICE", "tea", group="back") as replies:
                assert [reply.data async for reply in replies] == [7, 7]
            with pytest.raises(NoRoute):
                async with client.gather("PRICE", group="nobody"):
                    raise AssertionError("entered")
            with pytest.raises(ZeroDivisionError):
                async with client.gather("NEWS", group="back"):
                    raise ZeroDivisionError
        asked = spans.one("back/PRICE", SpanKind.CLIENT)
        handled = [span for span in spans.all() if span.name == "back/PRICE"][:2]
        assert {parent_of(span) for span in handled} == {id_of(asked)}
        assert asked.status.is_ok
        nobody = spans.one("nobody/PRICE", SpanKind.CLIENT)
        assert attributes(nobody)["error.type"] == "NO_ROUTE"
        left = spans.one("back/NEWS", SpanKind.CLIENT)
        assert attributes(left)["error.type"] == "ZeroDivisionError"

    run_on_trio(test)


def test_a_handler_is_no_part_of_the_trace_in_which_its_service_was_begun(spans: Spans) -> None:
    async def test() -> None:
        async with TestMesh() as mesh:
            tracer = spans.provider.get_tracer("test")
            with tracer.start_as_current_span("start"):
                await mesh.run(back)
            web = await mesh.client("web")
            # One whose sender knows nothing of traces.
            untraced = Intent(Target.GROUP, "back", pick=Pick.ONE)
            async with web.frames() as frames:
                await web.send(Frame(op=OpCode.EVENT, event="PRICE", intent=untraced, timeout=900))
                assert (await frames.receive()).op is OpCode.REPLY
            (handled,) = (span for span in spans.all() if span.kind is SpanKind.SERVER)
            assert parent_of(handled) is None
            spans.forget()
            with tracer.start_as_current_span("page") as page:
                await web.request("PRICE", "tea", group="back")
            asked = spans.one("back/PRICE", SpanKind.CLIENT)
            assert parent_of(asked) == format_span_id(page.get_span_context().span_id)
            handled = spans.one("back/PRICE", SpanKind.SERVER)
            assert parent_of(handled) == id_of(asked)

    run_on_trio(test)


def test_a_call_from_another_thread_is_a_part_of_the_span_there(
    spans: Spans, tmp_path: Path
) -> None:
    with running_in_thread(make_settings(tmp_path)) as addresses:
        with connect_sync(addresses[0], group="web", token=TOKEN) as mesh:
            tracer = spans.provider.get_tracer("test")
            with tracer.start_as_current_span("page") as page, pytest.raises(NoRoute):
                mesh.request("PRICE", group="back")
    asked = spans.one("back/PRICE", SpanKind.CLIENT)
    assert parent_of(asked) == format_span_id(page.get_span_context().span_id)


# What else may come in.


def handle_one(trace: str | None) -> str | None:
    """Have a handler emit something while it handles a frame; return the trace of that."""
    carried: list[str | None] = []
    relay = Service("web")

    @relay.on("IN")
    async def pass_on(mesh: Mesh) -> None:
        await mesh.emit("OUT")

    async def test() -> None:
        with ScriptedBroker() as broker:
            serving = relay.serve("tcp://b", token="t", dial=broker.dial, reconnect=None)
            async with serving:
                broker.send(request("IN", trace=trace))
                while (frame := await broker.receive()).event != "OUT":
                    pass
                carried.append(frame.trace)

    run_on_trio(test)
    return carried[0]


@pytest.mark.parametrize(
    "nonsense", ["x", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", "ä" * 55]
)
def test_a_trace_that_makes_no_sense_begins_a_new_one(nonsense: str, spans: Spans) -> None:
    carried = handle_one(nonsense)
    assert carried is not None
    assert TRACE not in carried
    assert parent_of(spans.one("web/IN", SpanKind.SERVER)) is None


def test_a_trace_from_elsewhere_goes_on(spans: Spans) -> None:
    carried = handle_one(CARRIED)
    assert carried is not None
    assert carried.startswith(f"00-{TRACE}-")
    assert carried != CARRIED
    assert parent_of(spans.one("web/IN", SpanKind.SERVER)) == PARENT


def test_without_a_provider_a_trace_is_handed_on_as_it_came() -> None:
    assert handle_one(CARRIED) == CARRIED
    assert handle_one(None) is None


def test_what_is_not_sampled_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for spans in use(Spans(ALWAYS_OFF), monkeypatch):
        carried = handle_one(CARRIED)
        assert carried is not None
        assert carried.startswith(f"00-{TRACE}-")
        assert carried.endswith("-00")
        assert not spans.all()


# With it and without it: programs of their own.

PROGRAM = """
import sys
BLOCK

from services.sdk import Service, connect
assert "opentelemetry" not in sys.modules
import anyio
from services.testing import TestMesh

back = Service("back")

@back.on("PRICE")
async def price() -> int:
    return 7

async def main() -> None:
    async with TestMesh() as mesh:
        await mesh.run(back)
        client = await mesh.client("web")
        CONNECTED
        async with client.listen("NEWS") as events:
            await client.emit("NEWS")
            print((await events.receive()).trace)
        assert await client.request("PRICE", group="back") == 7
        async with client.gather("PRICE", group="back") as replies:
            assert [reply.data async for reply in replies] == [7]

anyio.run(main, backend="trio")
print("opentelemetry.trace" in sys.modules)
"""

BLOCK = """
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""

SET_UP = """
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace import set_tracer_provider
        set_tracer_provider(TracerProvider())
"""


def run_program(block: str = "", connected: str = "") -> list[str]:
    text = PROGRAM.replace("BLOCK", block).replace("        CONNECTED\n", connected)
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_nothing_is_imported_where_it_is_not_installed() -> None:
    assert run_program(BLOCK) == ["None", "False"]


def test_nothing_is_carried_where_no_provider_is_set_up() -> None:
    assert run_program() == ["None", "True"]


def test_a_provider_may_be_set_up_after_connecting() -> None:
    trace, installed = run_program(connected=SET_UP)
    assert trace.startswith("00-")
    assert installed == "True"


def test_another_import_that_fails_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "services.sdk.telemetry", None)
    find_tracing.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="telemetry"):
        find_tracing()
    find_tracing.cache_clear()
