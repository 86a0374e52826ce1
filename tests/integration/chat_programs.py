"""The chat service and its gateways as programs, that can be killed and started again."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trio

from tests.gateways.talkers import Talker, closing_code, in_thread
from tests.integration.broker_process import BrokerProcess, broker_process
from tests.integration.chat_process import ChatProcess

__all__ = [
    "ChatPrograms",
    "GatewayProcess",
    "chat_programs",
    "check_stops_gently",
    "write_through_a_kill",
]


class GatewayProcess(ChatProcess):
    """A gateway, on a port of the system's choice. Its methods block.

    Args:
        name: of its package.
        url: the broker's.
        directory: for the log.
        options: more of the command.
    """

    def __init__(self, name: str, url: str, directory: Path, *options: str) -> None:
        super().__init__(url, "", directory, name)
        module = f"services.gateways.{name}"
        self._command = [sys.executable, "-m", module, "--url", url, "--port", "0", *options]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.said.rpartition(":")[2])

    def next_line(self) -> str:
        """Wait for the next line that it says."""
        return self._output().readline().strip()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait_ready(self) -> None:
        """Wait until clients can come."""
        self.said = self._output().readline().strip()
        assert self.said.startswith("listening on "), self.log


async def check_stops_gently(gateway: GatewayProcess, client: Talker) -> None:
    """Whether a gateway that gets SIGTERM tells its clients, and exits with 0."""
    codes: list[int] = []

    async def stop() -> None:
        codes.append(await in_thread(lambda: gateway.stop(signal.SIGTERM)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop)
        assert await closing_code(client) == 1001
    assert codes == [0], gateway.log


async def write_through_a_kill(
    chat: ChatProcess, writers: Mapping[str, Callable[[str], Awaitable[bool]]]
) -> set[str]:
    """Write messages on and on, kill the chat service in the middle, and start it again.

    Args:
        chat: the chat service.
        writers: by name: each writes a message, and returns whether it has been acknowledged.

    Returns:
        What has been acknowledged.
    """
    acknowledged: set[str] = set()
    refused, writing = trio.Event(), trio.Event()

    async def write_on(name: str, write: Callable[[str], Awaitable[bool]]) -> None:
        number = 0
        while number < 40 or not refused.is_set():
            text = f"{name} {number}"
            if await write(text):
                acknowledged.add(text)
            else:
                refused.set()
            number += 1
            if number == 5:
                writing.set()

    async with trio.open_nursery() as nursery:
        for name, write in writers.items():
            nursery.start_soon(write_on, name, write)
        await writing.wait()
        await in_thread(chat.kill)
        await refused.wait()
    await in_thread(chat.start)
    return acknowledged


class ChatPrograms:
    """A broker, the chat service on SQLite, and gateways.

    Attributes:
        broker: the broker.
        chat: the chat service.
    """

    def __init__(self, directory: Path, broker: BrokerProcess, stack: ExitStack) -> None:
        self.broker = broker
        self._directory = directory
        self._stack = stack
        store = f"sqlite:///{directory}/chat.db"
        self.chat = ChatProcess(broker.address, store, directory)
        self._start(self.chat)

    def gateway(self, name: str, *options: str) -> GatewayProcess:
        """Start a gateway."""
        gateway = GatewayProcess(name, self.broker.address, self._directory, *options)
        self._start(gateway)
        return gateway

    def _start(self, process: ChatProcess) -> None:
        self._stack.callback(process.kill)
        process.start()


@contextmanager
def chat_programs(directory: Path) -> Iterator[ChatPrograms]:
    """The programs for the body of a `with`; at the end all are killed."""
    with broker_process(directory) as broker, ExitStack() as stack:
        yield ChatPrograms(directory, broker, stack)
