"""The chat service as a program."""

from __future__ import annotations

from typing import Final

import click

from services.chat.service import ChatService
from services.chat.store import UnusableStoreError
from services.chat.stores import DEFAULT_STORE, open_store
from services.programs import ProgramError, announce, examples, mesh_options, run_program
from services.sdk import Backoff

__all__ = ["main"]

# People wait for a chat: the broker is looked for often, once it has gone.
_BACKOFF: Final = Backoff(first=0.2, longest=1.0)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "SWITCHBOARD_TOKEN=… python -m services.chat",
        "python -m services.chat --url tcp://broker:8420 --token … --store sqlite:////var/chat.db",
        "python -m services.chat --token … --store postgresql://chat:secret@localhost/chat",
        "python -m services.chat --token … --store redis://localhost:6379/0",
    ),
)
@mesh_options
@click.option(
    "-s",
    "--store",
    default=DEFAULT_STORE,
    show_default=True,
    envvar="SWITCHBOARD_CHAT_STORE",
    show_envvar=True,
    metavar="URL",
    help=(
        "Where the chat is kept: sqlite:///PATH (an absolute path has four slashes), "
        "postgresql://… or redis://…. The default is a file in the working directory."
    ),
)
def main(url: str, token: str, store: str) -> None:
    """Run an instance of the chat service: users, rooms and messages for the four gateways.

    Any number of instances may run over one store. When it is ready, stdout has the line "chat is
    on the mesh at URL, store URL". Until the broker is there, it goes on trying.

    SIGTERM or Ctrl-C: answers what it has been asked, then exits with 0.
    """
    run_program(lambda: _serve(url, token, store))


async def _serve(url: str, token: str, store_url: str) -> None:
    try:
        async with (
            open_store(store_url) as store,
            ChatService(store).serve(url, token=token, insist=True, reconnect=_BACKOFF) as mesh,
        ):
            announce(f"chat is on the mesh at {url}, store {store.name}")
            await mesh.wait_closed()
    except UnusableStoreError as error:
        raise ProgramError(f"{error}; --store names another") from error
