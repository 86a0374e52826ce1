"""The commands of the gateways on trio."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from services.gateways.redis_chat.main import main as redis_chat
from services.gateways.rooms.main import main as rooms

COMMANDS = {"rooms": rooms, "redis_chat": redis_chat}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_it_is_and_has_examples(name: str) -> None:
    result = CliRunner().invoke(COMMANDS[name], ["--help"])
    assert result.exit_code == 0
    assert "JSON over a plain WebSocket" in result.output
    assert result.output.count(f"python -m services.gateways.{name}") == 3
    for option in ("--host", "--port", "--url", "--token", "--log-level"):
        assert option in result.output


@pytest.mark.parametrize(
    ("command", "port", "path"), [(rooms, 8888, "/chat"), (redis_chat, 8080, "/ws")]
)
def test_ports_and_paths_are_those_of_the_documents(
    command: click.Command, port: int, path: str
) -> None:
    [option] = [option for option in command.params if option.name == "port"]
    assert option.default == port
    assert f"the path {path}" in (command.help or "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing option '--token'"),
        (["--token", "x", "--port", "65536"], "65536 is not in the range"),
        (["--token", "x", "--url", "http://a"], "--url"),
    ],
)
@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_usage(name: str, arguments: list[str], said: str) -> None:
    result = CliRunner(env={"SWITCHBOARD_TOKEN": None}).invoke(COMMANDS[name], arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_a_directory_of_files_has_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "nothing"):
        result = CliRunner().invoke(redis_chat, ["--token", "x", "--static", str(path)])
        assert result.exit_code == 2
        assert "--static" in result.output
