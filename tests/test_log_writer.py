"""A log that nobody reads, or that can't be written, holds up nobody."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from broker.log_writer import LogWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def write_until_dropped(log: LogWriter, line: str) -> None:
    for _ in range(10_000):
        log.write(line)
        if log._dropped:
            return
    pytest.fail("nothing was dropped")


def test_lines_are_written_in_order(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with LogWriter(writing) as log:
        for number in range(100):
            assert log.write(f"line {number} é\n")
        log.flush()
        assert not log.isatty()
    said = os.read(reading, 65536).decode().splitlines()
    assert said == [f"line {number} é" for number in range(100)]


def test_a_pipe_that_nobody_reads_holds_up_nobody(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    line = "x" * 999 + "\n"
    said = b""
    with LogWriter(writing, most=50) as log:
        # Until the thread hangs in the pipe, the queue is full, and lines are dropped.
        write_until_dropped(log, line)
        dropped = log._dropped

        def read_all() -> None:
            nonlocal said
            while not said.endswith(b"}\n"):
                said += os.read(reading, 65536)

        reader = threading.Thread(target=read_all)
        reader.start()
        reader.join(30)
    assert not reader.is_alive()
    *lines, last = said.decode().splitlines()
    assert {len(one) for one in lines} == {999}
    assert last == f'{{"event": "lines of the log were dropped", "lines": {dropped}}}'


def test_it_does_not_wait_for_ever_at_the_end(pipe: tuple[int, int]) -> None:
    _reading, writing = pipe
    with LogWriter(writing, most=200) as log:
        write_until_dropped(log, "x" * 999 + "\n")
        thread = log._thread
    # It hangs still, and the program goes on; a daemon does not keep it from ending.
    assert thread.is_alive()
    assert thread.daemon


def test_a_pipe_whose_reader_has_gone() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with LogWriter(writing) as log:
        for _ in range(3):
            log.write("unheard\n")
    assert not log._thread.is_alive()
    os.close(writing)
