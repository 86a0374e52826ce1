"""Setting the wall clock disconnects nobody: only the monotonic clock decides anything."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from trio.testing import MockClock

from broker.core.settings import TimingSettings
from tests.integration.conftest import StartBroker
from tests.integration.mesh import compact

BROKER: Final = Path(__file__).resolve().parents[2] / "broker"

HOUR: Final = 3600.0
PING: Final = 1.0
GRANULE: Final = 0.02


@pytest.mark.parametrize("shift", [HOUR, -HOUR, 50 * 8766 * HOUR], ids=["on", "back", "far on"])
async def test_the_wall_clock_is_moved(
    start_broker: StartBroker, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    """A request stays in flight, and PINGs come when they would have come."""
    broker = await start_broker(timing=TimingSettings(ping_ms=round(PING * 1000)))
    asker, asked = await broker.join("tcp", "askers"), await broker.join("websockets", "asked")
    intent = {"target": "DIRECT", "identifier": asked.id}
    request = {"op": 0, "id": "1", "event": "E", "intent": intent, "timeout": 60_000}
    await asker.send(compact(request))
    assert (await asked.receive_json())["id"] == "1"

    real_time, real_time_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real_time() + shift)
    monkeypatch.setattr(time, "time_ns", lambda: real_time_ns() + int(shift * 10**9))

    for _ in range(3):
        mock_clock.jump(PING + GRANULE)
        for client in (asker, asked):
            assert await client.receive_json() == {"op": 3}
            await client.send(b'{"op":4}')
            # Answered, so that the PONG has been seen before the clock goes on.
            await client.send(b'{"op":3,"id":"seen"}')
            assert await client.receive_json() == {"op": 4, "id": "seen"}
    statistics = broker.server.dispatcher.statistics()
    assert (statistics.identified, statistics.closed, statistics.failed) == (2, {}, {})
    reply = {"op": 5, "id": "1", "intent": {"target": "DIRECT", "identifier": asker.id}}
    await asked.send(compact(reply))
    assert (await asker.receive_json())["id"] == "1"
    newcomer = await broker.join("tcp", "newcomers")
    await newcomer.send(b'{"op":3}')
    assert await newcomer.receive_json() == {"op": 4}


# Where the wall clock is looked at, and what for. Whoever adds a place has to say why a clock that
# is set must not matter there.
ALLOWED: Final = {
    # Shows people since when a service is there, and judges the times in a JWT once, when it is
    # shown: from then on its end is a time of the monotonic clock.
    ("server.py", "time.time"),
    # Show a time that was counted from the start of the broker.
    ("core/broker_service.py", "datetime.fromtimestamp"),
    ("ops/app.py", "datetime.fromtimestamp"),
    # Warns of certificates that are about to expire.
    ("commands.py", "datetime.now"),
    ("serving.py", "datetime.now"),
}

WALL_CLOCKS: Final = {
    "time": {"time", "time_ns", "localtime", "gmtime", "ctime", "clock_gettime", "strftime"},
    "datetime": {"now", "utcnow", "today", "fromtimestamp", "utcfromtimestamp"},
    "date": {"today", "fromtimestamp"},
}


def uses(path: Path) -> Iterator[tuple[str, str]]:
    """The wall clocks that a file of the broker looks at."""
    where = path.relative_to(BROKER).as_posix()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from ((where, f"from time import {name.name}") for name in node.names)
        if isinstance(node, ast.Attribute):
            value = node.value
            owner = value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")
            if node.attr in WALL_CLOCKS.get(owner, ()):
                yield where, f"{owner}.{node.attr}"


def test_the_broker_looks_at_the_wall_clock_for_showing_alone() -> None:
    found = {use for path in sorted(BROKER.rglob("*.py")) for use in uses(path)}
    assert found == ALLOWED
