"""Passwords and tokens: made, hashed, checked."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

import anyio
import anyio.to_thread
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

__all__ = ["Passwords", "hash_token", "make_token"]

# 256 bits: nobody finds one by trying, so a fast hash of it is as safe as a slow one.
_TOKEN_BYTES: Final = 32

# A hash takes 64 MiB and some 50 ms of a processor (the library's defaults, RFC 9106's second
# recommendation). This many at a time leave the rest of the machine to the chat.
_AT_A_TIME: Final = 2


class Passwords:
    """Hashes passwords with argon2id, in worker threads.

    Args:
        hasher: for tests, a cheap one.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._limiter = anyio.CapacityLimiter(_AT_A_TIME)
        # What an unknown name's password is checked against, so that a refusal takes as long.
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """Hash a password, with a salt of its own."""
        return await anyio.to_thread.run_sync(self._hasher.hash, password, limiter=self._limiter)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether it is the password of a hash. None, for nobody's, takes as long and is False."""
        if stored is None:
            if self._nobody is None:
                self._nobody = await self.hash(secrets.token_urlsafe())
            await self._check(self._nobody, password)
            return False
        return await self._check(stored, password)

    async def _check(self, stored: str, password: str) -> bool:
        def check() -> bool:
            try:
                return self._hasher.verify(stored, password)
            except (Argon2Error, InvalidHashError):
                return False

        return await anyio.to_thread.run_sync(check, limiter=self._limiter)


def make_token() -> str:
    """Make a token."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def hash_token(token: str) -> str:
    """Return the form in which a store keeps a token: SHA-256, in hex."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
