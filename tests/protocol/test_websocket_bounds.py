"""What a WebSocket connection can cost, by counting: memory, passes over the bytes, calls."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from broker.protocol.codec import Envelope
from broker.protocol.websocket import Role, WebSocketWire
from broker.protocol.websocket_messages import MAX_FRAGMENTS
from tests.protocol.websocket_bytes import (
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    data_of,
    event,
    frame,
    frames_in,
    header,
    server,
)


class CountingWire(WebSocketWire):
    """Counts the bytes that are read, or read again: each pass copies them once."""

    copied = 0
    passes = 0

    def _read_frames(self, data: bytes, messages: list[Envelope]) -> int:  # type: ignore[override]
        self.copied += len(data)
        self.passes += 1
        return super()._read_frames(data, messages)  # type: ignore[arg-type]


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Measure the largest amount of memory in use inside, over what is in use now; bytes."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        yield lambda: tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_a_large_message_in_small_pieces_is_read_once(piece: int) -> None:
    wire = CountingWire(Role.SERVER)
    data = frame(TEXT, event("x" * 100_000))
    messages = []
    for start in range(0, len(data), piece):
        messages += wire.receive(data[start : start + piece])
    assert data_of(messages) == ["x" * 100_000]
    # Once for the first two bytes, once for the length, once for the whole.
    assert wire.passes <= 4
    assert wire.copied <= len(data) + 3 * (piece + 14)


def test_many_messages_in_small_pieces_are_read_a_constant_number_of_times() -> None:
    wire = CountingWire(Role.SERVER)
    data = frame(TEXT, event("x" * 300)) * 200
    for start in range(len(data)):
        wire.receive(data[start : start + 1])
    assert wire.passes <= 4 * 200
    assert wire.copied <= len(data) + 200 * 3 * 14


def test_a_declared_length_takes_no_memory() -> None:
    wire = server(limit=1 << 40)
    with peak_memory() as peak:
        wire.receive(header(TEXT, 1 << 39) + KEY + b"x" * 1000)
        assert peak() < 10_000
    assert wire.failure is None


def test_a_partial_message_takes_no_more_than_the_limit_and_a_piece() -> None:
    limit, piece = 100_000, b"x" * 1000
    wire = server(limit=limit)
    with peak_memory() as peak:
        wire.receive(header(TEXT, limit) + KEY)
        for _ in range(limit // len(piece) - 1):
            wire.receive(piece)
        # A bytearray that grows may reserve an eighth more, and is moved while it does.
        assert peak() < 2.5 * limit
        assert wire.failure is None


@pytest.mark.parametrize("payload", [b"", b" "])
def test_a_message_has_a_bounded_number_of_fragments(payload: bytes) -> None:
    wire = server()
    with peak_memory() as peak:
        wire.receive(frame(TEXT, payload, final=False))
        for _ in range(MAX_FRAGMENTS - 1):
            wire.receive(frame(CONTINUATION, payload, final=False))
        assert wire.failure is None
        assert peak() < 100_000
        wire.receive(header(CONTINUATION, 0, final=False))
    assert wire.failure is not None
    assert wire.failure.close_code == 1009
    assert str(wire.failure) == f"a message may have at most {MAX_FRAGMENTS} fragments"


def test_a_message_of_the_most_fragments_is_read() -> None:
    payload = event("x" * (MAX_FRAGMENTS - len(event(""))))
    fragments = [
        frame(CONTINUATION if i else TEXT, payload[i : i + 1], final=i == MAX_FRAGMENTS - 1)
        for i in range(MAX_FRAGMENTS)
    ]
    wire = server()
    assert len(wire.receive(b"".join(fragments))) == 1
    assert len(wire.receive(b"".join(fragments))) == 1


def test_a_fragment_costs_the_same_however_many_came_before() -> None:
    wire = server()
    wire.receive(frame(TEXT, b" ", final=False))
    fragments = frame(CONTINUATION, b" ", final=False) * 1000
    costs = []
    for _ in range(5):
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(count)
        try:
            wire.receive(fragments)
        finally:
            sys.setprofile(None)
        costs.append(calls)
    assert len(set(costs)) == 1


def test_control_frames_come_through_whatever_the_message_has_used_up() -> None:
    wire = server(limit=MAX_FRAGMENTS)
    wire.receive(frame(TEXT, b" ", final=False))
    for _ in range(MAX_FRAGMENTS - 1):
        wire.receive(frame(CONTINUATION, b" ", final=False))
    wire.receive(frame(PING, b"alive"))
    assert wire.failure is None
    assert frames_in(wire.take_replies()) == [(0x80 | PONG, b"alive")]


def test_control_frames_do_not_count_as_fragments() -> None:
    wire = server()
    wire.receive(frame(TEXT, b'{"op":', final=False))
    for _ in range(20):
        wire.receive(frame(PING) * 1000)
    assert len(wire.receive(frame(CONTINUATION, b"3}"))) == 1


@pytest.mark.parametrize("together", [True, False])
def test_only_the_first_message_has_the_first_ones_bound_where_that_is_the_larger_one(
    together: bool,
) -> None:
    wire = WebSocketWire(Role.SERVER, limit=1024, first_limit=4096)
    first, second = frame(TEXT, event("x" * 3000)), frame(TEXT, event("y" * 1024))
    pieces = [first + second] if together else [first, second]
    messages = [message for piece in pieces for message in wire.receive(piece)]
    assert data_of(messages) == ["x" * 3000]
    assert wire.failure is not None
    assert wire.failure.close_code == 1009
