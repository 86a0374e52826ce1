"""Certificates and keys from their files: loaded, checked, and explained where they are no good.

Each problem is one line that begins with its place in the settings, such as `listeners[0].key: is
not the key of that certificate`.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import attrs

from broker.core.settings import ListenerSettings
from broker.protocol.errors import SwitchboardError

__all__ = ["TlsEntrance", "TlsSettingsError", "certificate_warnings", "load_contexts"]

# TLS 1.3 has suites of its own, all sound. Of 1.2: forward secrecy, and encryption that
# authenticates. Without the finite-field Diffie-Hellman of the default, which a client can make the
# server compute at next to no cost of its own.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

# A warning comes while there is time to do something.
_EXPIRES_SOON: Final = timedelta(days=14)

_BEGIN_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_BEGIN_KEY: Final = (
    b"-----BEGIN PRIVATE KEY-----",
    b"-----BEGIN RSA PRIVATE KEY-----",
    b"-----BEGIN EC PRIVATE KEY-----",
)

_HINTS: Final = {
    PermissionError: "permission denied; let the broker's user read it",
    FileNotFoundError: "no such file",
    IsADirectoryError: "is a directory; write the path of a PEM file",
}


class TlsSettingsError(SwitchboardError):
    """Certificates or keys can't be used.

    Attributes:
        problems: one line each, in the order of the settings.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@attrs.define
class TlsEntrance:
    """What a listener greets new connections with.

    Attributes:
        context: a reload puts another in its place; connections keep that which they began with.
    """

    context: ssl.SSLContext


class _FileError(Exception):
    """A file of a listener's can't be used.

    Attributes:
        setting: which one names it.
        problem: what is wrong with it.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(problem)
        self.setting = setting
        self.problem = problem


def load_contexts(listeners: Sequence[ListenerSettings]) -> list[ssl.SSLContext | None]:
    """Load the certificates and keys of all listeners that speak TLS.

    Returns:
        One for each listener; None for those without TLS.

    Raises:
        TlsSettingsError: with every problem found.
    """
    contexts: list[ssl.SSLContext | None] = []
    problems: list[str] = []
    for index, listener in enumerate(listeners):
        try:
            contexts.append(_load(listener) if listener.tls else None)
        except _FileError as error:
            problems.append(f"listeners[{index}].{error.setting}: {error.problem}")
    if problems:
        raise TlsSettingsError(tuple(problems))
    return contexts


def _load(listener: ListenerSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    # No new handshake within a connection: it would be work without a bound.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # No session tickets either. Connections of a mesh last, few clients would come back with one,
    # and whoever did would get past a look at its certificate. What is left is TLS 1.2's older way,
    # by session ids, which Python can't turn off: OpenSSL remembers 20,480 sessions for up to two
    # hours, and only of connections that ended in good order. A reload forgets them.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    _load_certificate(context, str(listener.certificate), str(listener.key))
    if listener.client_ca is not None:
        _load_client_ca(context, listener.client_ca)
        optional = listener.client_certificate == "optional"
        context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
    return context


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    if _BEGIN_CERTIFICATE not in _read("certificate", certificate):
        raise _FileError("certificate", _no_pem(certificate, "certificate"))
    private = _read("key", key)
    if b"ENCRYPTED" in private:
        raise _FileError(
            "key",
            f"{key!r} is encrypted, and nobody is there to give the pass phrase; "
            "take it away with `openssl pkey -in OLD -out NEW`, and let nobody else read the file",
        )
    if not any(begin in private for begin in _BEGIN_KEY):
        raise _FileError("key", _no_pem(key, "private key"))
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH" or error.reason == "KEY_TYPE_MISMATCH":
            raise _FileError("key", f"{key!r} is not the key of that certificate") from None
        raise _FileError(
            "certificate", f"{certificate!r}, with its key, can't be used: {_reason(error)}"
        ) from None


def _load_client_ca(context: ssl.SSLContext, client_ca: str) -> None:
    if _BEGIN_CERTIFICATE not in _read("client_ca", client_ca):
        raise _FileError("client_ca", _no_pem(client_ca, "certificate"))
    try:
        context.load_verify_locations(client_ca)
    except ssl.SSLError as error:
        raise _FileError("client_ca", f"{client_ca!r} can't be used: {_reason(error)}") from None


def _read(setting: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        hint = _HINTS.get(type(error), (error.strerror or str(error)).lower())
        raise _FileError(setting, f"{path!r} can't be read: {hint}") from None


def _no_pem(path: str, what: str) -> str:
    return f"{path!r} holds no {what} in PEM form (-----BEGIN {what.upper()}-----)"


def _reason(error: ssl.SSLError) -> str:
    """What OpenSSL found, as words."""
    return (error.reason or str(error)).replace("_", " ").lower()


def certificate_warnings(listeners: Sequence[ListenerSettings], now: datetime) -> list[str]:
    """What is wrong, or soon will be, with files that can be loaded.

    Args:
        listeners: those without TLS are passed over.
        now: with a time zone.

    Returns:
        One line each, with its place. A file that can't be read is left to `load_contexts`.
    """
    warnings: list[str] = []
    for index, listener in enumerate(listeners):
        if listener.tls:
            warnings += (f"listeners[{index}].{warning}" for warning in _warnings(listener, now))
    return warnings


def _warnings(listener: ListenerSettings, now: datetime) -> Iterator[str]:
    for setting in ("certificate", "client_ca"):
        path = getattr(listener, setting)
        if path is not None:
            yield from (f"{setting}: {path!r} {text}" for text in _dates(path, now))
    try:
        readable = Path(str(listener.key)).stat().st_mode & 0o004
    except OSError:
        return
    if readable:
        yield f"key: {listener.key!r} can be read by every user of this machine; chmod o= it"


def _dates(path: str, now: datetime) -> Iterator[str]:
    # Only whoever has TLS needs to wait for this import.
    from cryptography import x509  # noqa: PLC0415

    try:
        certificates = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError):
        return
    for certificate in certificates:
        name = certificate.subject.rfc4514_string() or "no subject"
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if ends <= now:
            yield f"has expired ({name}, {ends:%Y-%m-%d %H:%M} UTC)"
        elif begins > now:
            yield f"is not valid yet ({name}, before {begins:%Y-%m-%d %H:%M} UTC)"
        elif ends - now < _EXPIRES_SOON:
            yield f"expires soon ({name}, {ends:%Y-%m-%d %H:%M} UTC)"
