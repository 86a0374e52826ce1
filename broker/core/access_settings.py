"""What an operator can set about who comes in and what they may do.

Everything here is a value. Files that the settings name are read by `broker.settings_loader`, which
puts what is in them beside their paths.
"""

from __future__ import annotations

import re
from typing import Any, Final

import attrs
from attrs import validators

from broker.protocol.limits import MAX_NAME_LENGTH

__all__ = [
    "FROM_FILE",
    "JWT_ALGORITHMS",
    "CertificateSettings",
    "JwtSettings",
    "PermissionSettings",
    "TokenSettings",
    "check_sha256",
]

JWT_ALGORITHMS: Final = ("HS256", "RS256", "EdDSA", "Ed25519")

# More patterns than that are no longer rules that anybody oversees. It also bounds what a JWT can
# make the broker look through for a frame.
_MOST_PATTERNS: Final = 128

FROM_FILE: Final = "from file"
"""Marks, in an attribute's metadata, what no configuration can name: what is read from a file."""


def check_sha256(_instance: object, _attribute: object, value: str) -> None:
    """Validate the hash of a token."""
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError(
            "must be the SHA-256 of a token as 64 lower-case hex digits; "
            "`switchboard token new` makes both"
        )


def _check_groups(_instance: object, _attribute: object, value: tuple[str, ...]) -> None:
    for name in value:
        if not name or len(name) > MAX_NAME_LENGTH or name.startswith("$"):
            raise ValueError(
                f"{name!r} is no group name: "
                f"1 to {MAX_NAME_LENGTH} characters, not beginning with $"
            )


def _check_patterns(_instance: object, _attribute: object, value: tuple[str, ...]) -> None:
    if len(value) > _MOST_PATTERNS:
        raise ValueError(f"may have at most {_MOST_PATTERNS} patterns (has {len(value)})")
    for pattern in value:
        if not pattern or len(pattern) > MAX_NAME_LENGTH:
            raise ValueError(f"{pattern!r} is no pattern: 1 to {MAX_NAME_LENGTH} characters")


def _check_rate(_instance: object, _attribute: object, value: int | None) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise ValueError(f"must be an integer from 1 up (is {value!r})")


def _texts(check: Any) -> Any:  # noqa: ANN401 - attrs types its validators by the attribute
    return validators.and_(
        validators.deep_iterable(validators.instance_of(str), validators.instance_of(tuple)), check
    )


_BOOLEAN: Final[Any] = validators.instance_of(bool)
_TEXT: Final[Any] = validators.and_(validators.instance_of(str), validators.min_len(1))


@attrs.frozen
class PermissionSettings:
    """What a principal may do. The defaults are what a token may that says nothing of it.

    In a pattern, `*` stands for any characters, or none; every other character stands for itself.

    Attributes:
        send_global: whether it may send to everyone.
        send_groups: patterns of the groups that it may send to: with GROUP by the group's name,
            with DIRECT by the group of the receiver.
        send_events: patterns of the names of the events that it may send.
        watch: whether it may WATCH; that takes `services` too, since the answer has the list.
        services: whether it may list SERVICES.
        stats: whether it may read STATS. Not by default: the counts are about everybody.
        drain: whether it may DRAIN services and the broker itself.
        messages_per_second: in place of the limit of that name; None leaves that one.
        bytes_per_second: likewise.
    """

    send_global: bool = attrs.field(default=True, validator=_BOOLEAN)
    send_groups: tuple[str, ...] = attrs.field(default=("*",), validator=_texts(_check_patterns))
    send_events: tuple[str, ...] = attrs.field(default=("*",), validator=_texts(_check_patterns))
    watch: bool = attrs.field(default=True, validator=_BOOLEAN)
    services: bool = attrs.field(default=True, validator=_BOOLEAN)
    stats: bool = attrs.field(default=False, validator=_BOOLEAN)
    drain: bool = attrs.field(default=False, validator=_BOOLEAN)
    messages_per_second: int | None = attrs.field(default=None, validator=_check_rate)
    bytes_per_second: int | None = attrs.field(default=None, validator=_check_rate)


@attrs.frozen
class TokenSettings:
    """A token that opens the door.

    Attributes:
        sha256: the token's SHA-256, in hex. The token itself is in no file of the broker's; tokens
            are long and random, so a fast hash keeps them as safe as a slow one would.
        name: what logs call it.
        groups: the groups that its holder may join; empty for any.
        permissions: what its holder may do.
    """

    sha256: str = attrs.field(validator=check_sha256, repr=False)
    name: str = attrs.field(default="", validator=validators.instance_of(str))
    groups: tuple[str, ...] = attrs.field(default=(), validator=_texts(_check_groups))
    permissions: PermissionSettings = PermissionSettings()


@attrs.frozen
class CertificateSettings:
    """A client certificate that opens the door, once TLS has verified it.

    Attributes:
        subject: the certificate's common name, or one of its DNS or URI alternative names, exactly.
        name: what logs call it; the subject where it is left out.
        groups: the groups that its holder may join; empty for any.
        permissions: what its holder may do.
    """

    subject: str = attrs.field(validator=_TEXT)
    name: str = attrs.field(default="", validator=validators.instance_of(str))
    groups: tuple[str, ...] = attrs.field(default=(), validator=_texts(_check_groups))
    permissions: PermissionSettings = PermissionSettings()


def _check_algorithms(_instance: object, _attribute: object, value: tuple[str, ...]) -> None:
    if not value:
        raise ValueError(f"must name at least one of {', '.join(JWT_ALGORITHMS)}")
    for algorithm in value:
        if algorithm not in JWT_ALGORITHMS:
            raise ValueError(f"{algorithm!r} is none of {', '.join(JWT_ALGORITHMS)}")


@attrs.frozen(kw_only=True)
class JwtSettings:
    """Signed tokens of an issuer's that open the door.

    Attributes:
        algorithms: how they may be signed. What a token says of itself never widens this.
        audience: what has to stand in `aud`, so that a token for another system is none for this.
        issuer: what has to stand in `iss`; None for anything.
        key_file: the path of a public key in PEM, or for HS256 of the shared secret.
        jwks_file: in place of it, the path of a set of keys.
        leeway_ms: how far the issuer's clock may be off.
        keys: what is in the file.

    Raises:
        ValueError: neither of the two files, or both.
    """

    algorithms: tuple[str, ...] = attrs.field(validator=_texts(_check_algorithms))
    audience: str = attrs.field(validator=_TEXT)
    issuer: str | None = attrs.field(
        default=None, validator=validators.optional(validators.instance_of(str))
    )
    key_file: str | None = attrs.field(
        default=None, validator=validators.optional(validators.instance_of(str))
    )
    jwks_file: str | None = attrs.field(
        default=None, validator=validators.optional(validators.instance_of(str))
    )
    leeway_ms: int = attrs.field(
        default=30_000, validator=validators.and_(validators.instance_of(int), validators.ge(0))
    )
    keys: bytes = attrs.field(default=b"", repr=False, metadata={FROM_FILE: True})

    def __attrs_post_init__(self) -> None:
        if (self.key_file is None) == (self.jwks_file is None):
            raise ValueError("name one of key_file and jwks_file")
