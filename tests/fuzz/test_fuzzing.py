"""A short run of what `make fuzz` does for an hour, and that it would find something."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from broker.core.calls import CallLedger
from broker.core.flow import Flow
from broker.core.peer import Effects
from broker.core.registry import Registry
from broker.protocol.errors import RemoteProtocolError
from broker.protocol.handshake_client import ClientHandshake
from broker.protocol.http_head import HeadBuffer
from broker.protocol.json_stream import JsonStream
from broker.protocol.websocket import WebSocketWire
from tests.fuzz.__main__ import ROOT
from tests.fuzz.targets import CORPUS, TARGETS, Target, make_input, read_corpus

SCALE = float(os.environ.get("SWITCHBOARD_TEST_SCALE", "1"))
# Of the slowest; of the others more.
RANDOM_INPUTS = int(2500 * SCALE)
EXAMPLES = int(300 * SCALE)


def run_many(target: Target, count: int) -> None:
    dice = random.Random(target.name)
    for data in (*target.seeds, *read_corpus(target.name)):
        target.run(data)
    for _ in range(count):
        target.run(make_input(target, dice))


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_thousands_of_inputs_raise_nothing(target: Target) -> None:
    run_many(target, RANDOM_INPUTS * 4 // target.share)


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_inputs_that_hypothesis_makes_up_raise_nothing(target: Target) -> None:
    @settings(max_examples=EXAMPLES)
    @given(target.inputs())
    def one(data: bytes) -> None:
        target.run(data)

    one()


def test_every_corpus_is_of_a_target() -> None:
    assert {path.stem for path in CORPUS.glob("*")} <= TARGETS.keys()


def test_the_command_fuzzes_and_tells_what_it_has_done(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--engine", "hypothesis", "--minutes", "0.01"]
    result = subprocess.run(
        [*command, "--target", "codec", "--cache", str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "codec" in result.stdout
    assert (tmp_path / "codec-hypothesis.log").exists()


# That it would find a fault: one is put in, and it is found within a short run.


def nothing(*_arguments: object, **_more: object) -> None:
    """What a protection does that has been taken out."""


def forget_the_failure(original: Callable[..., Any]) -> Callable[..., Any]:
    def receive(self: Any, data: bytes) -> Any:
        self.failure = None
        return original(self, data)

    return receive


def count_too_little(original: Callable[..., Any]) -> Callable[..., Any]:
    def send(self: Any, peer: Any, framed: bytes) -> None:
        original(self, peer, framed)
        peer.outbox_bytes -= 1

    return send


def answer_twice(original: Callable[..., Any]) -> Callable[..., Any]:
    """A request that was answered stays, and ends a second time when its time is over."""

    def answered(self: Any, call: Any, callee: Any) -> None:
        if call.missing is not None:
            original(self, call, callee)

    return answered


def raise_unicode_error(original: Callable[..., Any]) -> Callable[..., Any]:
    def receive(self: Any, data: bytes) -> Any:
        data.decode()
        return original(self, data)

    return receive


def unbounded(original: Callable[..., Any]) -> Callable[..., Any]:
    def check(self: Any, length: int) -> None:
        try:
            original(self, length)
        except RemoteProtocolError:
            return

    return check


@pytest.mark.parametrize(
    ("name", "owner", "attribute", "fault"),
    [
        ("json-stream", JsonStream, "_receive", forget_the_failure),
        ("websocket-server", WebSocketWire, "_check_size", unbounded),
        ("handshake-server", HeadBuffer, "receive", raise_unicode_error),
        ("handshake-client", ClientHandshake, "receive_eof", lambda _original: nothing),
        ("mesh", Effects, "send", count_too_little),
        ("mesh", Flow, "relieve", lambda _original: nothing),
        ("mesh", CallLedger, "answered", answer_twice),
        ("mesh", CallLedger, "lose", lambda _original: nothing),
        ("mesh", Registry, "remove", lambda _original: nothing),
    ],
)
def test_a_fault_that_is_put_in_is_found(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    owner: type,
    attribute: str,
    fault: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> None:
    monkeypatch.setattr(owner, attribute, fault(getattr(owner, attribute)))
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever shows it
        run_many(TARGETS[name], 2500)
