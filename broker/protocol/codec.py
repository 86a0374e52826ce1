"""Bytes to frames and back: the sole owner of the JSON key names.

Operations: `decode` (one message), `decode_lines` (a block of whole messages, in one call),
`encode` (an `Envelope`), `encode_frame` and `decode_frame` (the attrs models of `frames`).

Goals: one typed decode an inbound message and one encode an outgoing frame, both in C; `data` is
checked to be JSON but never turned into Python values, and goes out with the bytes it came with.
All else is built anew from what was understood, so a doubled key (the last counts) or an unknown
property (not carried) can never mean one thing to the broker and another to a peer.

Cost: linear in the message. The common case makes no Python object but the envelope and its
strings; a message that fails the typed decode is read a second time, slowly, to say precisely what
is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from broker.protocol.errors import ErrorCode, NestingError, Reason, RemoteProtocolError
from broker.protocol.frames import Error, Frame, Intent, OpCode, Pick, Source, Target
from broker.protocol.limits import (
    MAX_ID_LENGTH,
    MAX_NAME_LENGTH,
    MAX_NESTING,
    MAX_TIMEOUT_MS,
    MAX_TRACE_LENGTH,
)
from broker.protocol.nesting import LEAST_LEVEL, is_shallow, too_deep

__all__ = [
    "REFUSED",
    "Envelope",
    "EnvelopeIntent",
    "EnvelopeSource",
    "Message",
    "Refusal",
    "decode",
    "decode_frame",
    "decode_last",
    "decode_lines",
    "decode_shallow",
    "disconnect_message",
    "encode",
    "encode_frame",
    "encode_lines",
    "locate_error",
    "make_decoder",
    "make_line_decoder",
    "parse_data",
    "to_error",
    "to_frame",
]

T = TypeVar("T")

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
# An empty identifier is let through here: with GLOBAL it means nothing, elsewhere the router says
# more clearly than a length check what is wrong.
Identifier = Annotated[str, Meta(max_length=MAX_NAME_LENGTH)]
Timeout = Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_MS)]
Trace = Annotated[str, Meta(min_length=1, max_length=MAX_TRACE_LENGTH)]

# Envelopes hold no reference cycles, so the collector need not look at them (`gc=False`): at
# several hundred thousand a second it would otherwise be a cost.


class EnvelopeIntent(Struct, omit_defaults=True, gc=False):
    """`Intent` on the hot path."""

    target: Literal["GLOBAL", "GROUP", "DIRECT"]
    identifier: Identifier | None = None
    pick: Literal["ALL", "ONE"] | None = None
    key: Name | None = None


class EnvelopeSource(Struct, gc=False):
    """`Source` on the hot path."""

    id: str
    group: str


class Envelope(Struct, omit_defaults=True, gc=False):
    """`Frame` on the hot path: everything typed, `data` and `error` as the bytes they came in.

    The order of the properties is the one that they are written in.

    Attributes:
        source: as it is read. The broker, which writes it into every frame that it forwards, puts
            its bytes in its place.
    """

    op: Annotated[int, Meta(ge=0, le=5)]
    id: Id | None = None
    event: Name | None = None
    data: Raw | UnsetType = UNSET
    intent: EnvelopeIntent | None = None
    source: EnvelopeSource | None = None
    timeout: Timeout | None = None
    error: Raw | UnsetType = UNSET
    trace: Trace | None = None


# Stands where `op` stands in an envelope, so that one comparison tells both apart.
REFUSED: Final = -1


class Refusal(Struct, gc=False):
    """A message that is a frame but wrong in meaning: its sender gets a REPLY with this error.

    Attributes:
        retry_after: milliseconds, after which the same frame would be right.
    """

    code: ErrorCode
    message: str
    id: str | None = None
    event: str | None = None
    op: int = REFUSED
    retry_after: int | None = None


Message: TypeAlias = Envelope | Refusal

_decode = msgspec.json.Decoder(Envelope).decode
_decode_lines = msgspec.json.Decoder(Envelope).decode_lines
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_op = msgspec.json.Decoder(int).decode
_PROPERTIES: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    field.encode_name: msgspec.json.Decoder(field.type)
    for field in msgspec.structs.fields(Envelope)
    if field.name != "op"
}

# Properties that are one of a few words, by their path in what is decoded.
_CHOICES: Final = {".target": ", ".join(Target), ".pick": ", ".join(Pick)}

encode = msgspec.json.Encoder().encode
"""Write an envelope (or any msgspec model) as compact JSON."""

_encode_lines = msgspec.json.Encoder().encode_lines

parse_data = msgspec.json.decode
"""Read the bytes of a `data` property into Python values, or into `type=`."""


def decode_shallow(message: bytes) -> Message:
    """Read one message that is too small to be nested too deeply.

    Returns:
        The envelope, or a `Refusal` where it is a frame but some property of it is wrong.

    Raises:
        RemoteProtocolError: not valid UTF-8, not JSON, not an object, no `op` or an unknown one.
    """
    try:
        # msgspec does not look at the bytes of strings that it only skips over, such as those in
        # `data`; a peer would choke on them (RFC 8259 section 8.1: JSON text is UTF-8).
        if not message.isascii():
            message.decode()
        return _decode(message)
    except msgspec.ValidationError:
        return _examine(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_frame(error) from error


@lru_cache
def make_decoder(nesting: int) -> Callable[[bytes], Message]:
    """Return `decode`, with a bound of its own for the depth of `data` and of `error`."""
    least = nesting * LEAST_LEVEL

    def decode(message: bytes) -> Message:
        """Read one message.

        Returns:
            The envelope, or a `Refusal` where it is a frame but some property of it is wrong.

        Raises:
            RemoteProtocolError: not valid UTF-8, not JSON, not an object, nested too deeply, no
                `op` or an unknown one.
        """
        decoded = decode_shallow(message)
        if len(message) > least:
            if isinstance(decoded, Envelope):
                _check_nesting(decoded.data, decoded.error, nesting)
            else:
                # What is wrong may be one of these, or both.
                properties = _decode_object(message)
                _check_nesting(properties.get("data"), properties.get("error"), nesting)
        return decoded

    return decode


@lru_cache
def make_line_decoder(nesting: int) -> Callable[[bytes], list[Envelope]]:
    """Return `decode_lines`, with a bound of its own for the depth of `data` and of `error`."""
    least = nesting * LEAST_LEVEL

    def decode_lines(block: bytes) -> list[Envelope]:
        """Read a block of whole messages, separated by white space or by nothing, in one call.

        Raises:
            ValueError, RecursionError, NestingError: something in the block is not as it should be.
                Which message it is, and what the messages before it say, is found by `decode` on
                each.
        """
        if not block.isascii():
            block.decode()
        envelopes = _decode_lines(block)
        if len(block) > least and not is_shallow(block, nesting):
            for envelope in envelopes:
                _check_nesting(envelope.data, envelope.error, nesting)
        return envelopes

    return decode_lines


decode = make_decoder(MAX_NESTING)
decode_lines = make_line_decoder(MAX_NESTING)


def _check_nesting(data: object, error: object, nesting: int) -> None:
    if (isinstance(data, Raw) and too_deep(data, nesting)) or (
        isinstance(error, Raw) and too_deep(error, nesting)
    ):
        raise NestingError


def encode_lines(envelopes: Sequence[Envelope]) -> list[bytes] | None:
    """Write envelopes as compact JSON, each followed by a newline, in two calls.

    Returns:
        A line an envelope; None where `data` with line breaks of its own makes the lines ambiguous.
    """
    # Of all ways to cut bytes into lines this one is the fastest, by a factor of four.
    lines = BytesIO(_encode_lines(envelopes)).readlines()
    return lines if len(lines) == len(envelopes) else None


def _no_frame(error: Exception) -> RemoteProtocolError:
    """What is the matter with bytes that are not JSON."""
    if isinstance(error, UnicodeDecodeError):
        problem = f"not valid UTF-8: {error.reason} (byte {error.start})"
        return RemoteProtocolError(Reason.INVALID_PAYLOAD, problem, close_code=1007)
    if isinstance(error, RecursionError):
        return NestingError()
    if "truncated" in str(error):
        # What msgspec says of half a surrogate pair as well.
        problem = "not JSON: it ends too early, or a string holds half a surrogate pair"
        return RemoteProtocolError(Reason.INVALID_PAYLOAD, problem)
    return RemoteProtocolError(Reason.INVALID_PAYLOAD, f"not JSON: {error}")


def _examine(message: bytes) -> Message:
    """Read a message again that the typed decode refused, property by property.

    The typed decode stops at the first fault, which may stand in the first of two doubled keys, or
    before bytes that are not even JSON. Here the last of doubled keys counts, as everywhere.
    """
    try:
        properties = _decode_object(message)
    except msgspec.ValidationError as error:
        raise RemoteProtocolError(
            Reason.INVALID_PAYLOAD, f"a frame is a JSON object: {_plain(error)}"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_frame(error) from error
    op = _examine_op(properties)
    values: dict[str, Any] = {}
    wrong: tuple[str, str] | None = None
    for name, decoder in _PROPERTIES.items():
        if name in properties:
            try:
                values[name] = decode_last(decoder, properties[name])
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                wrong = wrong or (name, locate_error(name, error))
    if wrong is None:
        return Envelope(op, **values)
    code = ErrorCode.INVALID_INTENT if wrong[0] == "intent" else ErrorCode.INVALID_FRAME
    return Refusal(code, wrong[1], id=values.get("id"), event=values.get("event"))


def decode_last(decoder: msgspec.json.Decoder[T], data: Raw) -> T:
    """Read an object of which, where a key is doubled, the last one counts, even if others are bad.

    Raises:
        msgspec.DecodeError: what counts is wrong, too.
    """
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:
        try:
            properties = _decode_object(data)
        except msgspec.DecodeError:
            properties = None
        if properties is None:
            raise
        return decoder.decode(encode(properties))


def _examine_op(properties: dict[str, Raw]) -> int:
    if "op" not in properties:
        raise RemoteProtocolError(Reason.INVALID_PAYLOAD, "a frame needs the property op")
    try:
        op = _decode_op(properties["op"])
    except msgspec.DecodeError as error:
        raise RemoteProtocolError(Reason.INVALID_PAYLOAD, f"op: {_plain(error)}") from error
    if op not in OpCode.__members__.values():
        raise RemoteProtocolError(
            Reason.UNKNOWN_OP, f"op: {op if abs(op) < 10**9 else 'that number'} is none of 0 to 5"
        )
    return op


def locate_error(name: str, error: Exception) -> str:
    """Turn msgspec's "Expected `str`, got `int` - at `$.target`" into a path and a sentence."""
    text, _, path = _lower(error).partition(" - at `$")
    path = path.rstrip("`")
    if text.startswith("invalid enum value") and path in _CHOICES:
        text = f"{text.removeprefix('invalid enum value ')} is none of {_CHOICES[path]}"
    return f"{name}{path}: {text.replace('`', '')}"


