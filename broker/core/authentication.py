"""Credentials to principals.

There are three ways to be known, behind one interface: a token of the settings, a JWT, a client
certificate. Which comes first does not matter, since no credential is good for two of them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final, Protocol

import attrs

from broker.core.access_settings import CertificateSettings, TokenSettings
from broker.core.jwt_tokens import JwtVerifier
from broker.core.principal import AuthenticationError, Credentials, Principal
from broker.core.settings import Settings

__all__ = ["Authenticator", "CertificateTable", "TokenTable", "hash_token"]

# How much of a digest says where to look. So much of the digest of some token could be learnt from
# the time that a look-up takes: 16 of 256 bits, and no one gets from a digest to its token.
_PREFIX: Final = 2

_NOBODYS: Final = bytes(hashlib.sha256().digest_size)


class Method(Protocol):
    """One way to be known."""

    def authenticate(self, credentials: Credentials, now: float) -> Principal | None:
        """Return whom the credentials belong to; None where they are not of this kind, or unknown.

        Args:
            credentials: what was shown.
            now: the wall-clock time, in seconds since 1970.

        Raises:
            AuthenticationError: they are of this kind, and no good.
        """

    def renew(self, principal: Principal) -> Principal | None:
        """Return what has become of a principal that other settings let in; None if it is gone."""


@attrs.frozen
class _KnownToken:
    digest: bytes


@attrs.frozen
class _KnownCertificate:
    subject: str


class TokenTable:
    """The tokens of the settings.

    Tokens are kept and looked up as SHA-256 digests. A few bits of the digest say which entries to
    look at, so that thousands of tokens are no slower than one; these are compared in constant
    time, and so is a token of nobody's.
    """

    def __init__(self, tokens: Iterable[TokenSettings]) -> None:
        self._by_prefix: dict[bytes, list[tuple[bytes, Principal]]] = {}
        for token in tokens:
            digest = bytes.fromhex(token.sha256)
            principal = Principal(
                token.name, frozenset(token.groups), token.permissions, proof=_KnownToken(digest)
            )
            self._by_prefix.setdefault(digest[:_PREFIX], []).append((digest, principal))

    def authenticate(self, credentials: Credentials, now: float = 0.0) -> Principal | None:
        """Return whom the token belongs to, or None."""
        if credentials.token is None:
            return None
        # Half a surrogate pair, if one gets this far, is in no token of the settings.
        return self._find(hashlib.sha256(credentials.token.encode(errors="surrogatepass")).digest())

    def renew(self, principal: Principal) -> Principal | None:
        """Return the holder of the same token, if it is still there."""
        proof = principal.proof
        return self._find(proof.digest) if isinstance(proof, _KnownToken) else None

    def _find(self, digest: bytes) -> Principal | None:
        found = None
        for known, principal in self._by_prefix.get(digest[:_PREFIX], [(_NOBODYS, None)]):
            if hmac.compare_digest(known, digest):
                found = principal
        return found


class CertificateTable:
    """The client certificates of the settings. TLS has verified them by the time they come here."""

    def __init__(self, certificates: Iterable[CertificateSettings]) -> None:
        self._principals = {
            certificate.subject: Principal(
                certificate.name or certificate.subject,
                frozenset(certificate.groups),
                certificate.permissions,
                proof=_KnownCertificate(certificate.subject),
            )
            for certificate in certificates
        }

    def authenticate(self, credentials: Credentials, now: float = 0.0) -> Principal | None:
        """Return whom the first of a certificate's names that is known belongs to.

        Raises:
            AuthenticationError: there is a certificate, no token, and none of the names is known.
        """
        if credentials.token is not None or not credentials.certificate_names:
            return None
        for name in credentials.certificate_names:
            if name in self._principals:
                return self._principals[name]
        names = ", ".join(map(repr, credentials.certificate_names))
        raise AuthenticationError(
            f"the client certificate of {names} is not known here, and data.token is missing"
        )

    def renew(self, principal: Principal) -> Principal | None:
        """Return the principal of the same subject, if it is still there."""
        proof = principal.proof
        if not isinstance(proof, _KnownCertificate):
            return None
        return self._principals.get(proof.subject)


class Authenticator:
    """All ways to be known, as the settings have them.

    Raises:
        ValueError: the keys for JWTs are no good.
    """

    def __init__(self, settings: Settings) -> None:
        self._methods: list[Method] = [
            TokenTable(settings.tokens),
            CertificateTable(settings.certificates),
        ]
        if settings.jwt is not None:
            self._methods.append(JwtVerifier(settings.jwt))

    def authenticate(self, credentials: Credentials, now: float) -> Principal:
        """Return whom credentials belong to.

        Args:
            credentials: what was shown.
            now: the wall-clock time, in seconds since 1970.

        Raises:
            AuthenticationError: they are nobody's.
        """
        for method in self._methods:
            principal = method.authenticate(credentials, now)
            if principal is not None:
                return principal
        missing = credentials.token is None
        raise AuthenticationError(f"data.token: is {'missing' if missing else 'not known here'}")

    def renew(self, principal: Principal) -> Principal | None:
        """Return what has become of a principal that other settings let in; None if it is gone."""
        renewed = (method.renew(principal) for method in self._methods)
        return next(filter(None, renewed), None)


def hash_token(token: str) -> str:
    """The form in which a token stands in the settings: SHA-256 of its UTF-8 bytes, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()
