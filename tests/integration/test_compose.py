"""What compose.yaml runs, run here as processes: its commands, its environment, its probes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import yaml

from tests.integration.activated import PATIENCE
from tests.integration.broker_process import ROOT

TOKEN = "0123456789abcdef0123456789abcdef"


class Composition:
    """The services, each a process in place of a container."""

    def __init__(self, stack: ExitStack) -> None:
        text = (ROOT / "examples" / "deploy" / "compose.yaml").read_text()
        text = re.sub(r"\$\{SWITCHBOARD_TOKEN:\?[^}]*\}", TOKEN, text)
        self.services: dict[str, Any] = yaml.safe_load(text)["services"]
        self.port = 0
        self._stack = stack

    def environ(self, name: str) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if "SWITCHBOARD" not in k}
        own = dict(self.services[name]["environment"])
        # On the host of the broker: the container itself, or the one by that name.
        own["SWITCHBOARD_URL"] = f"ws://127.0.0.1:{self.port}"
        return inherited | own

    def start(self, name: str) -> subprocess.Popen[str]:
        command = list(self.services[name]["command"])
        if name == "broker":
            # As `switchboard` does it; the port is the system's choice here.
            command = ["broker", *(word.replace(":8420", ":0") for word in command)]
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=self.environ(name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        return process

    def healthy(self, name: str) -> bool:
        _, program, *words = self.services[name]["healthcheck"]["test"]
        assert program == "switchboard"
        run = "from services.cli.main import main; main(prog_name='switchboard')"
        done = subprocess.run(
            [sys.executable, "-c", run, *words],
            cwd=ROOT,
            env=self.environ(name),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode == 0


@pytest.fixture
def composition() -> Iterator[Composition]:
    with ExitStack() as stack:
        yield Composition(stack)


def test_each_becomes_healthy_and_in_the_order_that_is_written(composition: Composition) -> None:
    assert not composition.healthy("broker")
    broker = composition.start("broker")
    assert broker.stdout is not None
    said = broker.stdout.readline()
    assert said.startswith("listening on tcp://0.0.0.0:")
    composition.port = int(said.rpartition(":")[2])
    assert composition.healthy("broker")
    assert not composition.healthy("billing")
    billing = composition.start("billing")
    while not composition.healthy("billing"):
        assert billing.poll() is None
    # The one that asks is not, while it is not there itself.
    assert not composition.healthy("orders")
    orders = composition.start("orders")
    while not composition.healthy("orders"):
        assert orders.poll() is None
    # And its probe goes through both.
    billing.terminate()
    assert billing.wait(PATIENCE) == 0
    assert not composition.healthy("orders")