def _plain(error: Exception) -> str:
    return _lower(error).replace("`", "")


def _lower(error: Exception) -> str:
    text = str(error)
    return text[:1].lower() + text[1:]


def disconnect_message(reason: Reason, message: str = "") -> bytes:
    """Write a DISCONNECT: the reason as a bare string, as the original's clients expect it.

    Args:
        reason: why the connection ends.
        message: for people: what was wrong, and what to do; it stands in `error`.
    """
    error = Raw(encode({"code": reason, "message": message})) if message else UNSET
    return encode(Envelope(op=OpCode.DISCONNECT, data=Raw(encode(reason)), error=error))


def encode_frame(frame: Frame) -> bytes:
    """Write a frame as compact JSON.

    Raises:
        TypeError: `data` holds something that JSON has no form for.
        RecursionError: `data` is nested too deeply.
    """
    intent = frame.intent
    envelope = Envelope(
        op=int(frame.op),
        id=frame.id,
        event=frame.event,
        data=UNSET if frame.data is None else Raw(encode(frame.data)),
        intent=None
        if intent is None
        else EnvelopeIntent(
            target=intent.target.value,
            identifier=intent.identifier,
            pick=None if intent.pick is None else intent.pick.value,
            key=intent.key,
        ),
        source=None
        if frame.source is None
        else EnvelopeSource(id=frame.source.id, group=frame.source.group),
        timeout=frame.timeout,
        error=UNSET if frame.error is None else Raw(encode(_error_object(frame.error))),
        trace=frame.trace,
    )
    return encode(envelope)


