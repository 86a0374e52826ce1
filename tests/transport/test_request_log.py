"""Requests in the log: found by their id, and nothing of what they hold."""

from __future__ import annotations

import structlog
from structlog.testing import capture_logs

from broker.core.dispatcher import Dispatcher
from broker.transport.request_log import RequestLog
from tests.core.memory_mesh import MemoryMesh
from tests.core.test_request_trace import ALL, ONE, answer, ask


def test_each_step_is_a_line_with_the_id() -> None:
    structlog.reset_defaults()
    mesh = MemoryMesh()
    mesh.dispatcher = Dispatcher(mesh.dispatcher._settings, trace=RequestLog())
    with capture_logs() as lines:
        requester, worker = mesh.join("web"), mesh.join("work", concurrency=1)
        for id in ("a", "b"):
            requester.send(op=0, id=id, event="ASK", intent=ONE, timeout=1000, data="what is in it")
        mesh.now += 0.25
        answer(worker, requester, "a")
        mesh.join("work")
        ask(requester, "c", ALL)
        requester.leave()

    everywhere = {
        "name": "ASK",
        "requester": requester.id,
        "requester_group": "web",
        "log_level": "debug",
    }
    assert all(line.items() >= everywhere.items() for line in lines)
    work = {"callee": worker.id, "callee_group": "work"}
    others = [{k: v for k, v in line.items() if k not in everywhere} for line in lines]
    assert others == [
        {"event": "request opened", "request": "a", **work},
        {"event": "request opened", "request": "b", "waits": True},
        {"event": "request ended", "request": "a", **work, "outcome": "ANSWERED", "ms": 250.0},
        {"event": "request handed on", "request": "b", **work, "ms": 250.0},
        {"event": "request opened", "request": "c", "callees": 2},
        {"event": "request ended", "request": "b", "outcome": "CANCELLED", "ms": 250.0},
        {"event": "request ended", "request": "c", "outcome": "CANCELLED", "ms": 0.0},
    ]
    assert "what is in it" not in str(lines)
