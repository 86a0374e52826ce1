"""One process of the client: `python -m services.cli.benching.worker`.

It is told what to do by lines of JSON on its stdin, and answers on its stdout. When its stdin ends,
so does it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs
import trio
from msgspec import Raw

from broker.protocol.codec import Envelope, EnvelopeIntent, encode
from broker.protocol.frames import OpCode
from broker.protocol.identify import Identification
from services.cli.benching.line import Line, open_line
from services.cli.benching.lines import LineReader
from services.cli.benching.plan import Figures, Mode, Plan, Share
from services.cli.benching.traffic import (
    Answering,
    Asking,
    Party,
    Receiving,
    Sending,
    Tally,
    Template,
    arrival_notice,
)
from services.cli.exits import CommandError, Exit
from services.cli.failures import explain, leaves
from services.cli.top_sample import busy_share
from services.sdk.dialing import Dial, dial
from services.sdk.payloads import load
from services.sdk.tls import Tls, secure
from services.sdk.urls import Address, parse_url

__all__ = ["Worker", "run_worker"]

Say = Callable[[Mapping[str, Any]], None]

# So many connections are opened at a time.
_AT_A_TIME: Final = 32

# For what is in flight when the time is over.
_SETTLE_SECONDS: Final = 2.0

_PROGRESS_SECONDS: Final = 0.2

# More than a message has beside its data.
_ENVELOPE_BYTES: Final = 512


@attrs.frozen
class Door:
    """How the worker's connections come about."""

    url: str
    token: str | None = attrs.field(repr=False)
    group: str
    timeout: float = 10.0
    tls: dict[str, str | None] | None = None


class Worker:
    """The connections of one process, and the traffic on them.

    Args:
        plan: the whole measurement.
        share: this process's part in it.
        door: how to connect.
        nursery: where the connections live.
    """

    def __init__(self, plan: Plan, share: Share, door: Door, nursery: trio.Nursery) -> None:
        self._plan = plan
        self._share = share
        self._identification = Identification(
            token=door.token, group=door.group, name="switchboard bench", echo=False
        )
        self._group = door.group
        self._timeout = door.timeout
        self._address: Address = parse_url(door.url)
        tls = None if door.tls is None else Tls(**door.tls)
        self._dial: Dial = secure(dial, [self._address], tls)
        self._nursery = nursery
        self._tally = Tally()
        self._asking: dict[int, Line] = {}
        self._answering: dict[int, Line] = {}
        self._receiving: list[Line] = []
        self._sending: Line | None = None
        self._parties: list[Party] = []

    async def open(self) -> dict[str, Any]:
        """Open the connections.

        Returns:
            Their ids, for the other processes.

        Raises:
            MeshError: there is no broker, or it does not let them in.
        """
        share = self._share
        count = len(share.asking) + len(share.answering) + len(share.receiving) + share.sends
        lines = await self._open_lines(count)
        self._asking = {pair: lines.pop() for pair in share.asking}
        self._answering = {pair: lines.pop() for pair in share.answering}
        self._sending = lines.pop() if share.sends else None
        self._receiving = lines
        return {
            "asking": {pair: line.id for pair, line in self._asking.items()},
            "answering": {pair: line.id for pair, line in self._answering.items()},
            "sender": None if self._sending is None else self._sending.id,
        }

    async def measure(self, say: Say) -> Figures:
        """Make the traffic, and count.

        Args:
            say: is told of the progress.
        """
        parties, tally, plan = self._parties, self._tally, self._plan
        for party in parties:
            party.begin()
        await trio.sleep(plan.warm_up)
        statistics = _Statistics(parties[0]) if parties else None
        tally.begin()
        begun, cpu, wanted = time.perf_counter(), time.process_time(), _wanted()
        if statistics is not None:
            statistics.ask()
        end = begun + plan.seconds
        while (left := end - time.perf_counter()) > 0:
            await trio.sleep(min(left, _PROGRESS_SECONDS))
            say({"progress": tally.routed})
        seconds = time.perf_counter() - begun
        routed, counts = tally.routed, tally.counts.copy()
        cpu = time.process_time() - cpu
        waited = _wanted()
        if statistics is not None:
            statistics.ask()
        tally.sending = False
        in_flight = await self._settle(parties)
        return Figures(
            seconds=seconds,
            routed=routed,
            counts={bucket: count for bucket, count in enumerate(counts) if count},
            cpu=cpu / seconds,
            wanted=None if wanted is None or waited is None else (waited - wanted) / seconds,
            unexpected=tally.unexpected,
            lost=in_flight,
            errors=tally.errors,
            first_error=tally.first_error,
            busy=None if statistics is None else statistics.busy,
        )

    # How it is done.

    async def _open_lines(self, count: int) -> list[Line]:
        lines: list[Line] = []
        limit = trio.CapacityLimiter(_AT_A_TIME)

        async def open_one() -> None:
            async with limit:
                line = await open_line(
                    self._address, self._identification, dial=self._dial, timeout=self._timeout
                )
            # Somebody has to answer the broker's PINGs.
            Party(self._tally, line)
            self._nursery.start_soon(line.run)
            lines.append(line)

        async with trio.open_nursery() as opening:
            for _ in range(count):
                opening.start_soon(open_one)
        if lines and self._plan.size + _ENVELOPE_BYTES > lines[0].message_bytes:
            raise CommandError(
                f"--size {self._plan.size}: this broker takes messages of at most "
                f"{lines[0].message_bytes} bytes",
                Exit.USAGE,
            )
        return lines

    def cast(self, peers: Mapping[str, Any]) -> None:
        """Give each connection its part, now that all know each other.

        Args:
            peers: the ids of all processes' connections.
        """
        plan, tally = self._plan, self._tally
        asks_with = Template.request if plan.mode is Mode.REQUEST else Template.event
        answers_with = Template.reply if plan.mode is Mode.REQUEST else Template.event
        parties: list[Party] = []
        for pair, line in self._asking.items():
            template = asks_with(_direct(peers["answering"][str(pair)]), plan.size)
            parties.append(Asking(tally, line, template, plan.window))
        for pair, line in self._answering.items():
            template = answers_with(_direct(peers["asking"][str(pair)]), plan.size)
            parties.append(Answering(tally, line, template))
        sending: Sending | None = None
        if self._sending is not None:
            intent = json.dumps({"target": "GROUP", "identifier": self._group})
            template = Template.event(intent, plan.size)
            processes = peers["processes"]
            sending = Sending(tally, self._sending, template, plan.window, processes)
            parties.append(sending)
        self._parties = parties + self._cast_receivers(peers, sending)

    def _cast_receivers(self, peers: Mapping[str, Any], sending: Sending | None) -> list[Party]:
        if not self._receiving:
            return []
        first = self._receiving[0]
        notice = arrival_notice(peers["sender"] or "")
        arrived = sending.arrived if sending else lambda id: first.send(notice.make(id))
        arrivals: dict[str, int] = {}
        expected = len(self._receiving)
        return [
            Receiving(self._tally, line, arrivals, expected, arrived) for line in self._receiving
        ]

    async def _settle(self, parties: list[Party]) -> int:
        """Wait for what is in flight; return how much never came."""
        tally = self._tally
        with trio.move_on_after(_SETTLE_SECONDS):
            # Looked at now and then, so that the parties need not tell when the last has come.
            while not tally.errors and any(one.in_flight for one in parties):  # noqa: ASYNC110
                await trio.sleep(0.01)
        return sum(len(party.in_flight) for party in parties)


