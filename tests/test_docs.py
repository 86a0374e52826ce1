"""The documents, held against the code: every block runs, every table and every link is right.

A document that is executed tells a story, from its first block to its last. What its blocks may be:

* `python` and `toml`: a file, whose first line has its name in a comment. Some command uses it.
* `json`: frames.
* `console`: commands after `$`, and what they print. `...` stands for any number of lines. Behind
  netcat or a WebSocket client stands a session: `>` marks what is typed, `<` what comes back.
* `text`: a session too, of several connections, where each line begins with a connection's name.

UUIDs, tokens, hashes and times are different in every run; the same one must come again where the
document has the same one again. Port 8420 stands for the port that the system chose.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Protocol

import attrs
import msgspec
import pytest
import websockets
from websockets.sync.client import connect as connect_websocket

from broker.core import memory
from broker.core.settings import DEFAULT_PORT, LimitSettings, TimingSettings
from broker.core.statistics import Statistics
from broker.protocol import limits
from broker.protocol.codec import Envelope, EnvelopeIntent, EnvelopeSource, decode, encode
from broker.protocol.errors import ErrorCode, NestingError, Reason
from broker.protocol.frames import OpCode, Pick, Target
from broker.protocol.handshake import MAX_HEADERS
from broker.protocol.identify import Identification, Welcome
from broker.protocol.websocket_messages import MAX_FRAGMENTS

ROOT: Final = Path(__file__).parent.parent
README: Final = ROOT / "README.md"
PROTOCOL: Final = ROOT / "docs" / "protocol.md"
ARCHITECTURE: Final = ROOT / "docs" / "architecture.md"

# A bound for what should take no time at all; a busy machine may need some.
PATIENCE: Final = 30.0


# -- reading Markdown ------------------------------------------------------------------------------


@attrs.frozen
class Block:
    place: str
    language: str
    lines: list[str]


@attrs.frozen
class Table:
    heading: str
    header: list[str]
    rows: list[list[str]]


@attrs.frozen
class Document:
    path: Path
    blocks: list[Block]
    tables: list[Table]
    headings: list[str]
    prose: str

    def table(self, heading: str, first_column: str) -> Table:
        [found] = self.tables_of(heading, first_column)
        return found

    def tables_of(self, heading: str, first_column: str) -> list[Table]:
        wanted = (heading, first_column)
        return [table for table in self.tables if (table.heading, table.header[0]) == wanted]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def read(path: Path) -> Document:
    blocks: list[Block] = []
    tables: list[Table] = []
    headings: list[str] = []
    prose: list[str] = []
    block: Block | None = None
    table: Table | None = None
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if line.startswith("```"):
            if block is None:
                block = Block(f"{path.name}, line {number}", line[3:], [])
                blocks.append(block)
            else:
                block = None
        elif block is not None:
            block.lines.append(line)
        elif line.startswith("|"):
            if table is None:
                table = Table(headings[-1], cells(line), [])
                tables.append(table)
            elif not set(line) <= set("|-: "):
                table.rows.append(cells(line))
        elif line.startswith("#"):
            headings.append(line.lstrip("#").strip())
        if not line.startswith("|"):
            table = None
        if block is None:
            prose.append(line)
    assert block is None, f"{path.name}: a block does not end"
    return Document(path, blocks, tables, headings, "\n".join(prose))


def code(cell: str) -> str:
    """What stands between the backticks of a cell that has nothing else."""
    assert re.fullmatch(r"`[^`]+`", cell), cell
    return cell.strip("`")


def number(text: str) -> int:
    """The first number in a text; groups of digits are set apart by commas."""
    found = re.search(r"\d[\d,]*", text)
    assert found, text
    return int(found[0].replace(",", ""))


# -- playing a document ----------------------------------------------------------------------------

PORT: Final = re.compile(rf"\b{DEFAULT_PORT}\b")
UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
RANDOM: Final = re.compile(
    rf"{UUID}|swb_[\w-]{{43}}|\b[0-9a-f]{{64}}\b|\d{{4}}-\d\d-\d\dT[\d:.]{{12}}Z"
)
SESSION_LINE: Final = re.compile(r"(?P<who>\w*)(?P<way>[<>]) (?P<frame>.*)")


@attrs.frozen
class Bindings:
    """Which random text of the document stands for which of this run."""

    real: dict[str, str] = attrs.field(factory=dict)

    def to_real(self, text: str) -> str:
        return RANDOM.sub(lambda found: self.real.get(found[0], found[0]), text)

    def check(self, expected: str, actual: str, place: str) -> None:
        pairs = zip(RANDOM.findall(expected), RANDOM.findall(actual), strict=False)
        for documented, real in pairs:
            self.real.setdefault(documented, real)
        assert actual == self.to_real(expected), place
        ids = [real for real in self.real.values() if re.fullmatch(UUID, real)]
        assert len(set(ids)) == len(ids), place


class Client(Protocol):
    """A connection to the broker. `hear` returns None when the broker has ended it."""

    def say(self, frame: str) -> None: ...
    def hear(self) -> str | None: ...
    def close(self) -> None: ...


class StreamClient:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._lines = self._socket.makefile(encoding="utf-8", newline="\n")

    def say(self, frame: str) -> None:
        self._socket.sendall(frame.encode() + b"\n")

    def hear(self) -> str | None:
        return self._lines.readline().removesuffix("\n") or None

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class WebSocketClient:
    def __init__(self, port: int) -> None:
        self._stack = ExitStack()
        self._connection = self._stack.enter_context(
            connect_websocket(f"ws://127.0.0.1:{port}", open_timeout=PATIENCE)
        )
        self.closed_with = ""

    def say(self, frame: str) -> None:
        self._connection.send(frame)

    def hear(self) -> str | None:
        try:
            return str(self._connection.recv(PATIENCE))
        except websockets.ConnectionClosed as closed:
            self.closed_with = str(closed.rcvd)
            return None

    def close(self) -> None:
        self._stack.close()


class Story:
    """Executes the blocks of one document, in order."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.bindings = Bindings()
        self.directory = directory
        self.stack = stack
        self.files: dict[str, str] = {}
        self.used: set[str] = set()
        self.port = 0
        self.broker: subprocess.Popen[str] | None = None
        self.services: list[subprocess.Popen[str]] = []
        programs = directory / "bin"
        programs.mkdir()
        python = shlex.quote(sys.executable)
        cli = "from services.cli.main import main; main(prog_name='switchboard')"
        for name, run in (("python", python), ("switchboard", f'{python} -c "{cli}"')):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {run} "$@"\n')
            program.chmod(0o755)
        inherited = {name: value for name, value in os.environ.items() if "SWITCHBOARD" not in name}
        self.environ = inherited | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }

    def play(self, block: Block) -> None:
        match block.language:
            case "python" | "toml":
                name = block.lines[0].removeprefix("# ")
                assert re.fullmatch(r"\w+\.(py|toml)", name), f"{block.place}: its name comes first"
                self.files[name] = "\n".join(block.lines) + "\n"
            case "json":
                check_frames(block)
            case "console":
                self.console(block)
            case "text":
                self.session(block.lines, block.place, {})
            case other:
                pytest.fail(f"{block.place}: a block of {other!r} is none that can be executed")

    def finish(self) -> None:
        self.stop()
        assert self.files.keys() == self.used, "a file that is shown is also used"

    # Commands.

    def console(self, block: Block) -> None:
        commands: list[tuple[str, list[str]]] = []
        for line in block.lines:
            if line.startswith("$ "):
                commands.append((line.removeprefix("$ "), []))
            else:
                commands[-1][1].append(line)
        for command, output in commands:
            self.run(command, output, f"{block.place}: {command}")

    def run(self, command: str, output: list[str], place: str) -> None:
        words = shlex.split(command)
        self.used |= self.files.keys() & set(words)
        for name, text in self.files.items():
            port = 0 if name.endswith(".toml") else self.port
            text = self.bindings.to_real(PORT.sub(str(port), text))
            (self.directory / name).write_text(text)
        command = self.bindings.to_real(PORT.sub(str(self.port), command))
        match words:
            case ["export", assignment]:
                name, _, value = self.bindings.to_real(assignment).partition("=")
                self.environ[name] = value
            case ["nc", "127.0.0.1", _]:
                self.session(output, place, {"": StreamClient(self.port)})
            case ["python", "-m", "websockets", url]:
                self.websocket_session(url, output, place)
            case ["switchboard", "serve", *options]:
                self.start_broker(options, output, place)
            case ["make", target]:
                self.make(target)
            case [*_, "&"]:
                self.start_service(command, words, place)
            case _:
                finished = self.shell(command, place)
                self.compare(output, finished, place)

    def shell(self, command: str, place: str) -> str:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.directory,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{place}\n{done.stdout}"
        return done.stdout

    def compare(self, expected: list[str], actual: str, place: str) -> None:
        rest = actual.replace(str(self.directory), ".").splitlines()
        for position, line in enumerate(expected):
            if line == "...":
                behind = expected[position + 1 : position + 2]
                while rest and rest[0] not in behind:
                    del rest[0]
            else:
                assert rest, f"{place}: {line} is missing"
                self.bindings.check(line, rest.pop(0), place)
        assert not rest, place

    def make(self, target: str) -> None:
        """See that there is such a target; of `make demo`, run what it would run."""
        options = ["--dry-run", "--always-make", "--no-print-directory"]
        shown = subprocess.run(
            ["make", *options, target], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for module in re.findall(r"-m (examples\.\w+)", shown):
            self.shell(f"python -m {module}", f"make {target}")

    # Programs that go on running.

    def popen(self, words: list[str], stdout: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            words,
            cwd=self.directory,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            text=True,
        )
        self.stack.enter_context(process)
        self.stack.callback(process.kill)
        return process

    def start_broker(self, options: list[str], output: list[str], place: str) -> None:
        self.stop()
        options = [PORT.sub("0", option) for option in options]
        if not options:
            options = ["--listen", "tcp://127.0.0.1:0"]
        self.broker = self.popen(["switchboard", "serve", *options], subprocess.PIPE)
        assert self.broker.stdout is not None
        for line in output:
            said = self.broker.stdout.readline().removesuffix("\n")
            assert re.sub(r":\d+$", "", said) == re.sub(r":\d+$", "", line), place
            if said.startswith(("listening on tcp://", "listening on tls://")):
                self.port = int(said.rpartition(":")[2])

    def stop(self) -> None:
        """End the services, then the broker, each in good order."""
        running = self.services if self.broker is None else [*self.services, self.broker]
        for process in running:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, process.args
        self.services.clear()
        self.broker = None

    def start_service(self, command: str, words: list[str], place: str) -> None:
        service = self.popen(["sh", "-c", f"exec {command.removesuffix('&')}"], subprocess.DEVNULL)
        self.services.append(service)
        for name in self.files.keys() & set(words):
            for group in re.findall(r'Service\("(\w+)"\)', self.files[name]):
                self.wait_for_member(group, service, place)

    def wait_for_member(self, group: str, service: subprocess.Popen[str], place: str) -> None:
        """Ask until somebody is there: each question is a round trip to the broker."""
        deadline = time.monotonic() + PATIENCE
        client = StreamClient(self.port)
        token = self.environ["SWITCHBOARD_TOKEN"]
        client.say(json.dumps({"op": 1, "data": {"token": token, "group": "probe"}}))
        client.hear()
        intent = {"target": "GROUP", "identifier": group}
        question = json.dumps({"op": 0, "id": "there?", "event": "THERE", "intent": intent})
        missing = True
        while missing:
            assert service.poll() is None, f"{place}: it has ended"
            assert time.monotonic() < deadline, f"{place}: {group} does not come"
            client.say(question)
            client.say('{"op":3}')
            answer = json.loads(client.hear() or "")
            missing = "error" in answer
            if missing:
                client.hear()
        client.close()

    # Sessions.

    def websocket_session(self, url: str, output: list[str], place: str) -> None:
        first, *lines, last = output
        assert first == f"Connected to {url}.", place
        client = WebSocketClient(self.port)
        self.session(lines, place, {"": client})
        assert last == f"Connection closed: {client.closed_with}.", place

    def session(self, lines: Iterable[str], place: str, clients: dict[str, Client]) -> None:
        over: set[str] = set()
        for line in lines:
            found = SESSION_LINE.fullmatch(line)
            assert found, f"{place}: {line}"
            who = found["who"]
            if who not in clients:
                clients[who] = StreamClient(self.port)
            if found["way"] == ">":
                clients[who].say(self.bindings.to_real(found["frame"]))
            else:
                heard = clients[who].hear()
                assert heard is not None, f"{place}: the broker hung up before {line}"
                self.bindings.check(found["frame"], heard, place)
            if found["frame"].startswith('{"op":2'):
                over.add(who)
        for who, client in clients.items():
            if who not in over:
                # Whatever else was on its way would come before the answer.
                client.say('{"op":3,"id":"the end"}')
                assert client.hear() == '{"op":4,"id":"the end"}', f"{place}: more came"
                client.say('{"op":2}')
            # So the next session meets nobody from this one.
            assert client.hear() is None, place
            client.close()


def check_frames(block: Block) -> None:
    for frame in msgspec.json.Decoder(dict[str, Any]).decode_lines("\n".join(block.lines)):
        assert frame.keys() <= set(names_of(Envelope)), block.place
        assert isinstance(decode(encode(frame)), Envelope), block.place


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    with ExitStack() as stack:
        yield Story(tmp_path, stack)


@pytest.mark.parametrize("path", [README, PROTOCOL], ids=lambda path: path.name)
def test_every_block_runs_and_shows_what_it_says(path: Path, story: Story) -> None:
    for block in read(path).blocks:
        story.play(block)
    story.finish()


# -- tables and figures ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def protocol() -> Document:
    return read(PROTOCOL)


def names_of(struct: type[msgspec.Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(struct)]


def check_properties(table: Table, struct: type[msgspec.Struct]) -> None:
    """All properties are there, in order, with the limits that the code has for them."""
    assert [code(row[0]) for row in table.rows] == names_of(struct)
    if table.header[2] != "Limits":
        return
    described = msgspec.inspect.type_info(struct)
    assert isinstance(described, msgspec.inspect.StructType)
    for row, field in zip(table.rows, described.fields, strict=True):
        for phrase in phrases_of(field.type):
            assert phrase in row[2], row


def phrases_of(kind: msgspec.inspect.Type) -> Iterator[str]:
    """How the limits of a type are put into words."""
    match kind:
        case msgspec.inspect.UnionType(types=types):
            for inner in types:
                yield from phrases_of(inner)
        case msgspec.inspect.StrType(min_length=None, max_length=int(longest)):
            yield f"at most {longest} characters"
        case msgspec.inspect.StrType(min_length=int(shortest), max_length=int(longest)):
            yield f"{shortest} to {longest} characters"
        case msgspec.inspect.IntType(ge=int(least), le=int(most)):
            yield f"{least} to {most:,}"
        case msgspec.inspect.LiteralType(values=(str(), str()) as words):
            yield " or ".join(f"`{word}`" for word in words) if len(words) == 2 else ""


def settings_defaults() -> dict[str, int | None]:
    return {
        f"{table}.{field.name}": field.default
        for table, kind in (("limits", LimitSettings), ("timing", TimingSettings))
        for field in attrs.fields(kind)
    }


def test_frame_properties(protocol: Document) -> None:
    check_properties(protocol.table("Frames", "Property"), Envelope)
    assert names_of(EnvelopeSource) == ["id", "group"]


def test_properties_are_written_in_the_order_told(protocol: Document) -> None:
    found = re.search(r"properties ((?:`\w+`(?:,| and)\s)+`\w+`), in this\s+order", protocol.prose)
    assert found
    assert re.findall(r"\w+(?=`)", found[1]) == names_of(Envelope)


def test_intent_properties(protocol: Document) -> None:
    check_properties(protocol.table("Routing", "Property of `intent`"), EnvelopeIntent)
    targets = protocol.table("Routing", "Target")
    assert [code(row[0]) for row in targets.rows] == list(Target)
    assert list(Pick) == ["ALL", "ONE"]


def test_identify_properties(protocol: Document) -> None:
    question, answer = protocol.tables_of("IDENTIFY", "Property of `data`")
    check_properties(question, Identification)
    check_properties(answer, Welcome)


def test_ops(protocol: Document) -> None:
    table = protocol.table("Frames", "`op`")
    assert [(int(row[0]), row[1]) for row in table.rows] == [(op, op.name) for op in OpCode]


def test_disconnect_reasons(protocol: Document) -> None:
    table = protocol.table("DISCONNECT and the end of a connection", "Reason")
    assert {code(row[0]): int(row[1]) for row in table.rows} == {
        reason.value: reason.close_code for reason in Reason
    }


def test_close_codes_without_a_reason_of_their_own(protocol: Document) -> None:
    table = protocol.table("DISCONNECT and the end of a connection", "Close code")
    sources = (path.read_text() for path in (ROOT / "broker").rglob("*.py"))
    used = {int(found) for source in sources for found in re.findall(r"close_code=(\d+)", source)}
    assert {int(row[0]) for row in table.rows} == used


def test_error_codes(protocol: Document) -> None:
    documented = [
        code(row[0]) for table in protocol.tables_of("Errors", "Code") for row in table.rows
    ]
    assert sorted(documented) == sorted(ErrorCode)


def test_broker_as_a_service(protocol: Document) -> None:
    heading = "The broker as a service"
    [session] = [block for block in protocol.blocks if "$up" in "".join(block.lines)]
    text = "\n".join(session.lines)
    [events] = re.findall(r"\$broker knows ([\w, ]+), not", text)
    table = protocol.table(heading, "Event")
    assert [code(row[0]) for row in table.rows] == events.split(", ")
    [description] = re.findall(r'"services":\[(\{[^\]]*\})\]', text)
    table = protocol.table(heading, "Property of a service")
    assert [code(row[0]) for row in table.rows] == list(json.loads(description))
    table = protocol.table(heading, "Property of STATS")
    assert [code(row[0]) for row in table.rows] == [
        field.name for field in attrs.fields(Statistics)
    ]


def test_fixed_limits(protocol: Document) -> None:
    concurrency = msgspec.json.schema(Identification)["$defs"]["Identification"]["properties"]
    [most] = [kind["maximum"] for kind in concurrency["concurrency"]["anyOf"] if "maximum" in kind]
    fixed = {
        "`id`": limits.MAX_ID_LENGTH,
        "`event`, group names, `identifier`, `key`, `name`": limits.MAX_NAME_LENGTH,
        "`trace`": limits.MAX_TRACE_LENGTH,
        "`timeout`": limits.MAX_TIMEOUT_MS,
        "`meta`, as compact JSON": limits.MAX_META_SIZE,
        "`concurrency`": most,
        "header lines of an opening handshake": MAX_HEADERS,
        "fragments of a WebSocket message": MAX_FRAGMENTS,
    }
    table = protocol.table("Limits and settings", "What")
    assert {row[0]: number(row[1]) for row in table.rows} == fixed
    in_code = {value for name, value in vars(limits).items() if name.startswith("MAX_")}
    assert in_code <= set(fixed.values()) | set(settings_defaults().values())


def test_settings_and_their_defaults(protocol: Document) -> None:
    table = protocol.table("Limits and settings", "Setting")
    defaults = {code(row[0]): None if row[1] == "none" else number(row[1]) for row in table.rows}
    assert defaults == settings_defaults()


@pytest.mark.parametrize("path", [README, PROTOCOL, ARCHITECTURE], ids=lambda path: path.name)
def test_figures_that_stand_beside_a_setting(path: Path) -> None:
    defaults = settings_defaults()
    text = read(path).prose
    beside = re.findall(r"(\d[\d,]*)(?:\s+(\w+))?\s+\(`((?:limits|timing)\.\w+)`", text)
    for figure, unit, setting in beside:
        assert number(figure) * (1000 if unit == "seconds" else 1) == defaults[setting], setting
    for setting in re.findall(r"`((?:limits|timing)\.\w+)`", text):
        assert setting in defaults


def test_figures_without_a_setting(protocol: Document) -> None:
    for phrase in (
        f"at most {MAX_FRAGMENTS:,} fragments",
        f"at most {MAX_HEADERS} header lines",
        f"the last {memory._MOST_UNANSWERED:,} requests that ended without an answer",
        f"the last {memory.MOST_ANSWERED} that ended with one",
    ):
        assert phrase in " ".join(protocol.prose.split())


def test_depth_that_is_accepted(protocol: Document) -> None:
    found = re.search(r"nested (\d+) levels deep", protocol.prose)
    assert found
    depth = int(found[1])
    decode(b'{"op":0,"data":' + b"[" * depth + b"]" * depth + b"}")
    with pytest.raises(NestingError):
        decode(b'{"op":0,"data":' + b"[" * (depth + 1) + b"]" * (depth + 1) + b"}")


def test_how_much_longer_a_frame_becomes(protocol: Document) -> None:
    found = re.search(r"longer on its way, by at most ([\d,]+) bytes", protocol.prose)
    assert found
    uuid = "0" * 36
    before = encode(Envelope(op=OpCode.EVENT, event="x"))
    group = "\x01" * limits.MAX_NAME_LENGTH  # What takes the most room in JSON.
    source = EnvelopeSource(id=uuid, group=group)
    after = encode(Envelope(op=OpCode.EVENT, event="x", id=uuid, source=source))
    assert len(after) - len(before) <= number(found[1])


# -- links -----------------------------------------------------------------------------------------


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", [README, PROTOCOL, ARCHITECTURE], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", read(path).prose):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), target
        if anchor:
            assert anchor in map(slug, read(file).headings), target


@pytest.mark.parametrize("path", [README, PROTOCOL, ARCHITECTURE], ids=lambda path: path.name)
def test_files_that_are_named_exist(path: Path) -> None:
    for name in re.findall(r"`((?:\w+/)+[\w.]*)`", read(path).prose):
        assert (ROOT / name).exists(), name
