from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from broker.core.access_settings import (
    CertificateSettings,
    JwtSettings,
    PermissionSettings,
    TokenSettings,
)
from broker.core.settings import ListenerSettings, Settings, TimingSettings
from broker.settings_loader import SettingsError, load_settings
from broker.settings_toml import effective_toml, token_table

SHA256 = hashlib.sha256(b"secret").hexdigest()
OTHER_SHA256 = hashlib.sha256(b"other").hexdigest()

NO_ADDRESS = (
    "is no address: write tcp://127.0.0.1:8420, tls://0.0.0.0:8420 or unix:///run/switchboard.sock"
)
NO_GROUP = "is no group name: 1 to 128 characters, not beginning with $"
NO_HASH = (
    "must be the SHA-256 of a token as 64 lower-case hex digits; `switchboard token new` makes both"
)


def load(
    directory: Path,
    content: str | bytes,
    environ: Mapping[str, str] | None = None,
    listen: tuple[str, ...] = (),
) -> Settings:
    path = directory / "broker.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_settings(path, environ or {}, listen=listen)


def problems(
    directory: Path,
    content: str | bytes,
    environ: Mapping[str, str] | None = None,
    listen: tuple[str, ...] = (),
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(directory, content, environ, listen)
    return list(caught.value.problems)


# -- what is right ---------------------------------------------------------------------------------


def test_nothing_at_all_gives_the_defaults() -> None:
    assert load_settings(None, {}) == Settings()


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Settings()


def test_a_file_sets_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        f"""
        [[listeners]]
        address = "tcp://[::]:9000"
        [[listeners]]
        address = "unix:///run/switchboard.sock"
        [[tokens]]
        name = "billing"
        sha256 = "{SHA256}"
        groups = ["billing", "invoices"]
        [timing]
        ping_ms = 1000
        """,
    )

    assert settings == Settings(
        listeners=(
            ListenerSettings("tcp://[::]:9000"),
            ListenerSettings("unix:///run/switchboard.sock"),
        ),
        tokens=(TokenSettings(sha256=SHA256, name="billing", groups=("billing", "invoices")),),
        timing=TimingSettings(ping_ms=1000),
    )


def test_a_byte_order_mark_and_windows_line_ends_mean_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbf[timing]\r\nping_ms = 1000\r\n").timing.ping_ms == 1000


def test_two_listeners_may_both_leave_the_port_to_the_system(tmp_path: Path) -> None:
    twice = '[[listeners]]\naddress = "tcp://127.0.0.1:0"\n' * 2

    assert len(load(tmp_path, twice).listeners) == 2


def test_addresses_from_the_command_line_replace_those_of_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        '[[listeners]]\naddress = "tcp://0.0.0.0:1"\n',
        listen=("tcp://127.0.0.1:2", "unix:///run/s"),
    )

    assert [listener.address for listener in settings.listeners] == [
        "tcp://127.0.0.1:2",
        "unix:///run/s",
    ]


# -- the token in the environment ------------------------------------------------------------------


def test_the_token_of_the_environment_may_join_any_group() -> None:
    settings = load_settings(None, {"SWITCHBOARD_TOKEN": "secret"})

    assert settings.tokens == (TokenSettings(sha256=SHA256, name="SWITCHBOARD_TOKEN"),)


def test_the_token_of_the_environment_is_accepted_beside_those_of_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path, f'[[tokens]]\nsha256 = "{OTHER_SHA256}"', {"SWITCHBOARD_TOKEN": "secret"}
    )

    assert [token.sha256 for token in settings.tokens] == [OTHER_SHA256, SHA256]


def test_the_environment_does_not_widen_what_the_file_allows_a_token(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        f'[[tokens]]\nsha256 = "{SHA256}"\ngroups = ["billing"]',
        {"SWITCHBOARD_TOKEN": "secret"},
    )

    assert settings.tokens == (TokenSettings(sha256=SHA256, groups=("billing",)),)


