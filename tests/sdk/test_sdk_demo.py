"""The demo, as a person starts it."""

from __future__ import annotations

import signal

import pytest

from tests.sdk.programs import start


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
        "-> web asks one of damon: COUNT",
        '{"shardId": "ef4d25", "entries": 10240}',
        "<- EXPIRED for damon 9b07c1",
        "<- PEER_GONE for damon 9b07c1",
        "ms after the kill.",
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