class _Statistics:
    """The broker's own counts, asked for twice on a connection that the traffic uses."""

    def __init__(self, party: Party) -> None:
        self.busy: float | None = None
        self._party = party
        self._first: tuple[float, Mapping[str, Any]] | None = None
        party.on_statistics = self._take

    def ask(self) -> None:
        intent = EnvelopeIntent("DIRECT", "$broker")
        question = Envelope(OpCode.EVENT, "statistics", "STATS", intent=intent)
        self._party.line.send(encode(question))

    def _take(self, reply: Envelope) -> None:
        if isinstance(reply.error, Raw):
            return
        now, counts = time.perf_counter(), load(reply.data)
        if self._first is None:
            self._first = now, counts
        else:
            then, before = self._first
            self.busy = busy_share(before, counts, now - then)


def _direct(id: str) -> str:
    return json.dumps({"target": "DIRECT", "identifier": id})


def _wanted() -> float | None:
    """Seconds that this process has run or would have run, had there been a free processor."""
    try:
        ran, waited, _ = Path("/proc/self/schedstat").read_text().split()
    except (OSError, ValueError):
        return None
    return (int(ran) + int(waited)) / 1e9


async def run_worker() -> None:
    """Carry out the orders, one after another."""
    orders = LineReader(trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())))
    async with trio.open_nursery() as nursery:
        order = json.loads(await orders.read_line())
        plan = Plan(**{**order["plan"], "mode": Mode(order["plan"]["mode"])})
        share = Share(**{name: _frozen(value) for name, value in order["share"].items()})
        worker = Worker(plan, share, Door(**order["door"]), nursery)
        _say({"opened": await worker.open()})
        # What there is by now stays: the collector need not look at it again and again.
        gc.freeze()
        order = json.loads(await orders.read_line())
        worker.cast(order["peers"])
        _say({"ready": True})
        # Not before all the others are: what one sends has to find the other in its part.
        await orders.read_line()
        # Nobody wants the figures of a worker whose parent has gone.
        nursery.start_soon(orders.read_line)
        figures = await worker.measure(_say)
        _say({"figures": attrs.asdict(figures)})
        # Others may still wait for what these connections answer: the parent ends all of them.
        await trio.sleep_forever()


def _frozen(value: object) -> Any:  # noqa: ANN401 - of whatever kind
    return tuple(value) if isinstance(value, list) else value


def _say(line: Mapping[str, Any]) -> None:
    # Past Python's own buffer, which would be written once more when the interpreter ends.
    data = memoryview(json.dumps(line).encode() + b"\n")
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


def _main() -> None:
    try:
        trio.run(run_worker)
    except Exception as error:  # noqa: BLE001 - the parent is to know, whatever it is
        for one in leaves(error):
            if isinstance(one, EOFError | BrokenPipeError):
                continue  # The parent has gone.
            failure = explain(one)
            text = f"{type(one).__name__}: {one}" if failure is None else failure.text
            with suppress(BrokenPipeError):
                _say({"error": text, "exit": Exit.FAILED if failure is None else failure.exit})
            break


if __name__ == "__main__":
    _main()
