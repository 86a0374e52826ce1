"""Certificates and keys from their files, and what is said of those that are no good."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from broker.core.settings import ListenerSettings
from broker.transport.tls_context import TlsSettingsError, certificate_warnings, load_contexts
from tests.transport.tls_rig import Files, authority

NOW = datetime.now(UTC)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def problems(*listeners: ListenerSettings) -> tuple[str, ...]:
    with pytest.raises(TlsSettingsError) as caught:
        load_contexts(listeners)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user who may read little, as a broker is; root may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("client_certificate", "mode"),
    [(None, ssl.CERT_NONE), ("required", ssl.CERT_REQUIRED), ("optional", ssl.CERT_OPTIONAL)],
)
def test_a_context(files: Files, client_certificate: str | None, mode: ssl.VerifyMode) -> None:
    plain = ListenerSettings("tcp://127.0.0.1:0")
    none, context = load_contexts([plain, files.listener(client_certificate)])
    assert none is None
    assert context is not None
    assert context.verify_mode is mode
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.num_tickets == 0
    old = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert all(name.startswith("ECDHE-") for name in old), "forward secrecy"
    assert all("GCM" in name or "CHACHA20" in name for name in old), "authenticated encryption"


def test_a_client_ca_alone_requires_certificates(files: Files) -> None:
    listener = ListenerSettings(
        "tls://127.0.0.1:0",
        certificate=str(files.certificate),
        key=str(files.key),
        client_ca=str(files.client_ca),
    )
    (context,) = load_contexts([listener])
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert [found["subject"] for found in context.get_ca_certs()], "and of no others than these"
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize("setting", ["certificate", "key", "client_ca"])
def test_a_file_that_is_not_there(files: Files, setting: str) -> None:
    path: Path = getattr(files, setting)
    path.unlink()
    assert problems(files.listener("required")) == (
        f"listeners[0].{setting}: '{path}' can't be read: no such file",
    )
    path.mkdir()
    (problem,) = problems(files.listener("required"))
    assert problem == (
        f"listeners[0].{setting}: '{path}' can't be read: is a directory; "
        "write the path of a PEM file"
    )


def test_a_key_that_may_not_be_read() -> None:
    # pytest's own directories are closed to others as a whole.
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        files = Files(Path(directory))
        files.key.chmod(0)
        with nobody():
            (problem,) = problems(files.listener())
    assert problem == (
        f"listeners[0].key: '{files.key}' can't be read: permission denied; "
        "let the broker's user read it"
    )


@pytest.mark.parametrize(
    ("setting", "what", "begin"),
    [
        ("certificate", "certificate", "-----BEGIN CERTIFICATE-----"),
        ("key", "private key", "-----BEGIN PRIVATE KEY-----"),
        ("client_ca", "certificate", "-----BEGIN CERTIFICATE-----"),
    ],
)
def test_a_file_of_something_else(files: Files, setting: str, what: str, begin: str) -> None:
    path: Path = getattr(files, setting)
    path.write_bytes(b"\x30\x82 in DER, say")
    assert problems(files.listener("required")) == (
        f"listeners[0].{setting}: '{path}' holds no {what} in PEM form ({begin})",
    )


@pytest.mark.parametrize("setting", ["certificate", "client_ca"])
def test_a_certificate_that_is_damaged(files: Files, setting: str) -> None:
    path: Path = getattr(files, setting)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    (problem,) = problems(files.listener("required"))
    assert problem.startswith(f"listeners[0].{setting}: '{path}'")
    assert "can't be used: " in problem


def test_the_key_of_another_certificate(files: Files) -> None:
    other = authority().issue_cert("broker.test")
    other.private_key_pem.write_to_path(files.key)
    assert problems(files.listener()) == (
        f"listeners[0].key: '{files.key}' is not the key of that certificate",
    )


def test_an_encrypted_key(files: Files) -> None:
    key = load_pem_private_key(files.key.read_bytes(), None)
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        secret = BestAvailableEncryption(b"pass phrase")
        files.key.write_bytes(key.private_bytes(Encoding.PEM, form, secret))
        (problem,) = problems(files.listener())
        assert problem.startswith(f"listeners[0].key: '{files.key}' is encrypted, ")
        assert "openssl pkey" in problem


def test_all_problems_at_once(files: Files) -> None:
    (files.directory / "other").mkdir()
    other = Files(files.directory / "other")
    files.key.unlink()
    other.client_ca.unlink()
    found = problems(
        ListenerSettings("tcp://127.0.0.1:0"), files.listener(), other.listener("optional")
    )
    assert [problem.split(":")[0] for problem in found] == [
        "listeners[1].key",
        "listeners[2].client_ca",
    ]


@pytest.mark.parametrize(
    ("begins", "ends", "text"),
    [
        (NOW - timedelta(days=30), NOW - timedelta(days=1), "has expired"),
        (NOW + timedelta(days=1), NOW + timedelta(days=30), "is not valid yet"),
        (NOW - timedelta(days=30), NOW + timedelta(days=13), "expires soon"),
    ],
)
def test_a_certificate_out_of_its_time(
    files: Files, begins: datetime, ends: datetime, text: str
) -> None:
    issued = authority().issue_cert("broker.test", not_before=begins, not_after=ends)
    files.write(issued)
    load_contexts([files.listener()])  # It may still be that, of all, which clients accept.
    (warning,) = certificate_warnings([files.listener("required")], NOW)
    assert warning.startswith(f"listeners[0].certificate: '{files.certificate}' {text} (")


def test_a_key_that_everybody_can_read(files: Files) -> None:
    files.key.chmod(0o644)
    (warning,) = certificate_warnings([files.listener()], NOW)
    assert warning.startswith(f"listeners[0].key: '{files.key}' can be read by every user")


def test_no_warnings(files: Files) -> None:
    plain = ListenerSettings("tcp://127.0.0.1:0")
    assert certificate_warnings([plain, files.listener("required")], NOW) == []
    for path in (files.certificate, files.key, files.client_ca):
        path.unlink()
    assert certificate_warnings([files.listener("required")], NOW) == [], "that is an error"
