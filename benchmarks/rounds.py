"""The order of measurements: interleaved, so that a slow minute of the machine hits everyone."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import attrs

from benchmarks.generator import Generator, GeneratorError, Idle
from benchmarks.processes import Server, ServerError, running
from benchmarks.scenarios import Figures, Scenario
from benchmarks.subjects import Row, Subject, rows_of


@attrs.frozen
class Plan:
    """All that a run is going to do."""

    subjects: Sequence[Subject]
    scenarios: Sequence[Scenario]
    rounds: int
    warm_up: float
    seconds: float
    connections: int
    server_core: int | None = None

    @property
    def rows(self) -> list[Row]:
        """Every server through each of its doors."""
        return rows_of(self.subjects)

    @property
    def steps(self) -> int:
        """How many measurements that is."""
        memory = 1 if self.connections else 0
        return len(self.rows) * (self.rounds * len(self.scenarios) + memory)


@attrs.frozen
class Measurement:
    """One scenario on one row in one round; without figures, it failed."""

    row: Row
    scenario: Scenario
    round: int
    figures: Figures | None
    failure: str | None


@attrs.frozen
class Memory:
    """What idle connections cost a server; None when it could not be found out."""

    row: Row
    idle: Idle | None
    failure: str | None


@attrs.define
class Results:
    """Everything that was measured so far."""

    measurements: list[Measurement] = attrs.field(factory=list)
    memory: list[Memory] = attrs.field(factory=list)

    def of(self, row: Row, scenario: Scenario) -> dict[int, Figures]:
        """Return the good figures by round."""
        return {
            measurement.round: measurement.figures
            for measurement in self.measurements
            if measurement.row == row and measurement.scenario == scenario and measurement.figures
        }

    def memory_of(self, row: Row) -> float | None:
        """Return the bytes a connection of a row."""
        return next(
            (entry.idle.bytes_each for entry in self.memory if entry.row == row and entry.idle),
            None,
        )

    @property
    def failures(self) -> list[str]:
        """What went wrong, each a line; the same in several rounds only once."""
        counts = Counter(
            f"{entry.row}, {entry.scenario.title}: {entry.failure}"
            for entry in self.measurements
            if entry.failure
        )
        found = [f"{failure} (rounds: {count})" for failure, count in counts.items()]
        return found + [
            f"{entry.row}, memory: {entry.failure}" for entry in self.memory if entry.failure
        ]


Report = Callable[[Measurement | Memory], None]


@attrs.frozen
class Runner:
    """Carries a plan out."""

    plan: Plan
    generator: Generator
    logs: Path

    def run(self, report: Report) -> Results:
        """Run all rounds, then the memory measurements; `report` hears of each as it is done."""
        results = Results()
        for number in range(1, self.plan.rounds + 1):
            for measurement in self._round(number):
                results.measurements.append(measurement)
                report(measurement)
        if self.plan.connections:
            for row in self.plan.rows:
                memory = self._memory(row)
                results.memory.append(memory)
                report(memory)
        return results

    def _round(self, number: int) -> Iterator[Measurement]:
        """Measure every row once in every scenario, each server in a fresh process.

        Fresh, as one process of the same program can differ from the next by some percent (memory
        layout, hash seeds), and the median should span that, too.
        """
        with ExitStack() as stack:
            servers = {
                subject.label: stack.enter_context(self._serving(subject))
                for subject in self.plan.subjects
            }
            # Every other round goes backwards: what comes later in a round gains or loses nothing.
            rows = self.plan.rows if number % 2 else self.plan.rows[::-1]
            for scenario in self.plan.scenarios:
                for row in rows:
                    yield self._measurement(row, servers[row.subject.label], scenario, number)

    def _measurement(
        self, row: Row, server: Server, scenario: Scenario, number: int
    ) -> Measurement:
        try:
            figures = self.generator.measure(
                row, server, scenario, warm_up=self.plan.warm_up, seconds=self.plan.seconds
            )
        except GeneratorError as error:
            return Measurement(row, scenario, number, None, str(error))
        complaint = figures.complaint()
        return Measurement(row, scenario, number, None if complaint else figures, complaint)

    def _memory(self, row: Row) -> Memory:
        with self._serving(row.subject) as server:
            try:
                idle = self.generator.hold_idle(row, server, self.plan.connections)
            except (GeneratorError, ServerError) as error:
                return Memory(row, None, str(error))
            return Memory(row, idle, None)

    def _serving(self, subject: Subject) -> AbstractContextManager[Server]:
        log = self.logs / f"{subject.kind}.log"
        return running(subject.label, subject.command, log, self.plan.server_core)