def test_an_empty_variable_is_no_token() -> None:
    assert load_settings(None, {"SWITCHBOARD_TOKEN": ""}).tokens == ()


@pytest.mark.parametrize("token", [" secret", "secret\n", "sec\x00ret", "sec\udcffret"])
def test_a_token_that_no_client_will_match_is_a_problem(token: str) -> None:
    with pytest.raises(SettingsError, match=r"^SWITCHBOARD_TOKEN: has white space") as caught:
        load_settings(None, {"SWITCHBOARD_TOKEN": token})

    assert "sec" not in str(caught.value)


# -- what is wrong, one by one ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        # Types: what TOML says, not what Python would make of it.
        ('limits.connections = "5"', "limits.connections: must be an integer, not a string"),
        ("limits.connections = true", "limits.connections: must be an integer, not a boolean"),
        ("limits.connections = 5.0", "limits.connections: must be an integer, not a float"),
        ("limits.connections = [5]", "limits.connections: must be an integer, not a list"),
        ("limits.connections = {}", "limits.connections: must be an integer, not a table"),
        (
            "limits.connections = 2020-01-01",
            "limits.connections: must be an integer, not a date or time",
        ),
        ("limits = 5", "limits: must be a table, not an integer"),
        ("[[limits]]", "limits: must be a table, not a list"),
        (
            "[listeners]\naddress = 'unix:///s'",
            "listeners: must be a list of tables (in double brackets, [[…]]), not a table",
        ),
        ("listeners = ['unix:///s']", "listeners[0]: must be a table, not a string"),
        (
            f"[[tokens]]\nsha256 = '{SHA256}'\ngroups = 'billing'",
            "tokens[0].groups: must be a list, not a string",
        ),
        (
            f"[[tokens]]\nsha256 = '{SHA256}'\ngroups = ['a', 1]",
            "tokens[0].groups[1]: must be a string, not an integer",
        ),
        (
            f"[[tokens]]\nsha256 = '{SHA256}'\nname = false",
            "tokens[0].name: must be a string, not a boolean",
        ),
        # Values.
        ("limits.message_bytes = 5", "limits.message_bytes: must be >= 1024 (is 5)"),
        ("timing.ping_ms = -1", "timing.ping_ms: must be >= 100 (is -1)"),
        ("timing.ping_ms = 9223372036854775808", "timing.ping_ms: is out of range"),
        (
            "limits.outbox_bytes = 1024",
            "limits: outbox_bytes must be at least outbox_high_bytes",
        ),
        ("listeners = []", "listeners: must have at least 1 (has 0)"),
        ("[[listeners]]\naddress = 'x'", f"listeners[0].address: 'x' {NO_ADDRESS}"),
        (
            "[[listeners]]\naddress = 'tcp://h:70000'",
            "listeners[0].address: 'tcp://h:70000': a port is a number up to 65535",
        ),
        ("[[tokens]]\nsha256 = 'secret'", f"tokens[0].sha256: {NO_HASH}"),
        (
            f"[[tokens]]\nsha256 = '{SHA256}'\ngroups = ['$broker']",
            f"tokens[0].groups: '$broker' {NO_GROUP}",
        ),
        # Keys.
        ("[[listeners]]", "listeners[0].address: is missing"),
        ("[[tokens]]\nname = 'billing'", "tokens[0].sha256: is missing"),
        (
            "limits.mesage_bytes = 5000",
            "limits.mesage_bytes: unknown key; did you mean message_bytes?",
        ),
        ("[[token]]", "token: unknown key; did you mean tokens?"),
        ("ping_ms = 1000", "ping_ms: unknown key here; did you mean timing.ping_ms?"),
        (
            f"sha256 = '{SHA256}'",
            "sha256: unknown key here; did you mean tokens[].sha256?",
        ),
        (
            "zork = 1",
            (
                "zork: unknown key; known here: "
                "listeners, tokens, certificates, jwt, allowed_origins, timing, limits, ops"
            ),
        ),
        ('limits."?" = 1', 'limits."?": unknown key; known here: '),
        ('"" = 1', '"": unknown key; known here: '),
        # Right by itself, wrong twice.
        (
            f"[[tokens]]\nsha256 = '{SHA256}'\n" * 2,
            "tokens[1].sha256: the same token as tokens[0]",
        ),
        (
            "[[certificates]]\nsubject = 'a'\n" * 2,
            "certificates[1].subject: the same subject as certificates[0]",
        ),
        # Permissions.
        (
            f"[[tokens]]\nsha256 = '{SHA256}'\npermissions = {{ stat = true }}",
            "tokens[0].permissions.stat: unknown key; did you mean stats?",
        ),
        (
            f"[[tokens]]\nsha256 = '{SHA256}'\nstats = true",
            "tokens[0].stats: unknown key here; did you mean tokens[].permissions.stats?",
        ),
        (
            f"[[tokens]]\nsha256 = '{SHA256}'\npermissions = {{ send_groups = '*' }}",
            "tokens[0].permissions.send_groups: must be a list, not a string",
        ),
        (
            f"[[tokens]]\nsha256 = '{SHA256}'\npermissions = {{ send_events = [''] }}",
            "tokens[0].permissions.send_events: '' is no pattern: 1 to 128 characters",
        ),
        (
            f"[[tokens]]\nsha256 = '{SHA256}'\npermissions = {{ messages_per_second = 0 }}",
            "tokens[0].permissions.messages_per_second: must be an integer from 1 up (is 0)",
        ),
        (
            "[[certificates]]\nsubject = 'a'\npermissions = { messages_per_second = true }",
            "certificates[0].permissions.messages_per_second: must be an integer, not a boolean",
        ),
        ("[[certificates]]\nname = 'a'", "certificates[0].subject: is missing"),
        # JWTs.
        ("jwt = 5", "jwt: must be a table, not an integer"),
        (
            "[jwt]\nalgorithms = ['EdDSA']\naudience = 'a'",
            "jwt: name one of key_file and jwks_file",
        ),
        (
            "[jwt]\nalgorithms = ['EdDSA']\naudience = 'a'\nkey_file = 'a'\njwks_file = 'b'",
            "jwt: name one of key_file and jwks_file",
        ),
        ("[jwt]\nalgorithms = ['EdDSA']\nkey_file = 'a'", "jwt.audience: is missing"),
        (
            "[jwt]\nalgorithms = ['none']\naudience = 'a'\nkey_file = 'a'",
            "jwt.algorithms: 'none' is none of HS256, RS256, EdDSA, Ed25519",
        ),
        (
            "[jwt]\nalgorithms = []\naudience = 'a'\nkey_file = 'a'",
            "jwt.algorithms: must name at least one of HS256, RS256, EdDSA, Ed25519",
        ),
        (
            "[jwt]\nalgorithms = ['HS256']\naudience = 'a'\nkey_file = 'a'\nkeys = 'hunter2'",
            "jwt.keys: unknown key; known here: ",
        ),
        (
            "[jwt]\nalgorithms = ['HS256']\naudience = 'a'\nkey_file = 'a'\nleeway_ms = -1",
            "jwt.leeway_ms: must be >= 0 (is -1)",
        ),
        ("audience = 'a'", "audience: unknown key here; did you mean jwt.audience?"),
        (
            "[[listeners]]\naddress = 'tcp://h:1'\n" * 2,
            "listeners[1].address: the same address as listeners[0]",
        ),
    ],
)
def test_a_problem_names_its_place(tmp_path: Path, content: str, problem: str) -> None:
    [found] = problems(tmp_path, content)

    assert found.startswith(problem) if problem.endswith(": ") else found == problem


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a = 1\nb = zork", "line 2, column 5: invalid value"),
        ("a = [1,\n2", "line 2, column 2: unclosed array"),
        ("[limits]\n[limits]", "line 2, column 8: cannot declare limits twice"),
        ("[a.b]\n[a.b]", "line 2, column 5: cannot declare a.b twice"),
        ("a = 1\na = 2\n", "line 2, column 6: cannot overwrite a value"),
        (b"# fine\na = '\xff'", "line 2: is not UTF-8 (byte 0xff)"),
        ("a = " + 5000 * "9", "a number is too long"),
        ("a = " + 5000 * "[", "nested too deep"),
    ],
)
def test_what_is_no_toml_is_pointed_at(tmp_path: Path, content: str | bytes, problem: str) -> None:
    assert problems(tmp_path, content) == [problem]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^can't be read: no such file or directory$"):
        load_settings(tmp_path / "broker.toml", {})


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^can't be read: is a directory$"):
        load_settings(tmp_path, {})


