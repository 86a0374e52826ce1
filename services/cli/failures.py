"""What went wrong, in a line that says what to do next, and the exit code for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from broker.protocol.errors import Reason
from services.cli.exits import CommandError, Exit
from services.cli.words import in_words_of_the_command
from services.sdk import (
    CannotConnect,
    ConnectionLost,
    Disconnected,
    Draining,
    Expired,
    Forbidden,
    IdentifyFailed,
    ListenerOverflow,
    MeshError,
    MessageTooBig,
    NoRoute,
    RequestError,
    TlsFailed,
    UnknownEvent,
)
from services.sdk.payloads import PayloadError

__all__ = ["Failure", "explain", "leaves"]


@attrs.frozen
class Failure:
    """How a command ends that failed.

    Attributes:
        text: one line, for stderr.
        exit: the exit code.
    """

    text: str
    exit: Exit


_START: Final = (
    "is the broker running, and is this its address? Start one with `switchboard serve`, or name "
    "another with --url or --context"
)
_CREDENTIAL: Final = (
    "look at --token, SWITCHBOARD_TOKEN, or `switchboard context show`; a token that is good for "
    "some groups only needs --as GROUP"
)


def explain(error: BaseException) -> Failure | None:
    """Return how a command ends with this error; None where it is a fault of the program."""
    match error:
        case CommandError():
            return Failure(str(error), error.exit)
        case IdentifyFailed():
            return Failure(f"{error}; {_CREDENTIAL}", Exit.NO_BROKER)
        case Disconnected():
            return Failure(f"{error}{_after_disconnect(error)}", Exit.NO_BROKER)
        case TlsFailed():
            return Failure(in_words_of_the_command(str(error)), Exit.NO_BROKER)
        case CannotConnect():
            text = in_words_of_the_command(str(error))
            # Where somebody has answered, the answer says what to do.
            advice = f"; {_START}" if text.startswith("cannot connect") else ""
            return Failure(f"{text}{advice}", Exit.NO_BROKER)
        case ConnectionLost():
            return Failure(f"{error}; try again, or see the broker's log", Exit.NO_BROKER)
        case Expired():
            return Failure(f"{error}; --timeout gives it more time", Exit.EXPIRED)
        case RequestError():
            return Failure(f"{error}{_after_refusal(error)}", Exit.FAILED)
        case ListenerOverflow():
            return Failure(
                f"{error.args[0].partition(';')[0]}; listen to fewer events, or write them to a "
                "file",
                Exit.FAILED,
            )
        case MessageTooBig():
            return Failure(f"{error}; limits.message_bytes of the broker allows more", Exit.FAILED)
        case MeshError() | PayloadError():
            return Failure(str(error), Exit.FAILED)
        case _:
            return None


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Return the errors that a group is made of; one that is no group is its own only leaf."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def _after_disconnect(error: Disconnected) -> str:
    if error.reason == Reason.SERVER_RESTART:
        return "; try again when it is back"
    if error.reason == Reason.TRY_AGAIN_LATER:
        return "; try again later, or raise limits.connections"
    return ""


def _after_refusal(error: RequestError) -> str:
    match error:
        case NoRoute():
            return "; `switchboard services` lists who is there"
        case Forbidden():
            return "; it takes a token with that permission"
        case UnknownEvent():
            return "; look at the spelling: case counts"
        case Draining():
            return "; try again when it is back"
        case _:
            return ""
