"""What is SQLite's own: how connections are set up, and how writers take turns."""

from __future__ import annotations

import random
import sqlite3
import time
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

__all__ = ["begin_writing", "configure"]

# SQLite itself looks ever more seldom whether it is its turn, down to ten times a second. Against a
# process that writes without a pause it may never be then; so the chat looks more often.
_LOOK_SECONDS: Final = 0.002


def configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - any DB-API's
    """Set up a new connection; a listener of SQLAlchemy's "connect"."""
    # Transactions are begun by the store, not by the driver's guess.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def begin_writing(connection: Connection, patience: float) -> None:
    """Begin a transaction that writes.

    With a plain BEGIN, SQLite would give up at the first write if another one came first.

    Args:
        connection: with no transaction under way.
        patience: how long to wait for another process's transaction, in seconds.

    Raises:
        OperationalError: that takes longer.
    """
    end = time.monotonic() + patience
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            except OperationalError as error:
                if not _is_busy(error) or time.monotonic() > end:
                    raise
            else:
                return
            time.sleep(_LOOK_SECONDS * random.random())  # noqa: S311 - no secret
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(patience * 1000)}")


def _is_busy(error: OperationalError) -> bool:
    code = getattr(error.orig, "sqlite_errorcode", None)
    # The lower byte is the kind of error, the others say more about it.
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY
