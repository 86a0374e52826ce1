"""Tokens and certificates to principals, and what becomes of those who have neither."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from broker.core import throttle
from broker.core.access_settings import CertificateSettings, PermissionSettings, TokenSettings
from broker.core.authentication import Authenticator, TokenTable, hash_token
from broker.core.principal import AuthenticationError, Credentials, Principal
from broker.core.settings import LimitSettings, Settings
from broker.core.throttle import FailureThrottle
from tests.core.memory_mesh import TOKEN, TOKENS, Client, MemoryMesh

TABLE = TokenTable(
    [
        TokenSettings(hash_token("any"), "operator"),
        TokenSettings(hash_token("caf\u00e9"), "billing", ("billing", "audit")),
        TokenSettings(hash_token(""), "empty"),
    ]
)
CERTIFICATES = (
    CertificateSettings("billing", "the billing service", ("billing",)),
    CertificateSettings("spiffe://mesh/web", permissions=PermissionSettings(send_global=False)),
)


def described(principal: Principal | None) -> tuple[str, frozenset[str]] | None:
    return None if principal is None else (principal.name, principal.groups)


def shown(token: str) -> Credentials:
    return Credentials(token)


# -- tokens ----------------------------------------------------------------------------------------


def test_a_token_has_one_owner() -> None:
    assert described(TABLE.authenticate(shown("any"))) == ("operator", frozenset())
    assert described(TABLE.authenticate(shown("caf\u00e9"))) == (
        "billing",
        frozenset({"billing", "audit"}),
    )


@pytest.mark.parametrize(
    "token",
    [
        "ANY",
        " any",
        "any ",
        "an",
        "anyy",
        "cafe\u0301",
        hash_token("any"),
        "any\0",
        "\U0001f600",
        "\ud800",
    ],
)
def test_what_is_nobodys(token: str) -> None:
    assert TABLE.authenticate(shown(token)) is None


def test_without_tokens_nobody_is_known() -> None:
    assert TokenTable([]).authenticate(shown("any")) is None


def test_each_of_many_tokens_is_its_own_owners() -> None:
    """Far more than there are prefixes to look them up by, were these one byte long."""
    names = [f"token {number}" for number in range(3000)]
    table = TokenTable([TokenSettings(hash_token(name), name) for name in names])
    for name in names:
        principal = table.authenticate(shown(name))
        assert principal is not None
        assert principal.name == name
    assert table.authenticate(shown("token 3000")) is None


def test_digests_are_compared_in_constant_time_and_only_a_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether a token is known or not, as often; and not once for each of thousands."""
    compared: list[tuple[bytes, bytes]] = []
    really_compare = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return really_compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    table = TokenTable([TokenSettings(hash_token(str(number))) for number in range(1000)])
    counts = []
    for token in ("7", "nobody's"):
        compared.clear()
        table.authenticate(shown(token))
        assert all(len(one) == len(other) == 32 for one, other in compared)
        counts.append(len(compared))

    assert counts == [1, 1]


def test_two_digests_that_begin_alike_are_told_apart() -> None:
    digest = bytearray(hashlib.sha256(b"a").digest())
    digest[-1] ^= 1
    table = TokenTable([TokenSettings(hash_token("a"), "a"), TokenSettings(digest.hex(), "b")])

    assert described(table.authenticate(shown("a"))) == ("a", frozenset())


def test_which_groups_a_principal_may_join() -> None:
    assert Principal("operator").may_join("whatever")
    billing = Principal("billing", frozenset({"billing"}))
    assert billing.may_join("billing")
    assert not billing.may_join("Billing")
    assert not billing.may_join("")


def test_the_form_of_a_token_in_the_settings() -> None:
    assert hash_token("caf\u00e9") == hashlib.sha256(b"caf\xc3\xa9").hexdigest()


def test_what_is_shown_is_in_no_repr() -> None:
    principal = TABLE.authenticate(shown("any"))

    assert "any" not in repr(shown("any"))
    assert hash_token("any") not in repr(principal)
    assert repr(hashlib.sha256(b"any").digest()) not in repr(principal)


