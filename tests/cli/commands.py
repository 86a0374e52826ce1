"""What more than one of the tests of the commands needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from anyio.abc import ByteStream
from click.testing import CliRunner

from services.cli.main import main
from services.cli.target import Target
from services.sdk import Service, ServiceError
from services.sdk.urls import Address
from services.testing import TOKEN, TestMesh

__all__ = ["HOSTILE", "Outcome", "invoke", "make_billing", "target_of"]

HOSTILE = "\x1b]0;owned\x07\x1b[31m[bold]<b>\u202egnp.exe\u200b\u0085\n\U000e0041"
"""A name that would do something to a terminal, or to rich's markup."""


@attrs.frozen
class Outcome:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def invoke(*arguments: str, env: Mapping[str, str] | None = None, stdin: str = "") -> Outcome:
    """Run the command in this process, up to where it would connect."""
    result = CliRunner().invoke(main, arguments, env=env, input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def target_of(mesh: TestMesh, group: str = "cli") -> Target:
    """The way of a command to a mesh in memory."""

    async def dial(_address: Address) -> ByteStream:
        return await mesh.dial()

    return Target("tcp://memory", TOKEN, group, dial=dial)


def make_billing() -> Service:
    """A service with an answer of each kind."""
    billing = Service("billing")

    @billing.on("ECHO")
    async def echo(data: Any) -> Any:
        return data

    @billing.on("REFUSE")
    async def refuse() -> None:
        raise ServiceError("OUT_OF_STOCK", f"none {HOSTILE}", details={"again": "tomorrow"})

    return billing