# -- what is wrong, all at once --------------------------------------------------------------------


def test_every_problem_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    content = f"""
        ping_ms = 5
        [timing]
        stall_ms = "5"
        ping_ms = 5
        pong_ms = 5
        [[tokens]]
        sha256 = "{SHA256}"
        groups = ["a", 5, "b", 6]
        [[tokens]]
        sha256 = "{SHA256}"
        secret = "secret"
        [[listeners]]
        adress = "unix:///s"
        [limits]
        connections = 0
        """

    assert problems(tmp_path, content, {"SWITCHBOARD_TOKEN": " "}, listen=("x", "x")) == [
        "ping_ms: unknown key here; did you mean timing.ping_ms?",
        "timing.stall_ms: must be an integer, not a string",
        "timing.ping_ms: must be >= 100 (is 5)",
        "timing.pong_ms: unknown key; did you mean ping_ms?",
        "tokens[0].groups[1]: must be a string, not an integer",
        "tokens[0].groups[3]: must be a string, not an integer",
        "tokens[1].sha256: the same token as tokens[0]",
        "tokens[1].secret: unknown key; known here: sha256, name, groups, permissions",
        "listeners[0].adress: unknown key; did you mean address?",
        "listeners[0].address: is missing",
        "limits.connections: must be >= 1 (is 0)",
        f"--listen: 'x' {NO_ADDRESS}",
        "--listen: x is given twice",
        "SWITCHBOARD_TOKEN: has white space around it or unprintable characters in it",
    ]


