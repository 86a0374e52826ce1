"""TLS: certificates say who the broker is, and to a broker that asks for it, who this client is.

The encryption is anyio's `TLSStream`. What is here is which certificates are taken, and what is
said where something is wrong with them.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeVar

import anyio
import attrs
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from services.sdk.dialing import Dial
from services.sdk.errors import CannotConnect, CertificateInvalid, TlsFailed
from services.sdk.urls import Address

__all__ = ["Tls", "TlsOption", "explain", "secure"]

T = TypeVar("T")

_Path: TypeAlias = str | os.PathLike[str]

# OpenSSL's numbers for what can be wrong with a certificate, and what helps.
_OWN_AUTHORITY: Final = (
    "it comes from no authority that is trusted here; name the file of the authority that it comes "
    "from: tls=Tls(ca=...)"
)
_OTHER_NAME: Final = (
    "connect to a name that it is made out to, or say which one that is: tls=Tls(server_name=...)"
)
_OTHER_TIME: Final = "the broker needs a new one, or one of the two clocks is wrong"
_REMEDIES: Final = {
    9: _OTHER_TIME,
    10: _OTHER_TIME,
    18: _OWN_AUTHORITY,
    19: _OWN_AUTHORITY,
    20: _OWN_AUTHORITY,
    21: _OWN_AUTHORITY,
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}

# OpenSSL's words where what came is not TLS at all.
_NO_TLS: Final = frozenset(
    {
        "WRONG_VERSION_NUMBER",
        "RECORD_LAYER_FAILURE",
        "UNKNOWN_PROTOCOL",
        "PACKET_LENGTH_TOO_LONG",
        "HTTP_REQUEST",
    }
)

# What the other side says (without OpenSSL's prefix, which has changed from version to version).
_CLIENT_REFUSED: Final = frozenset(
    {
        "CERTIFICATE_REQUIRED",
        "BAD_CERTIFICATE",
        "UNSUPPORTED_CERTIFICATE",
        "CERTIFICATE_REVOKED",
        "CERTIFICATE_EXPIRED",
        "CERTIFICATE_UNKNOWN",
        "UNKNOWN_CA",
        "ACCESS_DENIED",
        # Before TLS 1.3 this is all that is said where a certificate is missing.
        "HANDSHAKE_FAILURE",
    }
)
_NO_COMMON_VERSION: Final = frozenset({"PROTOCOL_VERSION", "INSUFFICIENT_SECURITY"})


def _check_server_name(_tls: Tls, _attribute: object, name: str | None) -> None:
    if name is not None and (not name or name.startswith(".") or "\0" in name):
        raise ValueError(f"server_name: {name!r} is no name of a host")


@attrs.frozen(kw_only=True)
class Tls:
    """What a client goes by when it connects to a `wss://` or `tls://` URL.

    Without any of it, the broker's certificate must come from an authority that this system trusts,
    and be made out to the host of the URL.

    Certificates are files in PEM form. They are read anew for each connection, so new ones are
    taken up when they have been put in the place of the old.

    Attributes:
        ca: the authorities to trust, in place of the system's.
        certificate: who this client is, for a broker that asks for it; with the certificates of the
            authorities in between, if there are any.
        key: the private key of it, where it does not stand in the same file.
        password: of the key, if it is encrypted.
        server_name: whom the broker's certificate must be made out to, where that is not the host
            of the URL.

    Raises:
        ValueError: there is a key without a certificate, or the name is none.

    Example:
        >>> connect("wss://broker.internal:8420", token="...", tls=Tls(ca="/etc/mesh/ca.pem"))
    """

    ca: _Path | None = None
    certificate: _Path | None = None
    key: _Path | None = attrs.field(default=None)
    password: str | None = attrs.field(default=None, repr=False)
    server_name: str | None = attrs.field(default=None, validator=_check_server_name)

    @key.validator
    def _check_key(self, _attribute: object, key: _Path | None) -> None:
        if key is not None and self.certificate is None:
            raise ValueError("tls: a key belongs to a certificate: give certificate= too")

    def context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
            ValueError: one of them is not there, or is not what it should be.
        """
        context = ssl.create_default_context() if self.ca is None else _trust_only(self.ca)
        if self.certificate is not None:
            certificate, key = self.certificate, self.key
            # Without any password at all, OpenSSL would ask for it on the terminal.
            password = self.password or ""
            files = f"certificate {certificate}" + (f" with key {key}" if key is not None else "")
            _read(files, lambda: context.load_cert_chain(certificate, key, password))
        return context


