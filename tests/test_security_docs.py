"""docs/security.md, held against the code: blocks run, tables, figures and links are right."""

from __future__ import annotations

import re
from typing import Any, Final

import attrs
import pytest

from broker.core import jwt_tokens, throttle
from broker.core.access_settings import (
    JWT_ALGORITHMS,
    CertificateSettings,
    JwtSettings,
    PermissionSettings,
    TokenSettings,
)
from broker.core.settings import LimitSettings, ListenerSettings, OpsSettings
from broker.exposure import SHORTEST_TOKEN
from broker.settings_toml import toml_value
from tests import test_docs
from tests.test_docs import ROOT, Document, Story, code, number, read, slug, story

__all__ = ["story"]

SECURITY: Final = ROOT / "docs" / "security.md"


@pytest.fixture(scope="module")
def document() -> Document:
    return read(SECURITY)


def test_every_block_runs_and_shows_what_it_says(document: Document, story: Story) -> None:
    for block in document.blocks:
        story.play(block)
    story.finish()


def test_permissions_and_their_defaults(document: Document) -> None:
    table = document.table("Permissions", "Permission")
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(PermissionSettings)
    assert [code(row[0]) for row in table.rows] == [field.name for field in fields]
    for row, field in zip(table.rows, fields, strict=True):
        assert row[1] == (
            "the limit's" if field.default is None else f"`{toml_value(field.default)}`"
        )


def test_limits_and_their_defaults(document: Document) -> None:
    table = document.table("Limits", "Limit")
    shown = {code(row[0]): None if row[1] == "none" else number(row[1]) for row in table.rows}
    assert shown == {f"limits.{field.name}": field.default for field in attrs.fields(LimitSettings)}
    assert all(row[2] for row in table.rows)


@pytest.mark.parametrize(
    ("heading", "prefix", "settings"),
    [
        ("Tokens", "tokens[].", TokenSettings),
        ("JSON Web Tokens", "jwt.", JwtSettings),
        ("TLS and client certificates", "certificates[].", CertificateSettings),
        ("TLS and client certificates", "listeners[].", ListenerSettings),
        ("The ops port", "ops.", OpsSettings),
    ],
)
def test_settings(document: Document, heading: str, prefix: str, settings: type) -> None:
    table = document.table(heading, "Setting")
    shown = {code(row[0]) for row in table.rows if code(row[0]).startswith(prefix)}
    known = {f"{prefix}{field.name}" for field in attrs.fields(settings)}
    assert shown == known - {"jwt.keys", "listeners[].address"}


def test_algorithms_and_figures_of_jwts(document: Document) -> None:
    table = document.table("JSON Web Tokens", "Setting")
    rows = {code(row[0]): row for row in table.rows}
    assert re.findall(r"`(\w+)`", rows["jwt.algorithms"][2]) == list(JWT_ALGORITHMS)
    assert number(rows["jwt.leeway_ms"][1]) == attrs.fields(JwtSettings).leeway_ms.default
    assert f"at least {jwt_tokens._SHORTEST_SECRET} bytes" in rows["jwt.key_file"][2]
    claims = document.table("JSON Web Tokens", "Claim")
    shown = {name for row in claims.rows for name in re.findall(r"`(\w+)`", row[0])}
    assert shown == set(jwt_tokens._Claims.__struct_fields__)


def test_figures(document: Document) -> None:
    prose = " ".join(document.prose.split())
    for phrase in (
        f"longer than {jwt_tokens._LONGEST:,} characters",
        f"remembers {throttle._NETWORKS:,} addresses",
        f"of fewer than {SHORTEST_TOKEN} characters",
        f"When {attrs.fields(LimitSettings).failures_per_address.default} IDENTIFYs",
    ):
        assert phrase in prose
    test_docs.test_figures_that_stand_beside_a_setting(SECURITY)


def test_links_lead_somewhere(document: Document) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.path.read_text()):
        name, _, anchor = target.partition("#")
        file = SECURITY.parent / name if name else SECURITY
        assert file.exists(), target
        if anchor:
            assert anchor in map(slug, read(file).headings), target
