"""What a user's type checker makes of the SDK: mypy, strict, and pyright."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.sdk.programs import ROOT

USER = ROOT / "tests" / "sdk" / "typing_user.py"

# Wrong uses: in each line something that must be refused.
WRONG = """
from services.sdk import Mesh, Service, SyncMesh, Tls, connect, connect_sync

def not_async(data: str) -> str:
    return data

service = Service("x")

class Invoice:
    total: float

async def misuse(mesh: Mesh) -> None:
    service.on("SYNC")(not_async)
    (await mesh.request("E", group="g", returns=int)).upper()
    (await mesh.request("E", group="g", returns=Invoice)).price
    await mesh.request("E", group=7)
    await mesh.request("E", groop="g")
    await mesh.emit("E", pick="SOME")
    async with mesh.gather("E", returns=int) as replies:
        async for reply in replies:
            reply.data.upper()
    connect("ws://broker")
    connect("ws://broker", token="t", tls="ca.pem")
    service.run("ws://broker", token="t", bakend="trio")

def misuse_sync(mesh: SyncMesh) -> None:
    number: str = mesh.request("E", group="g", returns=int)
    mesh.gather("E", to="abc")
    for event in mesh.listen("E"):
        event.nome
    connect_sync("ws://broker", token="t", grop="web")
    Tls("ca.pem")
"""


def mypy(*paths: Path) -> dict[str, set[int]]:
    cache = paths[0].with_name("mypy-cache")
    options = ["--strict", "--no-error-summary", "--cache-dir", str(cache)]
    output = run("mypy", *options, *map(str, paths))
    found = re.findall(r"^([^:\n]+):(\d+): error:", output, re.MULTILINE)
    return by_file((path, int(line)) for path, line in found)


def pyright(*paths: Path) -> dict[str, set[int]]:
    output = run("pyright", "--outputjson", "--pythonpath", sys.executable, *map(str, paths))
    found = json.loads(output)["generalDiagnostics"]
    return by_file((one["file"], one["range"]["start"]["line"] + 1) for one in found)


def by_file(found: Iterable[tuple[str, int]]) -> dict[str, set[int]]:
    lines: dict[str, set[int]] = {}
    for path, line in found:
        lines.setdefault(Path(path).name, set()).add(line)
    return lines


def run(checker: str, *arguments: str) -> str:
    command = [sys.executable, "-m", checker, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=[mypy, pyright])
def refused(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[int]]:
    """The lines that a checker refuses, of both programs: it takes seconds to begin."""
    directory = tmp_path_factory.mktemp("user")
    right, wrong = directory / "right.py", directory / "wrong.py"
    right.write_text(USER.read_text())
    wrong.write_text(WRONG)
    found: dict[str, set[int]] = request.param(right, wrong)
    return found


def test_what_is_right_is_accepted(refused: dict[str, set[int]]) -> None:
    assert refused.get("right.py", set()) == set()


def test_what_is_wrong_is_refused(refused: dict[str, set[int]]) -> None:
    lines = WRONG.splitlines()
    told = {lines[number - 1].strip() for number in refused["wrong.py"]}
    bodies = re.split(r"^(?:async )?def misuse.*\n", WRONG, flags=re.MULTILINE)[1:]
    wrong = {line.strip() for body in bodies for line in body.splitlines() if line.strip()}
    frames = ("async with", "async for", "for event in mesh")
    assert {line for line in wrong if not line.startswith(frames)} - told == set()
