"""Keenchat's REST API against its own description, by schemathesis.

It makes up requests, right ones and wrong ones, and holds the answers against what `/openapi.json`
says: the status, the shape, and that nothing is ever a 500.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio.to_thread
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.gateways.asyncio_gateways import keenchat
from tests.gateways.world import on_asyncio

ENDPOINTS = [
    ("POST", "/auth"),
    ("GET", "/user"),
    ("POST", "/user"),
    ("GET", "/user/{id}"),
    ("GET", "/channel"),
    ("POST", "/channel"),
    ("GET", "/channel/{id}"),
    ("PUT", "/channel/{id}"),
    ("DELETE", "/channel/{id}"),
    ("GET", "/message"),
    ("POST", "/message"),
    ("GET", "/message/{id}"),
]
RULES = {"BAD_NAME", "BAD_PASSWORD"}


def run(url: str, method: str, path: str, token: str) -> int:
    """Try one endpoint; return how many requests have been made."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operation = schema[path][method]
    count = 0

    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def attempt(case: schemathesis.Case[Any]) -> None:
        nonlocal count
        count += 1
        response = case.call(params={"auth": token})
        # What a name may be is more than a JSON schema can say.
        by_rule = response.status_code == 422 and response.json()["code"] in RULES
        case.validate_response(
            response, excluded_checks=[positive_data_acceptance] if by_rule else None
        )

    attempt()
    return count


@pytest.mark.parametrize(("method", "path"), ENDPOINTS, ids=[" ".join(e) for e in ENDPOINTS])
@on_asyncio
async def test_the_api_is_what_its_description_says(tmp_path: Path, method: str, path: str) -> None:
    async with keenchat(tmp_path) as house:
        _, token = await house.sign_up("bob")
        count = await anyio.to_thread.run_sync(run, house.url, method, path, token)
        assert count > 0
