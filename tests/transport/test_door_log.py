"""Who gets no further than the door is told at DEBUG alone: some a second, and with the reason."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import structlog
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from tests.transport.test_door import House, house

__all__ = ["house"]

AT_THE_DOOR = "connection ended at the door"


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    structlog.reset_defaults()
    with capture_logs() as entries:
        yield entries


async def leave(far: trio.SocketStream) -> None:
    await far.aclose()
    await wait_all_tasks_blocked()


async def test_who_says_nothing(house: House, lines: list[Any]) -> None:
    await leave(house.knock())
    [line] = lines
    assert (line["event"], line["log_level"]) == (AT_THE_DOOR, "debug")
    assert line["address"] == "unix"
    assert line["message"].startswith("it ended")


async def test_whose_request_is_refused(house: House, lines: list[Any]) -> None:
    far = house.knock()
    await far.send_all(b"GET /secret-path HTTP/1.1\r\nHost: a\r\n\r\n")
    await wait_all_tasks_blocked()
    await leave(far)
    assert [line["message"] for line in lines] == ["the HTTP request was refused"]
    assert "secret" not in str(lines)


async def test_for_whom_there_is_no_place(house: House, lines: list[Any]) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await house.knock_next(stack)
        await leave(await house.knock_next(stack))
    assert lines[0]["message"].startswith("the broker has as many connections as it may")


async def test_many_of_them(house: House, lines: list[Any]) -> None:
    for _ in range(30):
        await leave(house.knock())
    assert len(lines) == 10


async def test_nothing_is_told_at_other_levels(house: House) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        with capture_logs() as lines:
            await leave(house.knock())
    finally:
        structlog.reset_defaults()
    assert lines == []
