"""TLS of the SDK: whom it trusts, what it shows, and what it says where something is wrong."""

from __future__ import annotations

import ssl
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from services.sdk import (
    Backoff,
    CannotConnect,
    CertificateInvalid,
    Service,
    State,
    Tls,
    TlsFailed,
    connect,
)
from services.sdk.tls import explain
from services.sdk.urls import Address, parse_url
from tests.sdk.loops import AsyncTest, on_both_loops
from tests.sdk.real_time import BACKENDS, run_guarded
from tests.sdk.scripted import ScriptedBroker
from tests.sdk.tls_brokers import (
    Files,
    authority,
    broker_context,
    other_authority,
    tls_broker,
)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files.write(tmp_path)


def run_on(backend: str, test: AsyncTest) -> None:
    """Files are read in a thread, which no virtual clock waits for."""
    run_guarded(test, backend)


on_each_loop = pytest.mark.parametrize("backend", BACKENDS)


@on_each_loop
def test_a_broker_of_an_authority_that_is_named(backend: str, files: Files) -> None:
    async def test() -> None:
        async with tls_broker(broker_context("broker.example")) as broker:
            async with broker.connect(tls=Tls(ca=files.ca)) as mesh:
                assert mesh.state is State.CONNECTED
                await mesh.emit("HELLO")
            await broker.ended.wait()
            assert b'"HELLO"' in broker.heard
            assert broker.heard.rstrip().endswith(b'{"op":2,"data":"NO_REASON"}')
            assert broker.names == ["broker.example"]

    run_on(backend, test)


