"""What a database must never do: quote patients in an error, or keep in its file what was deleted."""

from __future__ import annotations

import sqlite3
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, text

from db.engine.schema import prepare
from db.engine.session import Database, DatabaseUnavailable, Session, StatementRejected, sqlite_url
from db.tables.studies import Study
from tests.db.conftest import NOON
from tests.peers.postgres import Postgres

STUDY = {
    "study_instance_uid": "1.2.3",
    "patient_id": "P-4711",
    "patient_name": "Doe^Jane",
    "patient_birth_date": "19700131",
    "patient_sex": "F",
    "accession_number": "",
    "study_date": "",
    "study_time": "",
    "study_description": "",
    "arrived_at": NOON,
    "priority": "MEDIUM",
    "score": 0.5,
    "reading_key": 0.0,
}


def test_what_the_database_rejects_is_told_as_that_and_not_as_a_database_that_is_away(database: Database) -> None:
    """It would be tried again without end, and reported as an outage; nor may its traceback name a patient."""
    with database.write() as session:
        session.execute(insert(Study).values(STUDY))
    rejected: list[Callable[[Session], object]] = [
        lambda session: session.execute(insert(Study).values(STUDY)),  # the UID is taken
        lambda session: session.execute(  # PostgreSQL quotes the whole row that lacks something
            text(
                "INSERT INTO study (study_instance_uid, patient_id, patient_name, patient_birth_date) "
                "VALUES ('1.2.4', 'P-4711', 'Doe^Jane', '19700131')"
            )
        ),
        lambda session: session.execute(text("SELECT no_such_column FROM study")),
        lambda session: session.execute(text("SELEC 1")),
    ]
    for statement in rejected:
        with pytest.raises(StatementRejected) as caught, database.write() as session:
            statement(session)
        told = "".join(traceback.format_exception(caught.value))
        assert "Error" in told or "Violation" in told or "Undefined" in told
        assert not [word for word in ("Doe^Jane", "P-4711", "19700131") if word in told]


@pytest.mark.peer
def test_value_that_never_fits_is_not_told_as_a_database_that_is_away(request: pytest.FixtureRequest) -> None:
    database = Database(request.getfixturevalue("postgres").database())
    prepare(database, NOON)
    with pytest.raises(StatementRejected), database.write() as session:
        session.execute(insert(Study).values({**STUDY, "study_instance_uid": "1" * 65}))
    database.dispose()


@pytest.mark.peer
def test_what_a_person_mends_at_the_server_is_a_database_that_does_not_take_part(postgres: Postgres) -> None:
    database = Database(postgres.database())
    prepare(database, NOON)
    with database.write() as session:
        session.execute(text("CREATE ROLE reader"))
    try:
        for mendable in ("SET ROLE reader; INSERT INTO job (source) VALUES ('')", "SELECT 1 FROM dropped"):
            with pytest.raises(DatabaseUnavailable), database.write() as session:
                session.execute(text(mendable))
        with pytest.raises(DatabaseUnavailable, match="read-only"), database.write() as session:  # a standby
            session.execute(text("SET TRANSACTION READ ONLY"))
            session.execute(insert(Study).values(STUDY))
    finally:
        with database.write() as session:
            session.execute(text("DROP ROLE reader"))
        database.dispose()


def test_deleted_row_is_gone_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite"
    database = Database(sqlite_url(path))
    prepare(database, NOON)
    with database.write() as session:
        session.execute(insert(Study).values(STUDY))
    assert checkpointed(database, path).count(b"Doe^Jane") == 1
    with database.write() as session:
        session.execute(delete(Study))
    assert b"Doe^Jane" not in checkpointed(database, path)


def checkpointed(database: Database, path: Path) -> bytes:
    with database.engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    return path.read_bytes()


@pytest.mark.peer
def test_lock_that_is_not_given_up_ends_the_wait_for_it(postgres: Postgres) -> None:
    database = Database(postgres.database())
    with database.read() as session:
        assert session.scalar(text("SHOW lock_timeout")) == "20s"
    database.dispose()


def test_a_new_file_that_another_process_is_writing_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # before it has a write-ahead log
    release = threading.Timer(0.3, other.rollback)
    release.start()
    try:
        Database(sqlite_url(path)).ping()
    finally:
        release.join()
        other.close()


def test_as_many_threads_as_serve_pages_or_associations_have_a_connection_each_at_once(database: Database) -> None:
    together = threading.Barrier(50, timeout=20)

    def ask(_number: int) -> None:
        with database.read() as session:
            session.execute(text("SELECT 1"))
            together.wait()

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(ask, range(50)))
