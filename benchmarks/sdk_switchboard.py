"""A worker on our SDK: `python -m benchmarks.sdk_switchboard ROLE URL LOOP`."""

import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from benchmarks.sdk_traffic import (
    PAIR,
    READERS,
    REQUEST_SECONDS,
    SOLO,
    Counter,
    Payload,
    asking,
    obey,
    publishing,
)
from services.sdk import Mesh, Service, connect


async def _client(url: str, token: str) -> None:
    async with connect(url, group="clients", token=token) as mesh:

        async def ask(group: str, data: Payload) -> Payload:
            answer: Payload = await mesh.request("ECHO", data, group=group, timeout=REQUEST_SECONDS)
            return answer

        async def emit(data: Payload) -> None:
            await mesh.emit("TICK", data, group=READERS)

        await obey({"ask": asking(ask), "publish": publishing(emit)})


async def _service(group: str, url: str, token: str) -> None:
    service = Service(group)

    @service.on("ECHO")
    async def echo(data: Payload) -> Payload:
        return data

    async with service.serve(url, token=token):
        await obey({})


async def _subscriber(url: str, token: str) -> None:
    async with (
        connect(url, group=READERS, token=token) as mesh,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_listen, mesh)
        # The parent may publish as soon as this worker says that it is ready.
        await anyio.wait_all_tasks_blocked()
        await obey({})
        tasks.cancel_scope.cancel()


async def _listen(mesh: Mesh) -> None:
    counter = Counter()
    async with mesh.listen("TICK") as events:
        async for event in events:
            counter.take(event.data)


# As it is installed without extras: where OpenTelemetry is about, the SDK asks it for a span for
# each message, which nats.py does not.
sys.modules["opentelemetry"] = None  # type: ignore[assignment]

ROLES: dict[str, Callable[[str, str], Awaitable[None]]] = {
    "client": _client,
    SOLO: partial(_service, SOLO),
    PAIR: partial(_service, PAIR),
    READERS: _subscriber,
}

if __name__ == "__main__":
    _, role, address, loop = sys.argv
    anyio.run(ROLES[role], address, os.environ["SDK_BENCH_TOKEN"], backend=loop)
