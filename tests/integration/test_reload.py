"""SIGHUP, as an operator sends it: to a real process, with a load on it."""

from __future__ import annotations

import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trustme

from broker.core.authentication import hash_token
from tests.integration.broker_process import ROOT
from tests.integration.operators import PATIENCE, Client, Lines, operator

BILLING: Final = f'[[tokens]]\nname = "billing"\nsha256 = "{hash_token("billing")}"\n'
WEB: Final = f'[[tokens]]\nname = "web"\nsha256 = "{hash_token("web")}"\n'
LISTENER: Final = '[[listeners]]\naddress = "tcp://127.0.0.1:0"\n'


async def test_who_is_gone_from_the_file_is_disconnected_under_load_and_nothing_else_is_lost(
    tmp_path: Path,
) -> None:
    asked, rounds = 0, 5
    stop = trio.Event()

    async def answer(worker: Client) -> None:
        while (frame := await worker.receive()) is not None:
            to = {"target": "DIRECT", "identifier": frame["source"]["id"]}
            await worker.send(op=5, id=frame["id"], intent=to)

    async def ask(client: Client) -> None:
        nonlocal asked
        while not stop.is_set():
            reply = await client.request(asked, "work")
            assert (reply["op"], reply["id"]) == (5, str(asked))
            assert "error" not in reply
            asked += 1

    async def ask_to_the_end(client: Client, answering: trio.Nursery) -> None:
        await ask(client)
        answering.cancel_scope.cancel()

    async with operator(tmp_path, LISTENER + WEB + BILLING) as broker:
        worker, client = await broker.join("web", "work"), await broker.join("web", "web")
        async with trio.open_nursery() as answering, trio.open_nursery() as asking:
            answering.start_soon(answer, worker)
            asking.start_soon(ask_to_the_end, client, answering)
            for _ in range(rounds):
                billing = await broker.join("billing", "billing")
                before = asked
                await broker.reload(LISTENER + WEB)
                end = await billing.receive()
                assert (end["op"], end["data"]) == (2, "UNAUTHORIZED")
                assert end["error"]["message"] == (
                    "what you identified yourself with is not accepted any more"
                )
                assert await billing.receive() is None
                refused = await broker.connect("billing", "billing")
                assert (await refused.receive())["data"] == "IDENTIFY_FAILED"
                await broker.reload(LISTENER + WEB + BILLING)
                while asked < before + 50:
                    await trio.lowlevel.checkpoint()
            stop.set()
    assert asked >= rounds * 50


async def test_a_file_that_is_broken_is_refused_whole(tmp_path: Path) -> None:
    broken = LISTENER + WEB.replace("web", "renamed") + "[limits]\nconnections = 0\nzork = 1\n"
    async with operator(tmp_path, LISTENER + WEB + BILLING) as broker:
        billing = await broker.join("billing", "billing")
        logged = [await broker.reload(broken), await broker.logged()]
        assert [(line["level"], line["event"], line["problem"]) for line in logged] == [
            ("error", "settings not reloaded, the old ones stay", problem)
            for problem in (
                "limits.connections: must be >= 1 (is 0)",
                "limits.zork: unknown key; known here: "
                + logged[1]["problem"].partition("here: ")[2],
            )
        ]
        # Not even the part of it that was right.
        await broker.join("web", "web")
        await billing.send(op=3, id="still there?")
        assert await billing.receive() == {"op": 4, "id": "still there?"}
        broker.config.unlink()
        line = await broker.hang_up()
        assert line["problem"] == "can't be read: no such file or directory"
        # And mended, it is taken.
        await broker.reload(LISTENER + WEB)
        assert (await billing.receive())["data"] == "UNAUTHORIZED"


async def test_permissions_and_limits_are_those_of_the_file_at_once(tmp_path: Path) -> None:
    async with operator(tmp_path, LISTENER + WEB) as broker:
        client = await broker.join("web", "web")
        allowed = "permissions = { send_global = false, stats = true }\n"
        await broker.reload(LISTENER + WEB + allowed + "[limits]\nconnections = 1\n")
        await client.send(op=0, id="1", event="E", intent={"target": "GLOBAL"})
        assert (await client.receive())["error"]["code"] == "FORBIDDEN"
        to_broker = {"target": "DIRECT", "identifier": "$broker"}
        await client.send(op=0, id="2", event="STATS", intent=to_broker)
        assert (await client.receive())["data"]["denied"] == 1
        other = await broker.connect("web", "web")
        assert (await other.receive())["data"] == "TRY_AGAIN_LATER"


async def test_what_takes_a_restart_is_named_each_time(tmp_path: Path) -> None:
    content = LISTENER.replace(":0", ":1") + WEB + "[timing]\nping_ms = 5000\ndrain_ms = 5000\n"
    async with operator(tmp_path, LISTENER + WEB) as broker:
        for _ in range(2):
            await broker.reload(content)
            warned = [await broker.logged() for _ in range(2)]
            assert [(line["level"], line["setting"]) for line in warned] == [
                ("warning", "listeners"),
                ("warning", "timing.ping_ms"),
            ]
        # It goes on where it was.
        await broker.join("web", "web")


async def test_a_new_certificate_is_for_new_connections(tmp_path: Path) -> None:
    authorities = [trustme.CA() for _ in range(2)]

    def install(authority: trustme.CA) -> ssl.SSLContext:
        issued = authority.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "broker.pem")
        issued.private_key_pem.write_to_path(tmp_path / "broker.key")
        (tmp_path / "broker.key").chmod(0o600)
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    content = (
        '[[listeners]]\naddress = "tls://127.0.0.1:0"\n'
        'certificate = "broker.pem"\nkey = "broker.key"\n' + WEB
    )
    first = install(authorities[0])
    async with operator(tmp_path, content) as broker:
        tls: dict[str, Any] = {"server_hostname": "127.0.0.1"}
        old = await broker.join("web", "web", ssl_context=first, **tls)
        second = install(authorities[1])
        await broker.hang_up()
        new = await broker.join("web", "web", ssl_context=second, **tls)
        with pytest.raises(trio.BrokenResourceError):
            await broker.join("web", "web", ssl_context=first, **tls)
        for client in (old, new):
            await client.send(op=3, id="still there?")
            assert await client.receive() == {"op": 4, "id": "still there?"}
        # A key that does not belong to the certificate: nothing changes.
        (tmp_path / "broker.key").write_bytes(b"no key")
        line = await broker.hang_up()
        assert line["problem"].startswith("listeners[0].key: ")
        await broker.join("web", "web", ssl_context=second, **tls)


async def test_without_a_configuration_it_stands_for_the_end_of_the_terminal() -> None:
    with trio.fail_after(PATIENCE):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "broker", "serve", "--listen", "tcp://127.0.0.1:0"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert process.stdout is not None
            assert (await Lines(process.stdout).next()).startswith("listening on ")
            process.send_signal(signal.SIGHUP)
            assert await process.wait() == 0
        finally:
            process.kill()
