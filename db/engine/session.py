"""The database connection: one engine a process, transactions that roll back unless they end well.

SQLite is opened with WAL and ``synchronous=FULL``, and every writing transaction is ``BEGIN IMMEDIATE``: with a plain
BEGIN a transaction that reads and then writes fails at once with "database is locked", whatever the timeout.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from sqlalchemy import Connection, CursorResult, UpdateBase, create_engine, event, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

__all__ = ["Database", "DatabaseUnavailable", "Session", "StatementRejected", "changed_rows", "sqlite_url"]

# libpq's names: a server behind a broken connection, or a frozen holder of a lock, must not block a listener for ever
_POSTGRES_WAITS = {"connect_timeout": 10, "tcp_user_timeout": 30_000, "options": "-c lock_timeout=20s"}
_BUSY_SECONDS = 20  # how long a SQLite writer waits for another one; the longest transaction here takes milliseconds


# of PostgreSQL's ProgrammingErrors, those that a person causes and mends: a right was revoked, the tables are gone
_MENDABLE = {"42501", "42P01"}


class DatabaseUnavailable(Exception):
    """The database cannot be reached, is full, or does not take part now; the message says which."""

    exit_code: ClassVar[int] = 1


class StatementRejected(Exception):
    """The database answers, and rejects what it was asked to do: a constraint, a value, a statement that is wrong.

    A defect, or a race that nobody foresaw. It is never told as a database that is away, whose work is tried again
    without end. The message carries no values.
    """


def changed_rows(session: Session, statement: UpdateBase) -> int:
    """Execute an UPDATE or a DELETE of any table; return how many rows it changed."""
    return cast("CursorResult[Any]", session.execute(statement)).rowcount


def sqlite_url(path: Path) -> str:
    """Return the SQLAlchemy URL of the SQLite file ``path``."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")  # a query would begin at "?"


class Database:
    """One engine. Nothing is connected before the first transaction, so a fork before it is harmless.

    As a context manager it closes its connections at the end of the block.

    Parameters
    ----------
    url : str
        ``sqlite:///PATH`` or ``postgresql+psycopg://...``.

    Raises
    ------
    DatabaseUnavailable
        If the URL cannot be understood.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
            self.is_sqlite = parsed.get_backend_name() == "sqlite"
            # hide_parameters: a traceback must not quote what was to be written, such as a patient's name
            waits: dict[str, Any] = {"timeout": _BUSY_SECONDS} if self.is_sqlite else _POSTGRES_WAITS
            options = {"connect_args": {name: value for name, value in waits.items() if name not in parsed.query}}
            # as many connections as threads ask at once, five of them kept: a thread has one, and threads are bounded
            self.engine: Engine = create_engine(
                parsed,
                pool_pre_ping=not self.is_sqlite,
                hide_parameters=True,
                poolclass=QueuePool,
                max_overflow=-1,
                **options,
            )
        except (ArgumentError, ImportError, ValueError) as error:
            reason = "port or option is not a number" if isinstance(error, ValueError) else error
            raise DatabaseUnavailable(
                f"database URL not understood ({reason}); allowed: sqlite:///PATH or "
                "postgresql+psycopg://USER@HOST/NAME"
            ) from error
        self._writing = threading.Lock()
        # SQLAlchemy hides the password before the host, not one among the options
        self.place = re.sub(r"(?i)(password=)[^&]*", r"\1***", parsed.render_as_string(hide_password=True))
        if self.is_sqlite:
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
            event.listen(self.engine, "checkout", _SameFile(parsed.database or ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        self.dispose()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A writing transaction: committed at the end of the block, rolled back on any exception."""
        with self._turn(), self._session({"sqlite_begin": "BEGIN IMMEDIATE"}) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A reading transaction, always rolled back."""
        with self._session({"sqlite_begin": "BEGIN"}) as session:
            yield session

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let the threads of this process write to SQLite in turn: its own busy handler sleeps ever longer."""
        if not self.is_sqlite:
            yield
            return
        if not self._writing.acquire(timeout=_BUSY_SECONDS):
            raise DatabaseUnavailable(f"database {self.place}: another thread has been writing for {_BUSY_SECONDS} s")
        try:
            yield
        finally:
            self._writing.release()

    @contextmanager
    def _session(self, options: dict[str, Any]) -> Iterator[Session]:
        try:
            with Session(self.engine.execution_options(**options), expire_on_commit=False) as session:
                yield session
        except (DBAPIError, PoolTimeout) as error:
            if isinstance(error, DBAPIError) and _is_rejection(error):
                # not chained: the driver's own text may quote the row, and so a patient ("Failing row contains ...")
                raise StatementRejected(f"database {self.place}: {_without_values(error)}") from None
            raise DatabaseUnavailable(f"database {self.place}: {_first_line(error)}") from error

    def ping(self) -> None:
        """Run an empty query; raises `DatabaseUnavailable` if the database does not answer."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def dispose(self) -> None:
        """Close all pooled connections; call it in a child after a fork, too."""
        self._writing = threading.Lock()
        self.engine.dispose()


class _SameFile:
    """Invalidates a connection whose file was removed or replaced: what it writes would be lost."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def __call__(self, _connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
        try:
            found = self._path.stat()
            file = (found.st_dev, found.st_ino)
        except OSError:
            file = None
        if record.info.setdefault("file", file) != file:
            raise DisconnectionError(f"{self._path} was removed or replaced")


def _is_rejection(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return False
    if isinstance(error, ProgrammingError):
        return getattr(error.orig, "sqlstate", None) not in _MENDABLE
    if isinstance(error, OperationalError) and isinstance(error.orig, sqlite3.OperationalError):
        # SQLite's code for a wrong statement, which PostgreSQL's driver calls a ProgrammingError
        wrong = error.orig.sqlite_errorcode == sqlite3.SQLITE_ERROR
        return wrong and not str(error.orig).startswith("no such table")
    return isinstance(error, DataError | IntegrityError | NotSupportedError)


def _without_values(error: DBAPIError) -> str:
    kind = type(error.orig or error).__name__
    return kind if isinstance(error, DataError) else f"{kind}: {_first_line(error)}"


def _first_line(error: SQLAlchemyError) -> str:
    # the driver's own words carry no bound parameters, so no patient data
    cause = getattr(error, "orig", None) or error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__


def _configure_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own connection
    connection.isolation_level = None  # transactions are begun below, never by the driver
    _use_write_ahead_log(connection)
    # secure_delete: what was erased is overwritten in the file, too
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; of processes that open a new file together, each waits until one has done so.

    SQLite itself does not wait here, whatever the timeout: two that switch would wait for each other's read lock.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
