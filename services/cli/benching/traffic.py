"""The ends of the traffic: each is told what comes in on its connection, and sends the next.

All of it runs in the connection's reader, message by message, without a task switch: what is
measured is the broker, as far as a client in Python can.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from msgspec import Raw

from broker.protocol.codec import Envelope
from services.cli.benching.histogram import BUCKETS, bucket_of
from services.cli.benching.line import Line
from services.sdk.outgoing import encode_reply
from services.sdk.payloads import load_error
from services.sdk.request_errors import UnknownEvent

__all__ = [
    "Answering",
    "Asking",
    "Party",
    "Receiving",
    "Sending",
    "Tally",
    "Template",
    "arrival_notice",
]

_EVENT_NAME: Final = "BENCH"
_ARRIVED: Final = "BENCH_ARRIVED"
_ID: Final = b"#ID#"
_TIMEOUT_MS: Final = 30_000

_clock = time.perf_counter


class Tally:
    """What a process has seen so far; all its connections count here."""

    def __init__(self) -> None:
        self.routed = 0
        self.counts = [0] * BUCKETS
        self.unexpected = 0
        self.errors = 0
        self.first_error = ""
        self.sending = True

    def begin(self) -> None:
        """Begin to count: the warming up is over."""
        self.routed = 0
        self.counts = [0] * BUCKETS

    def refuse(self, text: str) -> None:
        """Count something that went wrong."""
        self.errors += 1
        self.first_error = self.first_error or text


class Template:
    """Messages that differ in their id alone."""

    def __init__(self, text: str) -> None:
        self._before, _, self._after = text.encode().partition(_ID)

    def make(self, id: str) -> bytes:
        """Write one."""
        return b"%b%b%b" % (self._before, id.encode(), self._after)

    @classmethod
    def event(cls, intent: str, size: int, *, name: str = _EVENT_NAME) -> Template:
        """An event."""
        return cls(f'{{"op":0,"id":"#ID#","event":"{name}",{_data(size)},"intent":{intent}}}')

    @classmethod
    def request(cls, intent: str, size: int) -> Template:
        """A request."""
        return cls(
            f'{{"op":0,"id":"#ID#","event":"{_EVENT_NAME}",{_data(size)},"intent":{intent},'
            f'"timeout":{_TIMEOUT_MS}}}'
        )

    @classmethod
    def reply(cls, intent: str, size: int) -> Template:
        """A reply."""
        return cls(f'{{"op":5,"id":"#ID#",{_data(size)},"intent":{intent}}}')


def _data(size: int) -> str:
    return f'"data":"{"x" * max(0, size - 2)}"'


class Party:
    """One end of the traffic: it listens to its connection.

    Args:
        tally: where it counts.
        line: its connection.

    Attributes:
        in_flight: what it has sent and not got back, by id: when it was sent.
        on_statistics: is told the answer to a question for STATS.
    """

    def __init__(self, tally: Tally, line: Line) -> None:
        line.listener = self
        self.line = line
        self.in_flight: dict[str, float] = {}
        self.on_statistics: Callable[[Envelope], object] = lambda _reply: None
        self.tally = tally

    def begin(self) -> None:
        """Send what is in flight from the beginning."""

    def on_event(self, event: Envelope) -> None:
        """An EVENT came."""
        self._refuse(event)

    def on_reply(self, reply: Envelope) -> None:
        """A REPLY came."""
        error = load_error(reply.error)
        if reply.event == "STATS":
            self.on_statistics(reply)
        elif error is not None:
            self.tally.refuse(f"{error.code}: {error.message}")
        else:
            self.tally.unexpected += 1

    def on_trouble(self, text: str) -> None:
        """The broker sent something that is wrong, or the connection has ended."""
        if self.tally.sending:
            self.tally.refuse(text)

    def _refuse(self, event: Envelope) -> None:
        """Let nobody wait who asks everyone, or this group, for something of their own."""
        if event.timeout is not None and event.source is not None:
            error = UnknownEvent("this is a benchmark")
            self.line.send(encode_reply(event, error=error))


class Asking(Party):
    """The end of a pair that sends first, and again whenever something comes back."""

    def __init__(self, tally: Tally, line: Line, template: Template, window: int) -> None:
        super().__init__(tally, line)
        self._template = template
        self._window = window
        self._number = 0

    def begin(self) -> None:
        """Fill the window."""
        for _ in range(self._window):
            self._send(_clock())

    def on_event(self, event: Envelope) -> None:
        """B's answer to an event."""
        if event.event != _EVENT_NAME:
            self._refuse(event)
            return
        self._returned(event.id or "")

    def on_reply(self, reply: Envelope) -> None:
        """B's reply to a request."""
        if reply.id in self.in_flight and not isinstance(reply.error, Raw):
            self._returned(reply.id)
        else:
            super().on_reply(reply)

    def _returned(self, id: str) -> None:
        tally = self.tally
        sent = self.in_flight.pop(id, None)
        if sent is None:
            tally.unexpected += 1
            return
        now = _clock()
        tally.routed += 1
        tally.counts[bucket_of(int((now - sent) * 1e6))] += 1
        if tally.sending:
            self._send(now)

    def _send(self, now: float) -> None:
        self._number += 1
        id = str(self._number)
        self.in_flight[id] = now
        self.line.send(self._template.make(id))


