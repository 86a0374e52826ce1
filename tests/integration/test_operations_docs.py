"""docs/operations.md, held against the code: every block runs, every table is right."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from broker.commands import serve
from broker.core.dispatcher import Dispatcher
from broker.core.settings import Settings
from broker.log_writer import _MOST
from broker.ops.access import PROBES
from broker.ops.exposition import Exposition
from broker.ops.readiness import DRAINING, STARTING, Readiness
from broker.ops.source import Source
from broker.transport import door, lives
from broker.transport.limited_log import ORDINARY
from tests.integration.test_cli_docs import CliStory, check_words
from tests.test_docs import PATIENCE, ROOT, Block, Document, code, read, slug
from tests.transport.rig import Rig

OPERATIONS = ROOT / "docs" / "operations.md"
OPS_PORT = re.compile(r"\b8421\b")


class OperationsStory(CliStory):
    """Also knows the ops port, a log in a file, and services that are sent away."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        super().__init__(directory, stack)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.ops_port = str(free.getsockname()[1])

    def play(self, block: Block) -> None:
        if block.language == "sh":
            for line in block.lines:
                check_command(line)
            return
        block.lines[:] = [OPS_PORT.sub(self.ops_port, line) for line in block.lines]
        super().play(block)

    def start_broker(self, options: list[str], output: list[str], place: str) -> None:
        *options, redirect, name = options
        assert redirect == "2>", place
        self.log = self.directory / name
        super().start_broker(options, output, place)
        assert self.broker is not None
        self.environ["BROKER"] = str(self.broker.pid)
        self.environ["SWITCHBOARD_URL"] = f"ws://127.0.0.1:{self.port}"

    def popen(self, words: list[str], stdout: int) -> subprocess.Popen[str]:
        if words[:2] != ["switchboard", "serve"]:
            return super().popen(words, stdout)
        with self.log.open("w") as log:
            process = subprocess.Popen(
                words,
                cwd=self.directory,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=log,
                text=True,
            )
        self.stack.enter_context(process)
        self.stack.callback(process.kill)
        return process

    def run(self, command: str, output: list[str], place: str) -> None:
        super().run(command, output, place)
        if command.startswith("switchboard drain billing"):
            # It ends by itself: that is what is told.
            [service] = self.services
            assert service.wait(PATIENCE) == 0
            self.services.clear()
        elif command.startswith("switchboard drain --broker"):
            assert self.broker is not None
            assert self.broker.wait(PATIENCE) == 0
        elif command.startswith("kill -HUP"):
            # The files are written anew for the next command, and it may be reading them.
            deadline = time.monotonic() + PATIENCE
            while '"settings reloaded"' not in self.log.read_text():
                assert time.monotonic() < deadline, place


def check_command(line: str) -> None:
    """See that a line that is only shown could be run: options, files."""
    line = line.removesuffix(" \\")
    words = shlex.split(line)
    if "switchboard" in words and words[0] == "systemd-socket-activate":
        words = words[words.index("switchboard") :]
    program = words[0].rpartition("/")[2] if words else ""
    if program == "switchboard" and words[1:] != ["--version"]:
        check_words(shlex.join(["switchboard", *words[1:]]))
    for word in words:
        if word.startswith("examples/"):
            assert (ROOT / word).exists(), line


@pytest.fixture(scope="module")
def document() -> Document:
    return read(OPERATIONS)


@pytest.fixture
def story(tmp_path: Path) -> Iterator[OperationsStory]:
    with ExitStack() as stack:
        yield OperationsStory(tmp_path, stack)


def test_every_block_runs_and_shows_what_it_says(story: OperationsStory) -> None:
    for block in read(OPERATIONS).blocks:
        story.play(block)
    story.broker = None
    story.finish()
    said = story.log.read_text()
    for event in ("ready", "settings reloaded", "draining"):
        assert f'"event": "{event}"' in said


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_options_of_serve(document: Document) -> None:
    table = document.table("Start", "Option of `serve`")
    known = {max(option.opts, key=len) for option in serve.params}
    assert {code(row[0]) for row in table.rows} == known


def source() -> Source:
    return Source(Dispatcher(Settings()), Readiness(), 0.0, 0.0)


