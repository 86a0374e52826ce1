"""What more than one of the tests here needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sdk import programs


@pytest.fixture
def broker() -> Iterator[str]:
    """The address of a broker that runs as a process of its own."""
    with programs.broker() as address:
        yield address
