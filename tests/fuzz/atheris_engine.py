"""`python -m tests.fuzz.atheris_engine TARGET DIRECTORY SECONDS`: one target, guided by coverage.

A process of its own, since libFuzzer ends the one that it runs in, and since the broker has to be
imported under its eyes.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def main(name: str, directory: Path, seconds: int) -> None:
    """Fuzz until the time is over, or something is wrong; does not return."""
    # It has no types, and is there for whoever has the extra `fuzz` alone.
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["broker"]):
        targets = importlib.import_module("tests.fuzz.targets")
    target = targets.TARGETS[name]
    corpus = directory / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate((*target.seeds, *targets.read_corpus(name))):
        (corpus / f"seed-{number}").write_bytes(data)
    dictionary = directory / f"{name}.dict"
    dictionary.write_text("".join(f'"{_escape(token)}"\n' for token in target.tokens if token))
    arguments = [
        sys.argv[0],
        str(corpus),
        f"-dict={dictionary}",
        f"-max_len={target.longest}",
        f"-max_total_time={seconds}",
        f"-artifact_prefix={directory / f'{name}-'}",
        "-timeout=30",
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, target.run)
    atheris.Fuzz()


def _escape(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token[:64])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
