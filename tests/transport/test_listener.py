"""Binding and letting go. What it comes to for a whole broker is in `tests/integration`."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest
import trio

from broker.core.settings import ListenerSettings
from broker.transport.listener import ListenError, open_listeners


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path short enough for a Unix socket, which has room for 107 bytes."""
    return tmp_path_factory.mktemp("s") / "s"


async def test_closing_twice_leaves_a_successor_alone(path: Path) -> None:
    """A broker that drains takes its time; the next one may be listening before it has ended."""
    settings = ListenerSettings(f"unix://{path}")
    (first,) = await open_listeners(settings)
    first.close()
    assert not path.exists()
    (second,) = await open_listeners(settings)
    first.close()
    assert path.exists()
    await (await trio.open_unix_socket(str(path))).aclose()
    second.close()
    assert not path.exists()


async def test_a_path_that_somebody_has_removed(path: Path) -> None:
    (listener,) = await open_listeners(ListenerSettings(f"unix://{path}"))
    path.unlink()
    listener.close()


async def test_a_host_may_stand_for_several_addresses() -> None:
    listeners = await open_listeners(ListenerSettings("tcp://localhost:0"))
    try:
        addresses = {listener.address.rpartition(":")[0] for listener in listeners}
        assert addresses <= {"tcp://127.0.0.1", "tcp://[::1]"}
        assert addresses
    finally:
        for listener in listeners:
            listener.close()


async def test_what_a_failure_says() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError) as caught:
            await open_listeners(ListenerSettings(address))
    assert str(caught.value) == f"can't listen on {address}: Address already in use"
    assert caught.value.address == address
    assert caught.value.cause.errno == errno.EADDRINUSE


async def test_a_failure_without_a_text_of_the_system_s() -> None:
    error = ListenError("tcp://a:1", OSError("no such host"))
    assert str(error) == "can't listen on tcp://a:1: no such host"
