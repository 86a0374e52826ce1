"""`python -m services.demo.talk`: be somebody on one of the four systems, from a terminal."""

from __future__ import annotations

from typing import Final

import anyio
import anyio.lowlevel
import click

from services.cli.text import plain
from services.demo.talkers.systems import System, open_talker
from services.demo.talkers.talker import Heard, Talker, TalkError
from services.demo.typed_lines import typed_lines
from services.programs import ProgramError, announce, examples, run_program
from services.sdk.tasks import BackgroundTasks

__all__ = ["main"]

_SHOWN_SECONDS: Final = 5.0


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "python -m services.demo.talk mirage http://127.0.0.1:5000",
        "python -m services.demo.talk keenchat http://127.0.0.1:5002 http://127.0.0.1:5001",
        "python -m services.demo.talk rooms ws://127.0.0.1:8888 --name Ada",
    ),
)
@click.argument("system", type=click.Choice([system.value for system in System]))
@click.argument("addresses", nargs=-1, required=True)
@click.option("--name", default="Guest", show_default=True, help="By which the others know you.")
def main(system: str, addresses: tuple[str, ...], name: str) -> None:
    """Be in the room `public` of a system, at the addresses that its gateway says.

    Each line that you type is a message; all that is said there comes on stdout. The end of stdin,
    or Ctrl-C, ends it. The name must be a new one on keenchat and redis_chat.
    """
    which = System(system)
    if len(addresses) != (2 if which is System.KEENCHAT else 1):
        raise click.UsageError("there is one address to give; of keenchat, two")
    run_program(lambda: _talk(which, addresses, name), "asyncio")


async def _talk(system: System, addresses: tuple[str, ...], name: str) -> None:
    try:
        async with (
            open_talker(system, addresses, name) as talker,
            BackgroundTasks() as tasks,
            typed_lines() as lines,
        ):
            announce(f"{name} is there")
            tasks.start_soon(_show, talker)
            last = ""
            async for line in lines:
                if line.strip():
                    await talker.say(line)
                    last = line
            # What has just been said is shown as well.
            with anyio.move_on_after(_SHOWN_SECONDS):
                await talker.wait_until(
                    lambda: not last or last in [heard.text for heard in talker.heard]
                )
                await anyio.lowlevel.checkpoint()
    except TalkError as error:
        raise ProgramError(str(error)) from error


async def _show(talker: Talker) -> None:
    shown: list[Heard] = []
    while True:
        await talker.wait_until(lambda: len(talker.heard) > len(shown))
        for heard in talker.heard[len(shown) :]:
            announce(plain(f"{heard.author}: {heard.text}"))
            shown.append(heard)


if __name__ == "__main__":
    main(prog_name="python -m services.demo.talk")
