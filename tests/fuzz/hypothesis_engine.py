"""`python -m tests.fuzz.hypothesis_engine TARGET DIRECTORY SECONDS`: one target, by its words.

Hypothesis knows no coverage, but it knows what inputs are made of, and it shrinks what fails.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.fuzz.targets import TARGETS, Target, read_corpus

# So many at a time; then the clock is looked at.
_ROUND: Final = 500


def main(name: str, directory: Path, seconds: int) -> int:
    """Fuzz until the time is over, or something is wrong. Returns the exit status."""
    target = TARGETS[name]
    deadline = time.monotonic() + seconds
    executions = 0

    def run(data: bytes) -> None:
        nonlocal executions
        executions += 1
        target.run(data)

    seed = random.SystemRandom().randrange(1 << 32)
    try:
        for data in (*target.seeds, *read_corpus(name)):
            run(data)
        while time.monotonic() < deadline:
            _one_round(target, run, directory, seed)
            seed += 1
    finally:
        # In the words of libFuzzer, for whoever reads both.
        print(f"stat::number_of_executed_units: {executions}", file=sys.stderr, flush=True)
    return 0


def _one_round(target: Target, run: Callable[[bytes], None], directory: Path, seed: int) -> None:
    database = DirectoryBasedExampleDatabase(directory / "hypothesis" / target.name)

    @seeded(seed)
    @settings(
        max_examples=_ROUND,
        database=database,
        deadline=None,
        derandomize=False,
        phases=(Phase.reuse, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(target.inputs())
    def one(data: bytes) -> None:
        run(data)

    one()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