# -- client certificates ---------------------------------------------------------------------------


def with_certificate(*names: str, group: str | None = None, **said: Any) -> Client:
    mesh = MemoryMesh(Settings(tokens=TOKENS, certificates=CERTIFICATES))
    client = mesh.connect(certificate_names=names)
    client.send(op=1, data={"group": group, **said})
    return client


def test_a_certificate_lets_in_without_a_token() -> None:
    client = with_certificate("billing.example.org", "billing", group="billing")

    assert client.take()[0]["op"] == 1
    assert client.peer.member is not None
    assert client.peer.member.principal.name == "the billing service"


def test_a_certificate_for_one_group_need_not_name_it() -> None:
    (welcome,) = with_certificate("billing").take()

    assert welcome["data"]["group"] == "billing"


def test_a_certificate_without_a_name_is_called_by_its_subject() -> None:
    client = with_certificate("spiffe://mesh/web", group="web")

    assert client.peer.member is not None
    assert client.peer.member.principal.name == "spiffe://mesh/web"
    assert client.peer.permissions is not None


@pytest.mark.parametrize("name", ["Billing", "billing.", "*", "bill", ""])
def test_a_certificate_that_is_nobodys(name: str) -> None:
    (end,) = with_certificate(name, group="billing").take()

    assert end["data"] == "IDENTIFY_FAILED"
    assert end["error"]["message"] == (
        f"the client certificate of {name!r} is not known here, and data.token is missing"
    )


def test_a_certificate_is_for_its_groups_alone() -> None:
    (end,) = with_certificate("billing", group="web").take()

    assert end["error"]["message"] == "data.group: you may not join 'web'"


def test_a_token_counts_where_both_are_shown() -> None:
    """The certificate is good for `billing` alone; the token for any group."""
    assert with_certificate("billing", group="web", token=TOKEN).take()[0]["op"] == 1
    (end,) = with_certificate("billing", group="billing", token="wrong").take()
    assert end["data"] == "IDENTIFY_FAILED"


def test_a_client_says_nothing_of_its_certificate() -> None:
    mesh = MemoryMesh(Settings(certificates=CERTIFICATES))
    client = mesh.connect()
    client.send(op=1, data={"group": "billing", "certificate_names": ["billing"]})

    assert client.take()[0]["error"]["message"] == "data.token: is missing"


# -- after a reload --------------------------------------------------------------------------------


def test_a_principal_is_found_again_by_what_it_was_known_by() -> None:
    before = Authenticator(Settings(tokens=TOKENS, certificates=CERTIFICATES))
    by_token = before.authenticate(Credentials(TOKEN), 0)
    by_certificate = before.authenticate(Credentials(None, ("billing",)), 0)
    renamed = TokenSettings(hash_token(TOKEN), "renamed")
    after = Authenticator(Settings(tokens=(renamed,), certificates=CERTIFICATES[1:]))

    assert described(after.renew(by_token)) == ("renamed", frozenset())
    assert after.renew(by_certificate) is None
    assert Authenticator(Settings()).renew(by_token) is None


def test_nobody_is_let_in_by_nothing() -> None:
    with pytest.raises(AuthenticationError, match="is missing"):
        Authenticator(Settings(tokens=TOKENS)).authenticate(Credentials(), 0)


# -- failures, by address --------------------------------------------------------------------------


def throttled_mesh(most: int) -> MemoryMesh:
    limits = LimitSettings(failures_per_address=most)
    return MemoryMesh(Settings(tokens=TOKENS, limits=limits))


def knock(mesh: MemoryMesh, address: str, token: str = "wrong") -> str:
    """Return the reason of the DISCONNECT, or "in"."""
    client = mesh.connect(address)
    client.identify("g", token=token)
    (answer,) = client.take()
    return "in" if answer["op"] == 1 else str(answer["data"])