@pytest.mark.parametrize("key", ["sha256", "token", "name = 5\ngroups"])
def test_no_problem_repeats_a_secret(tmp_path: Path, key: str) -> None:
    assert "hunter2" not in "".join(problems(tmp_path, f"[[tokens]]\n{key} = 'hunter2'"))


# -- the effective settings ------------------------------------------------------------------------


def test_the_effective_settings_can_be_read_back() -> None:
    settings = Settings(
        listeners=(ListenerSettings("tcp://127.0.0.1:0"), ListenerSettings("unix:///a\x7fb\"c'd")),
        timing=TimingSettings(ping_ms=1000),
    )
    shown = tomllib.loads(effective_toml(settings))

    del shown["tokens"]
    assert shown == {
        "certificates": [],
        "allowed_origins": [],
        "listeners": [{"address": "tcp://127.0.0.1:0"}, {"address": "unix:///a\x7fb\"c'd"}],
        "timing": attrs.asdict(settings.timing),
        "limits": {
            name: value
            for name, value in attrs.asdict(settings.limits).items()
            if value is not None
        },
        "ops": {"host_names": [], "metrics": True},
    }


def test_the_effective_settings_show_tokens_without_their_hashes() -> None:
    shown = effective_toml(
        Settings(tokens=(TokenSettings(sha256=SHA256, name="billing", groups=("a", "ü")),))
    )

    assert 'name = "billing"\ngroups = ["a", "ü"]' in shown
    assert SHA256 not in shown


def test_the_effective_settings_tell_a_default_from_a_choice() -> None:
    shown = effective_toml(Settings(timing=TimingSettings(ping_ms=1000)))

    assert "ping_ms = 1000\n" in shown
    assert "drain_ms = 10000  # default\n" in shown


