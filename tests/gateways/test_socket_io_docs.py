"""`docs/chat.md` about Mirage and Keenchat: a row for each endpoint and event, with a test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from services.gateways.keenchat.problems import STATUSES
from services.gateways.keenchat.realtime import CLIENT_EVENTS
from services.gateways.keenchat.rest import router
from services.gateways.mirage.gateway import ENDPOINTS
from tests.test_docs import Document, code, read

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "chat.md"

KEENCHAT_SENDS: Final = {
    "post user",
    "post message",
    "channel movement",
    "start typing",
    "stop typing",
    "refresh page",
}


@pytest.fixture(scope="module")
def document() -> Document:
    return read(DOCUMENT)


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_each_endpoint_of_mirage_has_a_row_with_a_test(document: Document) -> None:
    table = document.table("Mirage", "Endpoint").rows
    named = {code(row[0]) for row in table}
    # Three of them have a second name, without the suffix.
    endpoints = {name for name in ENDPOINTS if f"{name}_route" not in ENDPOINTS}
    assert named == endpoints | {"connect", "disconnect", "error"}
    assert all("::test_" in row[-1] for row in table)


def test_each_endpoint_of_keenchat_has_a_row_with_a_test(document: Document) -> None:
    table = document.table("Keenchat", "Endpoint").rows
    served = {
        f"{method} {route.path.replace('{id}', ':id')}"  # type: ignore[attr-defined]
        for route in router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    assert {code(row[0]) for row in table} == served
    assert all("::test_" in row[-1] for row in table)


def test_each_event_of_keenchat_has_a_row_with_a_test(document: Document) -> None:
    table = document.table("Keenchat", "Event").rows
    told = {
        sender: {name for row in table if row[1] == sender for name in codes(row[0])}
        for sender in ("server", "client")
    }
    assert told == {"server": KEENCHAT_SENDS, "client": set(CLIENT_EVENTS)}
    assert all("::test_" in row[-1] for row in table)


def test_each_status_of_keenchat_names_its_codes(document: Document) -> None:
    table = document.table("Keenchat", "Status").rows
    named = {name: int(row[0]) for row in table for name in codes(row[1]) if name.isupper()}
    # A channel that has to be joined, and a database that is away, are told otherwise.
    assert {name: status for name, status in STATUSES.items() if name in named} == named
    assert set(STATUSES) - set(named) == {"NOT_IN_ROOM"}


@pytest.mark.parametrize("heading", ["Mirage", "Keenchat"])
def test_each_choice_has_a_test(document: Document, heading: str) -> None:
    rows = document.table(heading, "Question").rows
    assert all("::test_" in row[-1] for row in rows)
