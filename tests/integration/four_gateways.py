"""All of the chat as programs: broker, chat service and four gateways, that can be killed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import httpx

from services.demo.talkers.systems import System, open_talker
from services.demo.talkers.talker import Talker, TalkError
from tests.integration.broker_process import BrokerProcess, broker_process
from tests.integration.chat_process import ChatProcess
from tests.integration.chat_programs import GatewayProcess

__all__ = ["AWAY", "Chat", "Writer", "four_gateways", "talkers"]

# What each protocol says, in its own shape, when the chat cannot be asked. Rooms begins it with a
# capital letter.
AWAY = "the chat is away at the moment; try again in a moment"


class _KeenchatProcess(GatewayProcess):
    """Keenchat says two addresses."""

    def __init__(self, url: str, directory: Path) -> None:
        super().__init__("keenchat", url, directory, "--websockets-port", "0")
        self.events = ""

    def wait_ready(self) -> None:
        super().wait_ready()
        self.events = _address(self._output().readline())


def _address(line: str) -> str:
    return line.strip().removeprefix("listening on ")


class Chat:
    """The programs.

    Attributes:
        broker: the broker.
        service: the chat service, on SQLite.
        gateways: by their systems.
    """

    def __init__(self, directory: Path, broker: BrokerProcess) -> None:
        self.broker = broker
        self.service = ChatProcess(broker.address, f"sqlite:///{directory}/chat.db", directory)
        self.gateways: dict[System, GatewayProcess] = {
            System.MIRAGE: GatewayProcess("mirage", broker.address, directory),
            System.KEENCHAT: _KeenchatProcess(broker.address, directory),
            System.ROOMS: GatewayProcess("rooms", broker.address, directory),
            System.REDIS_CHAT: GatewayProcess("redis_chat", broker.address, directory),
        }

    @property
    def processes(self) -> list[ChatProcess]:
        """All but the broker."""
        return [self.service, *self.gateways.values()]

    def addresses(self, system: System) -> list[str]:
        """Where the gateway of a system listens."""
        gateway = self.gateways[system]
        events = [gateway.events] if isinstance(gateway, _KeenchatProcess) else []
        return [_address(gateway.said), *events]

    async def stored(self) -> list[tuple[str, str]]:
        """Return authors and texts of the room `public`, in their order."""
        [url, _events] = self.addresses(System.KEENCHAT)
        async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:
            users = {one["id"]: one["username"] for one in (await http.get("/user")).json()}
            messages = (await http.get("/message", params={"channel_id": 1})).json()
        return [(users[one["user_id"]], one["message_text"]) for one in messages]


@contextmanager
def four_gateways(directory: Path) -> Iterator[Chat]:
    """The programs for the body of a `with`; at the end all are killed."""
    with broker_process(directory) as broker, ExitStack() as stack:
        chat = Chat(directory, broker)
        # All start at the same time: none needs another one for that.
        for process in chat.processes:
            stack.callback(process.kill)
            process.begin()
        for process in chat.processes:
            process.wait_ready()
        yield chat


@asynccontextmanager
async def talkers(chat: Chat, each: int = 1) -> AsyncIterator[list[Talker]]:
    """People in the room `public` of every system, by different names."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                open_talker(system, chat.addresses(system), f"{system.label} {number}")
            )
            for number in range(each)
            for system in System
        ]


class Writer:
    """Says one thing after another, and counts.

    Attributes:
        talker: who says it.
        acknowledged: the texts that have been.
        refused: why others have not.
    """

    def __init__(self, talker: Talker) -> None:
        self.talker = talker
        self.acknowledged: list[str] = []
        self.refused: list[str] = []
        self._number = 0
        self._stopped = False
        self._news = anyio.Event()

    async def say(self) -> bool:
        """Say something new; return whether it has been acknowledged."""
        text = f"{self.talker.name}: {self._number}"
        self._number += 1
        try:
            await self.talker.say(text)
        except TalkError as error:
            self.refused.append(str(error))
        else:
            self.acknowledged.append(text)
        self._news.set()
        self._news = anyio.Event()
        return self.acknowledged[-1:] == [text]

    async def run(self) -> None:
        """Say things until it is stopped."""
        while not self._stopped:
            if not await self.say():
                await anyio.sleep(0.01)

    async def insist(self) -> None:
        """Say things until one of them is acknowledged."""
        known = len(self.acknowledged)
        while len(self.acknowledged) == known:
            if not await self.say():
                await anyio.sleep(0.01)

    async def until_acknowledged(self, count: int) -> None:
        """Wait until so many things have been."""
        while len(self.acknowledged) < count:
            await self._news.wait()

    def stop(self) -> None:
        """Say nothing more."""
        self._stopped = True