@on_each_loop
def test_the_systems_authorities_are_the_default(
    backend: str, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL lets the environment name the file of the system's authorities."""
    monkeypatch.setenv("SSL_CERT_FILE", str(files.ca))

    async def test() -> None:
        async with tls_broker(broker_context("broker.example")) as broker, broker.connect():
            assert broker.dials == 1

    run_on(backend, test)


@on_each_loop
def test_a_service_behind_tls(backend: str, files: Files) -> None:
    async def test() -> None:
        context = broker_context("broker.example")
        async with (
            tls_broker(context) as broker,
            Service("web").serve(
                "tls://broker.example", token="t", tls=Tls(ca=files.ca), dial=broker.dial
            ) as mesh,
        ):
            assert mesh.state is State.CONNECTED

    run_on(backend, test)


@on_both_loops
async def test_a_context_is_taken_as_it_is() -> None:
    context = ssl.create_default_context()
    authority().configure_trust(context)
    async with (
        tls_broker(broker_context("broker.example")) as broker,
        broker.connect(tls=context) as mesh,
    ):
        assert mesh.state is State.CONNECTED


@on_each_loop
def test_an_address_in_place_of_a_name(backend: str, files: Files) -> None:
    async def test() -> None:
        tls = Tls(ca=files.ca)
        async with tls_broker(broker_context("127.0.0.1")) as broker:
            async with broker.connect("tls://127.0.0.1", tls=tls):
                pass
            error = await broker.refuses("tls://127.0.0.2", tls=tls)
            assert type(error) is CertificateInvalid
            assert "not valid for '127.0.0.2'" in str(error)

    run_on(backend, test)


@on_each_loop
def test_another_name_than_the_urls(backend: str, files: Files) -> None:
    async def test() -> None:
        async with tls_broker(broker_context("broker.example")) as broker:
            tls = Tls(ca=files.ca, server_name="broker.example")
            async with broker.connect("tls://10.0.0.1", tls=tls):
                assert broker.names == ["broker.example"]

    run_on(backend, test)


@on_each_loop
def test_an_authority_that_is_not_trusted(backend: str, files: Files) -> None:
    async def test() -> None:
        async with tls_broker(broker_context("broker.example")) as broker:
            for tls in (None, Tls(ca=files.other_ca)):
                error = await broker.refuses(tls=tls)
                assert type(error) is CertificateInvalid
                assert "tls://broker.example: the broker's certificate is not valid" in str(error)
                assert "tls=Tls(ca=...)" in str(error)

    run_on(backend, test)


@on_each_loop
def test_a_certificate_for_somebody_else(backend: str, files: Files) -> None:
    async def test() -> None:
        async with tls_broker(broker_context("other.example")) as broker:
            error = await broker.refuses(tls=Tls(ca=files.ca))
            assert type(error) is CertificateInvalid
            assert "not valid for 'broker.example'" in str(error)
            assert "tls=Tls(server_name=...)" in str(error)

    run_on(backend, test)


@on_each_loop
def test_a_certificate_whose_time_is_over(backend: str, files: Files) -> None:
    async def test() -> None:
        async with tls_broker(broker_context("broker.example", expired=True)) as broker:
            error = await broker.refuses(tls=Tls(ca=files.ca))
            assert type(error) is CertificateInvalid
            assert "has expired; the broker needs a new one" in str(error)

    run_on(backend, test)


@on_each_loop
def test_a_certificate_that_is_wrong_is_not_tried_again(backend: str, files: Files) -> None:
    async def test() -> None:
        async with tls_broker(broker_context("other.example")) as broker:
            backoff = Backoff(first=1e-6, longest=1e-6)
            tls = Tls(ca=files.ca)
            error = await broker.refuses(tls=tls, reconnect=backoff, insist=True)
            assert isinstance(error, CertificateInvalid)
            assert broker.dials == 1

    run_on(backend, test)


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@on_each_loop
@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_shows_who_it_is(
    backend: str, version: ssl.TLSVersion, files: Files, tmp_path: Path
) -> None:
    async def test() -> None:
        both = tmp_path / "both.pem"
        both.write_text(files.key.read_text() + files.certificate.read_text())
        context = broker_context("broker.example", asks=True, version=version)
        async with tls_broker(context) as broker:
            for tls in (
                Tls(ca=files.ca, certificate=files.certificate, key=files.key),
                Tls(ca=files.ca, certificate=both),
            ):
                async with broker.connect(tls=tls) as mesh:
                    assert mesh.state is State.CONNECTED

    run_on(backend, test)


@on_each_loop
@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_does_not_show_who_it_is(
    backend: str, version: ssl.TLSVersion, files: Files
) -> None:
    async def test() -> None:
        context = broker_context("broker.example", asks=True, version=version)
        async with tls_broker(context) as broker:
            for tls in (Tls(ca=files.ca), Tls(ca=files.ca, certificate=files.stranger)):
                error = await broker.refuses(tls=tls, insist=True, reconnect=Backoff())
                assert type(error) is TlsFailed
                assert "tls=Tls(certificate=..., key=...)" in str(error)

    run_on(backend, test)


@on_both_loops
async def test_no_version_in_common() -> None:
    context = ssl.create_default_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    authority().configure_trust(context)
    server = broker_context("broker.example", version=ssl.TLSVersion.TLSv1_3)
    async with tls_broker(server) as broker:
        error = await broker.refuses(tls=context)
        assert type(error) is TlsFailed
        assert "no version of TLS in common" in str(error)


@on_each_loop
@pytest.mark.parametrize(("scheme", "plain"), [("tls", "tcp"), ("wss", "ws")])
def test_no_tls_there(backend: str, scheme: str, plain: str) -> None:
    async def test() -> None:
        with ScriptedBroker(first=b'{"op":2,"data":"INVALID_PAYLOAD"}\n') as broker:
            with pytest.raises(TlsFailed, match=f"no TLS is spoken there; .* {plain}://broker"):
                async with connect(f"{scheme}://broker", token="t", dial=broker.dial):
                    raise AssertionError("entered")

    run_on(backend, test)


ALERT = b"\x15\x03\x03\x00\x02\x02\x46"


@on_both_loops
async def test_tls_where_none_was_asked_for() -> None:
    for url in ("ws://broker", "tcp://broker"):
        with ScriptedBroker(first=ALERT) as broker:
            advice = f"TLS is spoken there; with it, it is {parse_url(url).other_url}"
            with pytest.raises(TlsFailed, match=advice):
                async with connect(url, token="t", dial=broker.dial):
                    raise AssertionError("entered")


@on_both_loops
async def test_somebody_who_hangs_up_may_want_tls_or_a_certificate() -> None:
    async def dial(address: Address) -> ByteStream:
        stream = await broker.dial(address)
        broker.hang_up()
        return stream

    for url, advice in {
        "ws://broker": "if TLS is spoken there, it is wss://broker",
        "tcp://broker": "if TLS is spoken there, it is tls://broker",
        "tls://broker": "if it asks for a certificate of this client: tls=Tls",
    }.items():
        with ScriptedBroker(first=b"") as broker:
            tls = ssl.create_default_context() if url.startswith("tls") else None
            with pytest.raises(CannotConnect, match=advice) as caught:
                async with connect(url, token="t", tls=tls, dial=dial):
                    raise AssertionError("entered")
            assert type(caught.value) is CannotConnect


@on_each_loop
def test_certificates_are_read_anew_for_each_connection(backend: str, files: Files) -> None:
    async def test() -> None:
        async with tls_broker(broker_context("broker.example")) as broker:
            ca = files.ca.read_text()
            files.ca.write_text(files.other_ca.read_text())
            mesh = broker.connect(tls=Tls(ca=files.ca))
            files.ca.write_text(ca)
            async with mesh:
                assert mesh.state is State.CONNECTED
            files.ca.write_text("")
            files.ca.unlink()
            with pytest.raises(ValueError, match="No such file"):
                broker.connect(tls=Tls(ca=files.ca))

    run_on(backend, test)


@on_each_loop
def test_a_file_that_is_gone_for_a_moment_is_tried_again(backend: str, files: Files) -> None:
    """While certificates are being replaced, one may be missing; that heals."""

    async def test() -> None:
        async with tls_broker(broker_context("broker.example")) as broker:
            ca = files.ca.read_text()
            mesh = broker.connect(
                tls=Tls(ca=files.ca), insist=True, reconnect=Backoff(first=1e-3, longest=1e-3)
            )
            files.ca.unlink()
            async with mesh.states() as states, anyio.create_task_group() as tasks:

                async def put_back() -> None:
                    async for change in states:
                        if change.error is not None:
                            assert type(change.error) is CannotConnect
                            assert "No such file" in str(change.error)
                            files.ca.write_text(ca)
                            return

                tasks.start_soon(put_back)
                async with mesh:
                    assert mesh.state is State.CONNECTED

    run_on(backend, test)


# What is refused at once.


def encrypted(key: Path) -> Path:
    path = key.with_name("encrypted.pem")
    loaded = load_pem_private_key(key.read_bytes(), None)
    path.write_bytes(
        loaded.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame")
        )
    )
    return path


