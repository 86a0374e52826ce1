"""The tables of docs/chat.md about the domain say what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from services.chat import messages
from services.chat.main import main
from services.chat.messages import ChatError, ChatEvent, ChatRequest
from services.chat.stores import DEFAULT_STORE

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "docs" / "chat.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The rows of the table below a heading; each cell's words in backticks, joined by spaces."""
    section = PAGE.partition(f"### {heading}\n")[2].partition("\n#")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[" ".join(re.findall(r"`(\w+)`", cell)) for cell in row] for row in rows[2:]]


def test_every_request_is_in_the_table() -> None:
    assert [row[0] for row in table("Requests")] == [request.value for request in ChatRequest]


def test_every_event_is_in_the_table() -> None:
    named = [name for row in table("Events") for name in row[0].split()]
    assert named == [event.value for event in ChatEvent]


def test_every_error_is_in_the_table() -> None:
    assert [row[0] for row in table("Errors")] == [error.value for error in ChatError]


@pytest.mark.parametrize("row", table("Requests"), ids=lambda row: row[0])
def test_a_request_says_the_same_in_its_docstring(row: list[str]) -> None:
    name, data, result, errors = row
    if not data:
        return
    docstring = getattr(messages, data).__doc__
    assert name in docstring
    assert not result or f"`{result}`" in docstring
    promised = re.search(r"Errors?: (.*?)(\n\s*\n|\.\s|\.$|$)", docstring, re.DOTALL)
    said = set() if promised is None else set(re.findall(r"[A-Z]+_[A-Z_]+", promised[1]))
    assert said == set(errors.split()), docstring


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("longer than 64 characters", messages.MAX_USERNAME_LENGTH),
        ("a room's: 128", messages.MAX_ROOM_NAME_LENGTH),
        ("longer than 1,024 characters", messages.MAX_DESCRIPTION_LENGTH),
        ("longer than 256 characters", messages.MAX_PASSWORD_LENGTH),
        ("at most 65,536 bytes", messages.MAX_TEXT_BYTES),
        ("at most 1,000 entries", messages.MAX_PAGE),
    ],
)
def test_figures_are_those_of_the_code(figure: str, value: int) -> None:
    assert figure in " ".join(PAGE.split())
    assert str(value) in figure.replace(",", "")


def test_every_option_is_in_the_table() -> None:
    section = PAGE.partition("## Running it\n")[2].partition("\n## ")[0]
    help_text = CliRunner().invoke(main, ["--help"]).output
    for option in re.findall(r"(--[a-z-]+) [A-Z\[]", help_text):
        assert f"`{option}`" in section
    assert DEFAULT_STORE.removeprefix("sqlite:///") in section


def test_the_stores_of_the_page_are_those_of_the_program() -> None:
    section = PAGE.partition("## Stores\n")[2].partition("\n## ")[0]
    for scheme in ("sqlite://", "postgresql://", "redis://", "rediss://", "unix://"):
        assert f"`{scheme}" in section
