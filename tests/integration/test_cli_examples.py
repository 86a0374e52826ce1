"""The examples in the help of the commands, typed into a shell as they stand there."""

from __future__ import annotations

import shlex
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

from services.sdk import Service
from tests.cli.test_cli_help import ALL, examples_of
from tests.integration.broker_process import TOKEN, broker_process
from tests.integration.cli_process import COMMAND, environment

# These go on until Ctrl-C, take a benchmark's time, or need what a broker can't do yet. The tests
# of the processes run them in another form.
_ELSEWHERE = ("listen", "demo", "drain", "bench")


def make_service(group: str) -> Service:
    """Somebody who answers to all that the examples ask."""
    service = Service(group)

    async def answer(_data: Any) -> dict[str, int]:
        return {"users": 7}

    for event in ("INVOICE_CREATE", "STATS", "VERSION", "PING_ME"):
        service.on(event)(answer)
    return service


def feasible() -> list[str]:
    examples = [
        example
        for name, command in ALL.items()
        if name.split()[0] not in _ELSEWHERE
        for example in examples_of(command)
    ]
    return [
        example
        for example in dict.fromkeys(examples)
        if not any(word in example for word in ("--watch", "unix://"))
        and (not example.startswith("switchboard top") or "--once" in example)
        and "switchboard bench" not in example
    ]


def write(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.write_text(text)
    path.chmod(0o755)


async def test_examples_of_the_help_run(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    write(programs, "switchboard", f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    # What stands behind a pipe only has to read, and what stands before it to write.
    write(
        programs, "jq", '#!/bin/sh\nfor last; do :; done\n[ -f "$last" ] && exec cat "$last"; cat\n'
    )
    for name in ("report.json", "order.json", "dump.json"):
        write(tmp_path, name, '{"id": 7}')
    write(tmp_path, "token.txt", TOKEN)
    examples = feasible()
    assert len(examples) > 20
    with broker_process(tmp_path) as broker:
        env = environment(broker.websocket_address, tmp_path / "config")
        env["PATH"] = f"{programs}:{env['PATH']}"
        port = broker.address.rpartition(":")[2]
        async with AsyncExitStack() as stack:
            for group in ("billing", "web", "mail", "shards"):
                serving = make_service(group).serve(broker.address, token=TOKEN)
                await stack.enter_async_context(serving)
            for example in examples:
                with trio.fail_after(60):
                    done = await trio.run_process(
                        ["sh", "-c", example.replace("8420", port)],
                        cwd=tmp_path,
                        env=env,
                        capture_stdout=True,
                        capture_stderr=True,
                        check=False,
                    )
                said = (done.stdout + done.stderr).decode()
                slow = example.startswith("switchboard check --warn") and done.returncode == 1
                assert done.returncode == 0 or slow, f"{example}\n{said}"
