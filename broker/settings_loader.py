"""TOML and environment to `Settings`, and everything that is wrong with them at once.

Every problem is one line that begins with the place, such as `limits.message_bytes: must be >= 1024
(is 5)`. What a secret holds is never repeated, neither in a problem nor in the effective settings.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import GenericAlias
from typing import Any, Final, TypeAlias, get_args, get_origin

import attrs
from cattrs import BaseConverter, Converter, ForbiddenExtraKeysError
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from broker.core.authentication import hash_token
from broker.core.settings import ListenerSettings, Settings, TokenSettings
from broker.protocol.errors import SwitchboardError

__all__ = [
    "TOKEN_VARIABLE",
    "SettingsError",
    "effective_toml",
    "load_settings",
    "token_table",
]

TOKEN_VARIABLE: Final = "SWITCHBOARD_TOKEN"  # noqa: S105 - the variable's name, not a token

Place: TypeAlias = tuple[str | int, ...]
Problem: TypeAlias = tuple[Place, str]
StructureHook: TypeAlias = Callable[[object, object], object]

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")

# What TOML 1.0 promises to hold; tomllib itself has no bound.
_INTEGER_BOUND: Final = 2**63

_TOML_NAMES: Final = {
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    str: "a string",
    list: "a list",
    dict: "a table",
}


class SettingsError(SwitchboardError):
    """The configuration can't be used.

    Attributes:
        problems: one line each, in the order in which they stand in the file.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load_settings(
    path: Path | None, environ: Mapping[str, str], *, listen: Sequence[str] = ()
) -> Settings:
    """Read the settings.

    The token in `SWITCHBOARD_TOKEN` is accepted beside those of the file. It may join any group,
    unless the file lists the same token with groups of its own.

    Args:
        path: a TOML file; None for the defaults.
        environ: where `SWITCHBOARD_TOKEN` is looked up.
        listen: addresses that take the place of the file's listeners.

    Returns:
        The settings. They have no token when neither file nor environment names one.

    Raises:
        SettingsError: with every problem found.
    """
    document = {} if path is None else _read_toml(path)
    found = list(_duplicates(document))
    settings = Settings()
    try:
        settings = _CONVERTER.structure(document, Settings)
    except ClassValidationError as error:
        found += _walk(error, ())
    problems = _lines(document, found)

    if listen:
        try:
            settings = attrs.evolve(settings, listeners=tuple(map(ListenerSettings, listen)))
        except ValueError as error:
            problems.append(f"--listen: {error}")
        problems += [f"--listen: {address} is given twice" for address in _repeated(listen)]

    token = environ.get(TOKEN_VARIABLE)
    if token:
        if token != token.strip() or not token.isprintable():
            problems.append(
                f"{TOKEN_VARIABLE}: has white space around it or unprintable characters in it"
            )
        elif hash_token(token) not in {known.sha256 for known in settings.tokens}:
            added = TokenSettings(sha256=hash_token(token), name=TOKEN_VARIABLE)
            settings = attrs.evolve(settings, tokens=(*settings.tokens, added))

    if problems:
        raise SettingsError(tuple(problems))
    return settings


def effective_toml(settings: Settings) -> str:
    """The settings as TOML for people to read, with defaults marked and secrets left out."""
    return "\n".join(_table_lines(settings, "")).strip()


def token_table(token: TokenSettings) -> str:
    """The lines of a configuration that let a token in."""
    table = {"name": token.name, "sha256": token.sha256, "groups": token.groups}
    lines = (f"{key} = {_toml(value)}" for key, value in table.items() if value)
    return "\n".join(("[[tokens]]", *lines))


# -- reading ---------------------------------------------------------------------------------------


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError((f"can't be read: {(error.strerror or str(error)).lower()}",)) from None
    try:
        # A byte order mark is what some editors put before UTF-8; it means nothing.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(
            (f"line {line}: is not UTF-8 (byte 0x{content[error.start]:02x})",)
        ) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError((_syntax_problem(str(error), text),)) from None
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits; brackets nested past the interpreter's stack.
        what = "nested too deep" if isinstance(error, RecursionError) else "a number is too long"
        raise SettingsError((what,)) from None


def _syntax_problem(message: str, text: str) -> str:
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if found is not None:
        what, line, column = found.groups()
    else:
        what = message.removesuffix(" (at end of document)")
        lines = text.rstrip("\n").split("\n")
        line, column = str(len(lines)), str(len(lines[-1]) + 1)
    # tomllib shows a table's name as a tuple.
    what = re.sub(
        r"\((('[^']*'(, )?)+),?\)", lambda m: ".".join(re.findall(r"'(.*?)'", m[1])), what
    )
    return f"line {line}, column {column}: {what[:1].lower()}{what[1:]}"


# -- structuring: stricter than cattrs by itself, which would take "5" for an integer --------------


def _scalar_hook(kind: type) -> StructureHook:
    def structure(value: object, _kind: object) -> object:
        # By `type`, since to isinstance a bool is an int.
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise TypeError(f"must be {_TOML_NAMES[kind]}, not {_toml_name(value)}")
        if isinstance(value, int) and not -_INTEGER_BOUND <= value < _INTEGER_BOUND:
            raise ValueError("is out of range")
        return value

    return structure


