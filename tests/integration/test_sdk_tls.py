"""The SDK and the broker with TLS between them, over real sockets, on both event loops."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from broker.core.authentication import hash_token
from broker.core.settings import ListenerSettings, Settings, TokenSettings
from services.sdk import (
    CannotConnect,
    CertificateInvalid,
    ConnectionLost,
    IdentifyFailed,
    Service,
    Tls,
    TlsFailed,
    connect,
    connect_sync,
)
from tests.sdk.real_broker import TOKEN, running_in_thread
from tests.sdk.real_time import BACKENDS, run_guarded
from tests.sdk.tls_brokers import Files, authority

on_each_loop = pytest.mark.parametrize("backend", BACKENDS)
each_framing = pytest.mark.parametrize("scheme", ["tls", "wss"])

back = Service("back")


@back.on("LENGTH")
async def length(text: str) -> int:
    return len(text)


class Addresses:
    """Of one broker: with TLS, with TLS and a question for the client's certificate, without."""

    def __init__(self, addresses: list[str]) -> None:
        self.open, self.closed, self.plain = (one.rpartition(":")[2] for one in addresses)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files.write(tmp_path)


@pytest.fixture
def ports(files: Files, tmp_path: Path) -> Iterator[Addresses]:
    certificate, key = str(tmp_path / "broker.pem"), str(tmp_path / "broker-key.pem")
    issued = authority().issue_cert("localhost", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    settings = Settings(
        listeners=(
            ListenerSettings("tls://127.0.0.1:0", certificate=certificate, key=key),
            ListenerSettings(
                "tls://127.0.0.1:0", certificate=certificate, key=key, client_ca=str(files.ca)
            ),
            ListenerSettings("tcp://127.0.0.1:0"),
        ),
        tokens=(TokenSettings(hash_token(TOKEN)),),
    )
    with running_in_thread(settings) as addresses:
        yield Addresses(addresses)


async def converse(url: str, tls: Tls) -> None:
    """Ask with more than fits into one record, and into the system's buffers."""
    text = "äh" * 200_000
    async with (
        back.serve(url, token=TOKEN, tls=tls),
        connect(url, group="web", token=TOKEN, tls=tls) as mesh,
        mesh.listen("NEWS") as events,
    ):
        answer = await mesh.request("LENGTH", text, group="back", returns=int, timeout=25)
        assert answer == len(text)
        for number in range(500):
            await mesh.emit("NEWS", number, to=mesh.id)
        assert [(await events.receive()).data for _ in range(500)] == list(range(500))


@each_framing
@on_each_loop
def test_it_works(backend: str, scheme: str, files: Files, ports: Addresses) -> None:
    for host in ("localhost", "127.0.0.1"):
        url = f"{scheme}://{host}:{ports.open}"
        run_guarded(partial(converse, url, Tls(ca=files.ca)), backend)


@each_framing
@on_each_loop
def test_both_sides_show_who_they_are(
    backend: str, scheme: str, files: Files, ports: Addresses
) -> None:
    tls = Tls(ca=files.ca, certificate=files.certificate, key=files.key)
    run_guarded(partial(converse, f"{scheme}://localhost:{ports.closed}", tls), backend)


async def fail(url: str, tls: Tls | None) -> ConnectionLost:
    with pytest.raises((CannotConnect, IdentifyFailed)) as caught:
        async with connect(url, group="web", token=TOKEN, tls=tls):
            raise AssertionError("entered")
    return caught.value


@each_framing
@on_each_loop
def test_what_is_wrong(backend: str, scheme: str, files: Files, ports: Addresses) -> None:
    async def test() -> None:
        url = f"{scheme}://localhost:{ports.open}"
        right = Tls(ca=files.ca)
        error = await fail(url, Tls(ca=files.other_ca))
        assert type(error) is CertificateInvalid
        assert "tls=Tls(ca=...)" in str(error)
        error = await fail(url, Tls(ca=files.ca, server_name="broker.example"))
        assert type(error) is CertificateInvalid
        assert "not valid for 'broker.example'" in str(error)
        for tls in (right, Tls(ca=files.ca, certificate=files.stranger)):
            error = await fail(f"{scheme}://localhost:{ports.closed}", tls)
            assert type(error) is TlsFailed
            assert "tls=Tls(certificate=..., key=...)" in str(error)
        error = await fail(f"{scheme}://localhost:{ports.plain}", right)
        assert type(error) is TlsFailed
        assert "no TLS is spoken there" in str(error)
        plain = {"tls": "tcp", "wss": "ws"}[scheme]
        # The broker knows what it hears, and says so without TLS.
        error = await fail(f"{plain}://localhost:{ports.open}", None)
        assert "TLS is spoken here" in str(error)

    run_guarded(test, backend)


def test_without_an_event_loop(files: Files, ports: Addresses) -> None:
    url = f"wss://localhost:{ports.open}"
    with connect_sync(url, group="web", token=TOKEN, tls=Tls(ca=files.ca)) as mesh:
        assert mesh.group == "web"
