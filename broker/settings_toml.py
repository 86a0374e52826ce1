"""Settings as TOML, for people to read and to paste."""

from __future__ import annotations

import json
from collections.abc import Iterator

import attrs

from broker.core.access_settings import FROM_FILE, PermissionSettings, TokenSettings
from broker.core.settings import Settings

__all__ = ["effective_toml", "token_table", "toml_value"]


def effective_toml(settings: Settings) -> str:
    """The settings as TOML for people to read, with defaults marked and secrets left out."""
    return "\n".join(_table_lines(settings, "")).strip()


def token_table(token: TokenSettings) -> str:
    """The lines of a configuration that let a token in."""
    table = {"name": token.name, "sha256": token.sha256, "groups": token.groups}
    lines = [f"{key} = {toml_value(value)}" for key, value in table.items() if value]
    plain = PermissionSettings()
    allowed = [
        f"{field.name} = {toml_value(getattr(token.permissions, field.name))}"
        for field in attrs.fields(PermissionSettings)
        if getattr(token.permissions, field.name) != getattr(plain, field.name)
    ]
    if allowed:
        lines.append(f"permissions = {{ {', '.join(allowed)} }}")
    return "\n".join(("[[tokens]]", *lines))


def _table_lines(table: attrs.AttrsInstance, place: str) -> Iterator[str]:
    """One table: its own values first, then the tables in it, as TOML wants it."""
    inner: list[tuple[str, attrs.AttrsInstance]] = []
    for field in attrs.fields(type(table)):
        if FROM_FILE in field.metadata:
            continue
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
            yield f"{field.name} = {toml_value(value)}{mark}"
    for heading, entry in inner:
        yield from ("", heading, *_table_lines(entry, heading.strip("[]")))


def toml_value(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(toml_value, value))}]"
    # JSON's strings are TOML's too, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")
