"""What a mesh has to do, whatever it runs over.

Each contract is a story that returns what its members saw. What they must have seen stands in
`test_contracts`, once for every world: so the worlds are held against each other as well.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from broker.protocol.codec import Envelope
from broker.protocol.frames import OpCode
from services.sdk import (
    BadRequest,
    ConnectionLost,
    Disconnected,
    Draining,
    Event,
    Frame,
    Intent,
    Mesh,
    MeshError,
    RequestError,
    Service,
    ServiceError,
    Target,
)
from tests.testing.worlds import World


class Work:
    """A service whose handlers begin and end when the contract says so."""

    def __init__(self) -> None:
        self.service = Service("work")
        self.begun: list[Event] = []
        self.finish = anyio.Event()
        self._news = anyio.Event()
        self.service.on("WAIT")(self._wait)
        self.service.on("ADD")(self._add)
        self.service.on("REFUSE")(self._refuse)
        self.service.on("TURN_DOWN")(self._turn_down)
        self.service.on("FAIL")(self._fail)

    async def wait_begun(self, count: int = 1) -> None:
        while len(self.begun) < count:
            await self._news.wait()

    async def _wait(self, event: Event) -> str:
        self.begun.append(event)
        self._news.set()
        self._news = anyio.Event()
        await self.finish.wait()
        return "done"

    async def _add(self, numbers: list[int]) -> int:
        return sum(numbers)

    async def _refuse(self) -> None:
        raise BadRequest("not like this")

    async def _turn_down(self) -> None:
        raise ServiceError("OUT_OF_STOCK", "none left", details={"item": 7})

    async def _fail(self) -> None:
        raise KeyError("a secret")


async def outcome(request: Awaitable[Any]) -> Any:
    """A request's result, or the code of its error."""
    try:
        return await request
    except RequestError as error:
        return str(error.code)


def begin(tasks: TaskGroup, request: Awaitable[Any], outcomes: list[Any]) -> None:
    async def ask() -> None:
        outcomes.append(await outcome(request))

    tasks.start_soon(ask)


async def hear(listener: Any, count: int) -> list[tuple[Any, str]]:
    heard = [await listener.receive() for _ in range(count)]
    return [(event.data, event.source.group) for event in heard]


# -- who is there ----------------------------------------------------------------------------------


async def connect_and_identify(world: World) -> Any:
    client, other = await world.client("web"), await world.client("admin")
    errors = []
    for token, group in (("wrong", "web"), (None, "$broker")):
        options = {} if token is None else {"token": token}
        try:
            await world.client(group, **options)
        except Disconnected as error:
            errors.append((type(error).__name__, error.reason))
    said = await client.request("WHOAMI", to="$broker")
    return (client.group, other.group, client.id != other.id, said["id"] == client.id, errors)


async def not_identified(world: World) -> Any:
    plain = await world.plain()
    await plain.send(Envelope(OpCode.PING))
    last = await plain.receive()
    await plain.vanish()
    return last.op, bytes(last.data)  # type: ignore[arg-type]


# -- events ----------------------------------------------------------------------------------------


async def emit_to_everyone(world: World) -> Any:
    members = [await world.client(group) for group in ("web", "web", "admin")]
    quiet = await world.client("admin", echo=False)
    async with (
        members[0].listen("*") as first,
        members[2].listen("*") as last,
        quiet.listen("*") as own,
    ):
        heard = []
        # Order is kept from one sender, not among several: so one after another.
        for sender, data in (
            (members[0], "ä € 😀"),
            (quiet, [1.5, None, {"a": True}]),
            (members[1], 4),
        ):
            await sender.emit("NEWS", data)
            heard.append((await hear(first, 1), await hear(last, 1)))
        return heard, await hear(own, 2)


async def emit_to_group(world: World) -> Any:
    members = [await world.client(group) for group in ("web", "web", "admin")]
    async with (
        members[0].listen("*") as first,
        members[1].listen("*") as second,
        members[2].listen("*") as third,
    ):
        await members[2].emit("NEWS", "for the group", group="web")
        await members[2].emit("NEWS", "for the sender", group="admin")
        return await hear(first, 1), await hear(second, 1), await hear(third, 1)


