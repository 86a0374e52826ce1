"""Jobs: what a service was asked to do, to be worked off by its handlers or called off."""

from __future__ import annotations

import math

import anyio

from broker.protocol.codec import Envelope

__all__ = ["Job", "Jobs"]


class Job:
    """An event for a handler.

    Args:
        envelope: the event.
        now: when it came, on the event loop's clock.

    Attributes:
        envelope: the event.
        deadline: until when an answer is of use, on the event loop's clock.
        called_off: nobody waits for an answer any more.
    """

    __slots__ = ("_scope", "called_off", "deadline", "envelope")

    def __init__(self, envelope: Envelope, now: float) -> None:
        timeout = envelope.timeout
        self.envelope = envelope
        self.deadline = math.inf if timeout is None else now + timeout / 1000
        self.called_off = False
        self._scope: anyio.CancelScope | None = None

    def begin(self, scope: anyio.CancelScope) -> None:
        """Let the work be cancelled with this scope: at the deadline, or when called off."""
        self._scope = scope
        if scope.deadline != self.deadline:
            scope.deadline = self.deadline

    def end(self) -> None:
        """Let the scope alone from now on: the next job may be at work in it."""
        self._scope = None

    def call_off(self) -> None:
        """Let the handler be cancelled, or not begin."""
        self.called_off = True
        if self._scope is not None:
            self._scope.cancel()


class Jobs:
    """The requests that a service has in hand, by who asked and under which id.

    Operations: `add`, `done`, `call_off`, each in constant time; `call_all_off`. Events that await
    no answer are not entered: nobody can take them back.
    """

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str | None], Job] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Enter a job."""
        if job.envelope.timeout is not None:
            self._jobs[_key(job.envelope)] = job

    def done(self, job: Job) -> None:
        """Forget a job. Its requester may have used the id again, for the one after."""
        key = _key(job.envelope)
        if self._jobs.get(key) is job:
            del self._jobs[key]

    def call_off(self, cancel: Envelope) -> Job | None:
        """Call off the job that a `$cancel` is about; return it, if there is one."""
        job = self._jobs.pop(_key(cancel), None)
        if job is not None:
            job.call_off()
        return job

    def call_all_off(self) -> list[Job]:
        """Call off everything; return what it was."""
        jobs = list(self._jobs.values())
        self._jobs.clear()
        for job in jobs:
            job.call_off()
        return jobs


def _key(envelope: Envelope) -> tuple[str, str | None]:
    source = envelope.source
    return "" if source is None else source.id, envelope.id