def _error_object(error: Error) -> dict[str, Any]:
    return {**error.details, "code": error.code, "message": error.message}


def decode_frame(message: bytes) -> Frame:
    """Read one message into a `Frame`.

    Raises:
        RemoteProtocolError: it is no frame, or some property of it is wrong.
    """
    envelope = decode(message)
    if isinstance(envelope, Refusal):
        raise RemoteProtocolError(Reason.INVALID_PAYLOAD, envelope.message)
    return to_frame(envelope)


def to_frame(envelope: Envelope) -> Frame:
    """Turn the hot path's form into the one for people.

    Raises:
        RemoteProtocolError: GROUP or DIRECT without an identifier.
    """
    intent, source = envelope.intent, envelope.source
    try:
        return Frame(
            op=OpCode(envelope.op),
            id=envelope.id,
            event=envelope.event,
            data=None if envelope.data is UNSET else parse_data(envelope.data),
            intent=None
            if intent is None
            else Intent(
                Target(intent.target),
                intent.identifier or None,
                pick=None if intent.pick is None else Pick(intent.pick),
                key=intent.key,
            ),
            source=None if source is None else Source(id=source.id, group=source.group),
            timeout=envelope.timeout,
            error=None if envelope.error is UNSET else to_error(parse_data(envelope.error)),
            trace=envelope.trace,
        )
    except ValueError as error:
        raise RemoteProtocolError(Reason.INVALID_PAYLOAD, str(error)) from error


def to_error(value: object) -> Error | None:
    """Read the `error` property, leniently: services in any language write it."""
    if value is None:
        return None
    if not isinstance(value, dict):
        return Error(code="UNKNOWN", message=str(value))
    details = {name: detail for name, detail in value.items() if name not in ("code", "message")}
    return Error(str(value.get("code", "UNKNOWN")), str(value.get("message", "")), details)
