"""docs/testing.md, executed: its listings are files, and pytest runs them."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from services import testing
from services.testing import TestMesh, plugin

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "docs" / "testing.md").read_text()
BLOCKS: Final = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def write_files(directory: Path) -> int:
    """Write what the page shows; return how many runs of tests there are in it."""
    tests = 0
    for _language, text in BLOCKS:
        found = re.match(r"# ([\w/]+\.(?:py|toml))(, continued)?\n", text)
        assert found, f"a block begins with the name of its file: {text[:40]!r}"
        path = directory / found[1]
        assert path.exists() == bool(found[2]), path
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(text)
        loops = 2 if path.parent.name == "loops" else 1
        tests += loops * len(re.findall(r"^(?:async )?def test_", text, re.MULTILINE))
    # The two plugins would both run the tests there.
    (directory / "loops" / "pytest.ini").write_text("[pytest]\n")
    return tests


def run_pytest(directory: Path, *arguments: str) -> tuple[int, str]:
    """Run pytest with the fixtures; return how many tests passed, and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "services.testing.plugin", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) passed in", done.stdout)
    return int(found[1]) if found else 0, done.stdout


def test_the_listings(tmp_path: Path) -> None:
    tests = write_files(tmp_path)
    on_trio, _ = run_pytest(tmp_path, "--ignore=loops")
    on_both, _ = run_pytest(tmp_path / "loops")
    assert on_trio + on_both == tests


def test_the_example() -> None:
    assert run_pytest(ROOT, "-p", "no:cacheprovider", "examples/test_service.py")[0] == 4


def test_every_method_is_described() -> None:
    methods = {name for name in vars(TestMesh) if not name.startswith("_")}
    described = {
        found[1]: found[0].startswith("await ")
        for found in re.finditer(r"^\| `(?:await )?(\w+)\(", PAGE, re.MULTILINE)
    }
    assert set(described) == methods


@pytest.mark.parametrize("name", [*testing.__all__, *plugin.__all__])
def test_every_name_is_mentioned(name: str) -> None:
    assert name in {"ConnectedService", "Framing"} or f"`{name}" in PAGE or f".{name}`" in PAGE


def test_what_has_to_be_awaited() -> None:
    for prefix, name in re.findall(r"^\| `(await )?(\w+)\(", PAGE, re.MULTILINE):
        assert inspect.iscoroutinefunction(getattr(TestMesh, name)) == bool(prefix), name
