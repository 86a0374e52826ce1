"""`docs/chat.md` against the code: the tests that it names, the actions, types and codes."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from services.gateways.redis_chat.codes import ErrorCode
from services.gateways.redis_chat.requests import RequestType
from services.gateways.rooms.actions import Action
from tests.test_docs import Document, code, read

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENT: Final = ROOT / "docs" / "chat.md"

# What the servers of the documents send beside answers that are called as their requests.
ROOMS_SENDS: Final = {"RESPONSE", "ERROR", "GET MESSAGE"}
REDIS_CHAT_SENDS: Final = {"ready", "error", "authorized", "unauthorized", "channelRead", "sys"}

NAMED: Final = re.findall(r"`(?:tests/)?(?:\w+/)*(test_\w+\.py)::(test_\w+)`", DOCUMENT.read_text())


@pytest.fixture(scope="module")
def document() -> Document:
    return read(DOCUMENT)


@cache
def names_in(name: str) -> set[str]:
    """The tests of all files of a name."""
    return {
        node.name
        for path in (ROOT / "tests").rglob(name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_tests_are_named() -> None:
    assert len(NAMED) > 50


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    assert name in names_in(file)


def rows(document: Document, heading: str, first_column: str) -> list[list[str]]:
    return document.table(heading, first_column).rows


def test_each_action_of_the_rooms_has_a_row_with_a_test(document: Document) -> None:
    table = rows(document, "Rooms", "Action")
    assert {code(row[0]) for row in table} == set(Action) | ROOMS_SENDS
    assert all("::test_" in row[-1] for row in table)


def test_each_type_of_the_redis_chat_has_a_row_with_a_test(document: Document) -> None:
    table = rows(document, "Redis chat", "Type")
    assert {code(row[0]) for row in table} == set(RequestType) | REDIS_CHAT_SENDS
    assert all("::test_" in row[-1] for row in table)


@pytest.mark.parametrize("heading", ["Rooms", "Redis chat"])
def test_each_choice_has_a_test(document: Document, heading: str) -> None:
    assert all("::test_" in row[-1] for row in rows(document, heading, "Question"))


def test_the_codes_of_the_redis_chat(document: Document) -> None:
    table = rows(document, "Redis chat", "Code")
    assert [(int(row[0]), code(row[1])) for row in table] == [(c.value, c.name) for c in ErrorCode]
