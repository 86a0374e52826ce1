"""The broker that is soaked: a process, its files, and the questions that it is asked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import trio
import trustme

from broker.core.authentication import hash_token
from services.sdk import Tls
from tests.integration.operators import Lines
from tests.soak.samples import Sample

__all__ = ["TOKEN", "Subject", "open_subject"]

TOKEN: Final = "a-token-for-the-soak"
ROOT: Final = Path(__file__).resolve().parents[2]

# Bounds that are met within a round.
_CONFIG: Final = """
[[listeners]]
address = "tcp://127.0.0.1:0"

[[listeners]]
address = "tls://127.0.0.1:0"
certificate = "{certificate}"
key = "{key}"

[[tokens]]
name = "soak"
sha256 = "{sha256}"
permissions = {{ stats = true }}

[timing]
ping_ms = 5000
identify_ms = 1000
goodbye_ms = 500
stall_ms = 500

[limits]
outbox_high_bytes = 1_500_000
outbox_bytes = 2_500_000
outboxes_bytes = 20_000_000
failures_per_address = 0
"""


@attrs.frozen
class Subject:
    """A running broker.

    Attributes:
        process: its process.
        said: what it writes to stdout.
        plain: port for raw streams and WebSocket.
        secure: port for the same with TLS.
        tls: how clients trust it.
    """

    process: trio.Process
    said: Lines
    plain: int
    secure: int
    tls: Tls

    def urls(self) -> list[str]:
        """The four ways in."""
        return [
            f"tcp://127.0.0.1:{self.plain}",
            f"ws://127.0.0.1:{self.plain}",
            f"tls://127.0.0.1:{self.secure}",
            f"wss://127.0.0.1:{self.secure}",
        ]

    def tls_of(self, url: str) -> Tls | None:
        """What to give to the SDK beside one of them."""
        return self.tls if url.startswith(("tls:", "wss:")) else None

    async def sample(self, second: float, connections: int) -> Sample:
        """Ask what it has now."""
        self.process.send_signal(signal.SIGUSR1)
        told = json.loads(await self.said.next())
        status = await trio.Path(f"/proc/{self.process.pid}/status").read_text()
        (resident,) = (
            int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")
        )
        return Sample(second=second, opened=connections, resident_kib=resident, **told)


@asynccontextmanager
async def open_subject(directory: Path) -> AsyncIterator[Subject]:
    """Start a broker; end it at the end of the block.

    Args:
        directory: for its configuration, certificate and log.
    """
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key, trusted = (
        directory / name for name in ("certificate.pem", "key.pem", "authority.pem")
    )
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    authority.cert_pem.write_to_path(trusted)
    config = directory / "broker.toml"
    config.write_text(_CONFIG.format(certificate=certificate, key=key, sha256=hash_token(TOKEN)))
    with (directory / "broker.log").open("a") as log:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tests.soak.broker", str(config)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout is not None
        said = Lines(process.stdout)
        ports = []
        for _ in range(2):
            line = await said.next()
            assert line.startswith("listening on "), (directory / "broker.log").read_text()
            ports.append(int(line.rpartition(":")[2]))
        yield Subject(process, said, ports[0], ports[1], Tls(ca=trusted))
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()
