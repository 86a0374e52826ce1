"""What is measured: the servers, how each is started, and the doors they have."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import attrs

from benchmarks.processes import Command

REPOSITORY = Path(__file__).resolve().parent.parent
TOKEN = "benchmark"

Kind = Literal["nats", "switchboard", "before", "relay"]


class SubjectError(Exception):
    """A server can't be measured here."""


@attrs.frozen
class Subject:
    """A server under test. A door is a protocol it speaks, all of them on one port."""

    kind: Kind
    label: str
    command: Command
    # The door's name in the report, and the load generator's name of its protocol.
    doors: dict[str, str]


@attrs.frozen
class Row:
    """One row of the report: a server through one of its doors."""

    subject: Subject
    door: str

    @property
    def protocol(self) -> str:
        """The load generator's name of the protocol."""
        return self.subject.doors[self.door]

    def __str__(self) -> str:
        """Return the row's name in messages."""
        return f"{self.subject.label} {self.door}"


def rows_of(subjects: Sequence[Subject]) -> list[Row]:
    """Return every door of every subject, in the order of measurement.

    The same door of our broker's two versions comes one right after the other: their difference
    is the smallest that has to be seen.
    """
    rows = [Row(subject, door) for subject in subjects for door in subject.doors]
    versions = [row for row in rows if row.subject.kind in {"switchboard", "before"}]
    by_door = iter(sorted(versions, key=lambda row: row.door))
    return [next(by_door) if row in versions else row for row in rows]


def nats() -> Subject:
    """Return nats-server, from the wheel beside this interpreter or else from the PATH."""
    beside = Path(sys.executable).parent
    program = shutil.which("nats-server", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise SubjectError("no nats-server: install the extra `bench`, or leave it out with --only")
    command = Command([program, "--addr", "127.0.0.1", "--port", "-1"])
    return Subject("nats", "nats-server", command, {"raw": "nats"})


def relay() -> Subject:
    """Return the yardstick, `relay.py`."""
    command = Command([sys.executable, "-m", "benchmarks.relay"], REPOSITORY)
    return Subject("relay", "trio-websocket relay", command, {"websocket": "websocket"})


def switchboard(temporary: Path) -> Subject:
    """Return the broker of this checkout."""
    return _switchboard("switchboard", "switchboard", REPOSITORY, temporary)


def switchboard_before(checkout: Path, temporary: Path) -> Subject:
    """Return the broker of another checkout, labelled by its commit."""
    label = f"switchboard @ {_commit_of(checkout)}"
    return _switchboard("before", label, checkout.resolve(), temporary)


def _switchboard(kind: Kind, label: str, checkout: Path, temporary: Path) -> Subject:
    snapshot = _snapshot(checkout, temporary / kind)
    environment = {"PYTHONPATH": str(snapshot)}
    _check_import(snapshot, environment)
    words = [sys.executable, "-m", "broker", "serve", "--config", str(_configuration(temporary))]
    command = Command(words, snapshot, environment)
    return Subject(kind, label, command, {"raw": "stream", "websocket": "websocket"})


def _snapshot(checkout: Path, target: Path) -> Path:
    """Copy the package, so that all rounds measure the same even while somebody edits it."""
    package = checkout / "broker"
    if not package.is_dir():
        raise SubjectError(f"{checkout} has no broker")
    shutil.copytree(package, target / "broker", ignore=shutil.ignore_patterns("__pycache__"))
    return target


def _configuration(temporary: Path) -> Path:
    """Write the broker's settings: one port of the system's choice, one token, no limits."""
    path = temporary / "switchboard.toml"
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    path.write_text(
        f'[[listeners]]\naddress = "tcp://127.0.0.1:0"\n\n[[tokens]]\nsha256 = "{digest}"\n'
    )
    return path


def _check_import(snapshot: Path, environment: dict[str, str]) -> None:
    """Make sure that it is the copied broker that runs, not an installed one.

    A comparison of a version with itself would look like any other.
    """
    result = subprocess.run(
        [sys.executable, "-c", "import broker; print(broker.__file__)"],
        cwd=snapshot,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise SubjectError(f"`import broker` failed:\n{result.stderr}")
    if not Path(result.stdout.strip()).resolve().is_relative_to(snapshot.resolve()):
        raise SubjectError(f"`import broker` finds {result.stdout.strip()} first")


def _commit_of(checkout: Path) -> str:
    """Return the short commit, with a `+` for uncommitted changes; else the directory's name."""
    git = ["git", "-C", str(checkout)]
    commit = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    if commit.returncode != 0:
        return checkout.resolve().name
    changes = subprocess.run(
        [*git, "status", "--porcelain", "--", "broker"], capture_output=True, text=True, check=False
    )
    return commit.stdout.strip() + ("+" if changes.stdout else "")