def test_a_token_table_can_be_pasted_into_a_configuration(tmp_path: Path) -> None:
    token = TokenSettings(sha256=SHA256, name='bill"ing\x7f', groups=("a", "ü\n"))

    assert load(tmp_path, token_table(token)).tokens == (token,)
    assert load(tmp_path, token_table(TokenSettings(sha256=SHA256))).tokens == (
        TokenSettings(sha256=SHA256),
    )


# -- keys for JWTs, permissions and certificates ---------------------------------------------------

SECRET = b"a secret that is shared, of more than thirty-two bytes"
JWT = """
[jwt]
algorithms = ["HS256"]
audience = "mesh"
key_file = "{}"
"""


def test_the_key_of_a_file_that_is_named_from_the_configurations_folder(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "jwt.secret").write_bytes(SECRET + b"\n")

    assert load(tmp_path, JWT.format("keys/jwt.secret")).jwt == JwtSettings(
        algorithms=("HS256",),
        audience="mesh",
        key_file=str(tmp_path / "keys" / "jwt.secret"),
        keys=SECRET + b"\n",
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "can't be read: no such file or directory"),
        (b"", "is empty"),
        (
            SECRET[:20],
            "holds a secret of fewer than 32 bytes; openssl rand -base64 48 makes a good one",
        ),
    ],
)
def test_a_key_that_is_no_good_is_a_problem_of_the_file_that_names_it(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "jwt.secret"
    if content is not None:
        path.write_bytes(content)

    assert problems(tmp_path, JWT.format(path)) == [f"jwt.key_file: '{path}' {problem}"]
    assert problems(tmp_path, JWT.format(path).replace("key_file", "jwks_file")) == [
        f"jwt.jwks_file: '{path}' "
        + (
            problem
            if content is None
            else 'is no JWK set: a JSON object with a list "keys" of objects'
        )
    ]


def test_the_files_of_a_listener_are_named_from_the_configurations_folder(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        [[listeners]]
        address = "tls://127.0.0.1:0"
        certificate = "tls/broker.pem"
        key = "/etc/broker.key"
        """,
    )

    [listener] = settings.listeners
    assert (listener.certificate, listener.key) == (
        str(tmp_path / "tls/broker.pem"),
        "/etc/broker.key",
    )


def test_permissions_and_certificates_of_a_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        f"""
        [[tokens]]
        sha256 = "{SHA256}"
        [tokens.permissions]
        send_global = false
        send_groups = ["billing", "web-*"]
        [[certificates]]
        subject = "billing"
        groups = ["billing"]
        permissions = {{ stats = true, messages_per_second = 100 }}
        """,
    )

    assert settings.tokens == (
        TokenSettings(
            SHA256,
            permissions=PermissionSettings(send_global=False, send_groups=("billing", "web-*")),
        ),
    )
    assert settings.certificates == (
        CertificateSettings(
            "billing",
            groups=("billing",),
            permissions=PermissionSettings(stats=True, messages_per_second=100),
        ),
    )


def test_the_effective_settings_show_no_key(tmp_path: Path) -> None:
    (tmp_path / "jwt.secret").write_bytes(SECRET)
    settings = load(tmp_path, JWT.format("jwt.secret"))
    shown = effective_toml(settings)

    assert tomllib.loads(shown)["jwt"] == {
        "algorithms": ["HS256"],
        "audience": "mesh",
        "key_file": str(tmp_path / "jwt.secret"),
        "leeway_ms": 30_000,
    }
    assert "keys" not in shown
    assert SECRET.decode() not in shown + repr(settings)


def test_the_permissions_of_a_token_that_differ_stand_in_its_table(tmp_path: Path) -> None:
    token = TokenSettings(
        sha256=SHA256, permissions=PermissionSettings(stats=True, send_groups=("a*", 'b"'))
    )

    assert "permissions = {" in token_table(token)
    assert load(tmp_path, token_table(token)).tokens == (token,)
    assert "permissions" not in token_table(TokenSettings(sha256=SHA256))
