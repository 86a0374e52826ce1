"""The commands: in this process where nothing is served, as a process of their own where it is."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import attrs
import click
import pytest
from click.testing import CliRunner

import broker
import broker.commands
import services.cli.main
from broker import exposure
from broker.commands import listen_hint
from broker.core.access_settings import TokenSettings
from broker.core.settings import ListenerSettings, Settings
from broker.exposure import exposures
from broker.server import ListenError
from broker.settings_loader import load_settings

ROOT = Path(broker.__file__).parent.parent
SHA256 = hashlib.sha256(b"secret").hexdigest()
ANY_PORT = "tcp://127.0.0.1:0"

both_programs = pytest.mark.parametrize(
    "program",
    [broker.commands.main, services.cli.main.main],
    ids=["python -m broker", "switchboard"],
)


def invoke(
    *arguments: str, program: click.Group = broker.commands.main, token: str | None = None
) -> tuple[int, str, str]:
    environ = {"SWITCHBOARD_TOKEN": token, "SWITCHBOARD_CONFIG": None}
    result = CliRunner().invoke(program, arguments, env=environ)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@attrs.frozen
class Process:
    popen: subprocess.Popen[str]
    stdout: IO[str]
    stderr: IO[str]

    def address(self) -> str:
        """Wait until it listens; of several listeners, each call gives the next."""
        line = self.stdout.readline()
        assert line.startswith("listening on "), line + self.stderr.read()
        return line.removeprefix("listening on ").rstrip("\n")


@contextmanager
def serving(*arguments: str, environ: Mapping[str, str] | None = None) -> Iterator[Process]:
    """`serve` as a process; killed at the end, if it still runs."""
    inherited = {name: value for name, value in os.environ.items() if "SWITCHBOARD" not in name}
    with subprocess.Popen(
        [sys.executable, "-m", "broker", "serve", *arguments],
        cwd=ROOT,
        env=inherited | dict(environ or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        assert popen.stdout is not None
        assert popen.stderr is not None
        try:
            yield Process(popen, popen.stdout, popen.stderr)
        finally:
            popen.kill()


def connect(address: str) -> socket.socket:
    if address.startswith("unix://"):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address.removeprefix("unix://"))
        return connection
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)))


def identify(connection: socket.socket, token: str, group: str = "demo") -> dict[str, Any]:
    """Say who is there; return the answer, for which one line is read and not a byte more."""
    frame = {"op": 1, "data": {"token": token, "group": group}}
    connection.sendall(json.dumps(frame).encode() + b"\n")
    return read_frame(connection)


def read_frame(connection: socket.socket) -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        assert byte, "the connection ended"
        line += byte
    frame: dict[str, Any] = json.loads(line)
    return frame


# -- serve: starting -------------------------------------------------------------------------------


def test_serve_says_where_it_listens_one_line_a_listener(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listeners = ("--listen", ANY_PORT, "--listen", f"unix://{path}")
    with serving(*listeners, environ={"SWITCHBOARD_TOKEN": "secret"}) as process:
        first, second = process.address(), process.address()
        assert re.fullmatch(r"tcp://127\.0\.0\.1:[1-9]\d*", first)
        assert second == f"unix://{path}"
        for address in (first, second):
            with connect(address) as connection:
                assert identify(connection, "secret")["op"] == 1
        process.popen.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
        assert process.popen.wait() == 0


def test_serve_takes_listeners_tokens_and_timing_from_a_file(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text(
        f"""
        [[listeners]]
        address = "{ANY_PORT}"
        [[tokens]]
        sha256 = "{SHA256}"
        groups = ["billing"]
        [timing]
        ping_ms = 12345
        """
    )
    for arguments, environ in (
        (("--config", str(config)), {}),
        ((), {"SWITCHBOARD_CONFIG": str(config)}),
    ):
        with serving(*arguments, environ=environ) as process:
            address = process.address()
            with connect(address) as connection:
                assert identify(connection, "secret", "billing")["data"]["ping"] == 12345
            with connect(address) as connection:
                assert identify(connection, "secret", "invoices")["op"] == 2


def test_a_token_is_made_up_where_none_is_configured_and_shown_once() -> None:
    with serving("--listen", ANY_PORT) as process:
        address = process.address()
        hints = [process.stderr.readline() for _ in range(5)]
        token = hints[1].strip()
        with connect(address) as connection:
            assert identify(connection, token)["op"] == 1
        process.popen.send_signal(signal.SIGTERM)
        assert token not in process.stdout.read()

    assert re.fullmatch(r"swb_[\w-]{43}", token)
    host, port = address.removeprefix("tcp://").split(":")
    frame = f'{{"op":1,"data":{{"token":"{token}","group":"demo"}}}}'
    assert hints[3].strip() == f"(echo '{frame}'; cat) | nc {host} {port}"


def test_no_token_is_made_up_beside_a_configured_one() -> None:
    with serving("--listen", ANY_PORT, environ={"SWITCHBOARD_TOKEN": "secret"}) as process:
        process.address()
        process.popen.send_signal(signal.SIGTERM)
        assert "swb_" not in process.popen.communicate()[1]


def test_serve_may_open_as_many_files_as_the_system_allows() -> None:
    resource = pytest.importorskip("resource")
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = Path("/proc/self/limits")
    if not limits.exists():
        pytest.skip("needs /proc")
    with serving("--listen", ANY_PORT) as process:
        process.address()
        [line] = re.findall(
            r"^Max open files.*$",
            Path(f"/proc/{process.popen.pid}/limits").read_text(),
            re.MULTILINE,
        )

    assert line.split()[3:5] == [str(hard), str(hard)]


def test_serve_outlives_those_who_read_its_output() -> None:
    with serving("--listen", ANY_PORT, "--listen", ANY_PORT) as process:
        process.stdout.close()
        process.stderr.readline()
        process.stderr.close()
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait() == 0


# -- serve: ending ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(number: signal.Signals) -> None:
    with serving("--listen", ANY_PORT, environ={"SWITCHBOARD_TOKEN": "secret"}) as process:
        with connect(process.address()) as connection:
            identify(connection, "secret")
            process.popen.send_signal(number)
            farewell = read_frame(connection)
        assert process.popen.wait() == 0
        assert "Traceback" not in process.stderr.read()

    assert farewell["op"] == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 128 + 15), (signal.SIGINT, 128 + 2)])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, number: signal.Signals, code: int) -> None:
    # A day to take leave, and a client that does not go: nothing but the signal can end it.
    config = tmp_path / "broker.toml"
    config.write_text("[timing]\ndrain_ms = 86400000\ngoodbye_ms = 86400000\nping_ms = 86400000\n")
    arguments = ("--config", str(config), "--listen", ANY_PORT)
    with serving(*arguments, environ={"SWITCHBOARD_TOKEN": "secret"}) as process:
        with connect(process.address()) as connection:
            identify(connection, "secret")
            process.popen.send_signal(signal.SIGTERM)
            read_frame(connection)
            process.popen.send_signal(number)
            assert process.popen.wait() == code
        assert "Traceback" not in process.stderr.read()


# -- serve: what stands in the way -----------------------------------------------------------------


def failure(*arguments: str, environ: Mapping[str, str] | None = None) -> str:
    with serving(*arguments, environ=environ) as process:
        # It ends by itself; the bound is for when it starts to serve instead.
        output, errors = process.popen.communicate(timeout=30)
        assert process.popen.returncode == 1
    assert output == ""
    assert errors.count("\n") == 1, errors
    return errors


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = failure("--listen", f"tcp://127.0.0.1:{port}")

    assert said.lower() == (
        f"error: can't listen on tcp://127.0.0.1:{port}: address already in use; "
        f"stop the program that listens there (ss -ltnp 'sport = :{port}' names it), "
        "or choose another port with --listen tcp://host:port\n"
    )


def test_a_path_whose_directory_is_missing(tmp_path: Path) -> None:
    said = failure("--listen", f"unix://{tmp_path}/run/s")

    assert said.lower() == (
        f"error: can't listen on unix://{tmp_path}/run/s: no such file or directory; "
        f"create {tmp_path}/run first, or choose another path\n"
    )


def test_a_path_in_use(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("not a socket")
    said = failure("--listen", f"unix://{tmp_path}/s")

    assert f"stop what listens there, or remove {tmp_path}/s if that is another file" in said
    assert (tmp_path / "s").read_text() == "not a socket"


def test_an_address_that_is_none() -> None:
    assert failure("--listen", "8420") == (
        "Error: --listen: '8420' is no address: "
        "write tcp://127.0.0.1:8420, tls://0.0.0.0:8420 or unix:///run/switchboard.sock\n"
    )


def test_a_configuration_that_is_missing() -> None:
    assert failure(environ={"SWITCHBOARD_CONFIG": "/no/broker.toml"}) == (
        "Error: /no/broker.toml: can't be read: no such file or directory\n"
    )


@pytest.mark.parametrize(
    ("address", "cause", "hint"),
    [
        (
            "tcp://127.0.0.1:80",
            OSError(errno.EACCES, ""),
            "choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE",
        ),
        (
            "tcp://10.9.8.7:8420",
            OSError(errno.EADDRNOTAVAIL, ""),
            "no interface of this machine has it: try 127.0.0.1 or 0.0.0.0",
        ),
        (
            "tcp://[::1]:8420",
            OSError(errno.EAFNOSUPPORT, ""),
            "this machine has no IPv6: try 127.0.0.1 or 0.0.0.0",
        ),
        (
            "tls://10.9.8.7:8420",
            OSError(errno.EADDRNOTAVAIL, ""),
            "no interface of this machine has it: try 127.0.0.1 or 0.0.0.0",
        ),
        (
            "tcp://nowhere:8420",
            socket.gaierror(socket.EAI_NONAME, ""),
            "check the name nowhere, or write an IP address",
        ),
        (
            "tcp://127.0.0.1:8420",
            OSError("strange"),
            "choose another address with --listen tcp://HOST:PORT",
        ),
        (
            "unix:///run/s",
            OSError(errno.EACCES, ""),
            "make /run writable for this user, or choose another path",
        ),
        ("unix:///run/s", OSError(errno.EROFS, ""), "choose a path on a writable file system"),
        (
            "unix:///etc/passwd/s",
            OSError(errno.ENOTDIR, ""),
            "/etc/passwd is no directory: choose another path",
        ),
        (
            "unix:///too/long",
            OSError("AF_UNIX path too long"),
            "choose another path with --listen unix:///PATH",
        ),
    ],
)
def test_every_failure_has_a_next_step(address: str, cause: OSError, hint: str) -> None:
    error = ListenError(address, cause)
    error.__cause__ = cause

    assert listen_hint(error) == hint


# -- serve: where strangers could get in -----------------------------------------------------------

GOOD_TOKEN = "swb_" + 43 * "x"


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "tcp://[::]:0"])
def test_an_address_that_others_can_reach_takes_tls(address: str) -> None:
    said = failure("--listen", address, environ={"SWITCHBOARD_TOKEN": GOOD_TOKEN})

    assert said == (
        f"Error: {address} can be reached from other machines, and has no TLS: "
        "use tls:// with certificate and key, or a proxy in front of tcp://127.0.0.1; "
        "or say --insecure, if nothing but a trusted network can reach it\n"
    )


def test_who_says_insecure_has_it_so() -> None:
    arguments = ("--listen", "tcp://0.0.0.0:0", "--insecure")
    with serving(*arguments, environ={"SWITCHBOARD_TOKEN": "secret"}) as process:
        address = process.address()
        assert address.startswith("tcp://0.0.0.0:")
        with connect(address) as connection:
            assert identify(connection, "secret")["op"] == 1


def test_check_config_says_that_serve_will_refuse_it(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text('[[listeners]]\naddress = "tcp://0.0.0.0:8420"\n')
    code, shown, errors = invoke("check-config", str(config))

    assert code == 0
    tomllib.loads(shown)
    warnings = errors.splitlines()
    assert len(warnings) == 2
    assert all(warning.startswith("Warning: serve will refuse this: ") for warning in warnings)


def test_a_certificate_that_is_missing_is_told_before_anything_is_served(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text(
        '[[listeners]]\naddress = "tls://127.0.0.1:0"\ncertificate = "no.pem"\nkey = "no.key"\n'
    )
    problem = f"'{tmp_path}/no.pem' can't be read: no such file"
    expected = f"Error: {config}: listeners[0].certificate: {problem}"

    assert failure("--config", str(config)).rstrip() == expected
    assert invoke("check-config", str(config)) == (1, "", expected + "\n")


def listening(address: str, **more: Any) -> Settings:
    files = {"certificate": "a", "key": "b"} if address.startswith("tls") else {}
    return Settings(listeners=(ListenerSettings(address, **files),), **more)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:1",
        "tcp://127.9.9.9:1",
        "tcp://[::1]:1",
        "tcp://[::ffff:127.0.0.1]:1",
        "tcp://localhost:1",
        "unix:///run/s",
    ],
)
def test_nobody_else_can_reach_loopback_or_a_unix_socket(address: str) -> None:
    assert exposures(listening(address), environment_token="secret", made_up=True) == []


@pytest.mark.parametrize(
    "address",
    ["tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://192.0.2.7:1", "tcp://[::ffff:192.0.2.7]:1"],
)
def test_others_can_reach_any_other_address(address: str) -> None:
    [problem] = exposures(listening(address), environment_token=GOOD_TOKEN, made_up=False)

    assert problem.startswith(f"{address} can be reached from other machines, and has no TLS")


def test_a_name_is_as_reachable_as_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, **_kind: Any) -> list[Any]:
        addresses = {"inside": ["127.0.0.1", "::1"], "both": ["127.0.0.1", "192.0.2.7"]}
        if host not in addresses:
            raise socket.gaierror(socket.EAI_NONAME, "")
        return [(0, 0, 0, "", (address, port)) for address in addresses[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert [
        bool(exposures(listening(f"tcp://{name}:1"), environment_token=None, made_up=False))
        for name in ("inside", "both", "nowhere")
    ] == [False, True, False]


@pytest.mark.parametrize(
    ("token", "made_up", "problem"),
    [
        (None, True, "and no token is configured"),
        ("x" * 19, False, "SWITCHBOARD_TOKEN is shorter than 20 characters"),
        ("x" * 20, False, None),
        (GOOD_TOKEN, False, None),
    ],
)
def test_with_tls_the_token_must_be_a_good_one(
    token: str | None, made_up: bool, problem: str | None
) -> None:
    found = exposures(listening("tls://0.0.0.0:1"), environment_token=token, made_up=made_up)

    assert len(found) == (problem is not None)
    assert problem is None or problem in found[0]
    assert token is None or token not in "".join(found)


@pytest.mark.parametrize("token", ["secret", "changeme", "a-long-random-secret", "let-me-in"])
def test_a_token_that_everybody_knows_is_none(token: str) -> None:
    known = TokenSettings(hashlib.sha256(token.encode()).hexdigest(), "web")
    [problem] = exposures(
        listening("tls://0.0.0.0:1", tokens=(known,)), environment_token=None, made_up=False
    )

    assert problem.startswith("the token 'web' is one that everybody knows")
    assert token not in problem


def test_the_tokens_of_the_documents_are_known_to_everybody() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = {
        token
        for document in documents
        for token in re.findall(r"export SWITCHBOARD_TOKEN=(\S+)", document.read_text())
    }

    assert shown
    for token in shown - {token for token in shown if token.startswith(("$", '"$', "<", "…"))}:
        assert token in exposure._WELL_KNOWN


# -- check-config ----------------------------------------------------------------------------------


def test_check_config_shows_what_a_configuration_amounts_to(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text(f'[[tokens]]\nname = "billing"\nsha256 = "{SHA256}"\ngroups = ["a", "b"]\n')

    code, shown, errors = invoke("check-config", str(config))

    assert (code, errors) == (0, "")
    assert shown.startswith(f"# {config} is fine.")
    assert 'name = "billing"\ngroups = ["a", "b"]\n' in shown
    assert "ping_ms = 30000  # default\n" in shown
    assert SHA256 not in shown


def test_check_config_says_that_there_is_no_token(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text("")

    assert "# No token: serve takes SWITCHBOARD_TOKEN" in invoke("check-config", str(config))[1]


def test_check_config_tells_every_problem_with_the_file_it_is_in(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text("[limits]\nmessage_bytes = 5\nzork = 5\n[timing]\nping_ms = true\n")

    code, shown, errors = invoke("check-config", str(config), token=" ")

    assert (code, shown) == (1, "")
    assert [line.split(": ")[:3] for line in errors.splitlines()] == [
        ["Error", str(config), "limits.message_bytes"],
        ["Error", str(config), "limits.zork"],
        ["Error", str(config), "timing.ping_ms"],
        ["Error", "SWITCHBOARD_TOKEN", "has white space around it or unprintable characters in it"],
    ]


def test_check_config_wants_a_file() -> None:
    code, shown, errors = invoke("check-config")

    assert (code, shown) == (2, "")
    assert "Missing argument 'FILE'" in errors


# -- token -----------------------------------------------------------------------------------------


def test_a_new_token_comes_with_the_lines_that_let_it_in(tmp_path: Path) -> None:
    arguments = ("token", "new", "--name", 'the "billing"', "--group", "billing", "--group", "ü")
    code, shown, table = invoke(*arguments)

    token = shown.removesuffix("\n")
    assert code == 0
    assert re.fullmatch(r"swb_[\w-]{43}", token)
    assert token not in table
    # The lines around the table are comments, so that it can be appended as it is.
    config = tmp_path / "broker.toml"
    config.write_text("[timing]\nping_ms = 1000\n" + table)
    [loaded] = load_settings(config, {}).tokens
    assert loaded.sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert (loaded.name, loaded.groups) == ('the "billing"', ("billing", "ü"))
    assert not loaded.permissions.stats


def test_a_new_token_needs_neither_name_nor_group() -> None:
    _code, _shown, table = invoke("token", "new")

    assert list(tomllib.loads(table)["tokens"][0]) == ["sha256"]


def test_a_new_token_that_may_read_stats() -> None:
    _code, _shown, table = invoke("token", "new", "--stats")

    assert tomllib.loads(table)["tokens"][0]["permissions"] == {"stats": True}


def test_a_new_token_for_a_program_to_read() -> None:
    code, shown, errors = invoke("token", "new", "--name", "billing", "--json")

    made = json.loads(shown)
    assert (code, errors) == (0, "")
    assert list(made) == ["token", "sha256", "toml"]
    assert made["sha256"] == hashlib.sha256(made["token"].encode()).hexdigest()
    [entry] = tomllib.loads(made["toml"])["tokens"]
    assert entry == {"name": "billing", "sha256": made["sha256"]}


def test_no_two_tokens_are_the_same() -> None:
    assert invoke("token", "new")[1] != invoke("token", "new")[1]


def test_a_token_for_a_group_that_can_not_exist() -> None:
    code, shown, errors = invoke("token", "new", "--group", "$broker")

    assert (code, shown) == (2, "")
    assert "'$broker' is no group name: 1 to 128 characters, not beginning with $" in errors


# -- both programs ---------------------------------------------------------------------------------


@both_programs
def test_the_version_is_the_packages(program: click.Group) -> None:
    assert invoke("--version", program=program)[:2] == (
        0,
        f"switchboard, version {broker.__version__}\n",
    )


@both_programs
@pytest.mark.parametrize(
    "command", [(), ("serve",), ("check-config",), ("token",), ("token", "new")], ids=" ".join
)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_help_with_examples(
    program: click.Group, command: tuple[str, ...], option: str
) -> None:
    code, shown, errors = invoke(*command, option, program=program)

    assert (code, errors) == (0, "")
    assert re.search(r"^  Examples:\n    \S", shown, re.MULTILINE)


@both_programs
def test_an_unknown_command_is_wrong_usage(program: click.Group) -> None:
    assert invoke("sevre", program=program)[0] == 2
