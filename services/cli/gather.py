"""`switchboard gather`: ask many, show their replies as they come."""

from __future__ import annotations

from functools import partial

import attrs
import click
import msgspec
from rich.text import Text

from services.cli.data import DATA_HELP, read_data
from services.cli.exits import CommandError, Exit
from services.cli.help import ASKING_EXITS, epilog
from services.cli.options import timeout_option
from services.cli.output import note, print_json, print_line, print_object, waiting
from services.cli.request import error_object
from services.cli.running import run_client
from services.cli.target import Target, connects
from services.cli.text import compact_json, plain
from services.cli.words import in_words_of_the_command
from services.sdk import Missing, Replies, Reply, RequestError, Source

__all__ = ["Survey", "gather", "survey"]


@attrs.frozen
class Survey:
    """A question to many: to everyone, where no group is said."""

    event: str
    data: msgspec.Raw | None = None
    group: str | None = None
    timeout: float = 30.0
    as_json: bool = False


@click.command(
    epilog=epilog(
        "switchboard gather STATS --group shards",
        "switchboard gather VERSION --timeout 2",
        "switchboard gather STATS --group shards --json | jq .data.users",
        exits={**ASKING_EXITS, Exit.FAILED: "somebody gave no answer, or nobody is there"},
    )
)
@click.argument("event")
@click.argument("data", required=False)
@click.option("-g", "--group", metavar="GROUP", help="Ask the members of a group; else everyone.")
@timeout_option("How long replies are of use.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each member.")
@connects
def gather(
    *,
    target: Target,
    event: str,
    data: str | None,
    group: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Ask all members of a group, or everyone, and show their replies as they come.

    Those who give no answer are named at the end, with the reason.
    """
    questions = Survey(event, read_data(data), group, timeout, as_json)
    run_client(partial(survey, target, questions))


gather.help = f"{gather.help}\n\n{DATA_HELP}"


async def survey(target: Target, questions: Survey) -> Exit:
    """Ask, and show what comes."""
    async with target.connect() as mesh:
        try:
            replies = mesh.gather(
                questions.event,
                questions.data,
                group=questions.group,
                timeout=questions.timeout,
                returns=msgspec.Raw,
            )
        except ValueError as error:
            raise CommandError(in_words_of_the_command(str(error)), Exit.USAGE) from None
        with waiting(f"waiting for {questions.group or 'everyone'}"):
            async with replies:
                async for reply in replies:
                    _show(reply, as_json=questions.as_json)
    for missing in replies.missing:
        _show_missing(missing, as_json=questions.as_json)
    answered = len(replies.members) - len(replies.missing)
    if not questions.as_json:
        note(f"{answered} of {len(replies.members)} answered{_reasons(replies)}")
    return Exit.FAILED if replies.missing else Exit.DONE


def _show(reply: Reply[msgspec.Raw], *, as_json: bool) -> None:
    data = compact_json(bytes(reply.data))
    if as_json:
        source = msgspec.json.encode({"id": reply.source.id, "group": reply.source.group})
        print_json(f'{{"source":{compact_json(source)},"data":{data}}}')
    else:
        print_line(Text.assemble(_who(reply.source), "  ", data))


def _show_missing(missing: Missing, *, as_json: bool) -> None:
    error = missing.error
    if as_json:
        if isinstance(error, RequestError):
            said = error_object(error)
        else:
            said = {"code": missing.code, "message": str(error)}
        source = {"id": missing.source.id, "group": missing.source.group}
        print_object({"source": source, "error": said})
    else:
        message = error.message if isinstance(error, RequestError) else str(error)
        said_plainly = plain(f"{missing.code}: {message}" if message else missing.code)
        print_line(Text.assemble(_who(missing.source), "  ", (said_plainly, "red")))


def _who(source: Source) -> Text:
    return Text.assemble((plain(source.group), "green"), " ", (plain(source.id), "dim"))


def _reasons(replies: Replies[msgspec.Raw]) -> str:
    counts: dict[str, int] = {}
    for missing in replies.missing:
        counts[missing.code] = counts.get(missing.code, 0) + 1
    if not counts:
        return ""
    return "; the others: " + ", ".join(f"{count} {code}" for code, count in counts.items())