def _sequence_hook(kind: type, converter: BaseConverter) -> StructureHook:
    element = get_args(kind)[0]
    list_of = GenericAlias(list, (element,))
    structure_list = converter.get_structure_hook(list_of)

    def structure(value: object, _kind: object) -> object:
        if not isinstance(value, list):
            what = (
                "a list of tables (in double brackets, [[…]])" if attrs.has(element) else "a list"
            )
            raise TypeError(f"must be {what}, not {_toml_name(value)}")
        return tuple(structure_list(value, list_of))

    return structure


def _toml_name(value: object) -> str:
    return _TOML_NAMES.get(type(value), "a date or time")


def _table_hook(kind: type, converter: BaseConverter) -> StructureHook:
    attrs.resolve_types(kind)
    hooks: dict[str, Any] = {
        field.name: override(struct_hook=_field_hook(field, converter))
        for field in attrs.fields(kind)
    }
    structure_table: Callable[..., object] = make_dict_structure_fn(
        kind, converter, _cattrs_forbid_extra_keys=True, **hooks
    )

    def structure(value: object, _kind: object) -> object:
        if not isinstance(value, dict):
            raise TypeError(f"must be a table, not {_toml_name(value)}")
        return structure_table(value, kind)

    return structure


def _field_hook(field: attrs.Attribute[Any], converter: BaseConverter) -> StructureHook:
    """Structure one field and validate it at once.

    The class's own constructor runs the validators too, but stops at the first that fails.
    """
    structure_value = converter.get_structure_hook(field.type)

    def structure(value: object, _kind: object) -> object:
        structured = structure_value(value, field.type)
        if field.validator is not None:
            field.validator(None, field, structured)
        return structured

    return structure


def _is_tuple(kind: object) -> bool:
    return get_origin(kind) is tuple


def _make_converter() -> Converter:
    converter = Converter()
    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, _scalar_hook(kind))
    converter.register_structure_hook_factory(_is_tuple, _sequence_hook)
    converter.register_structure_hook_factory(attrs.has, _table_hook)
    return converter


_CONVERTER: Final = _make_converter()


# -- problems --------------------------------------------------------------------------------------


def _walk(error: BaseException, place: Place) -> Iterator[Problem]:
    """The leaves of cattrs' tree of errors."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _walk(inner, (*place, *_step(inner)))
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
    here = [field.name for field in attrs.fields(table)]
    if close := difflib.get_close_matches(key, here, n=1):
        return f"unknown key; did you mean {close[0]}?"
    elsewhere = [place for place, name in _known_keys(Settings, "") if name == key]
    if elsewhere:
        return f"unknown key here; did you mean {elsewhere[0]}?"
    return f"unknown key; known here: {', '.join(here)}"


def _known_keys(table: type, prefix: str) -> Iterator[tuple[str, str]]:
    attrs.resolve_types(table)
    for field in attrs.fields(table):
        yield f"{prefix}{field.name}", field.name
        inner, suffix = field.type, "."
        if get_origin(inner) is tuple:
            inner, suffix = get_args(inner)[0], "[]."
        if isinstance(inner, type) and attrs.has(inner):
            yield from _known_keys(inner, f"{prefix}{field.name}{suffix}")


def _duplicates(document: Mapping[str, Any]) -> Iterator[Problem]:
    """What is right by itself and wrong twice.

    Looked for in the document, not in the settings, so that it is told beside other problems.
    """
    for table, key, what in (
        ("tokens", "sha256", "the same token as"),
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


def _repeated(addresses: Sequence[str]) -> list[str]:
    fixed = [address for address in addresses if not _is_any_port(address)]
    return sorted({address for address in fixed if fixed.count(address) > 1})


def _is_any_port(address: str) -> bool:
    return address.startswith("tcp://") and address.endswith(":0")


def _lines(document: Mapping[str, Any], problems: Iterable[Problem]) -> list[str]:
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
            key = step if _BARE_KEY.fullmatch(step) else _toml(step)
            shown += f".{key}" if shown else key
    return shown


# -- showing ---------------------------------------------------------------------------------------


def _table_lines(table: attrs.AttrsInstance, place: str) -> Iterator[str]:
    """One table: its own values first, then the tables in it, as TOML wants it."""
    inner: list[tuple[str, attrs.AttrsInstance]] = []
    for field in attrs.fields(type(table)):
        value = getattr(table, field.name)
        name = f"{place}.{field.name}" if place else field.name
        if attrs.has(type(value)):
            inner.append((f"[{name}]", value))
        elif isinstance(value, tuple) and value and attrs.has(type(value[0])):
            inner += [(f"[[{name}]]", entry) for entry in value]
        elif not field.repr:
            yield f"# {field.name} is not shown"
        elif value is None:
            yield f"# {field.name} is not set"
        else:
            mark = "  # default" if value == field.default else ""
            yield f"{field.name} = {_toml(value)}{mark}"
    for heading, entry in inner:
        yield from ("", heading, *_table_lines(entry, heading.strip("[]")))


def _toml(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's strings are TOML's too, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")
