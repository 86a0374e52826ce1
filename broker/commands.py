"""The server's own commands: serve, check-config, token.

Exit codes: 0 done, 1 it can't be done (one line on stderr says why and what to do next), 2 wrong
usage, 128 + the signal's number after a second signal.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shlex
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

import attrs
import click
import structlog
import trio

import broker
from broker.core.access_settings import PermissionSettings, TokenSettings
from broker.core.authentication import hash_token
from broker.core.settings import DEFAULT_PORT, ListenerSettings, Settings
from broker.exposure import exposures
from broker.logs import FORMATS, LEVELS, logs_written_to
from broker.server import ActivationError, ListenError, OpsPortError
from broker.service_manager import ServiceManager
from broker.serving import run_until_signal, warn_of_certificates
from broker.settings_loader import TOKEN_VARIABLE, SettingsError, load_settings
from broker.settings_toml import effective_toml, token_table
from broker.transport.activation import take_inherited_sockets
from broker.transport.tls_context import TlsSettingsError, certificate_warnings, load_contexts

try:
    import resource
except ImportError:  # Windows has no such limit.
    resource = None  # type: ignore[assignment]

__all__ = ["SERVER_COMMANDS", "check_config", "examples", "listen_hint", "main", "serve", "token"]

# So that a token is recognised for what it is in a log, a paste or a scan for leaked secrets.
_TOKEN_PREFIX: Final = "swb_"  # noqa: S105 - a prefix, not a token

# 256 bits, as the hash that stands in the configuration.
_TOKEN_BYTES: Final = 32

# A wildcard is an address to listen on, none to connect to.
_REACHABLE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - shown, not bound


def examples(*lines: str) -> str:
    """An epilog for a command's help."""
    # The mark (a backspace) tells click to leave the lines as they are.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


# -- serve -----------------------------------------------------------------------------------------


@click.command(
    epilog=examples(
        "switchboard serve",
        "switchboard serve --config /etc/switchboard/broker.toml",
        "switchboard serve --listen tcp://127.0.0.1:9000 --listen unix:///run/switchboard.sock",
        "SWITCHBOARD_TOKEN=… switchboard serve --listen tcp://127.0.0.1:0",
    )
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    envvar="SWITCHBOARD_CONFIG",
    show_envvar=True,
    metavar="FILE",
    help="A TOML file; without one, defaults.",
)
@click.option(
    "-l",
    "--listen",
    multiple=True,
    metavar="ADDRESS",
    help=(
        f"tcp://HOST:PORT or unix:///PATH, in place of the file's listeners. May be repeated; "
        f"port 0 lets the system choose.  [default: tcp://127.0.0.1:{DEFAULT_PORT}]"
    ),
)
@click.option(
    "--insecure",
    is_flag=True,
    help=(
        "Listen on addresses that other machines can reach without TLS, or with a token that is "
        "made up or well known."
    ),
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    help="What is logged to stderr.",
)
@click.option(
    "--log-format",
    type=click.Choice(FORMATS, case_sensitive=False),
    default="auto",
    show_default=True,
    help="Lines for people, or a JSON object each; auto: the former on a terminal.",
)
def serve(
    config: Path | None, listen: tuple[str, ...], insecure: bool, log_level: str, log_format: str
) -> None:
    """Run the broker, on 127.0.0.1 unless told otherwise.

    One port takes WebSocket and bare TCP alike. When it is ready, stdout has one line per listener:
    "listening on ADDRESS". Services identify themselves with a token: from the configuration, from
    SWITCHBOARD_TOKEN in the environment, or, with neither, one that is made up and printed once.

    SIGTERM or Ctrl-C: takes leave of the connections, then exits with 0. A second signal ends it at
    once, with 128 + the signal's number. SIGHUP: reads the configuration again; one that is wrong
    is refused whole.
    """
    try:
        settings = load_settings(config, os.environ, listen=listen)
        generated = None if _has_credentials(settings) else _new_token()
        settings = _ready_to_serve(settings, generated, insecure=insecure)
    except SettingsError as error:
        _fail_with(config, error)

    def load() -> Settings:
        """Read the settings again. A token that was made up is good while there is no other."""
        again = load_settings(config, os.environ, listen=listen)
        return _ready_to_serve(again, generated, insecure=insecure)

    _raise_file_limit()

    def announce(addresses: list[str]) -> None:
        for address in addresses:
            _print_line(f"listening on {address}")
        if generated is not None:
            click.echo("\n".join(_welcome(generated, addresses[0])), err=True)
        _check_file_limit(settings.limits.connections)
        warn_of_certificates(settings)

    try:
        reload = None if config is None else load
        inherited = take_inherited_sockets(os.environ, os.getpid())
        manager = ServiceManager(os.environ, os.getpid())
        with logs_written_to(sys.stderr, log_level, log_format):
            ended_by = trio.run(run_until_signal, settings, announce, reload, inherited, manager)
    except ActivationError as error:
        _fail(str(error))
    except OpsPortError as error:
        _fail(f'{error}; set ops.address to another one, or to "" for none')
    except ListenError as error:
        _fail(f"{error}; {listen_hint(error)}")
    except TlsSettingsError as error:
        _fail_with(config, error)
    if ended_by is not None:
        sys.exit(128 + ended_by)


