"""The command as a whole: its help, how light it is, and its errors before anything runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from services.cli.exits import CommandError, Exit
from services.cli.failures import explain, leaves
from services.cli.main import COMMANDS, main
from services.sdk import (
    CannotConnect,
    ConnectionLost,
    Disconnected,
    Draining,
    Expired,
    Forbidden,
    IdentifyFailed,
    ListenerOverflow,
    MessageTooBig,
    NoRoute,
    TlsFailed,
    UnknownEvent,
)
from tests.cli.commands import invoke

CLIENT_COMMANDS = [name for name, command in COMMANDS.items() if "cli" in command.module]


def all_commands() -> Iterator[tuple[str, click.Command]]:
    """Every command of the client, those inside groups too."""
    context = click.Context(main)
    for name in CLIENT_COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", one) for inner, one in command.commands.items())


ALL = dict(all_commands())


def examples_of(command: click.Command) -> list[str]:
    text = command.epilog or ""
    return re.findall(r"^  ((?:\w+=\S+ |jq .* \| )?switchboard .*)$", text, re.MULTILINE)


@pytest.mark.parametrize("name", ALL)
def test_help_has_examples_and_exit_codes(name: str) -> None:
    shown = invoke(*name.split(), "--help")
    assert shown.code == 0
    assert "Examples:\n" in shown.stdout
    assert "Exit codes:\n" in shown.stdout
    assert re.search(r"^ +0 +\S", shown.stdout, re.MULTILINE)
    assert examples_of(ALL[name])


@pytest.mark.parametrize(
    ("name", "example"),
    [(name, example) for name, command in ALL.items() for example in examples_of(command)],
)
def test_examples_have_options_that_there_are(name: str, example: str) -> None:
    """Their words are parsed; that they also run is a matter of the tests with real processes."""
    words = shlex.split(example, comments=True)
    words = words[words.index("switchboard") + 1 :]
    end = next((at for at, word in enumerate(words) if word in "|<>"), len(words))
    context = click.Context(main, info_name="switchboard")
    command: click.Command = main
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, example
        command, end = found, end - 1
    command.make_context("x", words[:end], resilient_parsing=False)


def test_the_list_of_commands_says_what_their_help_says() -> None:
    context = click.Context(main)
    for name, lazy in COMMANDS.items():
        command = main.get_command(context, name)
        assert command is not None
        assert command.name == name
        first = (command.help or "").split("\n\n")[0].replace("\n", " ").strip()
        beginning = lazy.summary.removesuffix(".")
        assert first.startswith(beginning), f"{name}: {first}"


def test_every_option_is_explained() -> None:
    for name, command in ALL.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.name}"


def test_an_unknown_command() -> None:
    outcome = invoke("emitt")
    assert outcome.code == 2
    assert "No such command 'emitt'" in outcome.stderr


def test_help_imports_nothing_heavy() -> None:
    """What takes long to import is imported by the commands that need it."""
    heavy = ("trio", "anyio", "rich", "attr", "msgspec", "services.sdk", "broker.commands")
    program = (
        "import sys\n"
        "from services.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print('imported:', [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "imported: []"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CommandError("x", Exit.USAGE), 2, "x"),
        (CannotConnect("cannot connect"), 3, "`switchboard serve`"),
        (TlsFailed("wants: tls=Tls(certificate=..., key=...)"), 3, "wants: --cert and --key"),
        (IdentifyFailed("IDENTIFY_FAILED", "no"), 3, "--as GROUP"),
        (Disconnected("SERVER_RESTART"), 3, "try again when it is back"),
        (Disconnected("TRY_AGAIN_LATER"), 3, "limits.connections"),
        (ConnectionLost("broke"), 3, "broke; try again"),
        (Expired("late"), 4, "--timeout"),
        (NoRoute("nobody"), 1, "`switchboard services`"),
        (Forbidden("no"), 1, "permission"),
        (UnknownEvent("what"), 1, "case counts"),
        (Draining("soon"), 1, "try again when it is back"),
        (MessageTooBig("big"), 1, "limits.message_bytes"),
        (ListenerOverflow("behind; give it a larger buffer="), 1, "behind; listen to fewer"),
    ],
)
def test_failures_say_what_to_do_next(error: Exception, code: int, said: str) -> None:
    failure = explain(error)
    assert failure is not None
    assert failure.exit == code
    assert said in failure.text


def test_a_fault_of_the_program_is_none_of_the_users() -> None:
    assert explain(RuntimeError("a bug")) is None


def test_errors_in_groups_are_found() -> None:
    inner = ExceptionGroup("b", [ValueError("1"), KeyError("2")])
    found = list(leaves(BaseExceptionGroup("a", [inner, KeyboardInterrupt()])))
    assert [type(one) for one in found] == [ValueError, KeyError, KeyboardInterrupt]
