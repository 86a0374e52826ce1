"""`python -m services.chat` as an operator runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from services.chat.client import ChatClient
from services.chat.messages import CHAT_GROUP, GATEWAYS_GROUP
from services.sdk import Up, connect
from tests.integration.broker_process import ROOT, TOKEN, BrokerProcess, broker_process
from tests.integration.chat_process import ChatProcess, run_chat


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with broker_process(tmp_path) as process:
        yield process


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_says_when_it_is_ready_and_ends_in_good_order(
    broker: BrokerProcess, tmp_path: Path, stop: signal.Signals
) -> None:
    store = f"sqlite:///{tmp_path}/chat.db"
    chat = ChatProcess(broker.address, store, tmp_path)
    chat.start()
    assert chat.said == f"chat is on the mesh at {broker.address}, store {store}"
    assert chat.stop(stop) == 0
    assert "Traceback" not in chat.log


def test_it_waits_for_a_broker(tmp_path: Path) -> None:
    with broker_process(tmp_path) as broker:
        pass
    chat = ChatProcess(broker.address, f"sqlite:///{tmp_path}/chat.db", tmp_path)
    chat.begin()
    try:
        # Nobody is there yet; the store is made first.
        while not (tmp_path / "chat.db").exists():
            assert chat.runs()
        broker.start()
        chat.wait_ready()
    finally:
        chat.kill()
        broker.kill()


def test_it_waits_for_a_broker_no_longer_than_one_wants_it_to(tmp_path: Path) -> None:
    with broker_process(tmp_path) as broker:
        pass
    chat = ChatProcess(broker.address, f"sqlite:///{tmp_path}/chat.db", tmp_path)
    chat.begin()
    while not (tmp_path / "chat.db").exists():
        assert chat.runs()
    assert chat.stop(signal.SIGTERM) == 0


async def test_it_answers(broker: BrokerProcess, tmp_path: Path) -> None:
    chat = ChatProcess(broker.address, f"sqlite:///{tmp_path}/chat.db", tmp_path)
    with trio.fail_after(30):
        await trio.to_thread.run_sync(chat.start)
        try:
            async with connect(broker.address, group=GATEWAYS_GROUP, token=TOKEN) as mesh:
                client = ChatClient(mesh)
                bob = await client.register("bob", "a password")
                assert (await client.post(1, bob.user.id, "hello")).number == 0
                async with mesh.watch() as changes:
                    first = await changes.receive()
                    assert not isinstance(first, Up)
                    assert CHAT_GROUP in {service.group for service in first.services}  # type: ignore[union-attr]
        finally:
            await trio.to_thread.run_sync(chat.kill)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--store", "mysql://localhost/chat"], 1, "there is no store 'mysql'"),
        (["--store", "sqlite:////nowhere/at/all/chat.db"], 1, "there is no directory"),
        (["--store", "postgresql://chat:secret@127.0.0.1:1/chat"], 1, "refused"),
        (["--store", "redis://:secret@127.0.0.1:1"], 1, "Redis does not answer"),
        (["--url", "nowhere"], 2, "is no address of a broker"),
        (["--token", "wrong"], 1, "look at --token"),
        (["--nonsense"], 2, "No such option"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    broker: BrokerProcess, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    options = ["--url", broker.address, "--token", TOKEN, "--store", f"sqlite:///{tmp_path}/a.db"]
    ended = run_chat([*options, *arguments])
    assert ended.returncode == code
    assert ended.stdout == ""
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stderr


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    ended = run_chat(["--store", f"sqlite:///{tmp_path}/a.db"])
    assert ended.returncode == 2
    assert "SWITCHBOARD_TOKEN" in ended.stderr


def test_the_help_has_examples() -> None:
    ended = run_chat(["--help"])
    assert ended.returncode == 0
    for word in ("--url", "--token", "--store", "SWITCHBOARD_URL", "Examples:", "postgresql://"):
        assert word in ended.stdout


def test_the_log_is_json_where_nobody_looks(tmp_path: Path) -> None:
    """Of the libraries, too: each line stands for itself."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = (
        "import logging, sys\n"
        "from services.programs import configure_logs\n"
        "configure_logs('info', sys.stderr)\n"
        "logging.getLogger('a.library').warning('what it %s', 'says')\n"
        "logging.getLogger('a.library').debug('not this')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    (line,) = ended.stderr.splitlines()
    logged = json.loads(line)
    assert logged["event"] == "what it says"
    assert (logged["level"], logged["logger"]) == ("warning", "a.library")
