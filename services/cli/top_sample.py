"""One look at a broker, and what has happened between two of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs
import trio

from services.sdk import Expired, Forbidden, Mesh, RequestError, ServiceInfo, UnknownEvent

__all__ = ["GroupLoad", "Rates", "Sample", "busy_share", "compare", "read_counts", "take_sample"]

_SECONDS: Final = 10.0
_BROKER: Final = "$broker"

# Counts of STATS that are shown as so many a second, by what they are called there.
_RATES: Final = ("frames_in", "frames_out", "requests", "opened", "late_replies")

# Of these, STATS has a count for each reason or code.
_SUMMED_RATES: Final = ("failed", "refused", "closed")


@attrs.frozen
class Sample:
    """One look.

    Attributes:
        at: when, in seconds of a monotonic clock.
        services: who is connected, without this client.
        counts: the answer to STATS; None where there is none.
        why: why there is none, or no service.
        round_trip: seconds from a question to the broker's answer.
    """

    at: float
    services: Sequence[ServiceInfo]
    counts: Mapping[str, Any] | None
    why: str
    round_trip: float


@attrs.frozen
class GroupLoad:
    """A group and its members together.

    Attributes:
        in_flight: requests that its members have yet to answer.
        capacity: how many they take at a time; None where one takes any number.
        busiest: the most that one member has in flight.
    """

    name: str
    members: int
    in_flight: int
    capacity: int | None
    busiest: int


@attrs.frozen
class Rates:
    """What has happened between two looks, and how it is at the second.

    Attributes:
        seconds: between the two.
        per_second: counts of STATS; empty without STATS, and at the first look.
        busy: the share of its time that the broker was busy, where it says so.
    """

    sample: Sample
    seconds: float
    per_second: Mapping[str, float]
    groups: Sequence[GroupLoad]
    busy: float | None = None


async def take_sample(mesh: Mesh) -> Sample:
    """Look.

    Raises:
        RequestError: the broker does not answer.
        ConnectionLost: there is no connection.
    """
    begun = time.perf_counter()
    with suppress(Forbidden):  # That is an answer, too.
        await mesh.whoami()
    round_trip = time.perf_counter() - begun
    services: list[ServiceInfo] = []
    notes: list[str] = []
    try:
        services = [service for service in await mesh.services() if service.id != mesh.id]
    except Forbidden:
        notes.append("no services: the token may not list them (services = true permits it)")
    counts, why = await read_counts(mesh)
    if why:
        notes.append(why)
    return Sample(trio.current_time(), services, counts, "; ".join(notes), round_trip)


async def read_counts(mesh: Mesh) -> tuple[Mapping[str, Any] | None, str]:
    """Ask for STATS.

    Returns:
        The counts, and an empty text; or None, and why there are none.

    Raises:
        ConnectionLost: there is no connection.
    """
    try:
        counts = await mesh.request("STATS", to=_BROKER, timeout=_SECONDS, returns=dict[str, Any])
    except Forbidden:
        return None, "no rates: the token may not ask for STATS (stats = true permits it)"
    except (UnknownEvent, Expired) as error:
        return None, f"no rates: the broker does not answer STATS ({error.code})"
    except RequestError as error:
        return None, f"no rates: {error.code}"
    return counts, ""


def compare(before: Sample | None, after: Sample) -> Rates:
    """Return what has happened; a broker that was restarted in between begins anew."""
    groups = _groups(after.services)
    if before is None or before.counts is None or after.counts is None:
        seconds = 0.0 if before is None else after.at - before.at
        return Rates(after, seconds, {}, groups)
    seconds = max(after.at - before.at, 1e-9)
    names = [*_RATES, *_SUMMED_RATES]
    grown = {name: _total(after.counts, name) - _total(before.counts, name) for name in names}
    if any(value < 0 for value in grown.values()):
        return Rates(after, seconds, {}, groups)
    rates = {name: value / seconds for name, value in grown.items()}
    return Rates(after, seconds, rates, groups, busy_share(before.counts, after.counts, seconds))


def busy_share(before: Mapping[str, Any], after: Mapping[str, Any], seconds: float) -> float | None:
    """Return the share of its time that the broker's reactor was busy, where STATS says so."""
    first, second = before.get("busy_seconds"), after.get("busy_seconds")
    if not isinstance(first, int | float) or not isinstance(second, int | float):
        return None
    return min(1.0, max(0.0, (second - first) / seconds))


def _total(counts: Mapping[str, Any], name: str) -> float:
    value = counts.get(name, 0)
    if isinstance(value, dict):
        return sum(number for number in value.values() if isinstance(number, int | float))
    return value if isinstance(value, int | float) else 0


def _groups(services: Sequence[ServiceInfo]) -> list[GroupLoad]:
    by_name: dict[str, list[ServiceInfo]] = {}
    for service in services:
        by_name.setdefault(service.group, []).append(service)
    return [_load(name, members) for name, members in by_name.items()]


def _load(name: str, members: Sequence[ServiceInfo]) -> GroupLoad:
    takes = [member.concurrency for member in members]
    return GroupLoad(
        name,
        members=len(members),
        in_flight=sum(member.in_flight for member in members),
        capacity=None if None in takes else sum(one for one in takes if one is not None),
        busiest=max(member.in_flight for member in members),
    )
