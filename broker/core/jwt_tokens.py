"""JSON Web Tokens (RFC 7519) to principals. The cryptography is joserfc's.

How a token may be signed, and with which key, is the settings' to say. The token's own header only
chooses among what they allow, and a key is only ever used for the kind of signature that it is made
for, so a public key never passes for a shared secret. A header that asks for more than this broker
knows (`crit`, a token inside the token) is refused, not ignored.

Why a token is refused is said in full to whoever holds a good signature, and in general to others.
"""

from __future__ import annotations

import math
import warnings
from typing import Annotated, Any, Final

import attrs
import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key, OctKey, OKPKey, RSAKey
from msgspec import Meta, Struct

from broker.core.access_settings import JwtSettings, PermissionSettings
from broker.core.principal import AuthenticationError, Credentials, Principal
from broker.protocol.codec import locate_error
from broker.protocol.limits import MAX_NAME_LENGTH

__all__ = ["JwtVerifier"]

# An IDENTIFY has room for four kilobytes unless the operator allows more. What is longer is none of
# an identity provider's.
_LONGEST: Final = 8192

# RFC 7518, sections 3.2 and 3.3: keys below these sizes must not be used.
_SHORTEST_SECRET: Final = 32
_SHORTEST_RSA_KEY: Final = 2048

_KEY_TYPES: Final[dict[str, type[Key]]] = {
    "HS256": OctKey,
    "RS256": RSAKey,
    "EdDSA": OKPKey,
    "Ed25519": OKPKey,
}
_CURVES: Final = {"EdDSA": ("Ed25519", "Ed448"), "Ed25519": ("Ed25519",)}

_Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]


class _Claims(Struct):
    """What the broker reads of a token. Other claims are ignored."""

    sub: _Name
    exp: float
    aud: str | list[str]
    iss: str | None = None
    nbf: float | None = None
    group: _Name | None = None
    groups: list[_Name] | None = None
    permissions: dict[str, Any] | None = None


class _JwkSet(Struct):
    keys: list[dict[str, Any]]


_claims_decoder = msgspec.json.Decoder(_Claims)


class _Registry(jws.JWSRegistry):
    """Which algorithms there are. Unlike the library's own, it does not warn of the name EdDSA."""

    max_header_length = _LONGEST
    max_payload_length = _LONGEST

    def get_alg(self, name: str) -> Any:  # noqa: ANN401 - the library does not export the type
        """Return an algorithm; which of them are allowed has been looked at by then."""
        return self.algorithms[name]


# RFC 7515, section 4: header parameters that are not understood must be ignored.
_registry: Final = _Registry(strict_check_header=False)


@attrs.frozen
class _KnownJwt:
    """What a token was accepted for."""

    algorithm: str
    thumbprint: str
    audiences: tuple[str, ...]
    issuer: str | None


