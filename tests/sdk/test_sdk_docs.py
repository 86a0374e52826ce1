"""docs/sdk.md, held against the SDK: every block runs, every name is told."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
import trustme

import services.sdk
from services.sdk import Mesh, Service, Snapshot, SyncMesh, Tls, Up, connect
from tests.sdk.programs import ROOT, start

TOKEN = "a-long-random-secret"
TEXT = (ROOT / "docs" / "sdk.md").read_text()


@attrs.frozen
class Block:
    line: int
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE):
        yield Block(TEXT.count("\n", 0, found.start()) + 2, found[1], found[2])


def names_of(heading: str) -> set[str]:
    """The words in the first column of the tables under a sentence."""
    behind = TEXT[TEXT.index(heading) :]
    rows = re.split(r"\n\n(?!\|)", behind, maxsplit=2)[0].splitlines()
    return {name for row in rows if row.startswith("| `") for name in _code(row.split("|")[1])}


def _code(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


async def wait_for(mesh: Mesh, group: str) -> None:
    async with mesh.watch() as changes:
        async for change in changes:
            match change:
                case Snapshot(services) if group in {service.group for service in services}:
                    return
                case Up(service) if service.group == group:
                    return


SETTINGS = """
[[listeners]]
address = "tcp://127.0.0.1:0"

[[listeners]]
address = "tls://127.0.0.1:0"
certificate = "{directory}/broker.pem"
key = "{directory}/broker-key.pem"
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[list[str]]:
    """A broker; its addresses without TLS and with it. The authority stands in `ca.pem`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "broker.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "broker-key.pem")
    settings = tmp_path / "broker.toml"
    settings.write_text(SETTINGS.format(directory=tmp_path))
    config = ("--config", str(settings))
    with start("-m", "broker", "serve", *config, SWITCHBOARD_TOKEN=TOKEN) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        yield [line.removeprefix("listening on ").strip() for line in lines]
        process.terminate()


class Reader:
    """Somebody who does what the page says, from its first block to its last."""

    def __init__(self, directory: Path, addresses: list[str], stack: ExitStack) -> None:
        self.directory = directory
        self.port, self.tls_port = (address.rpartition(":")[2] for address in addresses)
        self.url = addresses[0]
        self.stack = stack
        self.names: dict[str, Any] = {"anyio": anyio, "print": lambda *_: None}
        self.names.update({name: getattr(services.sdk, name) for name in services.sdk.__all__})

    def save(self, block: Block) -> None:
        name, text = block.text.split("\n", 1)
        (self.directory / name.removeprefix("# ")).write_text(self.here(text))

    def here(self, text: str) -> str:
        """Put in what is otherwise in this run."""
        ports = text.replace("8420", self.port).replace("8421", self.tls_port)
        return ports.replace('"ca.pem"', f'"{self.directory}/ca.pem"')

    async def type(self, block: Block, mesh: Mesh) -> None:
        for command, output in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block.text, re.MULTILINE):
            _, name, *background = command.split()
            path = str(self.directory / name)
            if background:
                self.stack.enter_context(start(path, PYTHONPATH=str(ROOT)))
                for group in re.findall(r'Service\("(\w+)"\)', Path(path).read_text()):
                    await wait_for(mesh, group)
            else:
                done = await anyio.run_process(
                    [sys.executable, path],
                    env={"PYTHONPATH": str(ROOT)},
                    stderr=subprocess.STDOUT,
                    check=False,
                )
                assert done.stdout.decode() == output, f"line {block.line}"

    async def run(self, block: Block, mesh: Mesh) -> None:
        source = "\n" * (block.line - 1) + self.here(block.text)
        code = compile(source, "docs/sdk.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        self.names["mesh"] = mesh
        waited = eval(code, self.names)  # a coroutine only where something is awaited
        if inspect.isawaitable(waited):
            await waited

    async def read(self) -> None:
        async with connect(self.url, group="web", token=TOKEN) as mesh:
            for block in blocks():
                match block.language, block.text.startswith("# "):
                    case "python", True:
                        self.save(block)
                    case "python", False:
                        await self.run(block, mesh)
                    case "console", _:
                        await self.type(block, mesh)
                    case other:
                        raise AssertionError(f"line {block.line}: what is {other}?")


def test_every_block_runs(broker: list[str], tmp_path: Path) -> None:
    with ExitStack() as stack:
        anyio.run(Reader(tmp_path, broker, stack).read, backend="trio")


def test_every_name_is_told() -> None:
    told = set(re.findall(r"\b(\w+)\b", " ".join(re.findall(r"`([^`\n]+)`", TEXT))))
    assert set(services.sdk.__all__) - told == set()


def test_every_member_of_a_mesh_is_told() -> None:
    public = {name for name in dir(Mesh) if not name.startswith("_")} - {"inbox", "link"}
    assert names_of("What a `Mesh` has:") == public


def test_every_member_of_a_mesh_without_an_event_loop_is_told() -> None:
    public = {name for name in dir(SyncMesh) if not name.startswith("_")}
    assert names_of("What a `SyncMesh` has:") == public


def test_every_attribute_of_tls_is_told() -> None:
    told = names_of("| Attribute of `Tls`")
    assert told == {field.name for field in attrs.fields(Tls)}


def test_every_argument_is_told() -> None:
    arguments = names_of("`connect(url, *, token, ...)`")
    assert arguments == set(inspect.signature(connect).parameters)
    more = names_of("`Service.serve` and `Service.run`")
    serve = set(inspect.signature(Service.serve).parameters) - {"self"}
    assert (arguments | more) - {"group", "backend"} == serve
