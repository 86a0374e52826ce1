"""Tokens to principals."""

from __future__ import annotations

import hashlib

import pytest

from broker.core.authentication import Principal, TokenTable, hash_token
from broker.core.settings import TokenSettings

TABLE = TokenTable(
    [
        TokenSettings(hash_token("any"), "operator"),
        TokenSettings(hash_token("caf\u00e9"), "billing", ("billing", "audit")),
        TokenSettings(hash_token(""), "empty"),
    ]
)


def test_a_token_has_one_owner() -> None:
    assert TABLE.authenticate("any") == Principal("operator")
    assert TABLE.authenticate("caf\u00e9") == Principal("billing", frozenset({"billing", "audit"}))


@pytest.mark.parametrize(
    "token",
    ["ANY", " any", "any ", "an", "anyy", "cafe\u0301", hash_token("any"), "any\0", "\U0001f600"],
)
def test_what_is_nobodys(token: str) -> None:
    assert TABLE.authenticate(token) is None


def test_without_tokens_nobody_is_known() -> None:
    assert TokenTable([]).authenticate("any") is None


def test_which_groups_a_principal_may_join() -> None:
    assert Principal("operator").may_join("whatever")
    billing = Principal("billing", frozenset({"billing"}))
    assert billing.may_join("billing")
    assert not billing.may_join("Billing")
    assert not billing.may_join("")


def test_the_form_of_a_token_in_the_settings() -> None:
    assert hash_token("caf\u00e9") == hashlib.sha256(b"caf\xc3\xa9").hexdigest()
