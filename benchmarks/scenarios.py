"""What is asked of each server, and the figures that come back."""

import attrs


@attrs.frozen
class Scenario:
    """One kind of traffic."""

    name: str
    title: str
    arguments: tuple[str, ...]


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "pipelined",
            "1 pair, 512 in flight",
            ("--mode", "pairs", "--pairs", "1", "--window", "512"),
        ),
        Scenario(
            "ping-pong",
            "16 pairs, 1 in flight",
            ("--mode", "pairs", "--pairs", "16", "--window", "1"),
        ),
        Scenario(
            "requests-pipelined",
            "requests: 1 pair, 512 in flight",
            ("--mode", "request", "--pairs", "1", "--window", "512"),
        ),
        Scenario(
            "requests",
            "requests: 16 pairs, 1 in flight",
            ("--mode", "request", "--pairs", "16", "--window", "1"),
        ),
        Scenario(
            "fanout",
            "1 to 100, 16 in flight",
            ("--mode", "fanout", "--receivers", "100", "--window", "16"),
        ),
        Scenario(
            "fanout-group",
            "1 to a group of 100, 16 in flight",
            ("--mode", "fanout", "--target", "group", "--receivers", "100", "--window", "16"),
        ),
    )
}

STANDARD = ("pipelined", "ping-pong")


@attrs.frozen
class Latency:
    """Round-trip times (of a fan-out: one way) in microseconds."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float


@attrs.frozen
class Figures:
    """What the load generator saw in one measurement."""

    seconds: float
    routed: int
    rate: float
    latency: Latency
    # Processor time in cores' worth.
    client_cpu: float
    server_cpu: float
    machine_cpu: float
    errors: int
    unexpected: int
    lost: int
    first_error: str

    @property
    def server_cost(self) -> float:
        """Microseconds of the server's processor time for each routed message."""
        return self.server_cpu / self.rate * 1e6 if self.rate else float("nan")

    @property
    def foreign_cpu(self) -> float:
        """Cores' worth that neither the server nor the generator used: the machine's noise."""
        return max(0.0, self.machine_cpu - self.server_cpu - self.client_cpu)

    @property
    def client_is_limit(self) -> bool:
        """Whether the generator used (almost) a whole core: the server might do more."""
        return self.client_cpu >= 0.95

    def complaint(self) -> str | None:
        """Say why these figures can't be trusted, if so."""
        if self.errors:
            return f"{self.errors} errors, the first: {self.first_error}"
        if self.unexpected:
            return f"{self.unexpected} deliveries of messages that were not in flight"
        if self.lost:
            return f"{self.lost} messages never arrived"
        if not self.routed:
            return "nothing was routed"
        return None