def test_paths_and_reasons(document: Document) -> None:
    text = (ROOT / "broker" / "ops" / "app.py").read_text()
    paths = {code(row[0]) for row in document.table("Probes", "Path").rows}
    probes = [names(row[0])[0] for row in document.table("Probes", "Probe").rows]
    assert set(re.findall(r'"(/\w+)": self\.', text)) | {"/"} == paths | set(PROBES)
    assert probes[:2] == list(PROBES)
    [ready] = [row for row in document.table("Probes", "Probe").rows if "readyz" in row[0]]
    assert set(names(ready[1])) == {STARTING, DRAINING}


# -- alerts ----------------------------------------------------------------------------------------


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "examples" / "deploy" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_alerts_are_told_in_their_order(document: Document) -> None:
    table = document.table("Alerts", "Alert")
    assert [code(row[0]) for row in table.rows] == [rule["alert"] for rule in rules()]
    assert all(row[1] and row[2] for row in table.rows)


def test_alerts_and_documents_name_metrics_and_labels_that_there_are(document: Document) -> None:
    body, _ = Exposition(source()).write("")
    samples: dict[str, set[tuple[str, str]]] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels.items())
    for rule in rules():
        expression = rule["expr"]
        metrics = re.findall(r"\b(?:switchboard|process)_\w+", expression)
        assert metrics or expression.startswith("up{")
        for metric in metrics:
            assert metric in samples, metric
        for metric, label, words in re.findall(r'(\w+)\{(\w+)(?:=|!=|=~)"([^"]+)"\}', expression):
            if label != "job":
                for word in words.split("|"):
                    assert (label, word) in samples[metric], word
    for metric in re.findall(r"`(switchboard_\w+)`", OPERATIONS.read_text()):
        assert metric in samples, metric


# -- logs ------------------------------------------------------------------------------------------

# A call that writes a line, and the event in it.
LINE = re.compile(
    r"(?:_log|log|get_logger\(\))\s*\.(?P<level>debug|info|warning|error|write)\(\s*"
    r'(?:logging\.(?P<named>[A-Z]+),\s*)?"(?P<event>[^"]+)"'
)


def test_every_event_of_the_log_is_told(document: Document) -> None:
    table = document.table("Logs", "Event")
    told = {code(row[0]): row[1] for row in table.rows}
    written = {}
    for path in sorted((ROOT / "broker").rglob("*.py")):
        for found in LINE.finditer(path.read_text()):
            written[found["event"]] = (found["named"] or found["level"]).lower()
    assert len(written) > 15
    [withheld] = [event for event in told if "withheld" in event]
    assert told.pop(withheld) == "that of the others"
    assert told == written


def test_fields_of_a_line(document: Document) -> None:
    of_connections, of_requests = document.tables_of("Logs", "Field")
    shown = [name for row in of_connections.rows for name in names(row[0])]
    structlog.reset_defaults()
    with capture_logs() as lines, Rig() as rig:
        rig.join().sock.close()
        rig.settle()
    assert sorted(shown) == sorted(lines[0].keys() - {"event", "log_level"})
    shown = [name for row in of_requests.rows for name in names(row[0])]
    text = (ROOT / "broker" / "transport" / "request_log.py").read_text()
    written = {*re.findall(r'"(\w+)": ', text), *re.findall(r"(\w+)=[o_]", text)}
    assert set(shown) == written


def test_figures_of_the_log(document: Document) -> None:
    prose = " ".join(document.prose.split())
    for phrase in (
        f"{lives._KNOWN.most} of `connection ended`",
        f"{door._HANDSHAKES.most} failed handshake",
        f"{ORDINARY.most} of the others",
        f"up to {_MOST:,} lines wait",
    ):
        assert phrase in prose, phrase


# -- the rest --------------------------------------------------------------------------------------


def test_commands_in_tables_can_be_run(document: Document) -> None:
    found = 0
    for table in document.tables:
        for row in table.rows:
            for text in names(" ".join(row)):
                if re.match(r"switchboard [a-z]", text) and text != "switchboard check":
                    check_words(text)
                    found += 1
    assert found > 8


def test_links_lead_somewhere(document: Document) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", OPERATIONS.read_text()):
        name, _, anchor = target.partition("#")
        file = OPERATIONS.parent / name if name else OPERATIONS
        assert file.exists(), target
        if anchor:
            assert anchor in map(slug, read(file).headings), target


def test_files_that_are_named_exist() -> None:
    for name in re.findall(r"`((?:examples|docs)/[\w./]*)`", OPERATIONS.read_text()):
        assert (ROOT / name).exists(), name
