"""The commands over TLS: --ca, --cert, --key, --server-name, and what is said where they miss."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
import trio
import trustme

from broker.core.authentication import hash_token
from broker.core.settings import ListenerSettings, Settings, TokenSettings
from broker.server import Server
from services.cli.probe import probe
from services.cli.probe_findings import Expectations, Finding, Level
from services.cli.target import Target
from services.sdk import Tls
from tests.integration.cli_process import environment, run

TOKEN = "a-token-for-tests"


@attrs.frozen
class Secured:
    """A broker with TLS, which asks clients for a certificate, and the files to reach it."""

    port: int
    ca: str
    cert: str
    other_ca: str

    def url(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.port}"


@pytest.fixture
async def secured(nursery: trio.Nursery, tmp_path: Path) -> Secured:
    authority = trustme.CA()
    ca, cert, own, other = (str(tmp_path / f"{name}.pem") for name in ("ca", "me", "broker", "no"))
    authority.cert_pem.write_to_path(ca)
    trustme.CA().cert_pem.write_to_path(other)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(own)
    authority.issue_cert("me.example").private_key_and_cert_chain_pem.write_to_path(cert)
    listener = ListenerSettings("tls://127.0.0.1:0", certificate=own, key=own, client_ca=ca)
    server = Server(Settings(listeners=(listener,), tokens=(TokenSettings(hash_token(TOKEN)),)))
    await nursery.start(server.run)
    return Secured(int(server.addresses[0].rpartition(":")[2]), ca, cert, other)


async def found(secured: Secured, scheme: str, **files: str) -> Finding:
    return await probe(
        Target(secured.url(scheme), TOKEN, tls=Tls(**files)), Expectations(timeout=20)
    )


@pytest.mark.parametrize("scheme", ["wss", "tls"])
async def test_a_request_and_a_probe(secured: Secured, tmp_path: Path, scheme: str) -> None:
    env = environment(secured.url(scheme), tmp_path)
    files = ("--ca", secured.ca, "--cert", secured.cert)
    done = await run("request", "WHOAMI", "--to", "$broker", *files, env=env)
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["group"] == "cli"
    finding = await found(secured, scheme, ca=secured.ca, certificate=secured.cert)
    assert finding.level is Level.OK, finding


async def test_a_benchmark(secured: Secured, tmp_path: Path) -> None:
    files = ("--ca", secured.ca, "--cert", secured.cert, "--seconds", "0.1", "--json")
    done = await run("bench", "publish", *files, env=environment(secured.url("wss"), tmp_path))
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["routed"] > 0


async def test_what_is_said_where_a_file_misses(secured: Secured, tmp_path: Path) -> None:
    env = environment(secured.url("wss"), tmp_path)
    for files, said in (
        ((), "name the file of the authority that it comes from: --ca"),
        (("--ca", secured.other_ca), "certificate is not valid"),
        (("--ca", secured.ca, "--server-name", "x.example"), "certificate is not valid"),
        (("--ca", secured.ca), "--cert and --key"),
    ):
        done = await run("emit", "A", *files, env=env)
        assert done.code == 3, done.stderr
        assert said in done.stderr
        assert "Tls(" not in done.stderr


async def test_a_probe_says_what_is_wrong_with_the_certificate(secured: Secured) -> None:
    for files, said in (
        ({"ca": secured.other_ca, "certificate": secured.cert}, "certificate is not valid"),
        (
            {"ca": secured.ca, "certificate": secured.cert, "server_name": "x.example"},
            "certificate is not valid",
        ),
        ({"ca": secured.ca}, "TLS failed: "),
    ):
        finding = await found(secured, "wss", **files)
        assert finding.level is Level.CRITICAL
        assert said in finding.reason, finding


async def test_tls_that_the_url_does_not_ask_for(secured: Secured, tmp_path: Path) -> None:
    done = await run("emit", "A", env=environment(secured.url("ws"), tmp_path))
    assert done.code == 3
    assert "TLS is spoken" in done.stderr
    assert "wss://" in done.stderr
