"""Programs as a person starts them: the demo, a service that is told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from services.sdk import NoRoute, connect

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-for-tests"


@contextmanager
def start(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", "SWITCHBOARD_TOKEN": TOKEN, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def broker() -> Iterator[str]:
    with start("-m", "broker", "serve", "--listen", "tcp://127.0.0.1:0") as process:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip()
        process.terminate()


def test_the_demo() -> None:
    with start("-m", "examples.demo") as process:
        output, errors = process.communicate()
    assert (process.returncode, errors) == (0, ""), output
    assert output.count("70653cb0-5f6d-41fe-acbf-ea8f37a73034") == 3
    for text in (
        '"data": {"channels": 10240, "shardId": "ef4d25", "users": 15042}',
        "<- damon ef4d25 receives the same",
        "<- damon 9b07c1 receives the same",
        "<- web receives",
        "Tea is ready.",
        "Everything arrived.",
    ):
        assert text in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_the_demo(number: signal.Signals) -> None:
    with start("-m", "examples.demo") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("broker"):
                break
        process.send_signal(number)
        rest, errors = process.communicate()
    assert (process.returncode, errors) == (128 + number, "")
    assert rest.endswith("Stopped.\n")


def test_a_demo_that_nobody_reads() -> None:
    with start("-m", "examples.demo") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait() == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_demo_whose_broker_does_not_start() -> None:
    program = (
        "import runpy, sys; sys.executable = '/bin/false';"
        "runpy.run_module('examples.demo', run_name='__main__')"
    )
    with start("-c", program) as process:
        output, errors = process.communicate()
    assert (process.returncode, errors) == (1, "")
    assert "the broker ended too early, with exit code 1" in " ".join(output.split())


def test_the_examples(broker: str) -> None:
    with start("-m", "examples.service", SWITCHBOARD_URL=broker) as service:
        output = ""
        # It says nothing when it is ready; the client says what is the matter until then.
        while not output.startswith("3 x tea"):
            with start("-m", "examples.client", SWITCHBOARD_URL=broker) as client:
                output, errors = client.communicate()
            assert (client.returncode, errors) == (0, "")
            assert output.startswith(("no invoice: INVOICE_CREATE to group billing", "3 x tea"))
        assert output == "3 x tea: 28.50\n"
        service.terminate()
        assert (service.wait(), *service.communicate()) == (0, "", "")


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