class JwtVerifier:
    """Verifies tokens by the keys of the settings.

    Raises:
        ValueError: there is no good key in `settings.keys`.
    """

    def __init__(self, settings: JwtSettings) -> None:
        self._settings = settings
        self._leeway = settings.leeway_ms / 1000
        self._one_key = settings.jwks_file is None
        self._keys = _one_key(settings) if self._one_key else _key_set(settings)

    def authenticate(self, credentials: Credentials, now: float) -> Principal | None:
        """Return whom a token names; None where it has not the form of a JWT.

        Args:
            credentials: what was shown.
            now: the wall-clock time, in seconds since 1970.

        Raises:
            AuthenticationError: the token is a JWT, and no good.
        """
        token = credentials.token
        if token is None or token.count(".") != 2:
            return None
        try:
            return self._verify(token, now)
        except _RefusalError as refusal:
            raise AuthenticationError(f"data.token: the JWT {refusal}") from None

    def renew(self, principal: Principal) -> Principal | None:
        """Return the principal again, if its token would still be accepted but for the time."""
        proof = principal.proof
        if not isinstance(proof, _KnownJwt):
            return None
        still = (
            proof.algorithm in self._settings.algorithms
            and any(
                key.thumbprint() == proof.thumbprint and _fits(key, proof.algorithm)
                for key in self._keys
            )
            and self._settings.audience in proof.audiences
            and self._settings.issuer in (None, proof.issuer)
        )
        return principal if still else None

    def _verify(self, token: str, now: float) -> Principal:
        if len(token) > _LONGEST:
            raise _RefusalError(f"has more than {_LONGEST} characters")
        try:
            signed = jws.extract_compact(token.encode(), registry=_registry)
            header = signed.headers()
            _registry.check_header(header)
        except (JoseError, ValueError, TypeError, AttributeError, RecursionError):
            raise _RefusalError("is not well-formed") from None
        algorithm = self._algorithm(header)
        key = self._key(header, algorithm)
        try:
            good = jws.validate_compact(signed, key, registry=_registry)
        except (JoseError, ValueError):
            good = False
        if not good:
            raise _RefusalError("has a signature that does not fit")
        claims = self._claims(signed.payload or b"", now)
        audiences = (claims.aud,) if isinstance(claims.aud, str) else tuple(claims.aud)
        return Principal(
            claims.sub,
            _groups(claims),
            _permissions(claims.permissions or {}),
            expires=claims.exp + self._leeway,
            proof=_KnownJwt(algorithm, key.thumbprint(), audiences, claims.iss),
        )

    def _algorithm(self, header: dict[str, Any]) -> str:
        """Look at a token's header; return how it is signed."""
        if "crit" in header or "b64" in header:
            raise _RefusalError("has critical headers, of which none is known here")
        if str(header.get("cty", "")).upper().removeprefix("APPLICATION/") == "JWT":
            raise _RefusalError("has another one inside, which is not taken here")
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._settings.algorithms:
            accepted = ", ".join(self._settings.algorithms)
            raise _RefusalError(f"is not signed in a way that is accepted here: {accepted}")
        return algorithm

    def _key(self, header: dict[str, Any], algorithm: str) -> Key:
        """Return the one key that a token can have been signed with."""
        kid = header.get("kid")
        fitting = [key for key in self._keys if _fits(key, algorithm)]
        if kid is not None and not self._one_key:
            fitting = [key for key in fitting if key.kid == kid]
        if not fitting:
            raise _RefusalError("is signed with a key that is not known here")
        if len(fitting) > 1:
            raise _RefusalError("does not say by kid which of several keys it is signed with")
        return fitting[0]

    def _claims(self, payload: bytes, now: float) -> _Claims:
        try:
            claims = _claims_decoder.decode(payload)
        except (msgspec.ValidationError, RecursionError) as error:
            raise _RefusalError(f"has bad claims: {locate_error('claims', error)}") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _RefusalError("has claims that are no JSON") from None
        audiences = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
        if self._settings.audience not in audiences:
            raise _RefusalError(f"is for another audience than {self._settings.audience!r}")
        if self._settings.issuer not in (None, claims.iss):
            raise _RefusalError(f"is from another issuer than {self._settings.issuer!r}")
        if now >= claims.exp + self._leeway:
            raise _RefusalError(f"expired {_duration(now - claims.exp)} ago")
        if claims.nbf is not None and now < claims.nbf - self._leeway:
            raise _RefusalError(f"is not valid before {_duration(claims.nbf - now)} from now")
        return claims


class _RefusalError(Exception):
    """Why a token is refused: the end of a sentence about it."""


# -- claims ----------------------------------------------------------------------------------------


def _groups(claims: _Claims) -> frozenset[str]:
    """The groups that a token names. One that names none may join none, so it is refused."""
    groups = frozenset(claims.groups or ()) | ({claims.group} if claims.group else set())
    if not groups:
        raise _RefusalError("has bad claims: group or groups is missing")
    if any(group.startswith("$") for group in groups):
        raise _RefusalError("has bad claims: groups that begin with $ are the broker's own")
    return groups


def _permissions(claim: dict[str, Any]) -> PermissionSettings:
    known = [field.name for field in attrs.fields(PermissionSettings)]
    place = "claims.permissions"
    for name in claim:
        if name not in known:
            raise _RefusalError(f"has bad claims: {place}: unknown key; known: {', '.join(known)}")
    try:
        return msgspec.convert(claim, PermissionSettings)
    except msgspec.ValidationError as error:
        raise _RefusalError(f"has bad claims: {locate_error(place, error)}") from None
    except ValueError as error:
        raise _RefusalError(f"has bad claims: {place}: {error}") from None


