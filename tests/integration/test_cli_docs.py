"""docs/cli.md, held against the command: every block runs, every option and exit code is told."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import click
import pytest

from services.cli.benching.report import CSV_COLUMNS
from services.cli.exits import Exit
from services.cli.main import COMMANDS, main
from services.cli.probe_findings import Level
from tests.test_docs import Block, Document, Story, read, slug

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "cli.md"

# What is another number each time.
MEASURED = re.compile(
    r"(?<![\w-])\d[\d,]*(?:\.\d+)?(?= ?(?:ms|µs|s|MB/s|messages/s)\b)|(?<=\"ms\":)[\d.]+"
)
CLOCK = re.compile(r"^\d\d:\d\d:\d\d\.\d{3} ", re.MULTILINE)
SHORT_ID = re.compile(r"(?<=from cli )[0-9a-f]{8}\b")
REQUEST_ID = re.compile(r"\(id [0-9a-f]{32}-\d+\)")


def without_chance(text: str) -> str:
    text = CLOCK.sub("CLOCK ", SHORT_ID.sub("ID", REQUEST_ID.sub("(id ID)", text)))
    # Which of the two round trips is the slower one.
    text = text.replace("(whoami)", "(route)")
    return re.sub(r" +", " ", MEASURED.sub("N", text))


@attrs.frozen
class Terminal:
    """A command that goes on in a terminal of its own, and what it has to have shown by then."""

    process: subprocess.Popen[str]
    output: list[str]
    place: str


class CliStory(Story):
    """Also knows a second terminal, numbers that are measured, and a home directory."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        super().__init__(directory, stack)
        self.environ["HOME"] = str(directory)
        self.environ.pop("XDG_CONFIG_HOME", None)
        self.terminal: Terminal | None = None

    def play(self, block: Block) -> None:
        if block.language == "text":
            for line in block.lines:
                check_words(line)
            return
        listening, self.terminal = self.terminal, None
        super().play(block)
        if listening is not None:
            out, _ = listening.process.communicate(timeout=30)
            self.compare(listening.output, out, listening.place)
            assert listening.process.returncode == 0

    def run(self, command: str, output: list[str], place: str) -> None:
        if command.startswith("switchboard listen"):
            self.listen(command, output, place)
        else:
            super().run(command, output, place)

    def listen(self, command: str, output: list[str], place: str) -> None:
        # All in one stream, as on a terminal.
        words = ["sh", "-c", 'exec "$@" 2>&1', "sh", *shlex.split(command)]
        environ = {**self.environ, "SWITCHBOARD_URL": f"ws://127.0.0.1:{self.port}"}
        process = subprocess.Popen(
            words, cwd=self.directory, env=environ, stdout=subprocess.PIPE, text=True
        )
        self.stack.enter_context(process)
        self.stack.callback(process.kill)
        assert process.stdout is not None
        self.compare(output[:1], process.stdout.readline(), place)
        self.terminal = Terminal(process, output[1:], place)

    def compare(self, expected: list[str], actual: str, place: str) -> None:
        actual = actual.replace(str(self.directory), "~")
        actual = re.sub(rf"\b{self.port}\b", "8420", actual)
        lines = [without_chance(line).rstrip() for line in expected]
        super().compare(lines, without_chance(actual), place)


def check_words(line: str) -> None:
    """See that a command that is only shown could be run."""
    words = shlex.split(line)
    assert words[0] == "switchboard"
    command = main.get_command(click.Context(main), words[1])
    assert command is not None
    command.make_context(words[1], words[2:])


@pytest.fixture(scope="module")
def document() -> Document:
    return read(DOCUMENT)


@pytest.fixture
def story(tmp_path: Path) -> Iterator[CliStory]:
    with ExitStack() as stack:
        yield CliStory(tmp_path, stack)


def test_every_block_runs_and_shows_what_it_says(document: Document, story: CliStory) -> None:
    for block in document.blocks:
        if story.port:
            story.environ["SWITCHBOARD_URL"] = f"ws://127.0.0.1:{story.port}"
        story.play(block)
    story.finish()


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.*)$", DOCUMENT.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(main)
    for name, lazy in COMMANDS.items():
        command = main.get_command(context, name)
        assert command is not None
        if lazy.module.startswith("services."):
            yield name, command


def test_every_command_and_option_is_told() -> None:
    told = sections()
    common = told["Which broker, and as whom"]
    for name, command in commands():
        inner = command.commands.values() if isinstance(command, click.Group) else [command]
        for one in inner:
            for parameter in one.params:
                if isinstance(parameter, click.Option) and parameter.name != "help":
                    option = max(parameter.opts, key=len)
                    everywhere = told[name] + common + told["Output and exit codes"]
                    assert re.search(rf"{option}\b", everywhere), f"{name} {option}"
            if one is not command:
                assert f"{name} {one.name}" in told[name]


def test_exit_codes(document: Document) -> None:
    table = document.table("Output and exit codes", "Exit code")
    assert [int(row[0]) for row in table.rows] == [int(code) for code in Exit]
    table = document.table("check", "Exit code")
    assert [(int(row[0]), row[1].strip("`")) for row in table.rows] == [
        (level.value, level.name) for level in Level
    ]


def test_columns_of_figures() -> None:
    told = sections()["bench"]
    for column in CSV_COLUMNS:
        between = re.fullmatch(r"p\d+(_9)?_us", column)
        assert f"`{column}`" in told or between, column


def test_links_lead_somewhere(document: Document) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.prose):
        name, _, anchor = target.partition("#")
        file = DOCUMENT.parent / name if name else DOCUMENT
        assert file.exists(), target
        if anchor:
            assert anchor in map(slug, read(file).headings), target
