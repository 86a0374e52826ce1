"""Which broker a command talks to, and as whom: options, environment, contexts."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, ParamSpec, TypeVar

import attrs
import click

from services.cli.context_file import Context, ContextFile, config_path
from services.cli.exits import CommandError, Exit
from services.cli.running import fail
from services.cli.words import in_words_of_the_command
from services.sdk import Mesh, Tls, connect
from services.sdk.dialing import Dial

__all__ = ["DEFAULT_GROUP", "DEFAULT_URL", "Choice", "Target", "choose", "connects"]

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_URL: Final = "ws://127.0.0.1:8420"

# A group of its own: a member of another one would be handed that group's requests.
DEFAULT_GROUP: Final = "cli"


@attrs.frozen
class Target:
    """A broker, and who one is there.

    Attributes:
        url: where it is.
        token: the credential; None where a certificate is enough.
        group: the group to join.
        tls: certificates, for `wss://` and `tls://`.
        dial: opens the bytes; for tests.
    """

    url: str
    token: str | None = attrs.field(repr=False)
    group: str = DEFAULT_GROUP
    tls: Tls | None = None
    dial: Dial | None = None

    def connect(self, **options: Any) -> Mesh:  # noqa: ANN401 - as `connect` has them
        """Make a `Mesh`, for an `async with`.

        Without `reconnect=`, a lost connection is the end. Unless told otherwise, a command does
        not hear itself.

        Raises:
            CommandError: the URL is none, or a file for TLS is not right.
        """
        options.setdefault("reconnect", None)
        options.setdefault("echo", False)
        if self.dial is not None:
            options["dial"] = self.dial
        if self.tls is not None:
            options["tls"] = self.tls
        try:
            return connect(self.url, token=self.token, group=self.group, **options)
        except ValueError as error:
            raise CommandError(in_words_of_the_command(str(error)), Exit.USAGE) from None


@attrs.frozen
class Choice:
    """What was said of the broker in one place: the options, the environment, or a context."""

    url: str | None = None
    token: str | None = attrs.field(default=None, repr=False)
    context: str | None = None
    group: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None


def choose(options: Choice, environ: Mapping[str, str]) -> Target:
    """Put together what the options, the environment and the contexts say, in this order.

    A context that was named by an option counts as one. A token never goes to a broker that it was
    not meant for: the one of the current context is used with the URL of that context only.

    Raises:
        CommandError: there is no token, no such context, or the contexts can't be read.
    """
    variables = Choice(
        url=environ.get("SWITCHBOARD_URL") or None,
        token=environ.get("SWITCHBOARD_TOKEN") or None,
        group=environ.get("SWITCHBOARD_GROUP") or None,
    )
    file = ContextFile(config_path(environ))
    named = options.context
    implied = None if named else environ.get("SWITCHBOARD_CONTEXT") or file.current
    last = file.get(implied) if implied else Context()
    first = file.get(named) if named else Context()
    url = options.url or first.url or variables.url or last.url or DEFAULT_URL
    if url != (last.url or DEFAULT_URL):
        last = Context()
    token = options.token or first.token or variables.token or last.token
    group = options.group or first.group or variables.group or last.group
    tls = _tls(
        ca=options.ca or first.ca or last.ca,
        certificate=options.cert or first.cert or last.cert,
        key=options.key or first.key or last.key,
        server_name=options.server_name or first.server_name or last.server_name,
    )
    if token is None and (tls is None or tls.certificate is None):
        raise CommandError(
            "there is no token: give --token, set SWITCHBOARD_TOKEN, or keep one with "
            "`switchboard context add NAME`; or --cert, where the broker goes by certificates",
            Exit.USAGE,
        )
    return Target(url=url, token=token, group=group or DEFAULT_GROUP, tls=tls)


def connects(function: Callable[..., R]) -> Callable[..., R]:
    """Add the options that name a broker; the command gets the `Target` that comes of them."""

    @functools.wraps(function)
    def command(
        *,
        url: str | None,
        token: str | None,
        context: str | None,
        as_group: str | None,
        ca: str | None,
        cert: str | None,
        key_file: str | None,
        server_name: str | None,
        **options: Any,  # noqa: ANN401 - the command's own
    ) -> R:
        choice = Choice(url, token, context, as_group, ca, cert, key_file, server_name)
        try:
            target = choose(choice, os.environ)
        except CommandError as error:
            fail(str(error), error.exit)
        return function(target=target, **options)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: Final = (
    click.option(
        "-u",
        "--url",
        metavar="URL",
        help=(
            "The broker: ws://, wss://, tcp:// or tls:// and HOST:PORT, or unix:///PATH.  "
            f"[env var: SWITCHBOARD_URL; default: {DEFAULT_URL}]"
        ),
    ),
    click.option(
        "--token",
        metavar="TOKEN",
        help=(
            "The credential. Others on this machine can see it among the processes; better is "
            "the environment or a context.  [env var: SWITCHBOARD_TOKEN]"
        ),
    ),
    click.option(
        "--context",
        metavar="NAME",
        help="A broker that was kept with `switchboard context add`.  "
        "[env var: SWITCHBOARD_CONTEXT]",
    ),
    click.option(
        "--as",
        "as_group",
        metavar="GROUP",
        help="The group to join, where the token is not good for any.  "
        f"[env var: SWITCHBOARD_GROUP; default: {DEFAULT_GROUP}]",
    ),
    click.option(
        "--ca", metavar="FILE", help="Authorities to trust, for wss:// and tls://, as PEM."
    ),
    click.option("--cert", metavar="FILE", help="Who this client is, for TLS, as PEM."),
    click.option("--key", "key_file", metavar="FILE", help="The private key of --cert."),
    click.option(
        "--server-name",
        metavar="NAME",
        help="Whom the broker's certificate is made out to, if not to the host of the URL.",
    ),
)


def _tls(**files: str | None) -> Tls | None:
    if not any(files.values()):
        return None
    try:
        return Tls(**files)
    except ValueError as error:
        raise CommandError(in_words_of_the_command(str(error)), Exit.USAGE) from None