class Answering(Party):
    """The end of a pair that answers."""

    def __init__(self, tally: Tally, line: Line, template: Template) -> None:
        super().__init__(tally, line)
        self._template = template

    def on_event(self, event: Envelope) -> None:
        """A's event, or request."""
        if event.event != _EVENT_NAME:
            self._refuse(event)
            return
        self.tally.routed += 1
        self.line.send(self._template.make(event.id or ""))


class Sending(Party):
    """The one who sends to a group; the next broadcast follows when all have got one.

    Args:
        tally: where it counts.
        line: its connection.
        template: of a broadcast.
        window: broadcasts in flight.
        processes: how many will say that a broadcast has arrived.
    """

    def __init__(
        self, tally: Tally, line: Line, template: Template, window: int, processes: int
    ) -> None:
        super().__init__(tally, line)
        self._template = template
        self._window = window
        self._processes = processes
        self._arrived: dict[str, int] = {}
        self._number = 0

    def begin(self) -> None:
        """Fill the window."""
        for _ in range(self._window):
            self._send()

    def on_event(self, event: Envelope) -> None:
        """In one of the processes, a broadcast has arrived everywhere."""
        if event.event == _ARRIVED:
            self.arrived(event.id or "")
        else:
            self._refuse(event)

    def arrived(self, id: str) -> None:
        """Count a process in which a broadcast has arrived everywhere."""
        if id not in self.in_flight:
            self.tally.unexpected += 1
            return
        count = self._arrived.get(id, 0) + 1
        self._arrived[id] = count
        if count == self._processes:
            del self.in_flight[id], self._arrived[id]
            if self.tally.sending:
                self._send()

    def _send(self) -> None:
        self._number += 1
        now = _clock()
        # The receivers learn from the id when it was sent: the clock is that of the whole machine.
        id = f"{self._number}.{int(now * 1e6)}"
        self.in_flight[id] = now
        self.line.send(self._template.make(id))


class Receiving(Party):
    """One of the group; all of a process count together.

    Args:
        tally: where it counts.
        line: its connection.
        arrivals: how many of the process have got a broadcast, by its id; shared by them.
        expected: how many there are in this process.
        arrived: is told when all of them have got one.
    """

    def __init__(
        self,
        tally: Tally,
        line: Line,
        arrivals: dict[str, int],
        expected: int,
        arrived: Callable[[str], object],
    ) -> None:
        super().__init__(tally, line)
        self._arrivals = arrivals
        self._expected = expected
        self._arrived = arrived

    def on_event(self, event: Envelope) -> None:
        """A broadcast."""
        if event.event != _EVENT_NAME:
            self._refuse(event)
            return
        id = event.id or ""
        sent = int(id.rpartition(".")[2])
        tally = self.tally
        tally.routed += 1
        tally.counts[bucket_of(int(_clock() * 1e6) - sent)] += 1
        count = self._arrivals.get(id, 0) + 1
        if count < self._expected:
            self._arrivals[id] = count
        else:
            self._arrivals.pop(id, None)
            self._arrived(id)


def arrival_notice(sender: str) -> Template:
    """The event that tells the sender that a broadcast has arrived everywhere in a process."""
    return Template.event(f'{{"target":"DIRECT","identifier":"{sender}"}}', 2, name=_ARRIVED)
