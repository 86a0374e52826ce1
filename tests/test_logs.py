from __future__ import annotations

import errno
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from broker.logs import configure_logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class FullDisk(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(autouse=True)
def log_configuration() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_a_program_gets_one_json_object_a_line() -> None:
    stream = io.StringIO()
    configure_logs("info", stream)
    try:
        int("wrong")
    except ValueError:
        structlog.get_logger().exception("two\nlines", path=Path("/run/s"))

    [line] = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["level"], entry["path"]) == ("two\nlines", "error", "/run/s")
    assert "ValueError: invalid literal" in entry["exception"]


def test_a_person_gets_a_readable_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    configure_logs("info", stream)
    structlog.get_logger().info("ready", listeners=1)

    assert re.fullmatch(r"\d\d:\d\d:\d\d \[info +\] ready +listeners=1\n", stream.getvalue())


def test_what_is_below_the_level_is_left_out() -> None:
    stream = io.StringIO()
    configure_logs("warning", stream)
    structlog.get_logger().info("chatter")

    assert stream.getvalue() == ""


def test_a_log_that_can_not_be_written_ends_nothing() -> None:
    configure_logs("info", FullDisk())
    structlog.get_logger().error("unheard")


@pytest.mark.parametrize(
    ("style", "terminal", "json_expected"),
    [
        ("auto", True, False),
        ("auto", False, True),
        ("json", True, True),
        ("console", False, False),
    ],
)
def test_the_format_can_be_chosen(style: str, terminal: bool, json_expected: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    configure_logs("info", stream, style)
    structlog.get_logger().info("ready")
    assert stream.getvalue().startswith("{") == json_expected
    if not terminal:
        assert "\x1b" not in stream.getvalue()


def test_a_name_can_not_give_orders_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    configure_logs("info", stream)
    structlog.get_logger().info("x", name="\x1b[2J\u202eevil", text="two\nlines", group="käse")
    [line] = stream.getvalue().splitlines()
    assert "\x1b" not in line
    assert "\u202e" not in line
    assert r"name=\x1b[2J\u202eevil" in line
    assert r"two\nlines" in line
    assert "group=käse" in line


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_traceback_shows_no_values_of_variables(style: str) -> None:
    stream = Terminal()
    configure_logs("info", stream, style)
    secret = "-".join(["a", "secret"])
    try:
        int("no number")
    except ValueError as error:
        structlog.get_logger().error("a fault", exc_info=error)
    assert "ValueError: invalid literal" in stream.getvalue()
    assert secret not in stream.getvalue()
