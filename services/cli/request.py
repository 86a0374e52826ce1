"""`switchboard request`: ask one, show the reply."""

from __future__ import annotations

import time
from functools import partial

import attrs
import click
import msgspec

from services.cli.data import DATA_HELP, read_data
from services.cli.exits import CommandError, Exit
from services.cli.help import ASKING_EXITS, epilog
from services.cli.options import timeout_option
from services.cli.output import print_json, print_object, waiting
from services.cli.running import run_client
from services.cli.target import Target, connects
from services.cli.text import compact_json, pretty_json
from services.cli.words import in_words_of_the_command
from services.sdk import RequestError

__all__ = ["Question", "ask", "error_object", "request"]


@attrs.frozen
class Question:
    """A request, and whom it is for."""

    event: str
    data: msgspec.Raw | None = None
    group: str | None = None
    to: str | None = None
    sticky: str | None = None
    timeout: float = 30.0
    as_json: bool = False


@click.command(
    epilog=epilog(
        """switchboard request INVOICE_CREATE '{"item": "tea"}' --group billing""",
        "switchboard request INVOICE_CREATE @order.json --group billing --timeout 2",
        "switchboard request INVOICE_CREATE - --group billing < order.json",
        "switchboard request WHOAMI --to '$broker'",
        exits=ASKING_EXITS,
    )
)
@click.argument("event")
@click.argument("data", required=False)
@click.option("-g", "--group", metavar="GROUP", help="Ask the least busy member of a group.")
@click.option("--to", metavar="ID", help="Ask one connection.")
@click.option("--sticky", metavar="KEY", help="With --group: ask the member that it goes to.")
@timeout_option("How long a reply is of use.")
@click.option("--json", "as_json", is_flag=True, help="Show data or error, and the time it took.")
@connects
def request(
    *,
    target: Target,
    event: str,
    data: str | None,
    group: str | None,
    to: str | None,
    sticky: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Ask a service, and show its reply: one member of --group, or the connection --to.

    Ctrl-C takes the request back, so that whoever works on it can stop.
    """
    if group is None and to is None:
        raise click.UsageError(
            "whom to ask? Give --group GROUP or --to ID; `switchboard services` lists both"
        )
    question = Question(event, read_data(data), group, to, sticky, timeout, as_json)
    run_client(partial(ask, target, question))


request.help = f"{request.help}\n\n{DATA_HELP}"


async def ask(target: Target, question: Question) -> Exit:
    """Send the request, and show what comes of it."""
    async with target.connect() as mesh:
        begun = time.perf_counter()
        try:
            with waiting(f"waiting for {question.group or question.to}"):
                data = await mesh.request(
                    question.event,
                    question.data,
                    group=question.group,
                    to=question.to,
                    key=question.sticky,
                    timeout=question.timeout,
                    returns=msgspec.Raw,
                )
        except ValueError as error:
            raise CommandError(in_words_of_the_command(str(error)), Exit.USAGE) from None
        except RequestError as error:
            if question.as_json:
                print_object({"error": error_object(error), "ms": _milliseconds(begun)})
            raise
        milliseconds = _milliseconds(begun)
    if question.as_json:
        print_json(f'{{"data":{compact_json(bytes(data))},"ms":{milliseconds}}}')
    else:
        print_json(pretty_json(bytes(data)))
    return Exit.DONE


def error_object(error: RequestError) -> dict[str, object]:
    """Return an error as it stands on the wire."""
    return {"code": error.code, "message": error.message, **error.details}


def _milliseconds(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1000, 3)
