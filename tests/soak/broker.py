"""`python -m tests.soak.broker CONFIG`: the broker as ever, which at SIGUSR1 says what it has.

What is said is a line of JSON on stdout; see `tests.soak.samples.Sample`.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import trio

from broker.commands import main
from broker.core.dispatcher import Dispatcher
from broker.core.peer import Peer
from broker.transport.connection import Connection


def tell(_number: int, _frame: object) -> None:
    """Write down what there is. Called by Python between two steps of the program."""
    gc.collect()
    gc.collect()
    everything = gc.get_objects()
    kinds = Counter(type(one) for one in everything)
    (dispatcher,) = (one for one in everything if type(one) is Dispatcher)
    requests = dispatcher.requests
    told = {
        "tasks": trio.lowlevel.current_statistics().tasks_living,
        "files": len(list(Path("/proc/self/fd").iterdir())) - 1,
        "peers": kinds[Peer],
        "connections": kinds[Connection],
        "registered": len(dispatcher.registry),
        # Calls are not known to the collector, so they are counted by the books.
        "calls": len(requests.ledger),
        "waiting_bytes": requests.waiting_bytes,
        "outboxes_bytes": dispatcher.effects.backlog.bytes,
        "stalled": len(dispatcher.flow._senders),
        "objects": len(everything),
        "blocks": sys.getallocatedblocks(),
        "faults": dispatcher.counters.faults,
    }
    del everything, kinds
    os.write(1, json.dumps(told).encode() + b"\n")


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, tell)
    main(["serve", "--log-level", "warning", "--config", sys.argv[1]], prog_name="broker")
