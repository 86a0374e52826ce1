"""The settings of listeners that speak TLS, and which of them go together."""

from __future__ import annotations

from typing import Any

import pytest

from broker.core.settings import ListenerSettings

FILES = {"certificate": "/c.pem", "key": "/k.pem"}


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("tls://0.0.0.0:8420", ("0.0.0.0", 8420)),
        ("tls://[::1]:0", ("::1", 0)),
        ("tls://broker.test:443", ("broker.test", 443)),
    ],
)
def test_an_address(address: str, where: tuple[str, int]) -> None:
    listener = ListenerSettings(address, **FILES)
    assert listener.tls
    assert listener.tcp_address == where
    assert listener.unix_path is None


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8420", "unix:///run/switchboard.sock"])
@pytest.mark.parametrize("key", ["certificate", "key", "client_ca", "client_certificate"])
def test_what_belongs_to_tls_alone(address: str, key: str) -> None:
    assert not ListenerSettings(address).tls
    with pytest.raises(ValueError, match=f"^{key} is for TLS alone: write tls://HOST:PORT"):
        ListenerSettings(address, **{key: "required"})


@pytest.mark.parametrize("given", [{}, {"certificate": "/c.pem"}, {"key": "/k.pem"}])
def test_tls_needs_a_certificate_and_its_key(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"^tls:// needs certificate and key"):
        ListenerSettings("tls://127.0.0.1:8420", **given)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"client_certificate": "required"}, "client_certificate needs client_ca"),
        ({"client_ca": "/ca.pem", "client_certificate": "maybe"}, r'"required" or "optional"'),
        ({"client_ca": ""}, "is empty"),
    ],
)
def test_client_certificates(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ListenerSettings("tls://127.0.0.1:8420", **FILES, **given)


@pytest.mark.parametrize("asked", [None, "required", "optional"])
def test_a_client_ca(asked: str | None) -> None:
    listener = ListenerSettings(
        "tls://127.0.0.1:8420", **FILES, client_ca="/ca.pem", client_certificate=asked
    )
    assert listener.client_ca == "/ca.pem"


@pytest.mark.parametrize("address", ["tls://127.0.0.1", "tls://127.0.0.1:65536", "tls:///a.sock"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ValueError, match=r"is no address|up to 65535"):
        ListenerSettings(address, **FILES)
