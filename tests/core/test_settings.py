from __future__ import annotations

from typing import Any

import attrs
import pytest

from broker.core.settings import (
    LimitSettings,
    ListenerSettings,
    Settings,
    TimingSettings,
    TokenSettings,
)

SHA256 = "0" * 64


def test_the_defaults_listen_on_loopback_alone_and_let_nobody_in() -> None:
    settings = Settings()

    assert [listener.address for listener in settings.listeners] == ["tcp://127.0.0.1:8420"]
    assert settings.tokens == ()


@pytest.mark.parametrize(
    ("address", "tcp_address", "unix_path"),
    [
        ("tcp://127.0.0.1:8420", ("127.0.0.1", 8420), None),
        ("tcp://localhost:0", ("localhost", 0), None),
        ("tcp://broker.example.com:65535", ("broker.example.com", 65535), None),
        ("tcp://[::1]:8420", ("::1", 8420), None),
        ("unix:///run/switchboard.sock", None, "/run/switchboard.sock"),
        ("unix:///with space/and:colon", None, "/with space/and:colon"),
    ],
)
def test_an_address_is_taken_apart(
    address: str, tcp_address: tuple[str, int] | None, unix_path: str | None
) -> None:
    listener = ListenerSettings(address)

    assert listener.tcp_address == tcp_address
    assert listener.unix_path == unix_path


@pytest.mark.parametrize(
    "address",
    [
        "",
        "8420",
        "127.0.0.1:8420",
        "tcp://127.0.0.1",
        "tcp://:8420",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1:http",
        "tcp://127.0.0.1:-1",
        "tcp://127.0.0.1:8420/",
        "tcp://127.0.0.1:8420\n",
        "tcp://::1:8420",
        "tcp://[localhost]:8420",
        "ws://127.0.0.1:8420",
        "unix://relative.sock",
        "unix://",
        "unix:///",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"is no address: write tcp://127.0.0.1:8420, tls://"):
        ListenerSettings(address)


def test_a_port_has_sixteen_bits() -> None:
    with pytest.raises(ValueError, match="a port is a number up to 65535"):
        ListenerSettings("tcp://127.0.0.1:65536")


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n"])
def test_a_hash_has_one_form(sha256: str) -> None:
    with pytest.raises(ValueError, match="64 lower-case hex digits"):
        TokenSettings(sha256=sha256)


@pytest.mark.parametrize("group", ["", "$broker", "a" * 129])
def test_a_token_is_for_groups_that_can_exist(group: str) -> None:
    with pytest.raises(ValueError, match="is no group name"):
        TokenSettings(sha256=SHA256, groups=("billing", group))


def test_a_token_does_not_show_its_hash() -> None:
    assert SHA256 not in repr(Settings(tokens=(TokenSettings(sha256=SHA256, name="billing"),)))


@pytest.mark.parametrize(
    ("table", "key", "smallest"),
    [
        (TimingSettings, "ping_ms", 100),
        (TimingSettings, "identify_ms", 100),
        (TimingSettings, "grace_ms", 0),
        (TimingSettings, "drain_ms", 100),
        (TimingSettings, "goodbye_ms", 0),
        (TimingSettings, "stall_ms", 0),
        (LimitSettings, "message_bytes", 1024),
        (LimitSettings, "unidentified_bytes", 256),
        (LimitSettings, "handshake_bytes", 1024),
        (LimitSettings, "connections", 1),
        (LimitSettings, "requests_per_connection", 1),
        (LimitSettings, "requests", 1),
        (LimitSettings, "waiting_per_group", 0),
        (LimitSettings, "waiting_bytes", 0),
        (LimitSettings, "outbox_high_bytes", 1024),
        (LimitSettings, "connections_per_address", 1),
        (LimitSettings, "unidentified_connections", 1),
        (LimitSettings, "accepts_per_second", 1),
        (LimitSettings, "failures_per_address", 0),
        (LimitSettings, "nesting", 8),
        (LimitSettings, "messages_per_second", 1),
        (LimitSettings, "bytes_per_second", 1),
    ],
)
def test_every_number_has_a_floor(table: type[Any], key: str, smallest: int) -> None:
    assert getattr(table(**{key: smallest}), key) == smallest
    with pytest.raises(ValueError, match=f"'{key}' must be >= {smallest}"):
        table(**{key: smallest - 1})


def test_the_floors_are_tested_for_every_number() -> None:
    numbers = [*attrs.fields(TimingSettings), *attrs.fields(LimitSettings)]

    assert len(numbers) == 24  # those above, and outbox_bytes and outboxes_bytes below


def test_a_receiver_is_slowed_down_before_it_is_cut() -> None:
    limits = LimitSettings(message_bytes=1024, outbox_high_bytes=2048, outbox_bytes=2048)
    assert limits.outbox_bytes == 2048
    with pytest.raises(ValueError, match="outbox_bytes must be at least outbox_high_bytes"):
        LimitSettings(message_bytes=1024, outbox_high_bytes=2048, outbox_bytes=2047)


def test_an_outbox_has_room_for_the_largest_message() -> None:
    assert LimitSettings(message_bytes=(16 << 20) - 1024).outbox_bytes == 16 << 20
    with pytest.raises(ValueError, match="at least message_bytes and 1024 more"):
        LimitSettings(message_bytes=(16 << 20) - 1023)


def test_all_outboxes_have_room_for_one() -> None:
    assert LimitSettings(outboxes_bytes=16 << 20).outboxes_bytes == 16 << 20
    with pytest.raises(ValueError, match="outboxes_bytes must be at least outbox_bytes"):
        LimitSettings(outboxes_bytes=(16 << 20) - 1)


@pytest.mark.parametrize("nesting", [7, 501])
def test_nesting_is_neither_too_small_for_anything_nor_too_deep_for_the_parser(
    nesting: int,
) -> None:
    with pytest.raises(ValueError, match="nesting"):
        LimitSettings(nesting=nesting)


def test_there_is_something_to_listen_on() -> None:
    with pytest.raises(ValueError, match="listeners"):
        Settings(listeners=())
