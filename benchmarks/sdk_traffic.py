"""What the clients of both sides do: the payloads, the loads, and the words with `sdk_stacks`.

A worker is a process with one connection. It is told what to do by lines of JSON on its standard
input, and answers each with one on its standard output; when its input ends, so does it.
"""

import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread

# How a worker says that it can be reached.
READY = {"ready": True}

# The groups of the services: one member, two members; and of the subscriber.
SOLO, PAIR, READERS = "solo", "pair", "readers"

REQUEST_SECONDS = 10.0

# What an SDK has to turn into JSON and back: some fields, about 128 bytes in all.
_NOTE = "to be delivered on a weekday, at the back door"

Payload = dict[str, Any]
Ask = Callable[[str, Payload], Awaitable[Payload]]
Emit = Callable[[Payload], Awaitable[object]]
Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class LostError(Exception):
    """Something came back that was not what had been sent, or not in its order."""


def payload(number: int, *, last: bool = False) -> Payload:
    """Return one payload."""
    return {"number": number, "customer": "c-20417", "paid": True, "last": last, "note": _NOTE}


def say(line: Mapping[str, Any]) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def obey(commands: Mapping[str, Command]) -> None:
    """Carry out commands until there are no more."""
    say(READY)
    while line := await anyio.to_thread.run_sync(sys.stdin.readline):
        order: dict[str, Any] = json.loads(line)
        try:
            say(await commands[order["do"]](order))
        except Exception as error:  # noqa: BLE001 - the parent is to know, whatever it is
            say({"error": f"{type(error).__name__}: {error}"})


def asking(ask: Ask) -> Command:
    """Return the command to send requests: `count` in all, by `tasks` at a time, to `group`."""

    async def carry_out(order: dict[str, Any]) -> dict[str, Any]:
        count, tasks, group = order["count"], order["tasks"], order["group"]
        latencies: list[int] = []
        numbers = iter(range(count))

        async def one_after_another() -> None:
            for number in numbers:
                begun = time.perf_counter_ns()
                answer = await ask(group, payload(number))
                latencies.append(time.perf_counter_ns() - begun)
                if answer["number"] != number:
                    raise LostError(f"asked with {number}, answered with {answer['number']}")

        begun = time.perf_counter_ns()
        if tasks == 1:
            await one_after_another()
        else:
            async with anyio.create_task_group() as group_of_tasks:
                for _ in range(tasks):
                    group_of_tasks.start_soon(one_after_another)
        seconds = (time.perf_counter_ns() - begun) / 1e9
        return {
            "rate": count / seconds,
            "p50": percentile(latencies, 0.5) / 1000,
            "p99": percentile(latencies, 0.99) / 1000,
        }

    return carry_out


def percentile(values: Sequence[int], part: float) -> int:
    """Return the value that `part` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def publishing(emit: Emit) -> Command:
    """Return the command to publish `count` events; it answers when the first one was."""

    async def carry_out(order: dict[str, Any]) -> dict[str, Any]:
        count = order["count"]
        begun = time.monotonic_ns()
        for number in range(count):
            await emit(payload(number, last=number == count - 1))
        return {"begun": begun}

    return carry_out


class Counter:
    """Counts the events that arrive, and tells the parent of the last one."""

    def __init__(self) -> None:
        self._expected = 0

    def take(self, event: Payload) -> None:
        """Take one.

        Raises:
            LostError: it is not the next one.
        """
        if event["number"] != self._expected:
            text = f"event {self._expected} was expected, {event['number']} came"
            say({"error": text})
            raise LostError(text)
        self._expected += 1
        if event["last"]:
            # All processes of a machine share this clock.
            say({"ended": time.monotonic_ns(), "count": self._expected})
            self._expected = 0
