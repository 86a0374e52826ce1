"""Sockets that a service manager has opened, taken over by a broker in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from broker.core.authentication import hash_token
from tests.integration.activated import PATIENCE, Started, start, started

TOKEN: Final = "a-token-for-tests"

SERVE: Final = ("-m", "broker", "serve", "--config")


def environ(sockets: int, names: str = "", pid: str = "PID") -> dict[str, str]:
    found = {"LISTEN_FDS": str(sockets), "LISTEN_PID": pid}
    return found | ({"LISTEN_FDNAMES": names} if names else {})


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def config(tmp_path: Path, *listeners: str) -> str:
    tables = "".join(f"[[listeners]]\n{listener}\n" for listener in listeners)
    path = tmp_path / "broker.toml"
    path.write_text(f'{tables}[[tokens]]\nsha256 = "{hash_token(TOKEN)}"\n')
    return str(path)


def at(address: str, more: str = "") -> str:
    return f'address = "{address}"\n{more}'


def identify(sock: socket.socket) -> Any:
    """Say who is there; return the answer."""
    sock.settimeout(PATIENCE)
    sock.sendall(b'{"op":1,"data":{"token":"%b","group":"demo"}}\n' % TOKEN.encode())
    with sock.makefile() as lines:
        return json.loads(lines.readline())


def failure(process: Started) -> str:
    """The line with which it refused to start."""
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, said
    return said.strip().splitlines()[-1]


def test_an_inherited_socket_is_listened_on(tmp_path: Path, listening: socket.socket) -> None:
    address = f"tcp://127.0.0.1:{port_of(listening)}"
    # Before there is a broker.
    with socket.create_connection(listening.getsockname()) as early:
        with started([listening], environ(1), *SERVE, config(tmp_path, at(address))) as broker:
            assert broker.line() == f"listening on {address}"
            assert identify(early)["op"] == 1
            with socket.create_connection(listening.getsockname()) as late:
                assert identify(late)["op"] == 1


def test_who_connects_during_a_restart_waits(tmp_path: Path, listening: socket.socket) -> None:
    path = config(tmp_path, at(f"tcp://127.0.0.1:{port_of(listening)}"))
    with started([listening], environ(1), *SERVE, path) as first:
        assert first.line().startswith("listening on")
        first.send_signal(signal.SIGTERM)
        assert first.wait(PATIENCE) == 0
    with socket.create_connection(listening.getsockname()) as between:
        with started([listening], environ(1), *SERVE, path) as second:
            assert second.line().startswith("listening on")
            assert identify(between)["op"] == 1


def test_tls_is_spoken_on_an_inherited_socket(tmp_path: Path, listening: socket.socket) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    address = f"tls://127.0.0.1:{port_of(listening)}"
    listener = at(address, 'certificate = "cert.pem"\nkey = "key.pem"\n')
    with started([listening], environ(1), *SERVE, config(tmp_path, listener)) as broker:
        assert broker.line() == f"listening on {address}"
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with socket.create_connection(listening.getsockname()) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as client:
                assert identify(client)["op"] == 1


def test_a_unix_socket_stays_with_whoever_made_it(tmp_path: Path, socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(socket_path))
        listening.listen()
        path = config(tmp_path, at(f"unix://{socket_path}"))
        with started([listening], environ(1), *SERVE, path) as broker:
            assert broker.line() == f"listening on unix://{socket_path}"
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(socket_path))
                assert identify(client)["op"] == 1
            broker.send_signal(signal.SIGTERM)
            assert broker.wait(PATIENCE) == 0
        assert socket_path.exists()


def test_one_for_ipv6_and_ipv4_is_for_either(tmp_path: Path) -> None:
    """What systemd makes of `ListenStream=8420`."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both:
        path = config(tmp_path, at(f"tcp://0.0.0.0:{port_of(both)}"))
        with started([both], environ(1), *SERVE, path, "--insecure") as broker:
            assert broker.line() == f"listening on tcp://[::]:{port_of(both)}"
            with socket.create_connection(("127.0.0.1", port_of(both))) as client:
                assert identify(client)["op"] == 1
                came_from = f"127.0.0.1:{client.getsockname()[1]}"
            broker.send_signal(signal.SIGTERM)
            _, log = broker.communicate(timeout=PATIENCE)
            assert f'"address": "{came_from}"' in log