def _has_credentials(settings: Settings) -> bool:
    """Whether anybody could be let in."""
    return bool(settings.tokens or settings.certificates or settings.jwt)


def _ready_to_serve(settings: Settings, generated: str | None, *, insecure: bool) -> Settings:
    """Let in the token that was made up, where there is nothing else; refuse what is not safe.

    Raises:
        SettingsError: strangers could get in, and nobody said that this is meant.
    """
    made_up = generated is not None and not _has_credentials(settings)
    if generated is not None and made_up:
        accepted = TokenSettings(sha256=hash_token(generated), name="generated")
        settings = attrs.evolve(settings, tokens=(accepted,))
    token = os.environ.get(TOKEN_VARIABLE)
    problems = [] if insecure else exposures(settings, environment_token=token, made_up=made_up)
    if problems:
        raise SettingsError(tuple(problems))
    return settings


def _print_line(line: str) -> None:
    """Write a line to stdout, at once, since somebody may wait for it at the end of a pipe."""
    try:
        click.echo(line)
    except OSError:
        # Nobody reads it any more. That is no reason to stop, nor to complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _welcome(token: str, address: str) -> Iterator[str]:
    """What somebody who tries the broker out wants to know first."""
    where = _where(address)
    if isinstance(where, Path):
        talk = f"nc -U {shlex.quote(str(where))}"
    else:
        host, port = where
        host = _REACHABLE.get(host, host)
        tls = address.startswith("tls://")
        bracketed = f"[{host}]" if ":" in host else host
        talk = (
            f"openssl s_client -quiet -connect {bracketed}:{port}" if tls else f"nc {host} {port}"
        )
    identify = f'{{"op":1,"data":{{"token":"{token}","group":"demo"}}}}'
    yield "No token is configured, so here is one. It is shown this once and ends with the broker:"
    yield f"  {token}"
    yield "Talk to the broker by hand:"
    yield f"  (echo '{identify}'; cat) | {talk}"
    yield f"For a token that lasts: switchboard token new, or set {TOKEN_VARIABLE}."


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets this process have: a connection is one."""
    if resource is None:
        return
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS may say "unlimited" and then refuse it; the soft limit stays.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _check_file_limit(connections: int) -> None:
    if resource is None:
        return
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < connections:
        structlog.get_logger().warning(
            "limits.connections is more than the system lets this process open",
            open_files=limit,
            connections=connections,
            hint="ulimit -Hn, or LimitNOFILE= in a systemd unit, raises it",
        )


# -- check-config ----------------------------------------------------------------------------------


@click.command(
    "check-config",
    epilog=examples(
        "switchboard check-config broker.toml",
        "switchboard check-config broker.toml > /dev/null && systemctl restart switchboard",
    ),
)
@click.argument("file", type=click.Path(path_type=Path), envvar="SWITCHBOARD_CONFIG")
def check_config(file: Path) -> None:
    """Say everything that is wrong with a configuration, or show what it amounts to.

    Exits with 0 when it is fine, with 1 when it is not. Tokens are shown by name and groups, never
    by their hash.
    """
    try:
        settings = load_settings(file, os.environ)
        load_contexts(settings.listeners)
    except (SettingsError, TlsSettingsError) as error:
        _fail_with(file, error)
    click.echo(f"# {file} is fine. The settings that come of it:\n")
    click.echo(effective_toml(settings))
    made_up = not _has_credentials(settings)
    if made_up:
        click.echo(f"\n# No token: serve takes {TOKEN_VARIABLE}, or makes one up.")
    token = os.environ.get(TOKEN_VARIABLE)
    for problem in exposures(settings, environment_token=token, made_up=made_up):
        click.echo(f"Warning: serve will refuse this: {problem}", err=True)
    for warning in certificate_warnings(settings.listeners, datetime.now(UTC)):
        click.echo(f"Warning: {warning}", err=True)


# -- token -----------------------------------------------------------------------------------------


@click.group(
    epilog=examples(
        "switchboard token new --name billing --group billing",
    )
)
def token() -> None:
    """Make the tokens by which services identify themselves."""


@token.command(
    "new",
    epilog=examples(
        "switchboard token new",
        "switchboard token new --name billing --group billing --group invoices",
        "switchboard token new --name dashboard --stats",
        "switchboard token new --name billing 2>> broker.toml > billing.token",
        "switchboard token new --json | jq -r .token",
    ),
)
@click.option("--name", default="", help="What logs call the holder.")
@click.option(
    "--group", "groups", multiple=True, help="A group that the holder may join; without, any."
)
@click.option("--stats", is_flag=True, help="Let the holder read the broker's STATS.")
@click.option("--drain", is_flag=True, help="Let the holder DRAIN services, and the broker.")
@click.option("--json", "as_json", is_flag=True, help="Write all of it to stdout, as JSON.")
def new_token(
    *, name: str, groups: tuple[str, ...], stats: bool, drain: bool, as_json: bool
) -> None:
    """Make a token, shown this once, and the lines for the configuration that let it in.

    The token goes to stdout, the lines to stderr; both can be redirected. The configuration holds a
    hash alone, so the token can't be had from it. A running broker reads it again at SIGHUP.
    """
    made = _new_token()
    try:
        settings = TokenSettings(
            sha256=hash_token(made),
            name=name,
            groups=groups,
            permissions=PermissionSettings(stats=stats, drain=drain),
        )
        table = token_table(settings)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        click.echo(json.dumps({"token": made, "sha256": settings.sha256, "toml": table}))
        return
    click.echo("# The token, shown this once:", err=True)
    click.echo(made)
    click.echo("\n# For the configuration:", err=True)
    click.echo(table, err=True)


def _new_token() -> str:
    return _TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


# -- what went wrong -------------------------------------------------------------------------------


def _fail_with(config: Path | None, error: SettingsError | TlsSettingsError) -> NoReturn:
    _fail(*(_with_file(config, problem) for problem in error.problems))


def _with_file(config: Path | None, problem: str) -> str:
    elsewhere = config is None or problem.startswith(("--listen", TOKEN_VARIABLE))
    return problem if elsewhere else f"{config}: {problem}"


def _where(address: str) -> Path | tuple[str, int]:
    """The path of a Unix socket, or host and port."""
    # How TLS is spoken there does not matter here.
    listener = ListenerSettings(address.replace("tls://", "tcp://", 1))
    return listener.tcp_address or Path(str(listener.unix_path))


def listen_hint(error: ListenError) -> str:
    """What to do about an address that can't be had."""
    cause = error.cause
    code = cause.errno
    where = _where(error.address)
    if isinstance(where, Path):
        path = where
        return {
            errno.EADDRINUSE: f"stop what listens there, or remove {path} if that is another file",
            errno.EACCES: f"make {path.parent} writable for this user, or choose another path",
            errno.EROFS: "choose a path on a writable file system",
            errno.ENOENT: f"create {path.parent} first, or choose another path",
            errno.ENOTDIR: f"{path.parent} is no directory: choose another path",
            errno.EEXIST: f"remove {path}, which is no socket, or choose another path",
        }.get(code or 0, "choose another path with --listen unix:///PATH")
    host, port = where
    if isinstance(cause, socket.gaierror):
        return f"check the name {host}, or write an IP address"
    return {
        errno.EADDRINUSE: (
            f"stop the program that listens there (ss -ltnp 'sport = :{port}' names it), "
            "or choose another port with --listen tcp://HOST:PORT"
        ),
        errno.EACCES: "choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: "no interface of this machine has it: try 127.0.0.1 or 0.0.0.0",
        errno.EAFNOSUPPORT: "this machine has no IPv6: try 127.0.0.1 or 0.0.0.0",
    }.get(code or 0, "choose another address with --listen tcp://HOST:PORT")


def _fail(*problems: str) -> NoReturn:
    for problem in problems:
        click.echo(f"Error: {problem}", err=True)
    sys.exit(1)


# -- python -m broker ------------------------------------------------------------------------------

SERVER_COMMANDS: Final = (serve, check_config, token)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "python -m broker serve",
        "python -m broker serve --config broker.toml",
        "python -m broker check-config broker.toml",
    ),
)
@click.version_option(broker.__version__, prog_name="switchboard")
def main() -> None:
    """The Switchboard broker: a message broker that speaks plain JSON."""


for _command in SERVER_COMMANDS:
    main.add_command(_command)
