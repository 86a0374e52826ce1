"""Ctrl-C: the first cancels, the others are told of, while what has to end takes its time."""

from __future__ import annotations

import os
import signal

import anyio

from services.demo.interrupting import run_until_signal


def test_without_a_signal_the_code_is_that_of_the_program() -> None:
    async def main() -> int:
        return 7

    async def run() -> int:
        return await run_until_signal(main, lambda: None, lambda: None)

    assert anyio.run(run, backend="asyncio") == 7


def test_the_first_signal_cancels_and_the_second_is_told_of() -> None:
    told: list[str] = []
    by_force = anyio.Event()

    def on_second() -> None:
        told.append("second")
        by_force.set()

    async def main() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep_forever()
        finally:
            told.append("ending")
            os.kill(os.getpid(), signal.SIGINT)
            with anyio.CancelScope(shield=True), anyio.fail_after(30):
                await by_force.wait()
        return 0

    async def run() -> int:
        return await run_until_signal(main, lambda: told.append("first"), on_second)

    assert anyio.run(run, backend="asyncio") == 128 + signal.SIGTERM
    assert told == ["first", "ending", "second"]
