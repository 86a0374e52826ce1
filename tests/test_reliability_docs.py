"""docs/reliability.md, held against the tests and commands that it names."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from tests.fuzz.targets import TARGETS
from tests.test_docs import ROOT, Document, code, read, slug

RELIABILITY: Final = ROOT / "docs" / "reliability.md"

# A guard against hanging, in seconds.
PATIENCE: Final = 120


@pytest.fixture(scope="module")
def document() -> Document:
    return read(RELIABILITY)


def named_tests(row: list[str]) -> list[str]:
    """The tests that a row of the scorecard names, as `path::function`."""
    return re.findall(r"`(tests/[\w/.]+::\w+)`", row[3])


def commands(document: Document) -> list[list[str]]:
    """Every command of the page, without the settings of the environment before it."""
    lines = [
        line.removeprefix("$ ")
        for block in document.blocks
        for line in block.lines
        if block.language == "console" and line.startswith("$ ")
    ]
    found = [shlex.split(line) for line in lines]
    return [[word for word in words if not re.match(r"[A-Z_]+=", word)] for words in found]


def test_fifteen_items_each_with_a_figure_and_a_test(document: Document) -> None:
    rows = document.table("The scorecard", "#").rows
    assert [row[0] for row in rows] == [str(number) for number in range(1, 16)]
    for row in rows:
        assert row[1].endswith(".")
        assert re.search(r"\d", row[2])
        assert named_tests(row)
        # Nothing else stands there that merely looks like a test.
        assert row[3].count("::") == len(named_tests(row))


def test_every_test_that_is_named_is_collected(document: Document) -> None:
    rows = document.table("The scorecard", "#").rows
    named = {test for row in rows for test in named_tests(row)}
    files = sorted({test.partition("::")[0] for test in named})
    collect = ("-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider")
    result = subprocess.run(
        [sys.executable, *collect, *files],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    collected = {line.partition("[")[0] for line in result.stdout.splitlines()}
    assert named <= collected


def test_no_test_of_the_scorecard_is_left_out(document: Document) -> None:
    named = {test for row in document.table("The scorecard", "#").rows for test in named_tests(row)}
    files = {Path(test.partition("::")[0]).name for test in named}
    there = {path.name for path in (ROOT / "tests" / "integration").glob("test_scorecard_*.py")}
    assert there - files == {"test_scorecard_door_autobahn.py"}


def test_every_command_exists(document: Document) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    kinds = set()
    for words in commands(document):
        kinds.add(words[0])
        if words[0] == "make":
            assert set(words[1:]) <= targets, words
        elif words[0] == "python":
            assert words[1] == "-m"
            assert find_spec(words[2]) is not None, words
    assert kinds == {"make", "python", "docker"}


@pytest.mark.parametrize("module", ["tests.fuzz", "tests.soak", "tests.echo_server"])
def test_every_option_exists(document: Document, module: str) -> None:
    used = {
        word
        for words in commands(document)
        if words[:3] == ["python", "-m", module]
        for word in words
        if word.startswith("--")
    }
    result = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert used
    assert used <= set(re.findall(r"--[a-z-]+", result.stdout))


def test_the_settings_of_the_environment_are_looked_at(document: Document) -> None:
    page = RELIABILITY.read_text()
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"make \w+ ([A-Z_]+)=", page) == ["FUZZ_MINUTES"]
    assert "FUZZ_MINUTES ?= 60" in makefile
    assert "an hour in all" in page
    for path in ("test_soak.py", "test_scorecard_slow.py", "test_scorecard_order.py"):
        source = ast.parse((ROOT / "tests" / "integration" / path).read_text())
        constants = {node.value for node in ast.walk(source) if isinstance(node, ast.Constant)}
        assert "SWITCHBOARD_TEST_SCALE" in constants


def test_every_target_of_the_fuzzers_is_told_of(document: Document) -> None:
    rows = document.table("Fuzzing", "Target").rows
    assert [code(row[0]) for row in rows] == list(TARGETS)


def test_files_and_links_lead_somewhere(document: Document) -> None:
    for name in re.findall(r"`((?:\w+/)+[\w.]*)`", document.prose):
        assert (ROOT / name).exists(), name
    for target in re.findall(r"\]\(([^)\s]+)\)", document.prose):
        name, _, anchor = target.partition("#")
        file = RELIABILITY.parent / name if name else RELIABILITY
        assert file.exists(), target
        if anchor:
            assert anchor in map(slug, read(file).headings), target
