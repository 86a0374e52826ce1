"""Signs JWTs, good ones and bad ones, without the library that verifies them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

__all__ = [
    "SECRET",
    "base64url",
    "claims",
    "ed25519_key",
    "jwk",
    "private_pem",
    "public_pem",
    "rsa_key",
    "sign",
]

SECRET = b"thirty-two bytes of a shared secret, or some more"

PrivateKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def ed25519_key(number: int = 0) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def jwk(key: PrivateKey | bytes, **more: Any) -> dict[str, Any]:
    """The public half of a key, or a secret, for a set of keys."""
    if isinstance(key, bytes):
        return {"kty": "oct", "k": base64url(key), **more}
    if isinstance(key, ed25519.Ed25519PrivateKey):
        raw = key.public_key().public_bytes_raw()
        return {"kty": "OKP", "crv": "Ed25519", "x": base64url(raw), **more}
    numbers = key.public_key().public_numbers()
    modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
    return {"kty": "RSA", "n": base64url(modulus), "e": "AQAB", **more}


def claims(**more: Any) -> dict[str, Any]:
    """The claims of a token that is good at the time 1000; None takes one out."""
    all_claims = {"sub": "billing", "aud": "mesh", "exp": 2000, "group": "billing", **more}
    return {name: value for name, value in all_claims.items() if value is not None}


def sign(
    key: PrivateKey | bytes | None,
    said: dict[str, Any] | bytes,
    header: dict[str, Any] | bytes | None = None,
    **more: Any,
) -> str:
    """Sign claims.

    Args:
        key: None for no signature at all.
        said: the claims, or what stands in their place.
        header: the whole header, where it is not the ordinary one of this key.
        more: header parameters beside the ordinary ones.
    """
    if header is None:
        header = {"alg": _algorithm(key), "typ": "JWT", **more}
    parts = (
        part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, said)
    )
    signed = ".".join(map(base64url, parts))
    return f"{signed}.{base64url(_signature(key, signed.encode()))}"


def _algorithm(key: PrivateKey | bytes | None) -> str:
    if key is None:
        return "none"
    if isinstance(key, bytes):
        return "HS256"
    return "EdDSA" if isinstance(key, ed25519.Ed25519PrivateKey) else "RS256"


def _signature(key: PrivateKey | bytes | None, signed: bytes) -> bytes:
    if key is None:
        return b""
    if isinstance(key, bytes):
        return hmac.digest(key, signed, hashlib.sha256)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(signed)
    return key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