async def emit_to_one(world: World) -> Any:
    sender, receiver = await world.client("web"), await world.client("web")
    async with receiver.listen("*") as events:
        for number in range(100):
            await sender.emit("COUNT", number, to=receiver.id)
        heard = [await events.receive() for _ in range(100)]
    in_order = [event.data for event in heard] == list(range(100))
    return in_order, {event.source.id for event in heard} == {sender.id}


async def emit_one_of_a_group_in_turn(world: World) -> Any:
    sender = await world.client("web")
    members = [await world.client("work") for _ in range(3)]
    async with (
        members[0].listen("*") as first,
        members[1].listen("*") as second,
        members[2].listen("*") as third,
    ):
        for number in range(6):
            await sender.emit("TASK", number, group="work", pick="ONE")
        return [await hear(listener, 2) for listener in (first, second, third)]


async def emit_to_nobody(world: World) -> Any:
    errors: list[MeshError] = []
    client = await world.client(on_error=errors.append)
    await client.emit("LOST", group="nobody")
    await client.emit("LOST", to="no such connection")
    await client.request("WHOAMI", to="$broker")  # Order is kept, so by then they have come.
    return [error.code for error in errors if isinstance(error, RequestError)]


async def listen_by_pattern(world: World) -> Any:
    client = await world.client("web")
    async with client.listen("USER_*") as users, client.listen("*_LEFT", buffer=1) as left:
        for name in ("USER_CAME", "ROOM_OPENED", "USER_LEFT"):
            await client.emit(name, name.lower(), group="web")
        return await hear(users, 2), await hear(left, 1)


# -- requests --------------------------------------------------------------------------------------


async def request_answered(world: World) -> Any:
    work = Work()
    service, client = await world.run(work.service), await world.client("web")
    big = list(range(50_000))
    return (
        await client.request("ADD", [1, 2, 3], group="work", returns=int),
        await client.request("ADD", [4], to=service.id),
        await client.request("ADD", big, group="work", key="k") == sum(big),
        await service.request("ADD", [5], group="work"),
    )


async def many_requests_at_a_time(world: World) -> Any:
    work = Work()
    await world.run(work.service)
    await world.run(work.service, concurrency=2)
    clients = [await world.client("web") for _ in range(3)]
    outcomes: list[Any] = []
    async with anyio.create_task_group() as tasks:
        for number in range(150):
            client = clients[number % 3]
            begin(tasks, client.request("ADD", [number, 1], group="work"), outcomes)
    return sorted(outcomes) == list(range(1, 151))


async def no_route(world: World) -> Any:
    work = Work()
    client = await world.client("web")
    before = await outcome(client.request("ADD", [], group="work"))
    service = await world.run(work.service)
    between = await outcome(client.request("ADD", [], group="work"))
    await world.stop(service)
    return (
        before,
        between,
        await outcome(client.request("ADD", [], group="work")),
        await outcome(client.request("ADD", [], to=service.id)),
        await outcome(client.request("ADD", [], group="nobody")),
    )


async def peer_gone(world: World) -> Any:
    client, callee = await world.client("web"), await world.plain()
    await callee.identify("fragile")
    outcomes: list[Any] = []
    async with anyio.create_task_group() as tasks:
        begin(tasks, client.request("WAIT", group="fragile"), outcomes)
        event = await callee.receive()
        await callee.vanish()
    return event.event, outcomes


async def expired(world: World) -> Any:
    work = Work()
    await world.run(work.service)
    client = await world.client("web")
    first = await outcome(client.request("WAIT", group="work", timeout=0.05))
    work.finish.set()
    # Whatever comes late is dropped, and disturbs nobody.
    second = await outcome(client.request("ADD", [1], group="work"))
    return first, second, client.statistics().pending