def test_other_listeners_are_opened_as_ever(
    tmp_path: Path, listening: socket.socket, socket_path: Path
) -> None:
    address = f"tcp://127.0.0.1:{port_of(listening)}"
    path = config(tmp_path, at(f"unix://{socket_path}"), at(address))
    with started([listening], environ(1, "mesh"), *SERVE, path) as broker:
        assert broker.line() == f"listening on unix://{socket_path}"
        assert broker.line() == f"listening on {address}"


def test_a_name_is_looked_up(tmp_path: Path, listening: socket.socket) -> None:
    path = config(tmp_path, at(f"tcp://localhost:{port_of(listening)}"))
    with started([listening], environ(1), *SERVE, path) as broker:
        assert broker.line() == f"listening on tcp://127.0.0.1:{port_of(listening)}"


def test_a_socket_without_a_listener_is_refused(
    tmp_path: Path, listening: socket.socket, socket_path: Path
) -> None:
    path = config(tmp_path, at(f"unix://{socket_path}"))
    with started([listening], environ(1, "mesh"), *SERVE, path) as broker:
        assert failure(broker) == (
            f"Error: the service manager listens on 127.0.0.1:{port_of(listening)} (mesh), and no "
            "listener of the settings has that address: write the same in the configuration and "
            "in the .socket unit"
        )
    assert not socket_path.exists()


def test_a_socket_of_a_connection_is_refused(tmp_path: Path, listening: socket.socket) -> None:
    """What `Accept=yes` would hand over."""
    path = config(tmp_path, at(f"tcp://127.0.0.1:{port_of(listening)}"))
    with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
        with started([accepted], environ(1), *SERVE, path) as broker:
            assert failure(broker) == (
                "Error: file number 3 of LISTEN_FDS does not listen: write Accept=no in the "
                ".socket unit"
            )


def test_what_is_no_stream_is_refused(tmp_path: Path) -> None:
    path = config(tmp_path, at("tcp://127.0.0.1:0"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        with started([datagrams], environ(1, "x"), *SERVE, path) as broker:
            assert failure(broker) == (
                "Error: file number 3 of LISTEN_FDS (x) is no stream: write ListenStream= in the "
                ".socket unit"
            )


def test_what_is_no_socket_is_refused(tmp_path: Path) -> None:
    path = config(tmp_path, at("tcp://127.0.0.1:0"))
    reading, writing = os.pipe()
    try:
        with started([reading], environ(1), *SERVE, path) as broker:
            assert failure(broker).startswith("Error: file number 3 of LISTEN_FDS is no socket: ")
    finally:
        os.close(reading)
        os.close(writing)


def test_a_number_that_is_not_open_is_refused(tmp_path: Path) -> None:
    path = config(tmp_path, at("tcp://127.0.0.1:0"))
    with started([], environ(1), *SERVE, path) as broker:
        assert failure(broker) == (
            "Error: file number 3 of LISTEN_FDS is not open: Bad file descriptor"
        )
    with started([], {"LISTEN_FDS": "-1", "LISTEN_PID": "PID"}, *SERVE, path) as broker:
        assert "LISTEN_FDS is '-1'" in failure(broker)


def test_sockets_for_another_process_are_left_alone(
    tmp_path: Path, listening: socket.socket, socket_path: Path
) -> None:
    path = config(tmp_path, at(f"unix://{socket_path}"))
    with started([listening], environ(1, pid="1"), *SERVE, path) as broker:
        assert broker.line() == f"listening on unix://{socket_path}"


def test_no_child_sees_the_variables_or_the_sockets(listening: socket.socket) -> None:
    program = (
        "import os, subprocess, sys\n"
        "from broker.transport.activation import take_inherited_sockets\n"
        "sockets = take_inherited_sockets(os.environ, os.getpid())\n"
        "look = 'import os; print(sorted(n for n in os.environ if n[:6] == \"LISTEN\"));'\n"
        "look += 'os.fstat(3)'\n"
        "done = subprocess.run([sys.executable, '-c', look], close_fds=False)\n"
        "print(done.returncode)\n"
    )
    process = start([listening], environ(1, "x"), "-c", program)
    said, errors = process.communicate(timeout=PATIENCE)
    assert said.splitlines() == ["[]", "1"], errors
    assert "Bad file descriptor" in errors
