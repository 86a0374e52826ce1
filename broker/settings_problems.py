"""What is wrong with a configuration, put into words.

Every problem is one line that begins with the place, such as `limits.message_bytes: must be >= 1024
(is 5)`. What a secret holds is never repeated.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Final, TypeAlias, Union, get_args, get_origin

import attrs
from cattrs import ForbiddenExtraKeysError
from cattrs.errors import AttributeValidationNote, IterableValidationNote

from broker.core.access_settings import FROM_FILE
from broker.core.settings import Settings
from broker.settings_toml import toml_value

__all__ = ["Place", "Problem", "duplicates", "lines_of", "problems_in", "repeated"]

Place: TypeAlias = tuple[str | int, ...]
Problem: TypeAlias = tuple[Place, str]

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


def problems_in(error: BaseException, place: Place) -> Iterator[Problem]:
    """The leaves of cattrs' tree of errors."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from problems_in(inner, (*place, *_step(inner)))
    elif isinstance(error, ForbiddenExtraKeysError):
        for key in error.extra_fields:
            yield (*place, key), _unknown_key(key, error.cl)
    elif isinstance(error, KeyError):
        yield place, "is missing"
    else:
        yield place, _without_python(error)


def _step(error: BaseException) -> Place:
    """What cattrs noted on an error: the field or the index it is about."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (note.name,)
        if isinstance(note, IterableValidationNote):
            return (note.index,)
    return ()


def _without_python(error: BaseException) -> str:
    """What a validator says, without the attribute's name (the place has it) and with the value."""
    text = str(error.args[0]) if error.args else str(error)
    if found := re.fullmatch(r"'\w+' must be ([<>]=?) (\S+): (.+)", text, re.DOTALL):
        return f"must be {found[1]} {found[2]} (is {found[3]})"
    if found := re.fullmatch(r"Length of '\w+' must be >= (\d+): (\d+)", text):
        return f"must have at least {found[1]} (has {found[2]})"
    return re.sub(r"^'\w+' (?=must )", "", text)


def _unknown_key(key: str, table: type) -> str:
    here = [field.name for field in _settable(table)]
    if close := difflib.get_close_matches(key, here, n=1):
        return f"unknown key; did you mean {close[0]}?"
    elsewhere = [place for place, name in _known_keys(Settings, "") if name == key]
    if elsewhere:
        return f"unknown key here; did you mean {elsewhere[0]}?"
    return f"unknown key; known here: {', '.join(here)}"


def _known_keys(table: type, prefix: str) -> Iterator[tuple[str, str]]:
    attrs.resolve_types(table)
    for field in _settable(table):
        yield f"{prefix}{field.name}", field.name
        inner, suffix = field.type, "."
        if get_origin(inner) in (UnionType, Union):
            inner = get_args(inner)[0]
        if get_origin(inner) is tuple:
            inner, suffix = get_args(inner)[0], "[]."
        if isinstance(inner, type) and attrs.has(inner):
            yield from _known_keys(inner, f"{prefix}{field.name}{suffix}")


def _settable(table: type) -> Iterator[attrs.Attribute[Any]]:
    """The attributes that a configuration can name."""
    return (field for field in attrs.fields(table) if FROM_FILE not in field.metadata)


def duplicates(document: Mapping[str, Any]) -> Iterator[Problem]:
    """What is right by itself and wrong twice.

    Looked for in the document, not in the settings, so that it is told beside other problems.
    """
    for table, key, what in (
        ("tokens", "sha256", "the same token as"),
        ("certificates", "subject", "the same subject as"),
        ("listeners", "address", "the same address as"),
    ):
        first: dict[str, int] = {}
        entries = document.get(table)
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            value = entry.get(key) if isinstance(entry, dict) else None
            if not isinstance(value, str) or _is_any_port(value):
                continue
            if value in first:
                yield (table, index, key), f"{what} {table}[{first[value]}]"
            else:
                first[value] = index


def repeated(addresses: Sequence[str]) -> list[str]:
    """The addresses that are given more than once."""
    fixed = [address for address in addresses if not _is_any_port(address)]
    return sorted({address for address in fixed if fixed.count(address) > 1})


def _is_any_port(address: str) -> bool:
    return address.startswith(("tcp://", "tls://")) and address.endswith(":0")


def lines_of(document: Mapping[str, Any], problems: Iterable[Problem]) -> list[str]:
    """One line a problem, in the order of the file."""
    ordered = sorted(problems, key=lambda problem: _position(document, problem[0]))
    return [f"{_shown(place)}: {text}" if place else text for place, text in ordered]


def _position(document: object, place: Place) -> tuple[int, ...]:
    """Where a place stands in the file: tables keep the order in which they were written."""
    position: list[int] = []
    for step in place:
        if isinstance(document, dict):
            keys = list(document)
            position.append(keys.index(str(step)) if step in document else len(keys))
            document = document.get(str(step))
        elif isinstance(document, list) and isinstance(step, int):
            position.append(step)
            document = document[step]
    return tuple(position)


def _shown(place: Place) -> str:
    shown = ""
    for step in place:
        if isinstance(step, int):
            shown += f"[{step}]"
        else:
            key = step if _BARE_KEY.fullmatch(step) else toml_value(step)
            shown += f".{key}" if shown else key
    return shown
