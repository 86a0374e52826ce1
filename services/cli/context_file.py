"""`~/.config/switchboard/config.toml`: brokers by name, so that nobody types a token twice.

```toml
current = "local"

[contexts.local]
url = "ws://127.0.0.1:8420"
token = "..."
```

It is written whole, into a new file that takes the place of the old one, readable for its owner
alone. What people have written into it, comments too, stays.
"""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from services.cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

__all__ = ["Context", "ContextFile", "check_context_name", "config_path"]

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def config_path(environ: Mapping[str, str]) -> Path:
    """Where the contexts stand: below `XDG_CONFIG_HOME`, or else `~/.config`."""
    base = environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification has it that a relative path is as good as none.
    directory = Path(base) if base.startswith("/") else Path.home() / ".config"
    return directory / "switchboard" / "config.toml"


def check_context_name(name: str) -> str:
    """Return a context's name as it is.

    Raises:
        CommandError: it is none.
    """
    if _NAME.fullmatch(name) is None:
        raise CommandError(
            f"{name!r} is no name for a context: use letters, digits, '-', '_' and '.'", Exit.USAGE
        )
    return name


@attrs.frozen
class Context:
    """A broker, and who one is there. What is None comes from elsewhere.

    Attributes:
        url: where the broker is.
        token: the credential; never shown.
        group: the group to join.
        ca: a file of authorities to trust.
        cert: a file with the client's certificate.
        key: a file with its private key.
        server_name: whom the broker's certificate is made out to.
    """

    url: str | None = None
    token: str | None = attrs.field(default=None, repr=False)
    group: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None

    def settings(self) -> dict[str, str]:
        """What it says, by key."""
        return {key: value for key, value in attrs.asdict(self).items() if value is not None}


class ContextFile:
    """The contexts.

    Args:
        path: of the file, which need not exist.

    Attributes:
        current: the name of the context that is used unless another is named; may be None.
        contexts: by name.

    Raises:
        CommandError: there is such a file, but it can't be read or is not right.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = self._read()
        try:
            document = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            raise CommandError(f"{path}: {error}; mend it, or remove the file") from None
        self.current, self.contexts = self._interpret(document)

    def get(self, name: str) -> Context:
        """Return a context.

        Raises:
            CommandError: there is none of that name.
        """
        context = self.contexts.get(name)
        if context is None:
            known = ", ".join(self.contexts) or "none yet"
            raise CommandError(
                f"there is no context {name!r} in {self.path} (there: {known}); "
                f"`switchboard context add {name}` makes it",
                Exit.USAGE,
            )
        return context

    def put(self, name: str, context: Context) -> None:
        """Write a context, in the place of one of that name; the first one becomes current."""
        document = self._document()
        if "contexts" not in document:
            document["contexts"] = _super_table()
        document["contexts"][name] = context.settings()
        first = self.current is None
        self._write(_with_current(document, name) if first else document.as_string())

    def use(self, name: str) -> None:
        """Make a context the current one.

        Raises:
            CommandError: there is none of that name.
        """
        self.get(name)
        self._write(_with_current(self._document(), name))

    def remove(self, name: str) -> None:
        """Take a context out; when it was the current one, there is none.

        Raises:
            CommandError: there is none of that name.
        """
        self.get(name)
        document = self._document()
        del document["contexts"][name]
        if self.current == name:
            del document["current"]
        self._write(document.as_string())

    # How it is done.

    def _read(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise CommandError(f"can't read {self.path}: {reason or error}") from None

    def _interpret(self, document: dict[str, Any]) -> tuple[str | None, dict[str, Context]]:
        current, tables = document.get("current"), document.get("contexts", {})
        if not isinstance(current, str | None) or not isinstance(tables, dict):
            raise CommandError(f"{self.path}: current is a name, and contexts is a table of tables")
        return current, {name: self._context(name, table) for name, table in tables.items()}

    def _context(self, name: str, table: object) -> Context:
        known = [field.name for field in attrs.fields(Context)]
        place = f"{self.path}: contexts.{name}"
        if not isinstance(table, dict):
            raise CommandError(f"{place} is no table")
        for key, value in table.items():
            if key not in known:
                raise CommandError(f"{place}.{key}: unknown; there are {', '.join(known)}")
            if not isinstance(value, str):
                # Not the value itself: it may be the token.
                raise CommandError(f"{place}.{key}: expected a string")
        return Context(**table)

    def _document(self) -> TOMLDocument:
        # Only what writes needs it, and it takes its time to import.
        import tomlkit  # noqa: PLC0415

        return tomlkit.parse(self._text)

    def _write(self, text: str) -> None:
        # Through a link, so that it stays one; and whole or not at all.
        path = self.path.resolve()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Such a file has the mode 0600 from the beginning.
            number, temporary = tempfile.mkstemp(prefix=".config-", dir=path.parent)
            try:
                with os.fdopen(number, "w", encoding="utf-8") as file:
                    file.write(text)
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise CommandError(f"can't write {path}: {error.strerror or error}") from None
        self._text = text
        self.current, self.contexts = self._interpret(tomllib.loads(text))


def _with_current(document: TOMLDocument, name: str) -> str:
    if "current" in document:
        document["current"] = name
        return document.as_string()
    # At the very top: behind the first table it would be a part of that table.
    return f'current = "{name}"\n\n{document.as_string()}'


def _super_table() -> Any:  # noqa: ANN401 - a table of tomlkit's
    import tomlkit  # noqa: PLC0415

    return tomlkit.table(is_super_table=True)
