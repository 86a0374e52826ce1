from __future__ import annotations

import pytest

from services.sdk.urls import Address, Scheme, parse_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://broker", (Scheme.WS, "broker", 8420, "/")),
        ("ws://broker:80/mesh?region=eu", (Scheme.WS, "broker", 80, "/mesh?region=eu")),
        ("ws://[::1]:9000", (Scheme.WS, "::1", 9000, "/")),
        ("WS://Broker", (Scheme.WS, "broker", 8420, "/")),
        ("tcp://127.0.0.1:8420", (Scheme.TCP, "127.0.0.1", 8420, "/")),
        ("tcp://127.0.0.1/", (Scheme.TCP, "127.0.0.1", 8420, "/")),
        ("wss://broker.example/mesh", (Scheme.WSS, "broker.example", 8420, "/mesh")),
        ("tls://broker.example:443", (Scheme.TLS, "broker.example", 443, "/")),
        ("unix:///run/switchboard.sock", (Scheme.UNIX, "", 0, "/run/switchboard.sock")),
    ],
)
def test_forms(url: str, expected: tuple[Scheme, str, int, str]) -> None:
    assert parse_url(url) == Address(url, *expected)


@pytest.mark.parametrize(
    ("url", "authority"),
    [("ws://broker", "broker:8420"), ("ws://[::1]:9000", "[::1]:9000")],
)
def test_authority(url: str, authority: str) -> None:
    assert parse_url(url).authority == authority


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("ws://broker:80/mesh", "wss://broker:80/mesh"),
        ("wss://broker", "ws://broker"),
        ("tcp://[::1]:9000", "tls://[::1]:9000"),
        ("tls://broker", "tcp://broker"),
    ],
)
def test_with_and_without_tls(url: str, other: str) -> None:
    assert parse_url(url).other_url == other
    assert parse_url(url).scheme.encrypted is not parse_url(other).scheme.encrypted


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is no address"),
        ("broker:8420", "is no address"),
        ("http://broker", "is no address"),
        ("ws://", "is no address"),
        ("tcp://broker:0", "is no address"),
        ("tcp://broker:http", "is no address"),
        ("tcp://broker:99999", "is no address"),
        ("tcp://[::1", "is no address"),
        ("tcp://broker/path", "ends with its port"),
        ("tls://broker/path", "ends with its port"),
        ("unix://run/switchboard.sock", "absolute path"),
        ("unix:", "absolute path"),
        ("ws://token@broker", "use token="),
        ("ws://broker#x", "no place there"),
    ],
)
def test_what_is_no_address(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_url(url)
