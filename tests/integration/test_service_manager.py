"""What a service manager hears of a broker's life, over a real NOTIFY_SOCKET."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from broker.core.authentication import hash_token
from tests.integration.activated import PATIENCE, started

SERVE: Final = ("-m", "broker", "serve", "--config")


@pytest.fixture
def manager(socket_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(socket_path))
        sock.settimeout(PATIENCE)
        yield sock


def config(tmp_path: Path) -> str:
    path = tmp_path / "broker.toml"
    path.write_text(
        '[[listeners]]\naddress = "tcp://127.0.0.1:0"\n'
        f'[[tokens]]\nsha256 = "{hash_token("a-token-for-tests")}"\n'
    )
    return str(path)


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().splitlines()


def test_ready_reloading_ready_stopping(
    tmp_path: Path, manager: socket.socket, socket_path: Path
) -> None:
    environ = {"NOTIFY_SOCKET": str(socket_path)}
    with started([], environ, *SERVE, config(tmp_path)) as broker:
        said = broker.line()
        ready = ["READY=1", f"STATUS={said}"]
        assert heard(manager) == ready
        broker.send_signal(signal.SIGHUP)
        reloading, since = heard(manager)
        assert reloading == "RELOADING=1"
        assert re.fullmatch(r"MONOTONIC_USEC=[1-9]\d+", since)
        assert heard(manager) == ready
        broker.send_signal(signal.SIGTERM)
        assert heard(manager) == ["STOPPING=1", "STATUS=draining"]
        assert broker.wait(PATIENCE) == 0


def test_a_watchdog_hears_of_it_again_and_again(
    tmp_path: Path, manager: socket.socket, socket_path: Path
) -> None:
    environ = {
        "NOTIFY_SOCKET": str(socket_path),
        "WATCHDOG_USEC": "20000",
        "WATCHDOG_PID": "PID",
    }
    with started([], environ, *SERVE, config(tmp_path)):
        assert heard(manager)[0] == "READY=1"
        assert [heard(manager) for _ in range(5)] == [["WATCHDOG=1"]] * 5


def test_a_watchdog_for_another_process_hears_nothing(
    tmp_path: Path, manager: socket.socket, socket_path: Path
) -> None:
    environ = {
        "NOTIFY_SOCKET": str(socket_path),
        "WATCHDOG_USEC": "1000",
        "WATCHDOG_PID": "1",
    }
    with started([], environ, *SERVE, config(tmp_path)) as broker:
        assert heard(manager)[0] == "READY=1"
        broker.send_signal(signal.SIGTERM)
        assert heard(manager)[0] == "STOPPING=1"


def test_an_abstract_socket(tmp_path: Path) -> None:
    name = f"switchboard-test-{tmp_path.name}-{id(tmp_path)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(PATIENCE)
        with started([], {"NOTIFY_SOCKET": f"@{name}"}, *SERVE, config(tmp_path)):
            assert heard(sock)[0] == "READY=1"


def test_a_manager_that_has_gone_ends_nothing(tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
    with started([], environ, *SERVE, config(tmp_path)) as broker:
        assert broker.line().startswith("listening on ")
        broker.send_signal(signal.SIGTERM)
        _, log = broker.communicate(timeout=PATIENCE)
        assert broker.returncode == 0
        assert "the service manager can't be told" in log