def _duration(seconds: float) -> str:
    """A span of time for people: "3 minutes"."""
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{math.ceil(seconds)} s"


# -- keys ------------------------------------------------------------------------------------------


def _one_key(settings: JwtSettings) -> list[Key]:
    """The one key of a key file: in PEM, or for HS256 the secret itself."""
    kinds = {_KEY_TYPES[algorithm] for algorithm in settings.algorithms}
    if len(kinds) > 1:
        raise ValueError(
            f"one key can't serve {', '.join(settings.algorithms)}: "
            "name one of them, or use jwks_file"
        )
    kind = kinds.pop()
    secret = kind is OctKey
    # Editors put a line feed at the end, which is not meant to be part of a secret.
    content = settings.keys.strip() if secret else settings.keys
    if not content:
        raise ValueError("is empty")
    try:
        key = _import(content, kind)
    except (JoseError, ValueError, TypeError):
        raise ValueError(
            "is a public key or a certificate, not a secret that is shared"
            if secret
            else f"has no key in PEM that {' or '.join(settings.algorithms)} could use"
        ) from None
    _check(key)
    if not any(_fits(key, algorithm) for algorithm in settings.algorithms):
        raise ValueError(f"has no key that {' or '.join(settings.algorithms)} could use")
    return [key]


def _key_set(settings: JwtSettings) -> list[Key]:
    """The keys of a JWK set (RFC 7517). Those for other algorithms are left out."""
    try:
        document = msgspec.json.decode(settings.keys, type=_JwkSet)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError('is no JWK set: a JSON object with a list "keys" of objects') from None
    keys: list[Key] = []
    for index, entry in enumerate(document.keys):
        if entry.get("kty") not in ("oct", "RSA", "OKP"):
            continue
        try:
            key = _import(entry, None)
            if any(_fits(key, algorithm) for algorithm in settings.algorithms):
                _check(key)
                keys.append(key)
        except (JoseError, TypeError, LookupError):
            raise ValueError(f"keys[{index}]: is no JWK") from None
        except ValueError as error:
            raise ValueError(f"keys[{index}]: {error}") from None
    if not keys:
        raise ValueError(f"has no key that {' or '.join(settings.algorithms)} could use")
    named = [(key.key_type, key.kid) for key in keys if key.kid is not None]
    if len(set(named)) < len(named):
        raise ValueError("has two keys with the same kid")
    return keys


def _import(content: Any, kind: type[Key] | None) -> Key:  # noqa: ANN401 - bytes, or any JSON object
    with warnings.catch_warnings():
        # What the library warns of is an error here: `_check`.
        warnings.simplefilter("ignore")
        return JWKRegistry.import_key(content) if kind is None else kind.import_key(content)


def _check(key: Key) -> None:
    """Refuse what must not be used, or must not be here."""
    if isinstance(key, OctKey):
        if len(key.raw_value) < _SHORTEST_SECRET:
            raise ValueError(
                f"holds a secret of fewer than {_SHORTEST_SECRET} bytes; "
                "openssl rand -base64 48 makes a good one"
            )
    elif key.is_private:
        raise ValueError(
            "holds a private key, which is the issuer's alone; "
            "openssl pkey -in PRIVATE.pem -pubout makes the public one"
        )
    if isinstance(key, RSAKey) and key.raw_value.key_size < _SHORTEST_RSA_KEY:
        raise ValueError(f"holds an RSA key of fewer than {_SHORTEST_RSA_KEY} bits")


def _fits(key: Key, algorithm: str) -> bool:
    """Whether a key is of the kind that an algorithm needs, and is not meant for anything else."""
    try:
        _registry.get_alg(algorithm).check_key(key)
        key.check_key_op("verify")
    except JoseError:
        return False
    return not isinstance(key, OKPKey) or key.curve_name in _CURVES[algorithm]
