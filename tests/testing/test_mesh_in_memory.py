"""`TestMesh` itself: members, the broker's lives, the end, in good order or not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from unittest import mock

import anyio
import pytest

from broker.core.authentication import hash_token
from broker.core.dispatcher import Dispatcher
from broker.core.settings import LimitSettings, Settings, TimingSettings, TokenSettings
from broker.protocol.errors import Reason
from services.sdk import CannotConnect, ConnectionLost, Disconnected, IdentifyFailed, NoRoute
from services.testing import TestMesh, virtual_time
from tests.testing.contracts import Work, begin
from tests.testing.worlds import Backend

Story = Callable[[], Awaitable[None]]


def on_both_loops(story: Story) -> Callable[[Backend], None]:
    @pytest.mark.parametrize("backend", ["trio", "asyncio"])
    def run(backend: Backend) -> None:
        async def main() -> None:
            with anyio.fail_after(86_400):
                await story()

        anyio.run(main, backend=backend, backend_options=virtual_time(backend))

    run.__module__ = story.__module__
    return run


@on_both_loops
async def test_what_is_the_same_in_every_run() -> None:
    seen = []
    for _ in range(2):
        async with TestMesh() as mesh:
            client = await mesh.client("web", name="a page", meta={"n": 1})
            await mesh.client("admin")
            answer = await client.request("SERVICES", to="$broker")
            seen.append(answer["services"])
        await anyio.sleep(7)
    assert seen[0] == seen[1]
    assert [one["id"][-2:] for one in seen[0]] == ["01", "02"]
    assert seen[0][0]["since"] == "2000-01-01T00:00:00.000Z"


@on_both_loops
async def test_members_begin_and_end_in_any_task_and_order() -> None:
    work = Work()
    async with TestMesh() as mesh:
        found = []

        async def come(group: str) -> None:
            found.append(await mesh.client(group))

        async with anyio.create_task_group() as tasks:
            for group in ("a", "b", "c"):
                tasks.start_soon(come, group)
        service = await mesh.run(work.service, name="one")
        assert [member.name for member in mesh.services("work")] == ["one"]
        async with anyio.create_task_group() as tasks:
            for client in found:
                tasks.start_soon(mesh.stop, client)
        assert [member.id for member in mesh.services()] == [service.id]
        assert mesh.statistics().closed == {Reason.NO_REASON: 3}


@on_both_loops
async def test_the_same_service_twice() -> None:
    work = Work()
    async with TestMesh() as mesh:
        first, second = await mesh.run(work.service), await mesh.run(work.service)
        client = await mesh.client()
        for member in (first, second):
            assert await client.request("ADD", [1], to=member.id) == 1


@on_both_loops
async def test_tokens_of_the_settings_are_good_too() -> None:
    tokens = (TokenSettings(hash_token("for-web"), groups=("web",)),)
    async with TestMesh(Settings(tokens=tokens)) as mesh:
        assert (await mesh.client(None, token="for-web")).group == "web"
        with pytest.raises(IdentifyFailed):
            await mesh.client("admin", token="for-web")
        with pytest.raises(IdentifyFailed):
            await mesh.client("web", token="wrong")
        assert (await mesh.client("admin")).group == "admin"


@pytest.mark.parametrize("framing", ["stream", "websocket"])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_full_house(framing: str, backend: Backend) -> None:
    async def main() -> None:
        async with TestMesh(Settings(limits=LimitSettings(connections=1))) as mesh:
            await mesh.client(framing=framing)  # type: ignore[arg-type]
            with pytest.raises(ConnectionLost, match="as many connections as it may"):
                await mesh.client(framing=framing)  # type: ignore[arg-type]

    anyio.run(main, backend=backend, backend_options=virtual_time(backend))


@on_both_loops
async def test_a_connection_that_says_nothing() -> None:
    async with TestMesh(Settings(timing=TimingSettings(identify_ms=3_000))) as mesh:
        start = anyio.current_time()
        silent, slow = await mesh.dial(), await mesh.dial()
        await slow.send(b" ")
        assert b"IDENTIFY_TIMEOUT" in await slow.receive()
        for stream in (silent, slow):
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            await stream.aclose()
        assert 3 <= anyio.current_time() - start < 3.1


@on_both_loops
async def test_the_lives_of_a_broker() -> None:
    work = Work()
    async with TestMesh() as mesh:
        await mesh.run(work.service)
        before = await mesh.client()
        await mesh.stop_broker()
        with pytest.raises(Disconnected, match="SERVER_RESTART"):
            await before.wait_lost()
        assert mesh.services() == []
        assert mesh.statistics().closed[Reason.SERVER_RESTART] == 2
        with pytest.raises(CannotConnect, match="no broker is running"):
            await mesh.client()
        await mesh.stop_broker()
        mesh.start_broker()
        assert mesh.statistics().opened == 0
        await mesh.run(work.service)
        client = await mesh.client()
        assert await client.request("ADD", [1], group="work") == 1
        mesh.kill_broker()
        with pytest.raises(ConnectionLost):
            await client.wait_lost()


@on_both_loops
async def test_a_broker_that_is_killed_with_a_guest_at_the_door() -> None:
    async with TestMesh() as mesh:
        guest = await mesh.dial()
        await guest.send(b"GET / HTTP/1.1\r\n")
        await mesh.settle()
        mesh.kill_broker()
        with pytest.raises(anyio.EndOfStream):
            await guest.receive()
        await guest.aclose()


@on_both_loops
async def test_the_body_s_own_exception_comes_out() -> None:
    work = Work()

    async def fail() -> None:
        async with TestMesh() as mesh:
            await mesh.run(work.service)
            mesh.freeze(await mesh.client())
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()


@on_both_loops
async def test_a_mesh_that_is_cancelled() -> None:
    work = Work()
    start = anyio.current_time()
    with anyio.move_on_after(5):
        async with TestMesh() as mesh:
            await mesh.run(work.service, grace=1)
            client = await mesh.client()
            await client.request("WAIT", group="work", timeout=60)
    assert 5 <= anyio.current_time() - start <= 10


@on_both_loops
async def test_the_end_lets_handlers_finish() -> None:
    work = Work()
    outcomes: list[object] = []
    async with TestMesh() as mesh, anyio.create_task_group() as tasks:
        service, client = await mesh.run(work.service), await mesh.client()
        begin(tasks, client.request("WAIT", group="work"), outcomes)
        await work.wait_begun()
        tasks.start_soon(mesh.stop, service)
        await anyio.sleep(4)
        assert outcomes == []
        work.finish.set()
    assert outcomes == ["done"]


@on_both_loops
async def test_members_of_both_framings_meet() -> None:
    work = Work()
    async with TestMesh() as mesh:
        service = await mesh.run(work.service, framing="websocket")
        client = await mesh.client(framing="stream")
        assert await client.request("ADD", [1, 2], group="work") == 3
        await mesh.drop(service, reset=True)
        with pytest.raises(NoRoute):
            await client.request("ADD", [1, 2], group="work")


@on_both_loops
async def test_a_handshake_that_comes_in_single_bytes() -> None:
    async with TestMesh() as mesh:
        stream = await mesh.dial()
        request = (
            b"GET / HTTP/1.1\r\nHost: memory\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        for byte in request:
            await stream.send(bytes([byte]))
        answer = await stream.receive()
        assert answer.startswith(b"HTTP/1.1 101 ")
        await stream.aclose()
        rejected = await mesh.dial()
        await rejected.send(b"GET / HTTP/1.1\r\nHost: memory\r\n\r\n")
        assert (await rejected.receive()).startswith(b"HTTP/1.1 4")
        await rejected.aclose()


@on_both_loops
async def test_a_fault_of_the_broker_s_own_fails_the_test() -> None:
    """Whatever it is, it must not leave the test waiting for ever."""

    async def use() -> None:
        async with TestMesh() as mesh:
            client = await mesh.client()
            with mock.patch.object(Dispatcher, "receive", side_effect=ZeroDivisionError("a bug")):
                await client.request("ADD", [1], group="work")

    with pytest.raises(ExceptionGroup) as caught:
        await use()
    assert caught.group_contains(ZeroDivisionError)
