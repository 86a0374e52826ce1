"""Services as processes: told to stop, or without a broker."""

from __future__ import annotations

import signal

import anyio
import pytest

from services.sdk import NoRoute, connect
from tests.sdk.programs import TOKEN, start

SERVICE = """
import sys
import anyio
from services.sdk import Service

slow = Service("slow")

@slow.on("HELLO")
async def hello() -> None: ...

@slow.on("WORK")
async def work() -> None:
    print("begun", flush=True)
    await anyio.sleep(0.05)
    print("finished", flush=True)

slow.run(sys.argv[1], token=sys.argv[2], backend=sys.argv[3])
print("ended", flush=True)
"""


async def give_work(url: str) -> None:
    async with connect(url, group="tests", token=TOKEN) as mesh:
        while True:
            try:
                await mesh.request("HELLO", group="slow")
            except NoRoute:
                continue  # It is still starting.
            await mesh.emit("WORK", group="slow")
            return


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_a_service(broker: str, backend: str, number: signal.Signals) -> None:
    with start("-c", SERVICE, broker, TOKEN, backend) as process:
        assert process.stdout is not None
        anyio.run(give_work, broker, backend="trio")
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        output, errors = process.communicate()
    assert (process.returncode, output, errors) == (0, "finished\nended\n", "")


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_service_without_a_broker(backend: str) -> None:
    program = f"""
from services.sdk import ConnectionLost, Service
try:
    Service("a").run("tcp://127.0.0.1:1", token="t", backend="{backend}")
except ConnectionLost as error:
    print(type(error).__name__)
"""
    with start("-c", program) as process:
        output, errors = process.communicate()
    assert (process.returncode, output, errors) == (0, "CannotConnect\n", "")
