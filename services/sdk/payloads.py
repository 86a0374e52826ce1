"""Data to and from JSON, typed where a type is given.

msgspec does both directions in one pass: attrs classes (their validators and converters are run),
dataclasses, msgspec models, and whatever of the standard library has a form in JSON (datetimes,
UUIDs, enums, unions, ...). It is strict: text is not taken for a number. Its errors name the place,
as in ``Expected `int`, got `str` - at `$.lines[0].count` ``. cattrs, which reads the settings,
would list every fault at once, but loses the text of a validator's error and takes `"7"` for 7.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from broker.protocol.codec import encode, parse_data, to_error
from broker.protocol.frames import Error

__all__ = ["PayloadError", "dump", "load", "load_error"]


class PayloadError(ValueError):
    """Data does not fit the type that was asked for, or has no form in JSON."""


def dump(value: object) -> Raw | UnsetType:
    """Write data as JSON; None is left out, since absent and null mean the same.

    Raises:
        PayloadError: something in it has no form in JSON.
    """
    if value is None:
        return UNSET
    try:
        return Raw(encode(value))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PayloadError(f"not to be written as JSON: {error}") from error


def load(data: Raw | UnsetType, kind: Any = None) -> Any:  # noqa: ANN401 - any type form goes in
    """Read data, into `kind` where one is given.

    Raises:
        PayloadError: it does not fit.
    """
    raw = data if isinstance(data, Raw) else b"null"
    try:
        return parse_data(raw) if kind is None else parse_data(raw, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PayloadError(str(error)) from error


def load_error(error: Raw | UnsetType) -> Error | None:
    """Read the `error` of a REPLY or a DISCONNECT; None where there is none.

    Never raises: it comes from a peer, and is read where nothing may fail. JSON can hold what
    Python values cannot, such as 1e999, or more levels than the stack has.
    """
    if not isinstance(error, Raw):
        return None
    try:
        return to_error(parse_data(error))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return Error("UNKNOWN", "what the error says cannot be read")
