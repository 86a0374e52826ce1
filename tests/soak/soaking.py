"""A soak: rounds of everything at once, and after each a look at what is left of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from tests.integration.crowd import frame
from tests.integration.operators import Lines
from tests.soak.load import Load
from tests.soak.samples import Sample, differences
from tests.soak.subject import TOKEN, Subject, open_subject

__all__ = ["Report", "soak"]

# Seconds of one round; and the rounds before the first that counts: caches fill, and the allocator
# gets what it needs at a time.
_ROUND: Final = 5.0
_WARM_UP: Final = 3

# Samples: the growth of memory is told by thirds.
_LEAST: Final = 3

# How long everybody may take to be gone, in seconds: far longer than the broker's own bounds.
_PATIENCE: Final = 30.0

_LOOK_AGAIN: Final = 0.1

# At first, the same must have been seen so many times: longer than any deadline of the broker's.
_UNCHANGED: Final = 25


@attrs.frozen
class Report:
    """What has come of a soak.

    Attributes:
        samples: one a round, behind the warm-up; the first is the baseline.
        statistics: the broker's own, at the end.
        done: how often the clients did what.
        log: what the broker has logged, from warnings up.
    """

    samples: list[Sample]
    statistics: dict[str, Any]
    done: dict[str, int]
    log: str


class _Observer:
    """The one connection that stays, and reads STATS."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._lines = Lines(stream)

    async def join(self) -> None:
        said = {"token": TOKEN, "group": "observer"}
        await self._stream.send_all(frame(op=1, data=said))
        assert json.loads(await self._lines.next())["op"] == 1

    async def statistics(self) -> dict[str, Any]:
        broker = {"target": "DIRECT", "identifier": "$broker"}
        await self._stream.send_all(frame(op=0, id="s", event="STATS", intent=broker))
        while True:
            answer = json.loads(await self._lines.next())
            if answer["op"] == 3:
                await self._stream.send_all(frame(op=4))
            elif answer["op"] == 5:
                statistics: dict[str, Any] = answer["data"]
                return statistics

    async def listen(self) -> None:
        """Read what is for everyone, and answer pings, for as long as nothing is asked."""
        while True:
            line = json.loads(await self._lines.next())
            if line["op"] == 3:
                await self._stream.send_all(frame(op=4))


async def soak(seconds: float, tell: Callable[[Sample], None] | None = None) -> Report:
    """Soak a broker of its own.

    Args:
        seconds: in all, with the warm-up and the looks in between.
        tell: is told each sample as it is taken.
    """
    samples: list[Sample] = []
    baseline: Sample | None = None
    with tempfile.TemporaryDirectory() as name:
        async with open_subject(Path(name)) as subject:
            load, start = Load(subject), trio.current_time()
            stream = await trio.open_tcp_stream("127.0.0.1", subject.plain)
            observer = _Observer(stream)
            await observer.join()
            number = 0
            while trio.current_time() < start + seconds or len(samples) < _LEAST:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(observer.listen)
                    await load.run(_ROUND)
                    nursery.cancel_scope.cancel()
                sample = await _quiet_sample(subject, observer, start, baseline)
                baseline = baseline or sample
                number += 1
                stuck = bool(differences(baseline, sample))
                if number > _WARM_UP or stuck:
                    samples.append(sample)
                    if tell is not None:
                        tell(sample)
                if stuck:
                    # It will not get any better; and each look at it takes the whole patience.
                    samples.insert(0, baseline)
                    break
            statistics = await observer.statistics()
            await trio.aclose_forcefully(stream)
        log = (Path(name) / "broker.log").read_text()
    return Report(samples, statistics, dict(load.done), log)


async def _quiet_sample(
    subject: Subject, observer: _Observer, start: float, baseline: Sample | None
) -> Sample:
    """Wait until the broker has let go of everybody; then look what it has.

    Those who were told to go, and those who never said a word, have their time for it. Whatever is
    not as it was after all of that is returned as it is.
    """
    unchanged = 0
    before: Sample | None = None
    last_look = trio.current_time() + _PATIENCE
    while True:
        # Asked again and again, or the broker would take the observer for dead.
        statistics = await observer.statistics()
        second = trio.current_time()
        sample = await subject.sample(second - start, statistics["opened"])
        if baseline is None:
            # There is nothing to compare it with but what it is some time later.
            same = before is not None and not differences(before, sample)
            unchanged = unchanged + 1 if same else 0
            settled = unchanged == _UNCHANGED
        else:
            settled = not differences(baseline, sample)
        if settled or second > last_look:
            return sample
        before = sample
        await trio.sleep(_LOOK_AGAIN)