def test_an_address_that_fails_too_often_is_turned_away_whatever_it_shows() -> None:
    mesh = throttled_mesh(3)

    assert [knock(mesh, f"192.0.2.1:{port}") for port in range(4)] == [
        *["IDENTIFY_FAILED"] * 3,
        "TRY_AGAIN_LATER",
    ]
    assert knock(mesh, "192.0.2.1:9", TOKEN) == "TRY_AGAIN_LATER"
    assert knock(mesh, "192.0.2.2:9", TOKEN) == "in"
    statistics = mesh.dispatcher.statistics()
    assert (statistics.failed_authentications, statistics.throttled) == (3, 2)


def test_it_is_told_how_long() -> None:
    mesh = throttled_mesh(1)
    knock(mesh, "192.0.2.1:1")
    mesh.pass_time(18.5)
    client = mesh.connect("192.0.2.1:2")
    client.identify("g")

    assert client.take()[0]["error"]["message"] == (
        "too many failed IDENTIFYs came from your address; try again in 42 s"
    )


def test_it_is_over_after_a_minute_even_if_it_went_on_knocking() -> None:
    mesh = throttled_mesh(1)
    knock(mesh, "192.0.2.1:1")
    for _ in range(59):
        mesh.pass_time(1)
        assert knock(mesh, "192.0.2.1:1") == "TRY_AGAIN_LATER"
    mesh.pass_time(1)
    assert knock(mesh, "192.0.2.1:1", TOKEN) == "in"


def test_failures_of_another_minute_do_not_count() -> None:
    mesh = throttled_mesh(3)
    for _ in range(10):
        assert knock(mesh, "192.0.2.1:1") == "IDENTIFY_FAILED"
        assert knock(mesh, "192.0.2.1:1") == "IDENTIFY_FAILED"
        mesh.pass_time(60)


def test_a_success_in_between_buys_no_more_guesses() -> None:
    mesh = throttled_mesh(3)
    guesses = 0
    for _ in range(10):
        if knock(mesh, "192.0.2.1:1", TOKEN) == "in":
            guesses += knock(mesh, "192.0.2.1:1") == "IDENTIFY_FAILED"

    assert guesses == 3


def test_an_ipv6_customer_is_one_address() -> None:
    mesh = throttled_mesh(2)
    knock(mesh, "[2001:db8:0:1::1]:1")
    knock(mesh, "[2001:db8:0:1:ffff::2]:1")

    assert knock(mesh, "[2001:db8:0:1:1234::3]:1") == "TRY_AGAIN_LATER"
    assert knock(mesh, "[2001:db8:0:2::1]:1") == "IDENTIFY_FAILED"


def test_an_ipv4_address_is_the_same_in_ipv6() -> None:
    mesh = throttled_mesh(1)
    knock(mesh, "[::ffff:192.0.2.1]:1")

    assert knock(mesh, "192.0.2.1:2") == "TRY_AGAIN_LATER"


def test_a_unix_socket_has_no_address_and_no_limit() -> None:
    mesh = throttled_mesh(1)

    assert [knock(mesh, "unix") for _ in range(3)] == ["IDENTIFY_FAILED"] * 3


def test_no_limit_where_none_is_wanted() -> None:
    mesh = throttled_mesh(0)

    assert {knock(mesh, "192.0.2.1:1") for _ in range(100)} == {"IDENTIFY_FAILED"}


def test_who_shows_a_good_token_and_errs_otherwise_is_guessing_nothing() -> None:
    mesh = throttled_mesh(1)
    for data in ({"token": TOKEN}, {"token": TOKEN, "group": "$g"}, {"token": TOKEN, "group": 5}):
        client = mesh.connect("192.0.2.1:1")
        client.send(op=1, data=data)
        assert client.take()[0]["data"] == "IDENTIFY_FAILED"

    assert knock(mesh, "192.0.2.1:1", TOKEN) == "in"


def test_memory_is_bounded_however_many_addresses_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(throttle, "_NETWORKS", 100)
    for most in (1, 2):
        failures = FailureThrottle(most)
        for number in range(1000):
            failures.failed(f"10.0.{number >> 8}.{number & 255}", 0.0)
        assert len(failures) <= 200
        # The last ones are those that are remembered.
        assert failures.failed("10.0.3.231", 0.0) or failures.blocked_for("10.0.3.231", 0.0)