async def overloaded(world: World) -> Any:
    work = Work()
    await world.run(work.service, concurrency=1)
    client = await world.client("web")
    outcomes: list[Any] = []
    async with anyio.create_task_group() as tasks:
        begin(tasks, client.request("WAIT", group="work"), outcomes)
        await work.wait_begun()
        turned_away = await outcome(client.request("ADD", [1], group="work"))
        work.finish.set()
    return outcomes, turned_away, await client.request("ADD", [1], group="work")


async def forbidden_reply(world: World) -> Any:
    work = Work()
    errors: list[MeshError] = []
    await world.run(work.service)
    client, intruder = await world.client("web"), await world.client(on_error=errors.append)
    outcomes: list[Any] = []
    async with anyio.create_task_group() as tasks:
        begin(tasks, client.request("WAIT", group="work"), outcomes)
        await work.wait_begun()
        id = work.begun[0].id
        intent = Intent(Target.DIRECT, client.id)
        await intruder.send(
            Frame(op=OpCode.REPLY, id=id, event="WAIT", data="false", intent=intent)
        )
        await intruder.request("WHOAMI", to="$broker")
        work.finish.set()
    return outcomes, [error.code for error in errors if isinstance(error, RequestError)]


async def errors_of_services(world: World) -> Any:
    work = Work()
    await world.run(work.service)
    client = await world.client("web")
    answers: list[Any] = []
    for name, data in (
        ("REFUSE", None),
        ("TURN_DOWN", None),
        ("FAIL", None),
        ("NO_SUCH_EVENT", None),
        ("ADD", "no numbers"),
    ):
        try:
            answers.append(await client.request(name, data, group="work"))
        except RequestError as error:
            text = error.message if error.code != "BAD_REQUEST" else ""
            answers.append((type(error).__name__, str(error.code), text, error.details))
    return answers


async def what_the_broker_answers(world: World) -> Any:
    client = await world.client("web", name="a page", meta={"shard": 3})
    services = await client.request("SERVICES", to="$broker")
    return (
        [(one["group"], one["name"], one["meta"]) for one in services["services"]],
        await outcome(client.request("NONSENSE", to="$broker")),
        world.statistics().identified,
    )


# -- heartbeat and the end -------------------------------------------------------------------------


async def heartbeat(world: World) -> Any:
    """A client that says nothing is pinged, then cut. One on the SDK lives on."""
    client, silent = await world.client("web"), await world.plain()
    await silent.identify("silent")
    outcomes: list[Any] = []
    async with anyio.create_task_group() as tasks:
        begin(tasks, client.request("WAIT", group="silent", timeout=3600), outcomes)
        frames = [(await silent.receive()).op for _ in range(3)]
    await silent.vanish()
    return frames, outcomes, client.id in await ids(client), world.statistics().closed


async def ids(client: Mesh) -> list[str]:
    answer = await client.request("SERVICES", to="$broker")
    return [service["id"] for service in answer["services"]]


async def leaving(world: World) -> Any:
    work = Work()
    client, service = await world.client("web"), await world.run(work.service)
    outcomes: list[Any] = []
    async with client.listen("$down") as gone, anyio.create_task_group() as tasks:
        await client.request("WATCH", to="$broker")
        begin(tasks, client.request("WAIT", group="work"), outcomes)
        await work.wait_begun()
        tasks.start_soon(world.stop, service)
        while await outcome(client.request("ADD", [1], group="work")) != "DRAINING":
            pass
        work.finish.set()
        event = await gone.receive()
    return outcomes, event.data["id"] == service.id, event.data["reason"]


async def stopping_the_broker(world: World) -> Any:
    work = Work()
    await world.run(work.service)
    client = await world.client("web")
    outcomes: list[Any] = []
    async with anyio.create_task_group() as tasks:
        begin(tasks, client.request("WAIT", group="work"), outcomes)
        await work.wait_begun()
        tasks.start_soon(world.stop_broker)
        while True:
            try:
                await client.request("ADD", [1], group="work")
            except Draining:
                break
        work.finish.set()
        try:
            await client.wait_lost()
        except ConnectionLost as error:
            lost = type(error).__name__, getattr(error, "reason", None)
    return outcomes, lost
