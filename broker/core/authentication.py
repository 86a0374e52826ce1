"""Credentials to principals."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import attrs

from broker.core.settings import TokenSettings

__all__ = ["Principal", "TokenTable", "hash_token"]


@attrs.frozen
class Principal:
    """Who a connection belongs to, and what that allows.

    Attributes:
        name: what logs call it.
        groups: the groups that it may join; empty for any.
    """

    name: str
    groups: frozenset[str] = frozenset()

    def may_join(self, group: str) -> bool:
        """Whether a connection of this principal may be a member of `group`."""
        return not self.groups or group in self.groups


class TokenTable:
    """The tokens of the settings.

    Tokens are kept and looked up as SHA-256 digests. How long a look-up takes tells something of
    the digest at most, from which no one gets back to a token: no constant-time comparison of
    digests could hide more.
    """

    def __init__(self, tokens: Iterable[TokenSettings]) -> None:
        self._principals = {
            token.sha256: Principal(token.name, frozenset(token.groups)) for token in tokens
        }

    def authenticate(self, token: str) -> Principal | None:
        """Return whom the token belongs to, or None."""
        return self._principals.get(hash_token(token))


def hash_token(token: str) -> str:
    """The form in which a token stands in the settings: SHA-256 of its UTF-8 bytes, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()
