"""What `switchboard bench` says in the end: text with a histogram, CSV, JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from services.cli.benching.histogram import bars, percentile
from services.cli.benching.plan import Mode, Plan, Summary

__all__ = ["CSV_COLUMNS", "as_object", "as_text", "verdict"]

_PARTS: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999, "max": 1.0}

CSV_COLUMNS: Final = (
    "mode",
    "pairs",
    "receivers",
    "window",
    "size",
    "processes",
    "seconds",
    "routed",
    "rate",
    *(f"{name}_us" for name in _PARTS),
    "client_cpu",
    "client_busiest",
    "broker_busy",
    "limit",
)

# From here on, the broker counts as busy all the time.
_BROKER_FULL: Final = 0.9

# A client that is busy for half of the time is what most of each round trip is spent on. It need
# not come near 100 %: with a window, client and broker also wait for each other.
_CLIENT_FULL: Final = 0.5

_BAR_WIDTH: Final = 40


def as_object(plan: Plan, summary: Summary) -> dict[str, Any]:
    """Return everything for programs, flat; the keys are those of `CSV_COLUMNS`."""
    fanout = plan.mode is Mode.FANOUT
    limit, _ = verdict(plan, summary)
    return {
        "mode": plan.mode.value,
        "pairs": None if fanout else plan.pairs,
        "receivers": plan.receivers if fanout else None,
        "window": plan.window,
        "size": plan.size,
        "processes": plan.processes,
        "seconds": round(summary.seconds, 3),
        "routed": summary.routed,
        "rate": round(summary.rate, 1),
        **{
            f"{name}_us": percentile(summary.counts, part) if summary.counts else None
            for name, part in _PARTS.items()
        },
        "client_cpu": round(summary.cpu, 3),
        "client_busiest": round(max(summary.shares), 3),
        "broker_busy": None if summary.busy is None else round(summary.busy, 3),
        "limit": limit,
    }


def as_text(plan: Plan, summary: Summary) -> str:
    """Return the report for people."""
    each = "deliveries" if plan.mode is Mode.FANOUT else "messages"
    ways = "" if plan.mode is Mode.FANOUT else ", both ways"
    time = "one way" if plan.mode is Mode.FANOUT else "round trip"
    percentiles = "   ".join(
        f"{name.replace('_', '.')} {_time(percentile(summary.counts, part))}"
        for name, part in _PARTS.items()
    )
    _, advice = verdict(plan, summary)
    lines = [
        plan.describe(),
        f"{summary.rate:,.0f} {each}/s routed{ways}; {_megabytes(plan, summary)} of data",
        f"{time}: {percentiles}",
        "",
        *_histogram(summary.counts),
        "",
        advice,
    ]
    return "\n".join(lines)


def verdict(plan: Plan, summary: Summary) -> tuple[str, str]:
    """Say what the limit was.

    Returns:
        In a word for programs (client, broker, none, unknown), and in words for people.
    """
    client, broker = max(summary.shares), summary.busy
    used = f"The client's busiest process took {client:.0%} of a core"
    if broker is not None:
        used = f"{used}, and the broker was busy for {broker:.0%} of the time"
    if broker is not None and broker >= _BROKER_FULL:
        return "broker", f"{used}: the broker was the limit."
    if client >= _CLIENT_FULL:
        return "client", (
            f"{used}: the client was the limit, the broker may do more. Try --processes "
            f"{2 * plan.processes}, or `make bench`, whose client is written in C."
        )
    if broker is None:
        return "unknown", (
            f"{used}, so it was not the limit. Either the broker was, or the time that a message "
            "takes: if more in flight (--window, --pairs) gives more, it was the time."
        )
    return "none", (
        f"{used}: neither was the limit, but the time that a message takes. More in flight "
        "(--window, --pairs) gives more."
    )


def _histogram(counts: Mapping[int, int]) -> list[str]:
    found = bars(counts)
    most = max((count for _, _, count in found), default=0)
    total = sum(count for _, _, count in found)
    lines = []
    for begin, end, count in found:
        # Whatever is there can be seen.
        width = max(1, round(count / most * _BAR_WIDTH)) if count else 0
        share = f"{count / total:6.1%}" if count else ""
        lines.append(f"{_time(begin):>9} - {_time(end):<9} {'█' * width:<{_BAR_WIDTH}} {share}")
    return [line.rstrip() for line in lines]


def _time(microseconds: float) -> str:
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    if microseconds < 1_000_000:
        return f"{microseconds / 1000:.3g} ms"
    return f"{microseconds / 1_000_000:.3g} s"


def _megabytes(plan: Plan, summary: Summary) -> str:
    return f"{summary.rate * plan.size / 1e6:,.1f} MB/s"
