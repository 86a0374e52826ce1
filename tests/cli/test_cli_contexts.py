"""Contexts: kept in a file of the owner's own, never shown with their tokens."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path

import pytest

from services.cli.context_file import config_path
from tests.cli.commands import Outcome, invoke

SECRET = "swb_a-secret"


@pytest.fixture
def file() -> Path:
    return config_path(os.environ)


def add(name: str, *options: str, token: str = SECRET) -> Outcome:
    return invoke("context", "add", name, *options, stdin=token)


def test_what_was_added_is_in_the_file_and_current(file: Path) -> None:
    outcome = add("local", "--url", "ws://127.0.0.1:1", "--group", "web")
    assert outcome.code == 0
    assert outcome.stderr == f"kept local in {file}; it is the current one\n"
    assert tomllib.loads(file.read_text()) == {
        "current": "local",
        "contexts": {"local": {"url": "ws://127.0.0.1:1", "token": SECRET, "group": "web"}},
    }


def test_the_file_is_its_owners_alone(file: Path) -> None:
    add("local")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    add("other")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["config.toml"]


def test_no_command_shows_a_token() -> None:
    shown = [
        add("local"),
        add("local", "--token", SECRET, "--force"),
        add("local"),
        invoke("context", "list"),
        invoke("context", "list", "--json"),
        invoke("context", "show"),
        invoke("context", "show", "--json"),
        invoke("context", "use", "local"),
        invoke("context", "remove", "local"),
    ]
    for outcome in shown:
        assert SECRET not in outcome.stdout + outcome.stderr


def test_list_marks_the_current_one() -> None:
    add("local", "--url", "ws://127.0.0.1:1")
    add("live", "--url", "wss://broker.example")
    assert invoke("context", "use", "live").code == 0
    lines = invoke("context", "list").stdout.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["local", "ws://127.0.0.1:1", "(kept)"],
        ["*", "live", "wss://broker.example", "(kept)"],
    ]


def test_show_as_json() -> None:
    add("live", "--url", "wss://broker.example", "--server-name", "b")
    assert json.loads(invoke("context", "show", "--json").stdout) == {
        "name": "live",
        "current": True,
        "url": "wss://broker.example",
        "token": True,
        "group": None,
        "ca": None,
        "cert": None,
        "key": None,
        "server_name": "b",
    }


def test_files_are_kept_with_their_whole_path(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    add("live", "--ca", "ca.pem")
    assert tomllib.loads(file.read_text())["contexts"]["live"]["ca"] == f"{tmp_path}/ca.pem"


def test_the_token_of_the_environment_where_none_is_typed(file: Path) -> None:
    invoke("context", "add", "local", env={"SWITCHBOARD_TOKEN": SECRET})
    assert tomllib.loads(file.read_text())["contexts"]["local"]["token"] == SECRET


def test_a_context_is_not_replaced_by_accident(file: Path) -> None:
    add("local", "--url", "ws://one")
    outcome = add("local", "--url", "ws://two")
    assert (outcome.code, outcome.stderr) == (
        2,
        "Error: there is a context 'local' already; --force replaces it\n",
    )
    assert "ws://one" in file.read_text()
    assert add("local", "--url", "ws://two", "--force").code == 0
    assert "ws://one" not in file.read_text()


def test_what_people_have_written_stays(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(
        '# mine\n[contexts.local]  # at home\nurl = "ws://one"\n\n[contexts."b.c"]\ntoken = "x"\n'
    )
    assert add("live", "--url", "wss://two").code == 0
    assert invoke("context", "use", "local").code == 0
    assert invoke("context", "remove", "b.c").code == 0
    text = file.read_text()
    assert "# mine" in text
    assert "# at home" in text
    assert tomllib.loads(text) == {
        "current": "local",
        "contexts": {
            "local": {"url": "ws://one"},
            "live": {"url": "wss://two", "token": SECRET},
        },
    }


def test_when_the_current_one_is_removed_there_is_none(file: Path) -> None:
    add("local")
    add("other")
    assert invoke("context", "remove", "local").code == 0
    assert "current" not in tomllib.loads(file.read_text())
    outcome = invoke("context", "show")
    assert outcome.code == 1
    assert outcome.stderr == (
        "Error: there is no current context; `switchboard context use NAME` says which\n"
    )


@pytest.mark.parametrize("command", ["use", "remove", "show"])
def test_a_context_that_is_not_there(file: Path, command: str) -> None:
    add("local")
    outcome = invoke("context", command, "nope")
    assert outcome.code == 2
    assert outcome.stderr == (
        f"Error: there is no context 'nope' in {file} (there: local); "
        "`switchboard context add nope` makes it\n"
    )


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", '"', "x" * 65, "\x1b[31m"])
def test_names_that_are_none(name: str) -> None:
    outcome = invoke("context", "add", "--", name)
    assert outcome.code == 2
    assert "is no name for a context" in outcome.stderr
    assert "\x1b" not in outcome.stderr


def test_an_url_that_is_none_is_not_kept(file: Path) -> None:
    outcome = add("local", "--url", "http://x")
    assert outcome.code == 2
    assert "is no address of a broker" in outcome.stderr
    assert not file.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("current = 7", "current is a name, and contexts is a table of tables"),
        ("contexts = 7", "current is a name, and contexts is a table of tables"),
        ("[contexts]\nlocal = 7", "contexts.local is no table"),
        ('[contexts.local]\ntokn = "secret"', "contexts.local.tokn: unknown; there are url, token"),
        ("[contexts.local]\ntoken = 4711", "contexts.local.token: expected a string"),
        ("[contexts.local", "mend it, or remove the file"),
    ],
)
def test_a_file_that_is_not_right(file: Path, text: str, said: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(text)
    for arguments in (("context", "list"), ("emit", "X", "--token", "t")):
        outcome = invoke(*arguments)
        assert outcome.code == 1
        assert outcome.stderr.startswith(f"Error: {file}")
        assert said in outcome.stderr
        assert "4711" not in outcome.stderr
        assert "secret" not in outcome.stderr


def test_without_xdg_it_is_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tmp_path / ".config" / "switchboard" / "config.toml"
    assert config_path({}) == expected
    assert config_path({"XDG_CONFIG_HOME": "relative"}) == expected


def test_a_linked_file_stays_a_link(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text("")
    file.parent.mkdir(parents=True)
    file.symlink_to(real)
    add("local")
    assert file.is_symlink()
    assert "contexts.local" in real.read_text()