TlsOption: TypeAlias = Tls | ssl.SSLContext | None
"""What `connect` takes as `tls`."""


def secure(dial: Dial, addresses: Sequence[Address], tls: TlsOption) -> Dial:
    """Return a `Dial` that goes through TLS wherever the address says so.

    Raises:
        ValueError: `tls` is given, and no address has any use for it; or a file of it is not right.
    """
    if tls is not None and not any(address.scheme.encrypted for address in addresses):
        raise ValueError(f"tls= is for wss:// and tls:// URLs; {addresses[0].url} is neither")
    if isinstance(tls, Tls):
        tls.context()

    async def dial_securely(address: Address) -> ByteStream:
        stream = await dial(address)
        if not address.scheme.encrypted:
            return stream
        try:
            return await _encrypt(stream, address, tls)
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise

    return dial_securely


def explain(error: ssl.SSLError, address: Address) -> CannotConnect:
    """Say what a failure means for whoever wants to connect."""
    reason = error.reason or ""
    url = address.url
    said = reason.partition("ALERT_")[2]
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = _REMEDIES.get(error.verify_code)
        advice = "" if remedy is None else f"; {remedy}"
        text = error.verify_message.rstrip(".")
        return CertificateInvalid(f"{url}: the broker's certificate is not valid: {text}{advice}")
    if reason in _NO_TLS:
        return TlsFailed(f"{url}: no TLS is spoken there; without it, it is {address.other_url}")
    if said in _CLIENT_REFUSED:
        words = said.lower().replace("_", " ")
        return TlsFailed(
            f"{url}: the broker has ended the handshake: {words}; it wants a certificate from an "
            "authority that it trusts: tls=Tls(certificate=..., key=...)"
        )
    if said in _NO_COMMON_VERSION or reason == "UNSUPPORTED_PROTOCOL":
        return TlsFailed(f"{url}: the broker and this client have no version of TLS in common")
    return CannotConnect(f"{url}: the TLS handshake failed: {error}")


class _EncryptedStream(TLSStream):
    """The end of what is sent is that of the bytes beneath.

    TLS has a goodbye of its own, which tells a sender's end from a cut in the line. The protocol
    says goodbye itself, so that nothing depends on it.
    """

    async def send_eof(self) -> None:
        await self.transport_stream.send_eof()


async def _encrypt(stream: ByteStream, address: Address, tls: TlsOption) -> ByteStream:
    try:
        if isinstance(tls, ssl.SSLContext):
            context, name = tls, None
        else:
            chosen = tls or Tls()
            # The system's authorities alone take some ten milliseconds to read.
            context = await anyio.to_thread.run_sync(chosen.context)
            name = chosen.server_name
        return await _EncryptedStream.wrap(
            stream,
            server_side=False,
            hostname=(name or address.host).rstrip("."),
            ssl_context=context,
            standard_compatible=False,
        )
    except ssl.SSLError as error:
        raise explain(error, address) from error
    except ValueError as error:
        raise CannotConnect(f"cannot connect to {address.url}: {error}") from error


def _trust_only(ca: _Path) -> ssl.SSLContext:
    return _read(f"ca {ca}", lambda: ssl.create_default_context(cafile=ca))


def _read(files: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except ssl.SSLError as error:
        text = (error.reason or str(error)).lower().replace("_", " ")
        raise ValueError(f"tls: {files}: {text}") from error
    except OSError as error:
        raise ValueError(f"tls: {files}: {error.strerror or error}") from error
