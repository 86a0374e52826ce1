"""Both pollers keep the same promises; the portable one runs on Linux too."""

from __future__ import annotations

import contextlib
import select
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from broker.transport.poller import (
    READABLE,
    WRITABLE,
    Poller,
    _SelectorPoller,
    open_poller,
)

POLLERS: list[Callable[[], Poller]] = [_SelectorPoller]
if sys.platform == "linux":
    POLLERS.append(select.epoll)


@pytest.fixture(params=POLLERS)
def poller(request: pytest.FixtureRequest) -> Iterator[Poller]:
    poller: Poller = request.param()
    yield poller
    poller.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setblocking(False)
    with near, far:
        yield near, far


Pair = tuple[socket.socket, socket.socket]


def ready(poller: Poller) -> dict[int, tuple[bool, bool]]:
    """Whether each socket is to be read, and to be written, as the reactor looks at it."""
    return {
        fd: (bool(events & ~WRITABLE), bool(events & WRITABLE)) for fd, events in poller.poll(0)
    }


def is_readable(poller: Poller) -> bool:
    return bool(select.select([poller.fileno()], [], [], 0)[0])


def test_the_best_poller_of_this_system() -> None:
    poller = open_poller()
    assert isinstance(poller, select.epoll if sys.platform == "linux" else _SelectorPoller)
    poller.close()


def test_reading(poller: Poller, pair: Pair) -> None:
    near, far = pair
    poller.register(near.fileno(), READABLE)
    assert ready(poller) == {}
    assert not is_readable(poller)
    far.send(b"x")
    assert is_readable(poller)  # So that a trio task can wait for it.
    assert ready(poller) == {near.fileno(): (True, False)}
    assert ready(poller) == {near.fileno(): (True, False)}, "until it is read"
    near.recv(10)
    assert ready(poller) == {}


def test_writing(poller: Poller, pair: Pair) -> None:
    near, far = pair
    poller.register(near.fileno(), READABLE | WRITABLE)
    assert ready(poller) == {near.fileno(): (False, True)}
    with contextlib.suppress(BlockingIOError):
        while near.send(b"x" * 65_536):
            pass
    assert ready(poller) == {}
    with contextlib.suppress(BlockingIOError):
        while far.recv(1 << 20):
            pass
    far.send(b"x")
    assert ready(poller) == {near.fileno(): (True, True)}


@pytest.mark.parametrize("watched", [0, READABLE, WRITABLE, READABLE | WRITABLE])
@pytest.mark.parametrize("before", [0, READABLE, WRITABLE, READABLE | WRITABLE])
def test_changing_what_is_watched(poller: Poller, pair: Pair, before: int, watched: int) -> None:
    near, far = pair
    far.send(b"x")
    poller.register(near.fileno(), before)
    poller.modify(near.fileno(), watched)
    found = ready(poller).get(near.fileno(), (False, False))
    assert found == (bool(watched & READABLE), bool(watched & WRITABLE))
    poller.modify(near.fileno(), before)
    found = ready(poller).get(near.fileno(), (False, False))
    assert found == (bool(before & READABLE), bool(before & WRITABLE))


@pytest.mark.parametrize("watched", [0, READABLE])
def test_what_is_not_watched_any_more(poller: Poller, pair: Pair, watched: int) -> None:
    near, far = pair
    poller.register(near.fileno(), watched)
    far.send(b"x")
    poller.unregister(near.fileno())
    assert ready(poller) == {}
    # The same number can come again, as that of another socket.
    poller.register(near.fileno(), READABLE)
    assert ready(poller) == {near.fileno(): (True, False)}


@pytest.mark.parametrize("watched", [READABLE, READABLE | WRITABLE])
def test_an_end_is_something_to_read(poller: Poller, pair: Pair, watched: int) -> None:
    near, far = pair
    poller.register(near.fileno(), watched)
    far.close()
    assert ready(poller)[near.fileno()][0]


def test_several_at_once(poller: Poller) -> None:
    pairs = [socket.socketpair() for _ in range(20)]
    for near, far in pairs:
        poller.register(near.fileno(), READABLE)
        far.send(b"x")
    assert ready(poller) == {near.fileno(): (True, False) for near, _ in pairs}
    for near, far in pairs:
        poller.unregister(near.fileno())
        near.close()
        far.close()


def test_waiting_ends_with_the_first_event(poller: Poller, pair: Pair) -> None:
    near, far = pair
    poller.register(near.fileno(), READABLE)
    far.send(b"x")
    assert dict(poller.poll(3600)) == {near.fileno(): READABLE}
