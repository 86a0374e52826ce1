"""Compiles the load generator."""

import os
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent / "load"


class BuildError(Exception):
    """The load generator could not be compiled."""


def build_generator(directory: Path) -> Path:
    """Compile `load/*.c` into `directory`; returns the program's path.

    The compiler is `$CC`, or `cc`.
    """
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        raise BuildError(f"no C compiler: {compiler} is not on the PATH (Debian: build-essential)")
    program = directory / "load"
    sources = sorted(str(path) for path in SOURCES.glob("*.c"))
    command = [compiler, "-std=c11", "-O2", "-Wall", "-Wextra", "-o", str(program), *sources, "-lm"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BuildError(f"{compiler} failed:\n{result.stderr}")
    return program