def test_an_encrypted_key(files: Files) -> None:
    key = encrypted(files.key)
    tls = Tls(ca=files.ca, certificate=files.certificate, key=key, password="open sesame")
    assert tls.context().get_ca_certs()
    assert "sesame" not in repr(tls)
    # And nobody is asked for one on the terminal.
    for password in (None, "wrong"):
        with pytest.raises(ValueError, match=r"certificate .* with key .*encrypted\.pem: "):
            Tls(certificate=files.certificate, key=key, password=password).context()


def test_files_that_are_not_right_are_told_at_once(files: Files, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    other = tmp_path / "other.pem"
    other_authority().issue_cert("x.example").private_key_pem.write_to_path(other)
    missing = tmp_path / "missing.pem"
    for tls, problem in (
        (Tls(ca=missing), r"tls: ca .*missing\.pem: No such file"),
        (Tls(ca=empty), r"tls: ca .*empty\.pem: no certificate or crl found"),
        (Tls(certificate=missing), r"tls: certificate .*missing\.pem: No such file"),
        (Tls(certificate=files.certificate), r"tls: certificate .*certificate\.pem: "),
        (Tls(certificate=files.certificate, key=other), r"other\.pem: key values mismatch"),
    ):
        with pytest.raises(ValueError, match=problem):
            connect("wss://broker", token="t", tls=tls)


def test_a_key_alone() -> None:
    with pytest.raises(ValueError, match="give certificate= too"):
        Tls(key="key.pem")


@pytest.mark.parametrize("name", ["", ".example", "a\0b"])
def test_no_name_of_a_host(name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a host"):
        Tls(server_name=name)


def test_tls_for_a_url_without_it() -> None:
    with pytest.raises(ValueError, match="tls= is for wss:// and tls:// URLs; ws://broker is"):
        connect(["ws://broker", "unix:///x"], token="t", tls=Tls())
    connect(["unix:///x", "wss://broker"], token="t", tls=Tls())


# What OpenSSL says.


@pytest.mark.parametrize(
    ("reason", "kind", "text"),
    [
        ("RECORD_LAYER_FAILURE", TlsFailed, "no TLS is spoken there; without it, it is ws://b"),
        ("SSL/TLS_ALERT_BAD_CERTIFICATE", TlsFailed, "bad certificate; it wants a certificate"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", TlsFailed, "bad certificate; it wants a certificate"),
        ("UNSUPPORTED_PROTOCOL", TlsFailed, "no version of TLS in common"),
        ("TLSV1_ALERT_INTERNAL_ERROR", CannotConnect, "the TLS handshake failed"),
    ],
)
def test_words_of_other_versions(reason: str, kind: type[CannotConnect], text: str) -> None:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    said = explain(error, parse_url("wss://b"))
    assert type(said) is kind
    assert text in str(said)
