"""TOML and environment to `Settings`, and everything that is wrong with them at once.

Every problem is one line that begins with the place, such as `limits.message_bytes: must be >= 1024
(is 5)`. What a secret holds is never repeated, neither in a problem nor in the effective settings.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import GenericAlias
from typing import Any, Final, TypeAlias, get_args, get_origin

import attrs
from cattrs import BaseConverter, Converter
from cattrs.errors import ClassValidationError
from cattrs.gen import make_dict_structure_fn, override

from broker.core.access_settings import FROM_FILE, TokenSettings
from broker.core.authentication import hash_token
from broker.core.jwt_tokens import JwtVerifier
from broker.core.settings import ListenerSettings, Settings
from broker.protocol.errors import SwitchboardError
from broker.settings_problems import Problem, duplicates, lines_of, problems_in, repeated

__all__ = ["TOKEN_VARIABLE", "SettingsError", "load_settings"]

TOKEN_VARIABLE: Final = "SWITCHBOARD_TOKEN"  # noqa: S105 - the variable's name, not a token

# The settings that are paths of files.
_PATHS: Final = ("certificate", "key", "client_ca", "key_file", "jwks_file")

StructureHook: TypeAlias = Callable[[object, object], object]

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
    found = list(duplicates(document))
    settings = Settings()
    try:
        settings = _CONVERTER.structure(document, Settings)
    except ClassValidationError as error:
        found += problems_in(error, ())
    else:
        settings = _with_paths(settings, Path() if path is None else path.parent)
        settings, problem = _with_keys(settings)
        found += problem
    problems = lines_of(document, found)

    if listen:
        try:
            settings = attrs.evolve(settings, listeners=tuple(map(ListenerSettings, listen)))
        except ValueError as error:
            problems.append(f"--listen: {error}")
        problems += [f"--listen: {address} is given twice" for address in repeated(listen)]

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


# -- the files that are named ----------------------------------------------------------------------


def _with_paths(settings: Settings, folder: Path) -> Settings:
    """Paths are meant as seen from the folder of the configuration, wherever `serve` runs."""

    def resolve(table: Any) -> Any:  # noqa: ANN401 - any settings that name files
        named = {name: getattr(table, name, None) for name in _PATHS}
        return attrs.evolve(table, **{n: str(folder / path) for n, path in named.items() if path})

    listeners = tuple(map(resolve, settings.listeners))
    jwt = None if settings.jwt is None else resolve(settings.jwt)
    return attrs.evolve(settings, listeners=listeners, jwt=jwt)


def _with_keys(settings: Settings) -> tuple[Settings, list[Problem]]:
    """Read the keys that JWTs are verified by."""
    jwt = settings.jwt
    if jwt is None:
        return settings, []
    name = "key_file" if jwt.jwks_file is None else "jwks_file"
    path = Path(str(getattr(jwt, name)))
    try:
        jwt = attrs.evolve(jwt, keys=path.read_bytes())
        JwtVerifier(jwt)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        return settings, [(("jwt", name), f"{str(path)!r} can't be read: {why}")]
    except ValueError as error:
        return settings, [(("jwt", name), f"{str(path)!r} {error}")]
    return attrs.evolve(settings, jwt=jwt), []


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
        field.name: override(omit=True)
        if FROM_FILE in field.metadata
        else override(struct_hook=_field_hook(field, converter))
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
