"""Creating and upgrading the schema with Alembic; a database whose schema does not fit this program is rejected."""

from __future__ import annotations

import uuid
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, inspect, select, text

from db.engine.session import Database, DatabaseUnavailable, Session
from db.tables.base import Installation

HEAD_REVISION = "0017"  # a test compares it with the newest file of migrations/versions
_ADVISORY_LOCK = 0x0C58_7269  # any constant: two processes that start together upgrade one after the other


class SchemaMismatch(DatabaseUnavailable):
    """The database's schema is not the one this program was written for."""


def revision(database: Database) -> str | None:
    """Return the schema's revision, or None for an empty database."""
    with database.read() as session:
        if not inspect(session.connection()).has_table("alembic_version"):
            return None
        found = session.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return str(found) if found is not None else None


def upgrade(database: Database, now: datetime) -> str:
    """Bring the schema to `HEAD_REVISION` and give the installation its identity. Safe to run twice, or twice at once.

    Returns
    -------
    str
        The revision the database now has.

    Raises
    ------
    SchemaMismatch
        If a newer program has upgraded it: there is no way back.
    """
    _refuse_newer(database, revision(database))
    with database.write() as session:
        connection = session.connection()
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        _run_alembic(connection)
        if session.get(Installation, 1) is None:
            session.add(Installation(id=1, uid=str(uuid.uuid4()), created_at=now))
    return HEAD_REVISION


def prepare(database: Database, now: datetime) -> None:
    """Create the schema in an empty database; reject one of another revision.

    Raises
    ------
    SchemaMismatch
        If the database has another revision than this program; the message names both and what to do.
    """
    found = revision(database)
    if found is None:
        upgrade(database, now)
    elif found != HEAD_REVISION:
        _refuse_newer(database, found)
        raise SchemaMismatch(
            f"the database {database.place} has schema revision {found}, this program needs {HEAD_REVISION}: "
            "stop all processes, back it up, run 'cxr-triage db upgrade'"
        )


def _refuse_newer(database: Database, found: str | None) -> None:
    if found is not None and found > HEAD_REVISION:  # revisions are numbers of four digits
        raise SchemaMismatch(
            f"the database {database.place} has schema revision {found}, this program needs {HEAD_REVISION}: a newer "
            "program has upgraded it; run that program, or restore the backup from before its upgrade"
        )


def installation_uid(session: Session) -> uuid.UUID:
    """Return the identity that every derived UID of this installation starts from."""
    return uuid.UUID(session.execute(select(Installation.uid).where(Installation.id == 1)).scalar_one())


def _run_alembic(connection: Connection) -> None:
    from alembic import command  # only an upgrade needs Alembic, and it takes a while to import
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD_REVISION)
