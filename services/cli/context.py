"""`switchboard context`: brokers and tokens by name, in a file of the user's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec

import attrs
import click
from rich.table import Table
from rich.text import Text

from services.cli.context_file import Context, ContextFile, check_context_name, config_path
from services.cli.exits import CommandError, Exit
from services.cli.help import epilog
from services.cli.output import note, print_line, print_object, print_table
from services.cli.running import fail
from services.cli.text import plain
from services.sdk.urls import parse_url

__all__ = ["context"]

P = ParamSpec("P")

_EXITS: Final[Mapping[int, str]] = {
    Exit.DONE: "done",
    Exit.FAILED: "the file can't be had",
    Exit.USAGE: "wrong usage",
}

# In the place of a token, of whatever length.
_HIDDEN: Final = "(kept)"


def _explained(function: Callable[P, None]) -> Callable[P, None]:
    """Turn what is wrong with the file or the name into a line and an exit code."""

    @wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except CommandError as error:
            fail(str(error), error.exit)

    return command


def _open() -> ContextFile:
    return ContextFile(config_path(os.environ))


@click.group(
    epilog=epilog(
        "switchboard context add local --url ws://127.0.0.1:8420",
        "switchboard context use local",
        "switchboard services --context local",
        exits=_EXITS,
    )
)
def context() -> None:
    """Keep brokers and tokens by name, in ~/.config/switchboard/config.toml.

    The current context is used where neither options nor the environment say otherwise.
    """


@context.command("list", epilog=epilog("switchboard context list", exits=_EXITS))
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each.")
@_explained
def list_contexts(as_json: bool) -> None:
    """List the contexts; the current one has a mark."""
    file = _open()
    if as_json:
        for name, kept in file.contexts.items():
            print_object(_as_object(name, kept, file))
        return
    if not file.contexts:
        note("no context yet; `switchboard context add NAME --url URL` makes one")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "NAME", "URL", "GROUP", "TOKEN"):
        table.add_column(column, no_wrap=True)
    for name, kept in file.contexts.items():
        mark = "*" if name == file.current else ""
        token = _HIDDEN if kept.token else ""
        cells = (mark, name, kept.url or "", kept.group or "", token)
        table.add_row(*(Text(plain(cell)) for cell in cells))
    print_table(table)


@context.command(
    "show",
    epilog=epilog("switchboard context show", "switchboard context show local", exits=_EXITS),
)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_explained
def show_context(name: str | None, as_json: bool) -> None:
    """Show a context, or the current one. Its token is not shown."""
    file = _open()
    name = name or os.environ.get("SWITCHBOARD_CONTEXT") or file.current
    if name is None:
        raise CommandError("there is no current context; `switchboard context use NAME` says which")
    kept = file.get(name)
    if as_json:
        print_object(_as_object(name, kept, file))
        return
    for key, value in {"name": name, **_shown(kept)}.items():
        print_line(f"{key:<12} {plain(value)}")


@context.command(
    "add",
    epilog=epilog(
        "switchboard context add local --url ws://127.0.0.1:8420",
        "switchboard context add live --url wss://broker.example:8420 --ca ca.pem < token.txt",
        "switchboard context add web --group web --use",
        exits=_EXITS,
    ),
)
@click.argument("name")
@click.option("-u", "--url", metavar="URL", help="Where the broker is.")
@click.option("--token", metavar="TOKEN", help="The credential; better is to be asked for it.")
@click.option("--group", metavar="GROUP", help="The group to join.")
@click.option("--ca", metavar="FILE", help="Authorities to trust, as PEM.")
@click.option("--cert", metavar="FILE", help="Who this client is, as PEM.")
@click.option("--key", metavar="FILE", help="The private key of --cert.")
@click.option("--server-name", metavar="NAME", help="Whom the broker's certificate is made out to.")
@click.option("--use", is_flag=True, help="Make it the current one.")
@click.option("--force", is_flag=True, help="Replace a context of that name.")
@_explained
def add_context(
    *,
    name: str,
    url: str | None,
    token: str | None,
    group: str | None,
    ca: str | None,
    cert: str | None,
    key: str | None,
    server_name: str | None,
    use: bool,
    force: bool,
) -> None:
    """Keep a broker by name. The first context becomes the current one.

    The token is asked for, or read from stdin where that is no terminal; so it stands neither in
    the shell's history nor among the processes.
    """
    check_context_name(name)
    file = _open()
    if name in file.contexts and not force:
        raise CommandError(f"there is a context {name!r} already; --force replaces it", Exit.USAGE)
    try:
        if url is not None:
            parse_url(url)
    except ValueError as error:
        raise CommandError(str(error), Exit.USAGE) from None
    paths = {"ca": ca, "cert": cert, "key": key}
    kept = Context(
        url=url,
        token=token or _ask_for_token(),
        group=group,
        server_name=server_name,
        # It is used from other directories, too.
        **{option: str(Path(path).absolute()) for option, path in paths.items() if path},
    )
    file.put(name, kept)
    if use:
        file.use(name)
    current = "; it is the current one" if file.current == name else ""
    note(f"kept {name} in {file.path}{current}")


@context.command("use", epilog=epilog("switchboard context use local", exits=_EXITS))
@click.argument("name")
@_explained
def use_context(name: str) -> None:
    """Make a context the current one."""
    _open().use(name)


@context.command("remove", epilog=epilog("switchboard context remove local", exits=_EXITS))
@click.argument("name")
@_explained
def remove_context(name: str) -> None:
    """Forget a context."""
    _open().remove(name)


def _ask_for_token() -> str | None:
    if sys.stdin.isatty():
        text = "Token (nothing: that of SWITCHBOARD_TOKEN, if it is set)"
        token: str = click.prompt(text, hide_input=True, err=True, default="", show_default=False)
    else:
        token = sys.stdin.read()
    return token.strip() or os.environ.get("SWITCHBOARD_TOKEN") or None


def _shown(kept: Context) -> dict[str, str]:
    shown = kept.settings()
    if "token" in shown:
        shown["token"] = _HIDDEN
    return shown


def _as_object(name: str, kept: Context, file: ContextFile) -> dict[str, Any]:
    rest = attrs.asdict(kept)
    rest["token"] = kept.token is not None
    return {"name": name, "current": name == file.current, **rest}
